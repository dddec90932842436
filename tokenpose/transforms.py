"""The preprocessing of the predictor, also for user code, and its form for training; `create_transform` makes both."""

from dataclasses import dataclass
from typing import Any, Literal, cast, overload

import torch
from torch import nn

from tokenpose.boxes import BoxFormat, padded_center_and_scale, read_boxes
from tokenpose.data.augment import Augmentation, check_skeleton
from tokenpose.data.training_transform import TrainingTransform
from tokenpose.files import shown
from tokenpose.geometry.affine import crop_matrices, invert, resize_matrices, transform_points
from tokenpose.geometry.crops import crop_normalized
from tokenpose.images import read_image
from tokenpose.models.spec import ModelSpec
from tokenpose.models.tokenpose import TokenPose
from tokenpose.shapes import Boxes, Crops, Keypoints, Matrices, RgbImage


@dataclass(frozen=True, kw_only=True)
class People:
    """The people of one image on their way to the network."""

    crops: Crops
    """Normalized."""
    matrices: Matrices
    """Image -> crop."""
    boxes: Boxes
    """x1, y1, x2, y2 in image pixels."""


@dataclass(frozen=True, kw_only=True)
class Transform:
    """Image and boxes -> normalized crops, and keypoints back; made by `create_transform`."""

    spec: ModelSpec
    device: torch.device
    dtype: torch.dtype = torch.float32
    """The dtype of the crops, which is the model's."""

    def __call__(self, image: Any, boxes: Any = None, box_format: BoxFormat = "xyxy") -> People:
        """Crop each box as the model's spec says. ``boxes`` (people, 4), None for the whole image as one person.

        A box may reach beyond the image, which is black there. Raises what `tokenpose.images.read_image` raises, and
        ValueError for boxes of another shape and for those that aren't finite, have swapped corners or a side under one
        pixel, or lie entirely outside the image.
        """
        pixels, xyxy, matrices = self.frame(image, boxes, box_format)
        return People(crops=self.crop(pixels, matrices), matrices=matrices, boxes=xyxy)

    def frame(self, image: Any, boxes: Any = None, box_format: BoxFormat = "xyxy") -> tuple[RgbImage, Boxes, Matrices]:
        """The first half of a call: the image's pixels, the boxes as x1, y1, x2, y2, and their matrices."""
        pixels = read_image(image).to(self.device)
        size = pixels.shape[1], pixels.shape[2]
        if boxes is None:
            boxes, box_format = [[0.0, 0.0, size[1], size[0]]], "xyxy"
        xyxy = read_boxes(boxes, box_format, size).to(self.device)
        center, scale = padded_center_and_scale(xyxy, self.spec.image_size, self.spec.box_padding)
        return pixels, xyxy, crop_matrices(center, scale, self.spec.image_size)

    def crop(self, pixels: RgbImage, matrices: Matrices) -> Crops:
        """The second half of a call: normalized crops of some or all of the people."""
        spec = self.spec
        crops = crop_normalized(pixels, matrices, spec.image_size, spec.mean, spec.std, spec.crop_filter)
        return crops.to(self.dtype)

    def to_image(self, keypoints: Keypoints, people: People) -> Keypoints:
        """Heatmap cells -> image pixels."""
        return self.from_heatmaps(keypoints, people.matrices)

    def from_heatmaps(self, keypoints: Keypoints, matrices: Matrices) -> Keypoints:
        """Heatmap cells -> image pixels, by the matrices from image to crop."""
        to_heatmap = resize_matrices(matrices, self.spec.image_size, self.spec.output_size)
        return transform_points(keypoints.to(to_heatmap), invert(to_heatmap))


@overload
def create_transform(
    model: TokenPose, training: Literal[False] = False, *, device: torch.device | str | None = None
) -> Transform: ...


@overload
def create_transform(
    model: TokenPose,
    training: Literal[True],
    *,
    device: torch.device | str | None = None,
    **augmentation: int | float | str,
) -> TrainingTransform: ...


def create_transform(
    model: TokenPose,
    training: bool = False,
    *,
    device: torch.device | str | None = None,
    **augmentation: int | float | str,
) -> Transform | TrainingTransform:
    """The model's preprocessing: ``people = transform(image, boxes)``, ``transform.to_image(keypoints, people)``.

    It does what `PosePredictor` does, in the model's precision and on the model's device unless ``device`` is given.
    ``training=True`` gives the training form, ``batch = transform(image, boxes, keypoints)``: augmented crops with
    their targets, on the CPU unless a ``device`` is named, ready for the workers of a DataLoader. ``augmentation``: any
    of the fields of `tokenpose.data.augment.Augmentation`; without any scale=0.35, rotation=45.0,
    rotation_probability=0.6 and flip=0.5, as published, half_body=0.0 (published: 0.3) and no change of colors.

    Raises TypeError for other names and for anything but a model, ValueError for values out of range, for ``flip``
    where the skeleton's flip pairs aren't known, and for ``half_body`` where its names don't tell upper from lower.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"a model is needed, as tokenpose.create_model makes; got {shown(model)}")
    if not training:
        if augmentation:
            raise TypeError(f"{', '.join(augmentation)}: augmentation goes with training=True")
        weights = next(model.parameters())
        return Transform(spec=model.spec, device=torch.device(device or weights.device), dtype=weights.dtype)
    values = {name: float(value) if isinstance(value, int) else value for name, value in augmentation.items()}
    settings = Augmentation(**cast(Any, values))
    check_skeleton(settings, model.spec.skeleton)
    return TrainingTransform(framing=model.spec, device=torch.device(device or "cpu"), augmentation=settings)
