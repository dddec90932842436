"""Affine maps (2, 3) between the image, the crop and the heatmap; pixel centers are at integers."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tokenpose.shapes import Centers, Keypoints, Matrices, Scales


def constant(values: Sequence[Any], beside: Tensor) -> Tensor:
    """A few numbers as a tensor with the dtype and device of ``beside``, without waiting for a GPU."""
    return torch.tensor(values, dtype=beside.dtype, device="cpu").to(beside.device, non_blocking=True)


def crop_matrices(
    center: Centers, scale: Scales, crop_size: tuple[int, int], rotation: Float[Tensor, " people"] | None = None
) -> Matrices:
    """Image -> crop of (height, width). ``center`` and ``scale`` (width, height) in pixels, ``rotation`` in degrees.

    The box center lands on the crop's center ((width - 1) / 2, (height - 1) / 2); one crop pixel is
    (box width - 1) / (crop width - 1) image pixels in both axes. The box turns clockwise as seen in the image.
    """
    height, width = crop_size
    zoom = (width - 1) / (scale[:, 0] - 1)
    radians = torch.zeros_like(zoom) if rotation is None else torch.deg2rad(rotation)
    cosine, sine = zoom * radians.cos(), zoom * radians.sin()
    turn = torch.stack((torch.stack((cosine, sine), dim=-1), torch.stack((-sine, cosine), dim=-1)), dim=-2)
    crop_center = constant([(width - 1) / 2, (height - 1) / 2], center)
    shift = crop_center - _product(turn, center.unsqueeze(-1)).squeeze(-1)
    return torch.cat((turn, shift.unsqueeze(-1)), dim=-1)


def resize_matrices(matrices: Matrices, from_size: tuple[int, int], to_size: tuple[int, int]) -> Matrices:
    """Change the size (height, width) of what the matrices map to, from crop to heatmap for example.

    As published, both axes have one factor, (to width - 1) / (from width - 1), and the centers coincide.
    """
    factor = (to_size[1] - 1) / (from_size[1] - 1)
    from_center = constant([(from_size[1] - 1) / 2, (from_size[0] - 1) / 2], matrices)
    to_center = constant([(to_size[1] - 1) / 2, (to_size[0] - 1) / 2], matrices)
    shift = (matrices[..., 2] - from_center) * factor + to_center
    return torch.cat((matrices[..., :2] * factor, shift.unsqueeze(-1)), dim=-1)


def invert(matrices: Matrices) -> Matrices:
    """The inverse maps."""
    (a, b), (c, d) = (row.unbind(dim=-1) for row in matrices[..., :2].unbind(dim=-2))
    adjugate = torch.stack((torch.stack((d, -b), dim=-1), torch.stack((-c, a), dim=-1)), dim=-2)
    linear = adjugate / (a * d - b * c)[..., None, None]
    return torch.cat((linear, -_product(linear, matrices[..., 2:])), dim=-1)


def compose(second: Matrices, first: Matrices) -> Matrices:
    """The maps that apply ``first``, then ``second``."""
    linear = _product(second[..., :2], first[..., :2])
    return torch.cat((linear, _product(second[..., :2], first[..., 2:]) + second[..., 2:]), dim=-1)


def transform_points(points: Keypoints, matrices: Matrices) -> Keypoints:
    """Apply each person's map to their points (x, y)."""
    return _product(points, matrices[..., :2].transpose(-2, -1)) + matrices[..., 2].unsqueeze(-2)


def _product(left: Tensor, right: Tensor) -> Tensor:
    """A matrix product by multiplication and sum, since autocast and TF32 would round the coordinates of a matmul."""
    return (left.unsqueeze(-1) * right.unsqueeze(-3)).sum(dim=-2)
