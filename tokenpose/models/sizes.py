"""Other sizes of crops: a model reads them with its own weights, as `create_model(..., image_size=...)` would."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from tokenpose.models.carry_over import resample_rows
from tokenpose.models.spec import ModelSpec, Size
from tokenpose.models.tokenpose import TokenPose
from tokenpose.models.tokens import sine_table
from tokenpose.shapes import Heatmaps


def spec_of_size(spec: ModelSpec, image_size: Size) -> ModelSpec:
    """The spec for another image size of the same aspect, with targets as wide as before relative to the heatmap.

    Raises ValueError for another aspect, and for sizes that don't fit the model.
    """
    if image_size == spec.image_size:
        return spec
    height, width = image_size
    if height * spec.image_size[1] != width * spec.image_size[0]:
        raise ValueError(
            f"sizes must have the aspect of the model's image_size {spec.image_size}, since boxes grow to it; got "
            f"{image_size}"
        )
    heatmap_size = None
    if spec.heatmap_size is not None:
        rows, columns = (side * image_size[0] / spec.image_size[0] for side in spec.heatmap_size)
        if rows % 1 or columns % 1:
            raise ValueError(f"heatmaps of {spec.heatmap_size} cells can't be resampled for images of {image_size}")
        heatmap_size = int(rows), int(columns)
    resized = spec.replace(image_size=image_size, heatmap_size=heatmap_size)
    return resized.replace(sigma=spec.sigma * resized.output_size[1] / spec.output_size[1])


def specs_of_sizes(spec: ModelSpec, sizes: Iterable[Size]) -> list[ModelSpec]:
    """The spec, and one for each other size. No sizes: the spec's alone. Raises ValueError for sizes without it."""
    sizes = set(sizes)
    if sizes and spec.image_size not in sizes:
        raise ValueError(f"sizes must have the model's image_size {spec.image_size}; got {sorted(sizes)}")
    return [spec, *(spec_of_size(spec, size) for size in sorted(sizes - {spec.image_size}))]


def positions_of(model: TokenPose, spec: ModelSpec) -> Float[Tensor, "1 tokens width"] | None:
    """The positions for crops of the spec's size: sine tables are computed, learnable positions resampled."""
    if spec.positions == "none":
        return None
    if spec.positions != "learnable":
        return sine_table(spec)
    keypoints, visual = model.tokenizer.positions.split((len(spec.skeleton), _count(model.spec)), dim=1)
    return torch.cat((keypoints, resample_rows(visual[0], model.spec.grid_size, spec.grid_size).unsqueeze(0)), dim=1)


def read_at_size(
    model: TokenPose,
    features: Float[Tensor, "people channels map_height map_width"],
    spec: ModelSpec,
    positions: Float[Tensor, "1 tokens token_width"] | None,
    watch: Callable[[int, Float[Tensor, "people tokens token_width"]], None] | None = None,
) -> Heatmaps:
    """The head's outputs, as `TokenPose.read` gives them, from the backbone's map of crops of the spec's size.

    The head's last layer is resampled, and its gradient reaches the model's own weights.
    """
    again = positions if spec.positions == "sine_every_block" else None
    tokens = model.encoder(model.tokenizer(features, positions), again, watch)
    layers: list[Any] = list(model.head)
    *layers, last, _ = layers
    for layer in layers:
        tokens = layer(tokens)
    cells = model.spec.output_size, spec.output_size
    weight, bias = (resample_rows(rows, *cells) for rows in (last.weight, last.bias.unsqueeze(1)))
    return functional.linear(tokens, weight, bias.squeeze(1)).unflatten(-1, spec.output_size)


def _count(spec: ModelSpec) -> int:
    return spec.grid_size[0] * spec.grid_size[1]
