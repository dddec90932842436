"""The training form of the transform: augmented crops and their targets for the people of one image."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tokenpose.boxes import BoxFormat, padded_center_and_scale, read_boxes, read_numbers
from tokenpose.data.augment import (
    Augmentation,
    Batch,
    Framing,
    blacken,
    draw,
    make_batch,
    place_people,
    recolor,
)
from tokenpose.geometry.boxes import xyxy_to_xywh
from tokenpose.geometry.crops import crop_image
from tokenpose.images import read_image


@dataclass(frozen=True, kw_only=True)
class TrainingTransform:
    """Image, boxes and labeled keypoints -> augmented crops and targets; `tokenpose.create_transform` makes it."""

    framing: Framing
    device: torch.device
    augmentation: Augmentation

    def __call__(
        self,
        image: Any,
        boxes: Any,
        keypoints: Any,
        box_format: BoxFormat = "xyxy",
        generator: torch.Generator | None = None,
    ) -> Batch:
        """A named tuple of crops (people, 3, H, W), heatmaps (people, K, h, w), weights (people, K) and keypoints.

        ``keypoints`` (people, K, 2), all labeled, or (people, K, 3) with COCO's third value, 0 where a keypoint isn't
        labeled; x and y in image pixels. The weights are 0 for those and 1 for the others; the returned keypoints
        are in heatmap cells. Random numbers come from ``generator``, on this transform's device. None: a new generator,
        seeded by torch's global one, which follows ``torch.manual_seed`` and differs between DataLoader workers.

        Raises what `Transform` raises, and ValueError for keypoints of another shape or that aren't finite.
        """
        pixels = read_image(image).to(self.device)
        xyxy = read_boxes(boxes, box_format, (pixels.shape[1], pixels.shape[2])).to(self.device)
        points, visible = _read_keypoints(keypoints, len(xyxy), len(self.framing.skeleton))
        if generator is None:
            generator = torch.Generator(self.device).manual_seed(int(torch.randint(2**62, ())))
        points, visible = points.to(self.device), visible.to(self.device)
        drawn = draw(self.augmentation, len(xyxy), generator)
        padded_center_and_scale(xyxy, self.framing.image_size, self.framing.box_padding)  # refuses too small boxes
        placed = place_people(xyxy_to_xywh(xyxy), points, visible, drawn, self.framing)
        crops = crop_image(pixels, placed.matrices, self.framing.image_size, self.framing.crop_filter)
        crops = recolor(blacken(crops, placed), drawn)
        return make_batch(crops, placed.matrices, points, placed.visible, drawn.flip, self.framing)


def _read_keypoints(
    keypoints: Any, people: int, count: int
) -> tuple[Float[Tensor, "people keypoints 2"], Bool[Tensor, "people keypoints"]]:
    array = read_numbers(keypoints, f"keypoints must be numbers of shape (people, {count}, 2 or 3)")
    if array.ndim != 3 or array.shape[:2] != (people, count) or array.shape[2] not in (2, 3):
        raise ValueError(
            f"keypoints must have shape ({people}, {count}, 2 or 3), for {people} boxes and {count} keypoints; got "
            f"{tuple(array.shape)}"
        )
    points, visible = array[..., :2], torch.ones(people, count, dtype=torch.bool)
    if array.shape[2] == 3:
        visible = array[..., 2] > 0
    if not points[visible].isfinite().all():
        raise ValueError("labeled keypoints must be finite; give those that aren't labeled a third value of 0")
    return torch.where(visible.unsqueeze(-1), points, 0.0), visible
