"""Checks before and after a model is optimized or exported: plain parts, finite weights, the same heatmaps."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tokenpose.models.recording import attentions_of
from tokenpose.models.tokenpose import TokenPose

TOLERANCE = 1e-4
"""Largest difference, as a share of the largest heatmap value, at which float32 outputs count as equal."""


def require_plain(model: Any, verb: str, done: str) -> TokenPose:
    """The model, if nothing has replaced or observes its parts. ``verb`` and ``done`` word the errors: "optimize" and
    "optimized", for example.

    Raises TypeError for anything but a TokenPose, ValueError for a compiled or optimized model and during a recording.
    """
    if isinstance(model, torch._dynamo.eval_frame.OptimizedModule):
        raise ValueError(f"a compiled model can't be {done}: {verb} the model that was given to torch.compile")
    if not isinstance(model, TokenPose):
        raise TypeError(f"a TokenPose is needed, as tokenpose.create_model makes; got {type(model).__name__}")
    if model.runner is not None:
        raise ValueError(
            f"this model is optimized already and can't be {done}: {verb} the one that was given to tokenpose.optimize"
        )
    if any(attention.observer is not None for block in attentions_of(model) for attention in block):
        raise ValueError(f"this model is being recorded: {verb} it before or afterwards")
    return model


def require_finite(model: nn.Module) -> None:
    """Raise ValueError, with the name, for weights that are on the meta device or aren't finite, and for buffers with
    NaN; buffers may be infinite, as masks are."""
    if any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers())):
        raise ValueError("the model is on the meta device, without weights: create it on another")
    for name, parameter in model.named_parameters():
        if not parameter.isfinite().all():
            raise ValueError(f"the model's weights aren't finite: {name!r} holds NaN or infinity; load others")
    for name, buffer in model.named_buffers():
        if buffer.isnan().any():
            raise ValueError(f"the model's weights aren't finite: {name!r} holds NaN; load others")


def require_same_heatmaps(
    model: TokenPose,
    candidate: Callable[[Tensor], Tensor],
    name: str,
    advice: str,
    batches: Sequence[int],
) -> float:
    """Run the model and what was made from it on random crops, in each of the batch sizes; the largest difference
    between their heatmaps, as a share of the model's largest value.

    ``name`` and ``advice`` are for the error: what the candidate is, and what the user can do. Raises ValueError where
    the difference is more than TOLERANCE and where the model's own heatmaps aren't finite.
    """
    differences = []
    for batch in batches:
        crops = some_crops(model, batch)
        with torch.no_grad():
            expected, found = model(crops), candidate(crops)
        if not expected.isfinite().all():
            raise ValueError(
                "the model's own heatmaps aren't finite, though its weights are: there is nothing to compare with"
            )
        differences.append(largest_difference(found, expected))
    wrong = [difference for difference in differences if not difference <= TOLERANCE]  # NaN too
    if wrong:
        raise ValueError(
            f"the heatmaps of {name} differ from the model's by {max(wrong):.1e} of the largest value, more than "
            f"{TOLERANCE:.0e}: {advice}"
        )
    return max(differences)


def largest_difference(found: Tensor, expected: Tensor) -> float:
    """The largest absolute difference as a share of the largest expected value; 0 for equal tensors, even of zeros,
    and NaN where one holds NaN."""
    difference = (found - expected).abs().max()
    return float(difference / expected.abs().max()) if difference else 0.0


def some_crops(model: TokenPose, batch: int) -> Float[Tensor, "people 3 height width"]:
    """Random crops of the model's size, device and precision; the same for the same ``batch``."""
    weights = next(model.parameters())
    crops = torch.randn(batch, 3, *model.spec.image_size, generator=torch.Generator().manual_seed(batch))
    return crops.to(weights.device, weights.dtype)
