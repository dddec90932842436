"""The preprocessing half of the predictor, for user code."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from tokenpose.geometry.affine import crop_matrices, invert, resize_matrices, transform_points
from tokenpose.geometry.boxes import center_and_scale, xywh_to_xyxy, xyxy_to_xywh
from tokenpose.geometry.crops import crop_image, normalise
from tokenpose.images import read_image
from tokenpose.models.spec import ModelSpec
from tokenpose.models.tokenpose import TokenPose

BoxFormat = Literal["xyxy", "xywh"]


@dataclass(frozen=True, kw_only=True)
class People:
    """The people of one image on their way to the network."""

    crops: Float[Tensor, "people 3 height width"]
    """Normalised."""
    matrices: Float[Tensor, "people 2 3"]
    """Image -> crop."""
    boxes: Float[Tensor, "people 4"]
    """x1, y1, x2, y2 in image pixels."""


@dataclass(frozen=True, kw_only=True)
class Transform:
    """Image and boxes -> normalised crops, and keypoints back; made by `create_transform`."""

    spec: ModelSpec
    device: torch.device

    def __call__(self, image: Any, boxes: Any = None, box_format: BoxFormat = "xyxy") -> People:
        """Crop each box as the model's spec says. ``boxes`` (people, 4), None for the whole image as one person.

        Raises what `tokenpose.images.read_image` raises, and ValueError for boxes that aren't finite, of another
        shape or without area.
        """
        pixels, xyxy, matrices = self.frame(image, boxes, box_format)
        return People(crops=self.crop(pixels, matrices), matrices=matrices, boxes=xyxy)

    def frame(
        self, image: Any, boxes: Any = None, box_format: BoxFormat = "xyxy"
    ) -> tuple[UInt8[Tensor, "3 height width"], Float[Tensor, "people 4"], Float[Tensor, "people 2 3"]]:
        """The first half of a call: the image's pixels, the boxes as x1, y1, x2, y2, and their matrices."""
        pixels = read_image(image).to(self.device)
        if boxes is None:
            boxes, box_format = [[0.0, 0.0, pixels.shape[2], pixels.shape[1]]], "xyxy"
        xyxy = read_boxes(boxes, box_format).to(self.device)
        center, scale = center_and_scale(xyxy_to_xywh(xyxy), self.spec.image_size, self.spec.box_padding)
        return pixels, xyxy, crop_matrices(center, scale, self.spec.image_size)

    def crop(
        self, pixels: UInt8[Tensor, "3 height width"], matrices: Float[Tensor, "people 2 3"]
    ) -> Float[Tensor, "people 3 rows columns"]:
        """The second half: normalised crops, for as many of the people as are wanted at once."""
        return normalise(crop_image(pixels, matrices, self.spec.image_size), self.spec.mean, self.spec.std)

    def to_image(
        self, keypoints: Float[Tensor, "people keypoints 2"], people: People
    ) -> Float[Tensor, "people keypoints 2"]:
        """Heatmap cells -> image pixels."""
        return self.from_heatmaps(keypoints, people.matrices)

    def from_heatmaps(
        self, keypoints: Float[Tensor, "people keypoints 2"], matrices: Float[Tensor, "people 2 3"]
    ) -> Float[Tensor, "people keypoints 2"]:
        """Heatmap cells -> image pixels, by the matrices from image to crop."""
        to_heatmap = resize_matrices(matrices, self.spec.image_size, self.spec.output_size)
        return transform_points(keypoints.to(to_heatmap), invert(to_heatmap))


def create_transform(model: TokenPose) -> Transform:
    """The model's preprocessing: ``people = transform(image, boxes)``, ``transform.to_image(keypoints, people)``."""
    return Transform(spec=model.spec, device=next(model.parameters()).device)


def read_boxes(boxes: Any, box_format: str) -> Float[Tensor, "people 4"]:
    """Boxes as float32 x1, y1, x2, y2 on the CPU; (0, 4) for none.

    Raises ValueError for other shapes, values that aren't finite, boxes under one pixel a side, unknown formats.
    """
    if box_format not in ("xyxy", "xywh"):
        raise ValueError(f'box_format must be "xyxy" or "xywh"; got {box_format!r}')
    values = boxes.detach().cpu().numpy() if isinstance(boxes, Tensor) else boxes
    try:
        array = torch.from_numpy(np.array(values, dtype=np.float32))
    except (ValueError, TypeError) as error:
        raise ValueError(f"boxes must be numbers of shape (people, 4); got {boxes!r:.200}") from error
    if array.numel() == 0:
        return array.new_zeros(0, 4)
    if array.ndim != 2 or array.shape[1] != 4:
        hint = "; one box is written [[...]]: shape (1, 4)" if tuple(array.shape) == (4,) else ""
        raise ValueError(f"boxes must have shape (people, 4); got {tuple(array.shape)}{hint}")
    xyxy = array if box_format == "xyxy" else xywh_to_xyxy(array)
    bad = ~torch.isfinite(xyxy).all(dim=1) | (xyxy[:, 2:] - xyxy[:, :2] < 1).any(dim=1)
    if bad.any():
        index = int(bad.nonzero()[0])
        raise ValueError(
            f"box {index} is {array[index].tolist()} ({box_format}); it must be finite, x2 and y2 at least 1 pixel "
            "beyond x1 and y1 (for xywh: width and height at least 1)"
        )
    return xyxy
