"""Crops: images under affine maps, sampled bilinearly or averaged; black outside."""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional

from tokenpose.geometry.affine import constant, invert
from tokenpose.shapes import CropFilter, Crops, Matrices, Pixels

_PIXELS_AT_ONCE = 4_000_000  # 48 MB as float32, which grid_sample needs; reading neighbors is faster above


def crop_image(
    image: Pixels, matrices: Matrices, crop_size: tuple[int, int], crop_filter: CropFilter = "bilinear"
) -> Crops:
    """Crop each person from one image, which is not copied per person. ``matrices``: image -> crop of (height, width).

    ``crop_filter``: "bilinear" samples between pixel centers; so does "area" where the crop magnifies. Elsewhere "area"
    first averages squares of 2, 4, 8, ... pixels a side, and blends the crops of the two sizes between which a crop's
    pixel lies.

    Values stay in the image's range. The result has the wider floating dtype of ``image`` and ``matrices``; large
    images are not converted to it as a whole.
    """
    if crop_filter == "area":
        from tokenpose.geometry.averaging import crop_averaged

        return crop_averaged(image, matrices, crop_size)
    crop = crop_whole if image.shape[-2] * image.shape[-1] <= _PIXELS_AT_ONCE else _crop_sparsely
    return crop(image, matrices, crop_size)


def crop_whole(image: Pixels, matrices: Matrices, crop_size: tuple[int, int]) -> Crops:
    """Use grid_sample. It gives threads one image each, so each person, or each half of a single one, is an image."""
    people, (height, width) = len(matrices), crop_size
    halves = 2 if people == 1 and height % 2 == 0 else 1
    grid = sampling_grid(matrices, crop_size, image.shape[-2:])
    dtype = torch.promote_types(image.dtype, grid.dtype)
    images = image.to(dtype).expand(people * halves, -1, -1, -1)
    sampled = _sample(images, grid.reshape(people * halves, height // halves, width, 2))
    return sampled if halves == 1 else sampled.transpose(0, 1).reshape(1, 3, height, width)


def _crop_sparsely(image: Pixels, matrices: Matrices, crop_size: tuple[int, int]) -> Crops:
    """The same, reading only the four neighbors of each sample."""
    rows, columns = image.shape[-2:]
    points = _spread(invert(matrices), crop_size)
    first = points.floor()
    crops = torch.zeros((), device=image.device, dtype=torch.promote_types(image.dtype, matrices.dtype))
    for down in (0, 1):
        for across in (0, 1):
            x, y = first[:, 0] + across, first[:, 1] + down
            share = (1 - (points[:, 0] - x).abs()) * (1 - (points[:, 1] - y).abs())
            inside = (x >= 0) & (x < columns) & (y >= 0) & (y < rows)
            neighbors = image[:, y.clamp(0, rows - 1).long(), x.clamp(0, columns - 1).long()]
            crops = crops + neighbors * (share * inside)
    return crops.transpose(0, 1)


def crop_images(
    images: Shaped[Tensor, "people 3 image_height image_width"], matrices: Matrices, crop_size: tuple[int, int]
) -> Crops:
    """One crop of each image of a batch. ``matrices``: image -> crop of (height, width)."""
    return _sample(images, sampling_grid(matrices, crop_size, images.shape[-2:]))


def crop_normalized(
    image: Pixels,
    matrices: Matrices,
    crop_size: tuple[int, int],
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    crop_filter: CropFilter = "bilinear",
) -> Crops:
    """Crop with `crop_image` and `normalize` the result, for images in 0..255."""
    crops = crop_image(image, matrices, crop_size, crop_filter)
    black, factor = _normalization(crops, mean, std, unit=255.0)
    # in place: with new memory this takes half as long again
    return torch.addcmul(black, crops, factor, out=crops)


def normalize(
    crops: Crops, mean: tuple[float, float, float], std: tuple[float, float, float], unit: float = 255.0
) -> Crops:
    """(crop / unit - mean) / std per channel; ``unit`` is the value of white in ``crops``."""
    black, factor = _normalization(crops, mean, std, unit)
    return torch.addcmul(black, crops, factor)


def _normalization(
    crops: Crops, mean: tuple[float, float, float], std: tuple[float, float, float], unit: float
) -> tuple[Float[Tensor, "3 1 1"], Float[Tensor, "3 1 1"]]:
    """The normalized value of black, and the factor for other values."""
    deviation = constant(std, crops).view(3, 1, 1)
    return -constant(mean, crops).view(3, 1, 1) / deviation, 1 / (deviation * unit)


def sampling_grid(
    matrices: Matrices, crop_size: tuple[int, int], image_size: tuple[int, int] | torch.Size
) -> Float[Tensor, "people height width 2"]:
    """The place of each crop pixel in the image, in grid_sample's units: -1 and 1 are the image's edges."""
    sides = constant([image_size[1], image_size[0]], matrices).view(2, 1)
    back = invert(matrices) * (2 / sides)
    back = torch.cat((back[..., :2], back[..., 2:] + 1 / sides - 1), dim=-1)
    return _spread(back, crop_size).permute(0, 2, 3, 1)


def _spread(back: Matrices, crop_size: tuple[int, int]) -> Float[Tensor, "people 2 height width"]:
    """Apply the maps ``back`` from the crop to each crop pixel."""
    height, width = crop_size
    x = torch.arange(width, dtype=back.dtype, device=back.device)
    y = torch.arange(height, dtype=back.dtype, device=back.device)
    across, down, shift = back.view(-1, 2, 3, 1, 1).unbind(dim=2)
    return across * x + (down * y.unsqueeze(-1) + shift)  # only the last sum is as large as the crop


def _sample(
    images: Shaped[Tensor, "people 3 image_height image_width"], grid: Float[Tensor, "people height width 2"]
) -> Tensor:
    dtype = torch.promote_types(images.dtype, grid.dtype)  # half precision would round coordinates to whole pixels
    return functional.grid_sample(images.to(dtype), grid.to(dtype), padding_mode="zeros", align_corners=False)
