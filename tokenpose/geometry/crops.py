"""Crops: bilinear samples of images under affine maps; black outside."""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional

from tokenpose.geometry.affine import invert

Matrices = Float[Tensor, "people 2 3"]
Crops = Float[Tensor, "people 3 height width"]


def crop_image(image: Shaped[Tensor, "3 rows columns"], matrices: Matrices, crop_size: tuple[int, int]) -> Crops:
    """Everybody's crop of one image, which is not copied per person. ``matrices``: image -> crop of (height, width).

    Values stay in the image's range; the wider floating dtype of ``image`` and ``matrices``.
    """
    people, (height, width) = len(matrices), crop_size
    grid = sampling_grid(matrices, crop_size, image.shape[-2:]).reshape(1, people * height, width, 2)
    sampled = _sample(image.unsqueeze(0), grid)
    return sampled.reshape(3, people, height, width).transpose(0, 1)


def crop_images(
    images: Shaped[Tensor, "people 3 rows columns"], matrices: Matrices, crop_size: tuple[int, int]
) -> Crops:
    """One crop of each image of a batch. ``matrices``: image -> crop of (height, width)."""
    return _sample(images, sampling_grid(matrices, crop_size, images.shape[-2:]))


def normalise(
    crops: Crops, mean: tuple[float, float, float], std: tuple[float, float, float], unit: float = 255.0
) -> Crops:
    """(crop / unit - mean) / std per channel; ``unit`` is what white is in ``crops``."""
    return (crops - crops.new_tensor(mean).view(3, 1, 1) * unit) / (crops.new_tensor(std).view(3, 1, 1) * unit)


def sampling_grid(
    matrices: Matrices, crop_size: tuple[int, int], image_size: tuple[int, int] | torch.Size
) -> Float[Tensor, "people height width 2"]:
    """Where each crop pixel lies in the image, in grid_sample's units: -1 and 1 are the image's edges."""
    height, width = crop_size
    back = invert(matrices)
    x = torch.arange(width, dtype=back.dtype, device=back.device)
    y = torch.arange(height, dtype=back.dtype, device=back.device)
    across, down, shift = back.view(-1, 2, 3, 1, 1).unbind(dim=2)
    points = across * x + down * y.unsqueeze(-1) + shift  # (people, 2, height, width)
    sides = torch.tensor([image_size[1], image_size[0]], dtype=back.dtype, device=back.device).view(2, 1, 1)
    return ((2 * points + 1) / sides - 1).permute(0, 2, 3, 1)


def _sample(images: Shaped[Tensor, "batch 3 rows columns"], grid: Float[Tensor, "batch h w 2"]) -> Tensor:
    dtype = torch.promote_types(images.dtype, grid.dtype)  # half precision would round coordinates to whole pixels
    return functional.grid_sample(images.to(dtype), grid.to(dtype), padding_mode="zeros", align_corners=False)
