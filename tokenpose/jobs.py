"""Jobs: evaluate puts the rooms of the package together; `tokenpose.runs` does so for training."""

import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from tokenpose.data.coco import read_coco
from tokenpose.data.samples import Samples
from tokenpose.data.sources import ImageSource
from tokenpose.evaluation.pck import PckResult, has_torso, pck
from tokenpose.evaluation.run import predict_samples
from tokenpose.models.tokenpose import TokenPose
from tokenpose.predictor import PosePredictor

logger = logging.getLogger(__name__)

Places = str | Path | Iterable[str | Path]


def evaluate(
    model: TokenPose, data: str | Path, images: Places, threshold: float = 0.2, flip_test: bool = False
) -> PckResult:
    """PCK of a model on a COCO keypoint file's labelled people, cropped by their labelled boxes; prints as a table.

    Right is a keypoint within ``threshold`` x torso, the longer of the two shoulder-to-opposite-hip distances whose
    ends are labelled; people without a torso are left out. Skeletons without shoulders or hips are measured by the
    diagonal of the labelled box instead, and the result says so. Keypoints are matched by name; those the model
    doesn't have are left out. Raises FileNotFoundError and ValueError.
    """
    return measure_pck(model, read_coco(data), ImageSource(images), threshold, flip_test)


def measure_pck(
    model: TokenPose, samples: Samples, source: ImageSource, threshold: float = 0.2, flip_test: bool = False
) -> PckResult:
    """PCK of a model on labelled people, cropped by their labelled boxes."""
    predictor = PosePredictor(model, flip_test=flip_test)
    predicted = predict_samples(
        lambda images, boxes: predictor.many(images, boxes, "xywh"), samples, source, model.spec.skeleton
    )
    known = ~np.isnan(predicted).any(axis=-1)
    boxes = None if has_torso(samples.skeleton) else samples.boxes
    visible = samples.visible & known
    return pck(np.nan_to_num(predicted), samples.keypoints, visible, samples.skeleton, threshold, boxes)
