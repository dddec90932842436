"""Crops by the filter "area": people larger than their crop are averaged, not sampled."""

import math

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from tokenpose.geometry.affine import compose
from tokenpose.geometry.crops import crop_image, crop_images, crop_whole
from tokenpose.geometry.reduction import crop_levels, cut_out, from_reduced, reduce_image
from tokenpose.shapes import Crops, Matrices, Pixels


def crop_averaged(image: Pixels, matrices: Matrices, crop_size: tuple[int, int]) -> Crops:
    """Magnified people as they are, together; each of the others from the part of the image that it needs, reduced."""
    levels = crop_levels(matrices).tolist()
    magnified = [person for person, level in enumerate(levels) if level == 0]
    if len(magnified) == len(levels):
        return crop_image(image, matrices, crop_size)
    dtype = torch.promote_types(image.dtype, matrices.dtype)
    crops = torch.empty(len(levels), 3, *crop_size, dtype=dtype, device=image.device)
    if magnified:
        crops[magnified] = crop_image(image, matrices[magnified], crop_size)
    for person, level in enumerate(levels):
        if level > 0:
            crops[person] = _crop_one_averaged(image, matrices[person : person + 1], crop_size, level)[0]
    return crops


def _crop_one_averaged(
    image: Pixels, matrix: Float[Tensor, "1 2 3"], crop_size: tuple[int, int], level: float
) -> Float[Tensor, "1 3 height width"]:
    """A blend of crops of the image halved as often as the whole number below ``level`` says, and once more."""
    factor = 2 ** int(level)
    part, left, top = cut_out(image, matrix, crop_size, multiple=2 * factor)
    if part.numel() == 0:
        return image.new_zeros((1, 3, *crop_size), dtype=torch.promote_types(image.dtype, matrix.dtype))
    fine = reduce_image(part, factor)
    coarse = reduce_image(fine, 2)
    finely = crop_whole(fine, compose(matrix, from_reduced(factor, matrix, left, top)), crop_size)
    coarsely = crop_whole(coarse, compose(matrix, from_reduced(2 * factor, matrix, left, top)), crop_size)
    return torch.lerp(finely, coarsely, level - int(level))


def crop_images_averaged(
    images: Shaped[Tensor, "people 3 image_height image_width"],
    matrices: Matrices,
    crop_size: tuple[int, int],
    levels: Float[Tensor, " people"],
) -> Crops:
    """`crop_images` with the filter "area". ``levels``: `crop_levels` of the matrices, on the CPU: what there is to do
    is then known without waiting for a GPU."""
    dtype = torch.promote_types(images.dtype, matrices.dtype)
    crops = torch.zeros(len(images), 3, *crop_size, dtype=dtype, device=images.device)
    for level in range(math.ceil(max(levels.tolist(), default=0.0)) + 1):
        shares = (1 - (levels - level).abs()).clamp(min=0)
        rows, shares = (values.to(images.device, non_blocking=True) for values in (shares.nonzero()[:, 0], shares))
        reduced = reduce_image(images[rows], 2**level)
        to_crop = compose(matrices, from_reduced(2**level, matrices))[rows]
        sampled = crop_images(reduced, to_crop, crop_size)
        crops.index_add_(0, rows, sampled * shares[rows].to(dtype).view(-1, 1, 1, 1))
    return crops
