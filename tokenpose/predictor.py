"""The whole way from an image and boxes to Poses, on one page."""

import logging
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice, repeat
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from tokenpose.boxes import BoxFormat
from tokenpose.geometry.decode import DECODERS, Decoded, decode
from tokenpose.geometry.flips import flip_heatmaps, flip_order
from tokenpose.images import read_images
from tokenpose.models.tokenpose import TokenPose
from tokenpose.poses import Poses
from tokenpose.transforms import Transform, create_transform

logger = logging.getLogger(__name__)

Crops = Float[Tensor, "people 3 height width"]


class PosePredictor:
    """Finds keypoints in images; keep it and call it again. The model is put into eval mode.

    ``decoder`` as in `tokenpose.decode`; ``flip_test`` averages the heatmaps with those of the mirrored crop.

    Raises LookupError for an unknown decoder, ValueError for a flip test without known flip pairs, TypeError for what
    is no model.
    """

    def __init__(self, model: TokenPose, decoder: str = "dark", flip_test: bool = False) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"a model is needed, as tokenpose.create_model makes; got {model!r:.80}")
        if decoder not in DECODERS:
            raise LookupError(f"there is no decoder {decoder!r}; there are {', '.join(DECODERS)}")
        if flip_test:
            skeleton = model.spec.skeleton
            flip_order(len(skeleton), skeleton.flip_pairs, skeleton.keypoints)
        self.model = model.eval()
        self.decoder = decoder
        self.flip_test = flip_test

    def __call__(self, image: Any, boxes: Any = None, box_format: BoxFormat = "xyxy", batch_size: int = 64) -> Poses:
        """Find the keypoints of the people in the boxes; None: the whole image is one person.

        ``image``: a path, a PIL image, a uint8 RGB array (H, W, 3) or an RGB tensor (3, H, W), uint8 or float in 0..1.
        ``boxes`` (people, 4) in image pixels; no boxes give empty Poses. ``batch_size`` bounds how many people are
        cropped and go through the network at once. Raises what `Transform` raises.
        """
        pairs = _pairs([image], None if boxes is None else [boxes], readers=0)
        return next(self._stream(pairs, box_format, batch_size))

    @overload
    def many(
        self,
        images: Iterable[Any],
        boxes: Iterable[Any] | None = None,
        box_format: BoxFormat = "xyxy",
        batch_size: int = 64,
        *,
        on_error: Literal["raise"] = "raise",
        readers: int = 4,
    ) -> Iterator[Poses]: ...

    @overload
    def many(
        self,
        images: Iterable[Any],
        boxes: Iterable[Any] | None = None,
        box_format: BoxFormat = "xyxy",
        batch_size: int = 64,
        *,
        on_error: Literal["skip"],
        readers: int = 4,
    ) -> Iterator[Poses | None]: ...

    def many(
        self,
        images: Iterable[Any],
        boxes: Iterable[Any] | None = None,
        box_format: BoxFormat = "xyxy",
        batch_size: int = 64,
        *,
        on_error: str = "raise",
        readers: int = 4,
    ) -> Iterator[Any]:
        """One Poses per image, in order. Reading overlaps computing; people are batched across images.

        ``boxes``: for each image (people, 4), or None. ``readers`` threads read ahead (0: none), so that as many images
        and under two batches of people are in memory at a time. ``on_error``: what an image that can't be read, or that
        has wrong boxes, does: "raise", after the results of those before it; "skip" logs it and gives None in its
        place.

        Raises ValueError where there are fewer or more boxes than images, and for other values of ``on_error``.
        """
        if on_error not in ("raise", "skip"):
            raise ValueError(f'on_error must be "raise" or "skip"; got {on_error!r}')
        if not isinstance(images, Iterable) or isinstance(images, str | np.ndarray | Tensor):
            raise TypeError("many takes a list of images, or an iterator; for one image call the predictor itself")
        if readers < 0:
            raise ValueError(f"readers must be 0 or more; got {readers}")
        return self._stream(_pairs(images, boxes, readers), box_format, batch_size, on_error)

    def _stream(
        self, pairs: Iterable[tuple[Any, Any, str]], box_format: BoxFormat, batch_size: int, on_error: str = "raise"
    ) -> Iterator[Any]:
        """Frame, queue, decode, and hand out in order."""
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size must be a whole number, at least 1; got {batch_size}")
        self.model.eval()  # whoever trains in between may have left it otherwise
        transform = create_transform(self.model)
        waiting: deque[_Framed] = deque()
        queue: list[tuple[_Framed, Crops]] = []
        failure = None
        for pixels, image_boxes, name in pairs:
            try:
                pixels, xyxy, matrices = transform.frame(_raise_error(pixels), image_boxes, box_format)
            except (OSError, ValueError, TypeError) as error:
                if on_error == "raise":
                    failure = error
                    break
                logger.warning("%s is skipped: %s", name, error)
                waiting.append(_Framed.nothing())
                continue
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
        if failure is not None:
            raise failure

    @torch.inference_mode()
    def _decode_queue(self, queue: "list[tuple[_Framed, Crops]]", batch_size: int) -> None:
        """Run the network and give every image its people's keypoints."""
        if not queue:
            return
        parts = [crops for _, crops in queue]
        batches = (torch.cat(parts) if len(parts) > 1 else parts[0]).split(batch_size)  # cat would copy a single one
        decoded = [decode(self._heatmaps(batch), self.decoder) for batch in batches]
        counts = [len(crops) for _, crops in queue]
        keypoints, scores = (torch.cat(parts).split(counts) for parts in zip(*decoded, strict=True))
        for (framed, _), *found in zip(queue, keypoints, scores, strict=True):
            framed.decoded.append(Decoded(*found))

    def _heatmaps(self, crops: Crops) -> Float[Tensor, "people keypoints rows columns"]:
        if not self.flip_test:
            return self.model(crops)
        heatmaps = self.model(crops).clone()  # with CUDA graphs the next pass writes into the same memory
        mirrored = flip_heatmaps(self.model(crops.flip(-1)), self.model.spec.skeleton.flip_pairs)
        return (heatmaps + mirrored) / 2

    def _poses(self, framed: "_Framed", transform: Transform) -> Poses | None:
        if framed.is_skipped:
            return None
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
    is_skipped: bool = False

    @classmethod
    def nothing(cls) -> "_Framed":
        """The place of an image that could not be read."""
        return cls(boxes=torch.zeros(0, 4), matrices=torch.zeros(0, 2, 3), is_skipped=True)

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


def _pairs(images: Iterable[Any], boxes: Iterable[Any] | None, readers: int) -> Iterator[tuple[Any, Any, str]]:
    """Images (or the errors in their places), their boxes, and what to call them."""
    if boxes is None:
        logger.warning("no boxes given: the whole image is taken as one person")
    names: deque[str] = deque()
    read = read_images(_note_names(images, names), readers)
    remaining = iter(repeat(None) if boxes is None else boxes)
    for index, pixels in enumerate(read):
        found = list(islice(remaining, 1))
        if not found:
            raise ValueError(f"boxes must be given for each image; there are none for image {index}")
        yield pixels, found[0], f"image {index}{names.popleft()}"
    if boxes is not None and list(islice(remaining, 1)):
        raise ValueError("there are more boxes than images")


def _note_names(images: Iterable[Any], names: deque[str]) -> Iterator[Any]:
    for image in images:
        names.append(f" ({image})" if isinstance(image, str | Path) else "")
        yield image


def _raise_error(pixels: Any) -> Any:
    if isinstance(pixels, Exception):
        raise pixels
    return pixels
