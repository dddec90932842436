"""Crops and heatmaps in another size: of the same people, as cropping them at that size would place them."""

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from tokenpose.geometry.affine import compose, resize_matrices
from tokenpose.geometry.crops import sampling_grid
from tokenpose.geometry.reduction import from_reduced

Size = tuple[int, int]


def resize_maps(
    maps: Float[Tensor, "people channels height width"], to_size: Size
) -> Float[Tensor, "people channels new_height new_width"]:
    """Crops or heatmaps resampled to another size (height, width); values beyond the edges are those of the edges.

    Centers coincide and both axes have one factor, as in `tokenpose.geometry.affine.resize_matrices`. Maps that shrink
    to half and less are averaged first. The result is float32 or wider.
    """
    from_size = maps.shape[-2], maps.shape[-1]
    maps = maps.to(torch.promote_types(maps.dtype, torch.float32))
    if from_size == to_size:
        return maps
    factor = max(1, round((from_size[1] - 1) / (to_size[1] - 1)))
    if factor > 1:
        maps = functional.avg_pool2d(maps, factor, ceil_mode=True)
    grid = _grid(from_size, factor, (maps.shape[-2], maps.shape[-1]), to_size, maps.dtype, maps.device)
    grid = grid.expand(len(maps), -1, -1, -1)
    return functional.grid_sample(maps, grid, padding_mode="border", align_corners=False)


@lru_cache(maxsize=32)  # a CUDA graph can't copy it from the CPU each time
def _grid(
    from_size: Size, factor: int, reduced: Size, to_size: Size, dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "1 height width 2"]:
    identity = torch.eye(2, 3, dtype=dtype).unsqueeze(0)
    matrices = compose(resize_matrices(identity, from_size, to_size), from_reduced(factor, identity))
    return sampling_grid(matrices, to_size, reduced).to(device)
