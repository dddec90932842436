"""Jobs: evaluate puts the rooms of the package together; `tokenpose.jobs.training` does so for training."""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tokenpose.data.annotations import read_annotations, read_with_columns
from tokenpose.data.combine import rename_keypoints
from tokenpose.data.samples import Samples
from tokenpose.data.sources import ImageSource, Source
from tokenpose.evaluation.measure import measure
from tokenpose.evaluation.pck import PckResult, pck
from tokenpose.evaluation.processes import join_processes
from tokenpose.evaluation.result import Evaluation
from tokenpose.evaluation.run import BoxesToPredict, PredictMany, predict_boxes
from tokenpose.evaluation.settings import EvaluationSettings, Metric
from tokenpose.evaluation.units import UnitName, choose_unit
from tokenpose.models.tokenpose import TokenPose
from tokenpose.predictor import PosePredictor

logger = logging.getLogger(__name__)

Places = str | Path | Iterable[str | Path]


def evaluate(
    model: TokenPose,
    data: str | Path,
    images: Places,
    *,
    metrics: Iterable[Metric] | None = None,
    thresholds: Iterable[float] | None = None,
    unit: UnitName | None = None,
    boxes: str | Path | None = None,
    box_threshold: float = 0.0,
    nms: float = 0.9,
    soft_nms: float | None = None,
    flip_test: bool = False,
    decoder: str = "dark",
    batch_size: int = 64,
    ground_truth: str | Path | None = None,
    category: str | None = None,
    rename: Mapping[str, str] | None = None,
) -> Evaluation:
    """Measure a model on an annotation file's labelled people; prints as a table, becomes JSON and CSV.

    ``metrics``: "coco" (AP and AR through pycocotools), "pck", "pckh" (at 0.5 of the head, and its AUC) and "epe", the
    error in pixels; None: all that apply. ``thresholds`` of PCK, in units of the "torso", the "head" or the "box"
    (its longer side); None: 0.2 of the torso (the head: 0.5), or of the box where the skeleton has no torso. People
    whose unit isn't labelled are left out of what needs it, and the result says how many.

    ``boxes``: a detector's file, in COCO's results form; None: the labelled boxes. With a detector's only COCO's
    figures can be told. Boxes of a score under ``box_threshold`` are left out; of two poses with an OKS above ``nms``
    the worse goes, or ``soft_nms`` is the threshold of soft suppression. Sigmas are the skeleton's, estimated where it
    has none (`tokenpose.data.sigmas.estimate_sigmas`), and the result says so.

    ``category``: the name of the one to measure, where a COCO file has several with keypoints. ``rename``: other names
    for the file's keypoints, {"throat": "neck"}, as in training; the figures go by these.
    ``ground_truth``: for MPII's files, the MATLAB file with the head sizes that the published PCKh is measured by.

    Keypoints are matched by name; those that the model doesn't have are left out, and COCO's figures with them. Under
    `torchrun` or `accelerate launch` the processes share the images and each gets the same result.
    Raises FileNotFoundError, LookupError for names to rename that the file doesn't have, TypeError, and ValueError that
    names file and record, also where a metric doesn't apply.
    """
    if not isinstance(data, str | Path):
        raise TypeError(f"data is the path of one annotation file; got {data!r:.80}")
    settings = EvaluationSettings(
        metrics=_tuple("metrics", metrics, ["pck"]),
        thresholds=_tuple("thresholds", thresholds, [0.1, 0.2]),
        unit=unit,
        boxes=None if boxes is None else Path(boxes),
        box_threshold=box_threshold,
        nms=nms,
        soft_nms=soft_nms,
        flip_test=flip_test,
        decoder=decoder,
        batch_size=batch_size,
    )
    predict_many = _predict_many(PosePredictor(model, decoder, flip_test), batch_size)
    people, columns = read_with_columns(data, category, ground_truth)
    people = rename_keypoints(people, rename or {})
    source, processes = ImageSource(images), join_processes()
    return measure(predict_many, model.spec, Path(data), people, source, settings, processes, columns)


def read_people(
    data: str | Path,
    category: str | None = None,
    ground_truth: str | Path | None = None,
    rename: Mapping[str, str] | None = None,
) -> Samples:
    """The labelled people of an annotation file, as `evaluate` takes them. Raises what it raises."""
    return rename_keypoints(read_annotations(data, category, ground_truth), rename or {})


def _tuple(name: str, values: Any, example: list[Any]) -> tuple[Any, ...] | None:
    """What was given as a list; None for None."""
    if values is None:
        return None
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise TypeError(f"{name} is a list, {name}={example} for example; got {values!r:.80}")
    return tuple(values)


def measure_pck(
    model: TokenPose, samples: Samples, source: Source, threshold: float = 0.2, flip_test: bool = False
) -> PckResult:
    """PCK of a model on labelled people, cropped by their labelled boxes, in torsos or, without one, in boxes.

    Processes that were launched together share the people, and all of them have to call it.
    """
    predict_many = _predict_many(PosePredictor(model, flip_test=flip_test), batch_size=64)
    skeleton = model.spec.skeleton
    predicted = predict_boxes(
        predict_many, BoxesToPredict.of_samples(samples), samples, source, skeleton, join_processes()
    )
    known = np.array([name in skeleton.keypoints for name in samples.skeleton.keypoints])
    unit = choose_unit(samples)
    return pck(predicted.keypoints, samples.keypoints, samples.visible & known, samples.skeleton, threshold, unit)


def _predict_many(predictor: PosePredictor, batch_size: int) -> PredictMany:
    return lambda images, boxes: predictor.many(images, boxes, "xywh", batch_size)
