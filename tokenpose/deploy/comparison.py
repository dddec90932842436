"""What a copy for inference and an exported file are held to: plain parts, finite weights, the model's own heatmaps."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tokenpose.models.recording import attentions_of
from tokenpose.models.tokenpose import TokenPose

TOLERANCE = 1e-4
"""Largest difference, as a share of the largest heatmap value, at which float32 outputs count as equal."""


def require_plain(model: Any, verb: str, done: str) -> TokenPose:
    """The model, if its parts are its own: "optimise" and "optimised" are what is to be done with it, for the error.

    Raises TypeError for what is no TokenPose; ValueError for a compiled or optimised one and for one being recorded.
    """
    if isinstance(model, torch._dynamo.eval_frame.OptimizedModule):
        raise ValueError(f"a compiled model can't be {done}: {verb} the model that was given to torch.compile")
    if not isinstance(model, TokenPose):
        raise TypeError(f"a TokenPose is needed, as tokenpose.create_model makes; got {type(model).__name__}")
    if model.is_optimized:
        raise ValueError(
            f"this model is optimised already and can't be {done}: {verb} the one that was given to tokenpose.optimize"
        )
    if any(attention.observer is not None for block in attentions_of(model) for attention in block):
        raise ValueError(f"this model is being recorded: {verb} it before or afterwards")
    return model


def require_finite(model: nn.Module) -> None:
    """Raise ValueError, with the name, for weights that aren't there or aren't finite and buffers of NaN; masks may be
    infinite."""
    if any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers())):
        raise ValueError("the model is on the meta device, without weights: create it on another")
    for name, parameter in model.named_parameters():
        if not parameter.isfinite().all():
            raise ValueError(f"the model's weights aren't finite: {name!r} holds NaN or infinity; load others")
    for name, buffer in model.named_buffers():
        if buffer.isnan().any():
            raise ValueError(f"the model's weights aren't finite: {name!r} holds NaN; load others")


def largest_difference(found: Tensor, expected: Tensor) -> float:
    """As a share of the largest expected value; 0 for equal tensors, of zeros too, NaN where one holds NaN."""
    difference = (found - expected).abs().max()
    return float(difference / expected.abs().max()) if difference else 0.0


def some_crops(model: TokenPose, batch: int) -> Float[Tensor, "batch 3 height width"]:
    """Random crops of the model's size, device and precision; the same for the same ``batch``."""
    weights = next(model.parameters())
    crops = torch.randn(batch, 3, *model.spec.image_size, generator=torch.Generator().manual_seed(batch))
    return crops.to(weights.device, weights.dtype)
