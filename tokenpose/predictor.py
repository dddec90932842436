"""The whole way from an image and boxes to Poses, on one page."""

import logging
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tokenpose.geometry.decode import DECODERS, Decoded, decode
from tokenpose.geometry.flips import flip_heatmaps, flip_order
from tokenpose.models.tokenpose import TokenPose
from tokenpose.poses import Poses
from tokenpose.transforms import BoxFormat, Transform, create_transform

logger = logging.getLogger(__name__)

Crops = Float[Tensor, "people 3 height width"]


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
        self.decoder = decoder
        self.flip_test = flip_test

    def __call__(self, image: Any, boxes: Any = None, box_format: BoxFormat = "xyxy", batch_size: int = 64) -> Poses:
        """Find the keypoints of the people in the boxes; None: the whole image is one person.

        ``image``: a path, a PIL image, a uint8 RGB array (H, W, 3) or an RGB tensor (3, H, W), uint8 or float in 0..1.
        ``boxes`` (people, 4) in image pixels; no boxes give empty Poses. ``batch_size`` bounds how many people are
        cropped and go through the network at once. Raises what `Transform` raises.
        """
        return next(self.many([image], None if boxes is None else [boxes], box_format, batch_size))

    def many(
        self,
        images: Iterable[Any],
        boxes: Iterable[Any] | None = None,
        box_format: BoxFormat = "xyxy",
        batch_size: int = 64,
    ) -> Iterator[Poses]:
        """One Poses per image, in order; people are batched across images, under two batches in memory at a time.

        ``boxes``: for each image (people, 4), or None. Raises ValueError where there are fewer or more than images.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1; got {batch_size}")
        if boxes is None:
            logger.warning("no boxes given: the whole image is taken as one person")
        transform = create_transform(self.model)
        waiting: deque[_Framed] = deque()
        queue: list[tuple[_Framed, Crops]] = []
        for image, image_boxes in _pairs(images, boxes):
            pixels, xyxy, matrices = transform.frame(image, image_boxes, box_format)
            waiting.append(_Framed(boxes=xyxy, matrices=matrices))
            for some in matrices.split(batch_size) if len(matrices) else ():
                queue.append((waiting[-1], transform.crop(pixels, some)))
                if sum(len(crops) for _, crops in queue) >= batch_size:
                    self._decode_queue(queue, batch_size)
                    queue = []
            while waiting and waiting[0].is_decoded:
                yield self._poses(waiting.popleft(), transform)
        self._decode_queue(queue, batch_size)
        for framed in waiting:
            yield self._poses(framed, transform)

    @torch.inference_mode()
    def _decode_queue(self, queue: "list[tuple[_Framed, Crops]]", batch_size: int) -> None:
        """Run the network and give every image its people's keypoints."""
        if not queue:
            return
        batches = torch.cat([crops for _, crops in queue]).split(batch_size)
        decoded = [decode(self._heatmaps(batch), self.decoder) for batch in batches]
        counts = [len(crops) for _, crops in queue]
        keypoints, scores = (torch.cat(parts).split(counts) for parts in zip(*decoded, strict=True))
        for (framed, _), *found in zip(queue, keypoints, scores, strict=True):
            framed.decoded.append(Decoded(*found))

    def _heatmaps(self, crops: Crops) -> Float[Tensor, "people keypoints rows columns"]:
        crops = crops.to(next(self.model.parameters()).dtype)
        heatmaps = self.model(crops)
        if not self.flip_test:
            return heatmaps
        mirrored = flip_heatmaps(self.model(crops.flip(-1)), self.model.spec.skeleton.flip_pairs)
        return (heatmaps + mirrored) / 2

    def _poses(self, framed: "_Framed", transform: Transform) -> Poses:
        skeleton = self.model.spec.skeleton
        keypoints = torch.zeros(len(framed.boxes), len(skeleton), 2)
        scores = torch.zeros(len(framed.boxes), len(skeleton))
        if framed.decoded:
            cells, scores = (torch.cat(parts) for parts in zip(*framed.decoded, strict=True))
            keypoints = transform.from_heatmaps(cells, framed.matrices)
        return Poses(
            keypoints=keypoints.cpu().numpy(),
            scores=scores.cpu().numpy(),
            boxes=framed.boxes.cpu().numpy(),
            skeleton=skeleton,
        )


@dataclass(kw_only=True)
class _Framed:
    """The people of one image who wait for their keypoints."""

    boxes: Float[Tensor, "people 4"]
    matrices: Float[Tensor, "people 2 3"]
    decoded: list[Decoded] = field(default_factory=list)

    @property
    def is_decoded(self) -> bool:
        return sum(len(part.scores) for part in self.decoded) == len(self.boxes)


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
