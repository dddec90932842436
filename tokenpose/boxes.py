"""Boxes as people give them: checked once, float32 x1, y1, x2, y2 from there on."""

import logging
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tokenpose.files import shown
from tokenpose.geometry.boxes import center_and_scale, xywh_to_xyxy, xyxy_to_xywh

logger = logging.getLogger(__name__)

BoxFormat = Literal["xyxy", "xywh"]

Box = tuple[float, float, float, float]
"""x1, y1, x2, y2."""

_FARTHEST = 1e6  # pixels: beyond, float32 loses the fractions that crops need


def read_boxes(
    boxes: Any, box_format: str = "xyxy", image_size: tuple[int, int] | None = None
) -> Float[Tensor, "people 4"]:
    """Boxes as float32 x1, y1, x2, y2 on the CPU; (0, 4) for none. ``image_size`` (height, width), if known.

    Raises ValueError for another shape or format, and ValueError that names the first invalid box: it isn't finite, has
    swapped corners or a side under one pixel, reaches beyond a million pixels, or lies entirely outside the image.
    """
    if box_format not in ("xyxy", "xywh"):
        raise ValueError(f'box_format must be "xyxy" or "xywh"; got {shown(box_format)}')
    array = read_numbers(boxes, "boxes must be numbers of shape (people, 4)")
    if array.numel() == 0:
        return array.new_zeros(0, 4)
    if array.ndim != 2 or array.shape[1] != 4:
        hint = "; one box is written [[...]]: shape (1, 4)" if tuple(array.shape) == (4,) else ""
        raise ValueError(f"boxes must have shape (people, 4); got {tuple(array.shape)}{hint}")
    xyxy = array if box_format == "xyxy" else xywh_to_xyxy(array)
    _check_boxes(array, xyxy, box_format)
    if image_size is not None:
        _check_inside(array, xyxy, box_format, image_size)
    return xyxy


def _check_boxes(given: Float[Tensor, "people 4"], xyxy: Float[Tensor, "people 4"], box_format: str) -> None:
    sides = xyxy[:, 2:] - xyxy[:, :2]
    bad = ~torch.isfinite(xyxy).all(dim=1) | (sides < 1).any(dim=1) | (xyxy.abs() > _FARTHEST).any(dim=1)
    if not bad.any():
        return
    index = int(bad.nonzero()[0])
    hint = ""
    if (given.abs() <= 1).all():
        hint = "; boxes look like fractions of the image: multiply by its width and height"
    elif box_format == "xyxy" and (sides[index] < 0).any():
        hint = '; corners are swapped, or these are x, y, width, height: box_format="xywh"'
    raise ValueError(
        f"box {index} is {given[index].tolist()} ({box_format}); it must be finite, x2 and y2 at least 1 pixel "
        f"beyond x1 and y1 (for xywh: width and height at least 1), and within a million pixels{hint}"
    )


def _check_inside(
    given: Float[Tensor, "people 4"], xyxy: Float[Tensor, "people 4"], box_format: str, image_size: tuple[int, int]
) -> None:
    height, width = image_size
    x1, y1, x2, y2 = xyxy.unbind(dim=1)
    outside = (x2 <= 0) | (y2 <= 0) | (x1 >= width) | (y1 >= height)
    if not outside.any():
        return
    index = int(outside.nonzero()[0])
    swapped = bool((x1 < height).all() and (y1 < width).all() and (x2 > 0).all() and (y2 > 0).all())
    hint = "; width and height look swapped" if swapped and height != width else ""
    raise ValueError(
        f"box {index} is {given[index].tolist()} ({box_format}), wholly outside the image of width {width} and height "
        f"{height}{hint}"
    )


def padded_center_and_scale(
    xyxy: Float[Tensor, "people 4"], crop_size: tuple[int, int], padding: float
) -> tuple[Float[Tensor, "people 2"], Float[Tensor, "people 2"]]:
    """Centers and scales of the padded boxes, as `tokenpose.geometry.boxes.center_and_scale` defines them.

    Raises ValueError if a padding below 1 leaves a pixel or less of a box: then the published crop is undefined.
    """
    center, scale = center_and_scale(xyxy_to_xywh(xyxy), crop_size, padding)
    if (scale <= 1).any():
        index = int((scale <= 1).any(dim=1).nonzero()[0])
        raise ValueError(
            f"box {index} is {xyxy[index].tolist()} (xyxy): with box_padding {padding} it shows "
            f"{scale[index].tolist()} pixels, and a crop needs more than one"
        )
    return center, scale


def read_numbers(values: Any, expected: str) -> Tensor:
    """Convert anything like an array to float32 on the CPU."""
    try:
        values = values.detach().cpu().float().numpy() if isinstance(values, Tensor) else values
        return torch.from_numpy(np.array(values, dtype=np.float32))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{expected}; got {shown(values)}") from error
