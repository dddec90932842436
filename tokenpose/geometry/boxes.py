"""Boxes -> centers and scales: the part of an image that a crop shows."""

import torch

from tokenpose.shapes import Boxes, Centers, Scales


def xyxy_to_xywh(boxes: Boxes) -> Boxes:
    """(x1, y1, x2, y2) -> (x1, y1, width, height), with width = x2 - x1."""
    return torch.cat((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), dim=1)


def xywh_to_xyxy(boxes: Boxes) -> Boxes:
    """(x1, y1, width, height) -> (x1, y1, x2, y2), with x2 = x1 + width."""
    return torch.cat((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]), dim=1)


def center_and_scale(boxes: Boxes, crop_size: tuple[int, int], padding: float = 1.25) -> tuple[Centers, Scales]:
    """Boxes (x, y, width, height) -> centers (x, y) and scales (width, height), image pixels.

    The center is (x + (width - 1) / 2, y + (height - 1) / 2); the short side grows to the aspect of ``crop_size``
    (height, width), and both are multiplied by ``padding`` (published: 1.25).
    """
    center = boxes[:, :2] + (boxes[:, 2:] - 1) / 2
    return center, grow_to_aspect(boxes[:, 2:], crop_size) * padding


def grow_to_aspect(extent: Scales, crop_size: tuple[int, int]) -> Scales:
    """Grow the short side of extents (width, height) to the aspect of ``crop_size`` (height, width)."""
    aspect = crop_size[1] / crop_size[0]
    width, height = extent.unbind(dim=1)
    return torch.stack((torch.maximum(width, height * aspect), torch.maximum(height, width / aspect)), dim=1)
