"""Decoding: heatmaps become keypoints, in heatmap cells. Scores are the heatmaps' peak values."""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tokenpose.geometry.affine import constant
from tokenpose.shapes import Cells, Heatmaps, Keypoints, Scores

BLUR_WIDTH, BLUR_SIGMA = 11, 2.0  # DARK's published smoothing at 64x48 and 96x72


class Decoded(NamedTuple):
    """Keypoints (people, keypoints, 2) as (x, y) in heatmap cells, and scores (people, keypoints); float32."""

    keypoints: Keypoints
    scores: Scores


def decode(heatmaps: Heatmaps, decoder: str = "dark") -> Decoded:
    """Read a keypoint off each heatmap: (people, keypoints, height, width) -> x, y in heatmap cells, and scores.

    ``decoder``: "argmax", the cell of the peak; "shifted", a quarter cell from there towards the higher neighbor;
    "dark", a Newton step on the logarithm of the smoothed map (Zhang et al., CVPR 2020), as published; "soft-argmax",
    the mean position under a softmax of the map. The score is the peak's value in each. A map without a positive
    cell gives (0, 0).

    Raises LookupError for an unknown decoder, ValueError for heatmaps of another shape.
    """
    if decoder not in DECODERS:
        raise LookupError(f"there is no decoder {decoder!r}; there are {', '.join(DECODERS)}")
    if heatmaps.ndim != 4:
        raise ValueError(f"heatmaps must be (people, keypoints, height, width); got shape {tuple(heatmaps.shape)}")
    return DECODERS[decoder](heatmaps.float())


def decode_argmax(heatmaps: Heatmaps) -> Decoded:
    """The cell of the maximum; of several, the first in row-major order."""
    scores, column, row = _peaks(heatmaps)
    return _positive(torch.stack((column, row), dim=-1).float(), scores)


def decode_shifted(heatmaps: Heatmaps) -> Decoded:
    """The cell of the maximum, moved a quarter cell towards the higher neighbor in each axis unless at the border."""
    scores, column, row = _peaks(heatmaps)
    around = _around_peaks(heatmaps, column, row, radius=1)
    slope = torch.stack((around[..., 1, 2] - around[..., 1, 0], around[..., 2, 1] - around[..., 0, 1]), dim=-1)
    shift = 0.25 * slope.sign() * _interior(heatmaps, column, row, margin=1).unsqueeze(-1)
    return _positive(torch.stack((column, row), dim=-1) + shift, scores)


def decode_dark(heatmaps: Heatmaps) -> Decoded:
    """One Newton step at the maximum of the logarithm of the blurred map; only the 5x5 around each peak is blurred."""
    scores, column, row = _peaks(heatmaps)
    radius = 2 + BLUR_WIDTH // 2
    around = _around_peaks(heatmaps, column, row, radius)
    blur = constant(_blur_matrix(5, 2 * radius + 1), heatmaps)
    rows_blurred = (blur.unsqueeze(-1) * around.unsqueeze(-3)).sum(dim=-2)  # autocast and TF32 would round a matmul
    near = (rows_blurred.unsqueeze(-2) * blur).sum(dim=-1).clamp(min=1e-10).log()
    step, solvable = _newton_step(near)
    usable = solvable & _interior(heatmaps, column, row, margin=1, far_margin=2)
    return _positive(torch.stack((column, row), dim=-1) + torch.where(usable.unsqueeze(-1), step, 0.0), scores)


def decode_soft_argmax(heatmaps: Heatmaps, sharpness: float = 20.0) -> Decoded:
    """Mean position under softmax(sharpness x map / peak). Smooth, and independent of the map's scale."""
    height, width = heatmaps.shape[-2:]
    scores = heatmaps.flatten(2).amax(dim=-1)
    relative = heatmaps.flatten(2) / scores.clamp(min=torch.finfo(heatmaps.dtype).tiny).unsqueeze(-1)
    weights = (sharpness * relative).softmax(dim=-1).unflatten(-1, (height, width))
    columns = torch.arange(width, dtype=weights.dtype, device=weights.device)
    rows = torch.arange(height, dtype=weights.dtype, device=weights.device)
    x, y = (weights.sum(dim=-2) * columns).sum(dim=-1), (weights.sum(dim=-1) * rows).sum(dim=-1)
    return _positive(torch.stack((x, y), dim=-1), scores)


