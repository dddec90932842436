"""Reduced images: each pixel is the mean of a square of pixels; and how far a crop wants its image reduced."""

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.nn import functional

from tokenpose.geometry.affine import constant, invert, transform_points
from tokenpose.shapes import Matrices, Pixels

_MOST_ROWS = 128  # of values up to 255, whose sum fits into int16: several times as fast as float32


def crop_levels(matrices: Matrices) -> Float[Tensor, " people"]:
    """How often each person's image is to be halved until a crop's pixel covers one of its pixels: 1 where it covers
    2 x 2; 0 where the crop magnifies. ``matrices``: image -> crop."""
    (a, b), (c, d) = (row.unbind(dim=-1) for row in matrices[..., :2].unbind(dim=-2))
    return (-0.5 * (a * d - b * c).abs().log2()).clamp(min=0)


def reduce_image(
    image: Shaped[Tensor, "*people 3 image_height image_width"], factor: int
) -> Float[Tensor, "*people 3 _ _"]:
    """Means of ``factor`` x ``factor`` pixels from the first one on, black beyond the image; float32 or wider."""
    dtype = torch.promote_types(image.dtype, torch.float32)
    if factor == 1:
        return image.to(dtype)
    image = functional.pad(image, (0, -image.shape[-1] % factor, 0, -image.shape[-2] % factor))
    exact = image.dtype == torch.uint8 and factor <= _MOST_ROWS
    rows = image[..., ::factor, :].to(torch.int16 if exact else dtype, copy=True)
    for row in range(1, factor):
        rows += image[..., row::factor, :]
    columns = rows[..., ::factor].to(dtype, copy=True)
    for column in range(1, factor):
        columns += rows[..., column::factor]
    return columns.div_(factor**2)


def from_reduced(factor: int, beside: Matrices, left: int = 0, top: int = 0) -> Matrices:
    """The map from an image, cut off before column ``left`` and row ``top`` and then reduced, to the whole image; as
    often as there are matrices ``beside`` it."""
    middle = (factor - 1) / 2
    matrix = constant([[factor, 0.0, left + middle], [0.0, factor, top + middle]], beside)
    return matrix.expand(len(beside), -1, -1)


def cut_out(
    image: Pixels, matrix: Float[Tensor, "1 2 3"], crop_size: tuple[int, int], multiple: int
) -> tuple[Shaped[Tensor, "3 _ _"], int, int]:
    """The part of an image that a crop shows, and ``multiple`` pixels around it, cut at multiples of that many pixels;
    its first column and row in the image. It may have no pixels. ``matrix``: image -> crop."""
    height, width = crop_size
    corners = matrix.new_tensor([[[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]]])
    (points,) = transform_points(corners, invert(matrix))
    first, last = align(points.amin(dim=0), points.amax(dim=0), points.new_full((1,), multiple))
    (left, top), (right, bottom) = first.tolist(), last.tolist()
    return image[:, top:bottom, left:right], left, top


def align(
    least: Float[Tensor, "*people 2"], most: Float[Tensor, "*people 2"], multiple: Float[Tensor, "*people 1"]
) -> tuple[Int[Tensor, "*people 2"], Int[Tensor, "*people 2"]]:
    """First and last + 1 column and row of what has all places from ``least`` to ``most`` (x, y), and at least one
    ``multiple`` around them: multiples themselves, not before the image's first pixel."""
    first = ((least / multiple).floor() - 1) * multiple
    last = (((most + 1) / multiple).ceil() + 1) * multiple
    return first.clamp(min=0).long(), last.clamp(min=0).long()
