"""Evaluation of a predictor on labelled people; it is handed the predictor, never makes one."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Float

from tokenpose.data.samples import Samples
from tokenpose.data.sources import Source
from tokenpose.poses import Poses
from tokenpose.skeletons import Skeleton

PredictMany = Callable[[Iterable[Any], Iterable[Any]], Iterator[Poses]]
"""Images and their boxes (x, y, width, height) -> Poses in order."""


def predict_samples(
    predict_many: PredictMany, samples: Samples, source: Source, skeleton: Skeleton
) -> Float[np.ndarray, "people keypoints 2"]:
    """Predicted keypoints of every sample, from its labelled box; of the samples' skeleton, matched by name.

    ``skeleton`` is the predictor's. A keypoint that the predictor doesn't know is NaN.
    Raises ValueError where the two skeletons share no keypoint name.
    """
    shared = [name for name in samples.skeleton.keypoints if name in skeleton.keypoints]
    if not shared:
        raise ValueError(
            f"the model's skeleton {skeleton.name!r} and the data's {samples.skeleton.name!r} share no keypoint name"
        )
    groups = [np.flatnonzero(samples.image_index == image) for image in np.unique(samples.image_index)]
    images = (source.read(samples.file_of(int(people[0]))) for people in groups)
    predicted = np.full(samples.keypoints.shape, np.nan, dtype=np.float32)
    ours = [samples.skeleton.index(name) for name in shared]
    theirs = [skeleton.index(name) for name in shared]
    for people, poses in zip(groups, predict_many(images, (samples.boxes[people] for people in groups)), strict=True):
        predicted[people[:, None], ours] = poses.keypoints[:, theirs]
    return predicted
