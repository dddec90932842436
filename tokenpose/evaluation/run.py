"""Prediction of labeled or detected people, shared among processes; it is handed the predictor, never makes one."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from tokenpose.data.combine import read_image_of
from tokenpose.data.samples import Samples
from tokenpose.data.sources import Source
from tokenpose.evaluation.processes import Processes
from tokenpose.poses import Poses
from tokenpose.shapes import RowArray
from tokenpose.skeletons import Skeleton

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 20.0
"""Of the log, while people are predicted."""

PredictMany = Callable[[Iterable[Any], Iterable[Any]], Iterator[Poses]]
"""Images and their boxes (x, y, width, height) -> Poses in order."""


@dataclass(frozen=True, kw_only=True)
class BoxesToPredict:
    """The boxes in which people are predicted, and in which of the data's images each is."""

    image_index: Int[np.ndarray, " people"]
    boxes: Float[np.ndarray, "people 4"]
    """x, y, width, height."""
    scores: Float[np.ndarray, " people"]
    """A detector's scores; 1 for labeled boxes."""

    def __len__(self) -> int:
        return len(self.boxes)

    @classmethod
    def of_samples(cls, samples: Samples) -> "BoxesToPredict":
        """The labeled boxes."""
        return cls(image_index=samples.image_index, boxes=samples.boxes, scores=np.ones(len(samples)))


@dataclass(frozen=True, kw_only=True)
class PredictedKeypoints:
    """What was predicted in each box, for the data's keypoints: NaN and score 0 for one that the predictor lacks."""

    keypoints: Float[np.ndarray, "people keypoints 2"]
    scores: Float[np.ndarray, "people keypoints"]


def shared_keypoints(skeleton: Skeleton, samples: Samples) -> list[str]:
    """The data's keypoints that the predictor has, by name. Raises ValueError where there is none."""
    shared = [name for name in samples.skeleton.keypoints if name in skeleton.keypoints]
    if not shared:
        raise ValueError(
            f"{samples.origin} and the model share no keypoint name: the file has "
            f"{', '.join(samples.skeleton.keypoints)}, the model {', '.join(skeleton.keypoints)}; where they mean the "
            "same, rename the file's"
        )
    return shared


def predict_boxes(
    predict_many: PredictMany,
    boxes: BoxesToPredict,
    samples: Samples,
    source: Source,
    skeleton: Skeleton,
    processes: Processes | None = None,
    batch_size: int = 64,
) -> PredictedKeypoints:
    """Predicted keypoints of everybody in the boxes; of the samples' skeleton, matched by name.

    ``skeleton`` is the predictor's. ``processes`` share the images, and each gets everybody's keypoints, the same as if
    it had been alone: images go through the predictor in portions of at least ``batch_size`` people, however many
    processes there are. Raises ValueError where the skeletons share no keypoint name, and that names the image where a
    box can't be cropped; OSError for an image that can't be read.
    """
    names = shared_keypoints(skeleton, samples)
    ours, theirs = ([of.index(name) for name in names] for of in (samples.skeleton, skeleton))
    processes = processes or Processes()
    portions = _portions(boxes.image_index, batch_size)[processes.rank :: processes.count]

    def work() -> list[tuple[RowArray, np.ndarray, np.ndarray]]:
        found = (_predict_portion(predict_many, portion, boxes, samples, source) for portion in portions)
        images = (image for portion in found for image in portion)
        total = sum(map(len, portions))
        return [
            (rows, poses.keypoints[:, theirs], poses.scores[:, theirs]) for rows, poses in _log_progress(images, total)
        ]

    keypoints = np.full((len(boxes), len(samples.skeleton), 2), np.nan, dtype=np.float32)
    scores = np.zeros((len(boxes), len(samples.skeleton)), dtype=np.float32)
    for part in processes.gather(work):
        for rows, points, values in part:
            keypoints[rows[:, None], ours], scores[rows[:, None], ours] = points, values
    return PredictedKeypoints(keypoints=keypoints, scores=scores)


def _log_progress(images: Iterator[tuple[RowArray, Poses]], total: int) -> Iterator[tuple[RowArray, Poses]]:
    """The same, with a line in the log every 20 seconds."""
    logged = time.monotonic()
    for number, image in enumerate(images, 1):
        yield image
        if time.monotonic() - logged > SECONDS_BETWEEN_LINES and number < total:
            logged = time.monotonic()
            logger.info("predicted %d of %d images", number, total)


def by_image(image_index: RowArray) -> list[RowArray]:
    """The rows of each image's people, image by image, in their order."""
    order = np.argsort(image_index, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(image_index[order])) + 1) if len(order) else []


def _portions(image_index: RowArray, batch_size: int) -> list[list[RowArray]]:
    """Whole images in portions of at least ``batch_size`` people, which fill the predictor's batches."""
    portions: list[list[RowArray]] = []
    room = 0
    for people in by_image(image_index):
        if room <= 0:
            portions.append([])
            room = batch_size
        portions[-1].append(people)
        room -= len(people)
    return portions


def _predict_portion(
    predict_many: PredictMany, portion: Sequence[RowArray], boxes: BoxesToPredict, samples: Samples, source: Source
) -> Iterator[tuple[RowArray, Poses]]:
    images = [int(boxes.image_index[people[0]]) for people in portion]

    def read(image: int) -> UInt8[Tensor, "3 height width"]:
        try:
            return read_image_of(source, samples, image)
        except OSError as error:
            raise type(error)(f"{error} (of {samples.origins[samples.origin_of(image)]})") from error

    found = predict_many(map(read, images), [boxes.boxes[people] for people in portion])
    for people, image in zip(portion, images, strict=True):
        try:
            poses = next(found)
        except ValueError as error:  # raised after the poses of the images before it
            raise ValueError(f"{samples.files[image]}: {error}") from error
        yield people, poses
