"""The whole way from an image and boxes to Poses, on one page."""

import logging
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tokenpose.geometry.decode import DECODERS, Decoded, decode
from tokenpose.geometry.flips import flip_heatmaps, flip_order
from tokenpose.models.tokenpose import TokenPose
from tokenpose.poses import Poses
from tokenpose.transforms import BoxFormat, People, create_transform

logger = logging.getLogger(__name__)


class PosePredictor:
    """Finds keypoints in images; keep it and call it again. The model is put into eval mode.

    ``decoder`` as in `tokenpose.decode`; ``flip_test`` averages the heatmaps with those of the mirrored crop.

    Raises LookupError for an unknown decoder, ValueError for a flip test without known flip pairs.
    """

    def __init__(self, model: TokenPose, decoder: str = "dark", flip_test: bool = False) -> None:
        if decoder not in DECODERS:
            raise LookupError(f"there is no decoder {decoder!r}; there are {', '.join(DECODERS)}")
        if flip_test:
            flip_order(len(model.spec.skeleton), model.spec.skeleton.flip_pairs)
        self.model = model.eval()
        self.transform = create_transform(model)
        self.decoder = decoder
        self.flip_test = flip_test

    @torch.inference_mode()
    def __call__(self, image: Any, boxes: Any = None, box_format: BoxFormat = "xyxy", batch_size: int = 64) -> Poses:
        """Find the keypoints of the people in the boxes; None: the whole image is one person.

        ``image``: a path, a PIL image, a uint8 RGB array (H, W, 3) or an RGB tensor (3, H, W), uint8 or float in 0..1.
        ``boxes`` (people, 4) in image pixels; no boxes give empty Poses. ``batch_size`` bounds how many people go
        through the network at once. Raises what `Transform` raises.
        """
        if boxes is None:
            logger.warning("no boxes given: the whole image is taken as one person")
        people = self.transform(image, boxes, box_format)
        decoded = self._decode_crops(people.crops, batch_size)
        return self._poses(people, decoded)

    @torch.inference_mode()
    def many(
        self,
        images: Iterable[Any],
        boxes: Iterable[Any] | None = None,
        box_format: BoxFormat = "xyxy",
        batch_size: int = 64,
    ) -> Iterator[Poses]:
        """One Poses per image, in order; people are batched across images, a batch at a time in memory.

        ``boxes``: for each image (people, 4), or None. Raises ValueError where there are fewer boxes than images.
        """
        waiting: list[People] = []
        for image, image_boxes in _pairs(images, boxes):
            waiting.append(self.transform(image, image_boxes, box_format))
            if sum(len(people.crops) for people in waiting) >= batch_size:
                yield from self._finish(waiting, batch_size)
                waiting = []
        yield from self._finish(waiting, batch_size)

    def _finish(self, waiting: list[People], batch_size: int) -> Iterator[Poses]:
        if not waiting:
            return
        decoded = self._decode_crops(torch.cat([people.crops for people in waiting]), batch_size)
        counts = [len(people.crops) for people in waiting]
        for people, *parts in zip(waiting, *(part.split(counts) for part in decoded), strict=True):
            yield self._poses(people, Decoded(*parts))

    def _decode_crops(self, crops: Float[Tensor, "people 3 height width"], batch_size: int) -> Decoded:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1; got {batch_size}")
        decoded = [decode(self._heatmaps(batch), self.decoder) for batch in crops.split(batch_size)]
        return Decoded(*(torch.cat(parts) for parts in zip(*decoded, strict=True)))

    def _heatmaps(self, crops: Float[Tensor, "people 3 height width"]) -> Tensor:
        if len(crops) == 0:
            return crops.new_zeros(0, len(self.model.spec.skeleton), *self.model.spec.output_size)
        crops = crops.to(next(self.model.parameters()).dtype)
        heatmaps = self.model(crops)
        if not self.flip_test:
            return heatmaps
        mirrored = flip_heatmaps(self.model(crops.flip(-1)), self.model.spec.skeleton.flip_pairs)
        return (heatmaps + mirrored) / 2

    def _poses(self, people: People, decoded: Decoded) -> Poses:
        keypoints = self.transform.to_image(decoded.keypoints, people)
        return Poses(
            keypoints=keypoints.cpu().numpy(),
            scores=decoded.scores.cpu().numpy(),
            boxes=people.boxes.cpu().numpy(),
            skeleton=self.model.spec.skeleton,
        )


def predict(
    model: TokenPose,
    image: Any,
    boxes: Any = None,
    box_format: BoxFormat = "xyxy",
    decoder: str = "dark",
    flip_test: bool = False,
) -> Poses:
    """Find the keypoints of the people in the boxes of one image: `PosePredictor` for a single call."""
    return PosePredictor(model, decoder=decoder, flip_test=flip_test)(image, boxes, box_format)


def _pairs(images: Iterable[Any], boxes: Iterable[Any] | None) -> Iterator[tuple[Any, Any]]:
    if boxes is None:
        yield from ((image, None) for image in images)
        return
    remaining = iter(boxes)
    for index, image in enumerate(images):
        found = list(islice(remaining, 1))
        if not found:
            raise ValueError(f"boxes must be given for each image; there are none for image {index}")
        yield image, found[0]
    if list(islice(remaining, 1)):
        raise ValueError("there are more boxes than images")
