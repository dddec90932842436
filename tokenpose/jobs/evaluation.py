"""Evaluation of a model on annotation files: people, images, predictor and metrics put together."""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tokenpose.data.annotations import read_annotations, read_with_columns
from tokenpose.data.combine import Places, rename_keypoints
from tokenpose.data.samples import Samples
from tokenpose.data.sources import ImageSource, Source
from tokenpose.evaluation.measure import measure
from tokenpose.evaluation.pck import PckResult, pck
from tokenpose.evaluation.processes import join_processes
from tokenpose.evaluation.result import Evaluation
from tokenpose.evaluation.run import BoxesToPredict, PredictMany, predict_boxes
from tokenpose.evaluation.settings import NMS, EvaluationSettings, Metric, UnitName
from tokenpose.evaluation.units import choose_unit
from tokenpose.models.tokenpose import TokenPose
from tokenpose.predictor import PosePredictor

logger = logging.getLogger(__name__)


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
    nms: float = NMS,
    soft_nms: float | None = None,
    flip_test: bool = False,
    decoder: str = "dark",
    batch_size: int = 64,
    ground_truth: str | Path | None = None,
    category: str | None = None,
    rename: Mapping[str, str] | None = None,
) -> Evaluation:
    """Evaluate a model on the labeled people of an annotation file. The result prints as a table, JSON or CSV.

    ``metrics``: "coco" (AP and AR, computed by pycocotools), "pck", "pckh" (at 0.5 of the head, and its AUC) and "epe",
    the error in pixels; None: all that apply. ``thresholds`` of PCK are relative to the ``unit``: the "torso", the
    "head" or the "box" (its longer side). Default: 0.2 of the torso (of the head 0.5), or of the box if the skeleton
    has no torso. People whose unit isn't labeled are skipped where it is needed, and the result says how many.

    ``boxes``: a file of a detector's boxes, in the form of COCO results; None: the labeled boxes. With a detector's
    boxes only COCO's metrics can be reported. Boxes with a score below ``box_threshold`` are skipped. Of two poses with
    an OKS above ``nms`` the one with the lower score is removed; ``soft_nms`` is the threshold of soft suppression
    instead. Sigmas are the skeleton's. If it has none they are estimated (`tokenpose.data.sigmas.estimate_sigmas`),
    and the result says so.

    ``category``: required if several categories of a COCO file have keypoints. ``rename``: other names for the
    keypoints of the file, {"throat": "neck"}, as in training; the metrics use the new names.
    ``ground_truth``: for MPII's files, the MATLAB file with the head sizes of the published PCKh.

    Keypoints are matched by name. If the model lacks some, the others are measured, without COCO's metrics. Under
    `torchrun` or `accelerate launch` the processes share the images, and every process gets the result.
    Raises FileNotFoundError, LookupError for names to rename that the file doesn't have, TypeError, and ValueError that
    names file and record, or a metric that doesn't apply.
    """
    settings = EvaluationSettings(
        metrics=_tuple(metrics),
        thresholds=_tuple(thresholds),
        unit=unit,
        boxes=None if boxes is None else Path(boxes),
        box_threshold=box_threshold,
        nms=nms,
        soft_nms=soft_nms,
        flip_test=flip_test,
        decoder=decoder,
        batch_size=batch_size,
    )
    return evaluate_with(settings, model, data, images, ground_truth=ground_truth, category=category, rename=rename)


def evaluate_with(
    settings: EvaluationSettings,
    model: TokenPose,
    data: str | Path,
    images: Places,
    *,
    ground_truth: str | Path | None = None,
    category: str | None = None,
    rename: Mapping[str, str] | None = None,
) -> Evaluation:
    """The same as `evaluate`, with ready-made settings."""
    if not isinstance(data, str | Path):
        raise TypeError(f"data must be the path of one annotation file; got {data!r:.80}")
    predict_many = _predict_many(PosePredictor(model, settings.decoder, settings.flip_test), settings.batch_size)
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
    """The labeled people of an annotation file, as `evaluate` reads them. Raises the same errors."""
    return rename_keypoints(read_annotations(data, category, ground_truth), rename or {})


def _tuple(values: Any) -> Any:
    """A tuple of the values. Text and values that can't be iterated stay as they are, and the settings refuse them."""
    return tuple(values) if isinstance(values, Iterable) and not isinstance(values, str) else values


def measure_pck(
    model: TokenPose, samples: Samples, source: Source, threshold: float = 0.2, flip_test: bool = False
) -> PckResult:
    """PCK of a model on labeled people, cropped by their labeled boxes: by torso, or by box without a torso.

    Processes that were launched together share the people, and every process must call this.
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