DECODERS: dict[str, Callable[[Heatmaps], Decoded]] = {
    "argmax": decode_argmax,
    "shifted": decode_shifted,
    "dark": decode_dark,
    "soft-argmax": decode_soft_argmax,
}


def _peaks(heatmaps: Heatmaps) -> tuple[Scores, Cells, Cells]:
    """Find the peak's strip of two rows, then its cell in the strip, since a maximum is much faster than an argmax."""
    height, width = heatmaps.shape[-2:]
    strips = heatmaps.unflatten(-2, (-1, 2 if height % 2 == 0 else 1)).flatten(-2)
    scores, strip = strips.amax(dim=-1).max(dim=-1)
    index = strip[..., None, None].expand(-1, -1, -1, strips.shape[-1])
    place = strip * strips.shape[-1] + strips.gather(2, index).squeeze(2).argmax(dim=-1)
    return scores, place % width, place // width


def _positive(keypoints: Keypoints, scores: Scores) -> Decoded:
    return Decoded(torch.where(scores.unsqueeze(-1) > 0, keypoints, 0.0), scores)


def _interior(heatmaps: Heatmaps, column: Cells, row: Cells, margin: int, far_margin: int = 1) -> Tensor:
    """Whether ``margin < x < width - far_margin``, and the same for y. Published decoders refine only there."""
    height, width = heatmaps.shape[-2:]
    across = (column > margin) & (column < width - far_margin)
    return across & (row > margin) & (row < height - far_margin)


def _around_peaks(
    heatmaps: Heatmaps, column: Cells, row: Cells, radius: int
) -> Float[Tensor, "people keypoints side side"]:
    """Square windows of 2 x radius + 1 cells around each peak; zeros outside the map."""
    height, width = heatmaps.shape[-2:]
    offsets = torch.arange(-radius, radius + 1, device=heatmaps.device)
    rows = (row.unsqueeze(-1) + offsets).unsqueeze(-1)
    columns = (column.unsqueeze(-1) + offsets).unsqueeze(-2)
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    index = rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)
    around = heatmaps.flatten(2).gather(2, index.flatten(2)).view(index.shape)
    return torch.where(inside, around, 0.0)


@lru_cache
def _blur_matrix(outputs: int, inputs: int) -> tuple[tuple[float, ...], ...]:
    """Rows of a normalized Gaussian of BLUR_WIDTH cells, each shifted one cell further; numbers, for any device."""
    kernel = [math.exp(-((cell - BLUR_WIDTH // 2) ** 2) / (2 * BLUR_SIGMA**2)) for cell in range(BLUR_WIDTH)]
    weights = [value / sum(kernel) for value in kernel]
    return tuple((0.0,) * row + (*weights, *(0.0,) * (inputs - BLUR_WIDTH - row)) for row in range(outputs))


def _newton_step(near: Float[Tensor, "people keypoints 5 5"]) -> tuple[Keypoints, Bool[Tensor, "people keypoints"]]:
    """-H^-1 g from central differences around the middle cell, and where H can be inverted."""
    dx = (near[..., 2, 3] - near[..., 2, 1]) / 2
    dy = (near[..., 3, 2] - near[..., 1, 2]) / 2
    dxx = (near[..., 2, 4] - 2 * near[..., 2, 2] + near[..., 2, 0]) / 4
    dyy = (near[..., 4, 2] - 2 * near[..., 2, 2] + near[..., 0, 2]) / 4
    dxy = (near[..., 3, 3] - near[..., 1, 3] - near[..., 3, 1] + near[..., 1, 1]) / 4
    determinant = dxx * dyy - dxy**2
    solvable = determinant != 0
    safe = torch.where(solvable, determinant, 1.0)
    step = torch.stack((dxy * dy - dyy * dx, dxy * dx - dxx * dy), dim=-1) / safe.unsqueeze(-1)
    return step, solvable
