"""From an image and boxes to Poses: the whole way, on one page."""

import logging
from collections.abc import Iterable, Iterator
from typing import Any, Literal, overload

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from tokenpose.boxes import BoxFormat
from tokenpose.files import shown
from tokenpose.geometry.decode import DECODERS, Decoded, decode
from tokenpose.geometry.flips import flip_heatmaps, flip_order
from tokenpose.models.calibration import ScoreMap
from tokenpose.models.tokenpose import TokenPose, find_score_map
from tokenpose.poses import Poses
from tokenpose.shapes import Crops
from tokenpose.stream import Found, find_in_order, pair
from tokenpose.transforms import Transform, create_transform

logger = logging.getLogger(__name__)


class PosePredictor:
    """Finds keypoints in images; keep it and call it again. The model is put into eval mode.

    ``decoder`` as in `tokenpose.decode`; ``flip_test`` averages the heatmaps with those of the mirrored crop. Scores
    are the peaks of heatmaps, or the probabilities of a calibrated model (`tokenpose.calibrate`).

    Raises LookupError for an unknown decoder, ValueError for a flip test without known flip pairs, TypeError for
    anything but a model.
    """

    def __init__(self, model: TokenPose, decoder: str = "dark", flip_test: bool = False) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"a model is needed, as tokenpose.create_model makes; got {shown(model)}")
        if decoder not in DECODERS:
            raise LookupError(f"there is no decoder {shown(decoder)}; there are {', '.join(DECODERS)}")
        if flip_test:
            skeleton = model.spec.skeleton
            flip_order(len(skeleton), skeleton.flip_pairs, skeleton.keypoints)
        self.model = model.eval()
        self.decoder = decoder
        self.flip_test = flip_test
        if model.calibration is not None and not self.is_calibrated:
            logger.warning(
                "the model is calibrated for %s, not for %dx%d%s: scores are the peaks of heatmaps",
                model.calibration.describe(), *model.spec.image_size, " with flip test" if flip_test else "",
            )  # fmt: skip

    @property
    def is_calibrated(self) -> bool:
        """Whether scores are probabilities: the model is calibrated for this image size, with or without flip test."""
        return self._score_map() is not None

    def __call__(self, image: Any, boxes: Any = None, box_format: BoxFormat = "xyxy", batch_size: int = 64) -> Poses:
        """Find the keypoints of the people in the boxes; None: the whole image is one person.

        ``image``: a path, a PIL image, a uint8 RGB array (H, W, 3) or an RGB tensor (3, H, W), uint8 or float in 0..1.
        ``boxes`` (people, 4) in image pixels; no boxes give empty Poses. ``batch_size`` bounds how many people are
        cropped and go through the network at once. Raises what `Transform` raises.
        """
        _check_batch_size(batch_size)
        transform = self._prepare(boxes)
        pixels, xyxy, matrices = transform.frame(image, boxes, box_format)  # image pixels; matrices: image -> crop
        found = Found(boxes=xyxy, matrices=matrices)
        for some in matrices.split(batch_size) if len(xyxy) else ():
            found.decoded.append(self._find(transform.crop(pixels, some)))  # heatmap cells
        return self._poses(found, transform)  # image pixels

    @torch.inference_mode()
    def _find(self, crops: Crops) -> Decoded:
        """Crops -> keypoints in heatmap cells, and their scores."""
        heatmaps = self.model(crops)
        if self.flip_test:
            heatmaps = heatmaps.clone()  # with CUDA graphs the next pass writes into the same memory
            mirrored = flip_heatmaps(self.model(crops.flip(-1)), self.model.spec.skeleton.flip_pairs)
            heatmaps = (heatmaps + mirrored) / 2
        return decode(heatmaps, self.decoder)

    def _poses(self, found: Found, transform: Transform) -> Poses:
        """Heatmap cells -> image pixels, as arrays."""
        skeleton = self.model.spec.skeleton
        decoded = found.decoded or [Decoded(torch.zeros(0, len(skeleton), 2), torch.zeros(0, len(skeleton)))]
        cells, scores = (torch.cat(parts) for parts in zip(*decoded, strict=True))
        return Poses(
            keypoints=transform.from_heatmaps(cells, found.matrices).cpu().numpy(),
            scores=self._to_scores(scores.cpu().numpy()),
            boxes=found.boxes.cpu().numpy(),
            skeleton=skeleton,
        )

    def _to_scores(self, peaks: Float[np.ndarray, "people keypoints"]) -> Float[np.ndarray, "people keypoints"]:
        """Peaks of heatmaps -> probabilities, if the model is calibrated for them."""
        score_map = self._score_map()
        return peaks if score_map is None else score_map.apply(peaks, self.model.spec.skeleton.keypoints)

    def _score_map(self) -> ScoreMap | None:
        return find_score_map(self.model, self.flip_test)

    def _prepare(self, boxes: Any) -> Transform:
        """The model's transform; puts the model into eval mode, which it may have left since the predictor was made."""
        if boxes is None:
            logger.warning("no boxes given: the whole image is taken as one person")
        self.model.eval()
        return create_transform(self.model)

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
        has invalid boxes, does: "raise" raises its error after the results of the images before it; "skip" logs it and
        gives None in the image's place.

        Raises ValueError if there are fewer or more boxes than images, and for other values of ``on_error``.
        """
        if on_error not in ("raise", "skip"):
            raise ValueError(f'on_error must be "raise" or "skip"; got {shown(on_error)}')
        if not isinstance(images, Iterable) or isinstance(images, str | np.ndarray | Tensor):
            raise TypeError("many takes a list of images, or an iterator; for one image call the predictor itself")
        if readers < 0:
            raise ValueError(f"readers must be 0 or more; got {readers}")
        _check_batch_size(batch_size)
        return self._find_many(images, boxes, box_format, batch_size, on_error == "skip", readers)

    def _find_many(
        self,
        images: Iterable[Any],
        boxes: Iterable[Any] | None,
        box_format: BoxFormat,
        batch_size: int,
        skip_errors: bool,
        readers: int,
    ) -> Iterator[Poses | None]:
        transform = self._prepare(boxes)
        items = pair(images, boxes, readers)
        for found in find_in_order(items, transform, self._find, box_format, batch_size, skip_errors):
            yield None if found is None else self._poses(found, transform)


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


def _check_batch_size(batch_size: int) -> None:
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"batch_size must be a whole number, at least 1; got {batch_size}")
