"""A whole evaluation: it measures what applies to the data, and says what doesn't."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import numpy as np
from jaxtyping import Float

from tokenpose.data.augment import Framing
from tokenpose.data.coco_columns import CocoColumns
from tokenpose.data.samples import Samples
from tokenpose.data.sigmas import SHARE_OF_BOX, estimate_sigmas
from tokenpose.data.sources import Source
from tokenpose.evaluation.coco import CocoResult, make_results, measure_coco
from tokenpose.evaluation.detections import read_detections
from tokenpose.evaluation.ground_truth import IGNORED, GroundTruth, make_ground_truth
from tokenpose.evaluation.pck import (
    EpeResult,
    PckhResult,
    PckResult,
    measure_errors,
    pck,
    pckh,
    person_errors,
)
from tokenpose.evaluation.processes import Processes
from tokenpose.evaluation.reliability import Reliability, find_correct, measure_reliability
from tokenpose.evaluation.result import Evaluation
from tokenpose.evaluation.run import BoxesToPredict, PredictedKeypoints, PredictMany, predict_boxes, shared_keypoints
from tokenpose.evaluation.settings import EvaluationSettings, Metric
from tokenpose.evaluation.units import choose_unit, has_head
from tokenpose.shapes import VisibleArray


def measure(
    predict_many: PredictMany,
    framing: Framing,
    data: Path,
    samples: Samples,
    source: Source,
    settings: EvaluationSettings,
    processes: Processes | None = None,
    columns: CocoColumns | None = None,
    is_calibrated: bool = False,
) -> Evaluation:
    """Every figure that the settings ask for, of the people of the annotation file ``data``.

    ``columns``: what ``samples`` were made from, if the file is COCO's. ``is_calibrated``: scores are probabilities.
    Raises ValueError for a metric that was asked for by name and doesn't apply, and where none applies.
    """
    if not len(samples):
        raise ValueError(f"{data} has no labeled people; left out: {samples.left_out}")
    shared = shared_keypoints(framing.skeleton, samples)
    truth = make_ground_truth(columns) if columns is not None and settings.may("coco") else None
    reasons = _refuse(data, samples, shared, truth, settings, is_calibrated)
    refused = {name: reason for name, reason in reasons if settings.may(name)}
    metrics = _choose_metrics(refused, settings)
    boxes, left_out = BoxesToPredict.of_samples(samples), dict[str, int]()
    if settings.boxes is not None and truth is not None:
        boxes, left_out = read_detections(settings.boxes, settings.box_threshold, truth)
    predicted = predict_boxes(predict_many, boxes, samples, source, framing.skeleton, processes, settings.batch_size)
    coco = _coco(boxes, predicted, samples, truth, framing, settings) if truth and "coco" in metrics else None
    labeled = settings.boxes is None
    figures = _compare(predicted, samples, shared, settings, metrics) if labeled else _Compared()
    return Evaluation(
        data=data.name,
        people=len(samples),
        images=len(np.unique(boxes.image_index)),
        boxes="labeled" if settings.boxes is None else settings.boxes.name,
        box_count=len(boxes),
        flip_test=settings.flip_test,
        decoder=settings.decoder,
        coco=coco,
        notes=tuple(_note(refused, samples, shared, truth if coco else None, left_out, settings)),
        **vars(figures),
    )


def _choose_metrics(refused: Mapping[Metric, str], settings: EvaluationSettings) -> set[Metric]:
    """The metrics that apply. Raises ValueError where one was asked for that doesn't, and where none does."""
    metrics = {name for name in get_args(Metric) if settings.may(name)} - refused.keys()
    for name, reason in refused.items():
        if settings.wants(name) or not metrics:
            raise ValueError(reason)
    return metrics


def _refuse(
    data: Path,
    samples: Samples,
    shared: Collection[str],
    truth: GroundTruth | None,
    settings: EvaluationSettings,
    is_calibrated: bool,
) -> Iterator[tuple[Metric, str]]:
    """The metrics that don't apply, and why."""
    unknown = [name for name in samples.skeleton.keypoints if name not in shared]
    if truth is None:
        yield "coco", f"COCO's AP needs a COCO keypoint file, which {data} is not"
    elif unknown:
        yield "coco", f"COCO's AP needs a model with all the data's keypoints; this one has no {', '.join(unknown)}"
    if settings.boxes is not None:
        for metric in (name for name in get_args(Metric) if name != "coco"):
            yield metric, "PCK, PCKh and EPE need the labeled boxes: a detector's box has no labels to compare with"
        return
    if not is_calibrated:
        yield "ece", "ECE needs scores that are probabilities: calibrate the model for this image size and flip test"
    if not has_head(samples):
        yield "pckh", f"PCKh needs MPII's head sizes, or keypoints head_top and upper_neck or neck, and {data} has none"


def _coco(
    boxes: BoxesToPredict,
    predicted: PredictedKeypoints,
    samples: Samples,
    truth: GroundTruth,
    framing: Framing,
    settings: EvaluationSettings,
) -> CocoResult:
    names, known = samples.skeleton.keypoints, samples.skeleton.sigmas
    origins: tuple[str, ...] = ("skeleton",) * len(names)
    if known is None:
        estimated = estimate_sigmas(samples)
        sigmas, origins = estimated.values, estimated.origins
    else:
        sigmas = np.array(known)
    records = make_results(boxes, predicted, truth, sigmas, framing, settings.nms, settings.soft_nms)
    hard = f"OKS suppression at {settings.nms:g}"
    return CocoResult(
        figures=measure_coco(truth, records, sigmas),
        people=truth.people,
        predictions=len(records),
        suppression=hard if settings.soft_nms is None else f"soft OKS suppression at {settings.soft_nms:g}",
        sigmas=dict(zip(names, sigmas.tolist(), strict=True)),
        sigma_origins=dict(zip(names, origins, strict=True)),
    )


@dataclass(frozen=True, kw_only=True)
class _Compared:
    """The figures of comparing each person with their own labels."""

    pck: Mapping[float, PckResult] = field(default_factory=dict)
    pckh: PckhResult | None = None
    epe: EpeResult | None = None
    reliability: Reliability | None = None
    person_errors: Float[np.ndarray, " people"] | None = None


def _compare(
    predicted: PredictedKeypoints,
    samples: Samples,
    shared: Collection[str],
    settings: EvaluationSettings,
    metrics: Collection[Metric],
) -> _Compared:
    """On the keypoints that the model has."""
    visible = samples.visible & np.array([name in shared for name in samples.skeleton.keypoints])
    points = predicted.keypoints, samples.keypoints, visible
    unit = choose_unit(samples, settings.unit)
    thresholds = settings.pck_thresholds(unit.part) if "pck" in metrics else ()
    return _Compared(
        pck={threshold: pck(*points, samples.skeleton, threshold, unit) for threshold in thresholds},
        pckh=pckh(*points, samples.skeleton, choose_unit(samples, "head")) if "pckh" in metrics else None,
        epe=measure_errors(*points, samples.skeleton, unit) if "epe" in metrics else None,
        reliability=_measure_scores(predicted, samples, visible) if "ece" in metrics else None,
        person_errors=person_errors(*points, samples.boxes),
    )


def _measure_scores(predicted: PredictedKeypoints, samples: Samples, visible: VisibleArray) -> Reliability:
    return measure_reliability(predicted.scores, find_correct(predicted.keypoints, samples), visible)


def _note(
    refused: Mapping[Metric, str],
    samples: Samples,
    shared: Collection[str],
    truth: GroundTruth | None,
    left_out: Mapping[str, int],
    settings: EvaluationSettings,
) -> Iterator[str]:
    """What a reader of the figures has to know, a sentence each."""
    unknown = [name for name in samples.skeleton.keypoints if name not in shared]
    if "coco" in refused:
        yield f"left out: {refused['coco']}"
    if "pck" in refused:
        yield f"left out: {refused['pck']}"
    elif unknown:
        yield f"the model has no {', '.join(unknown)}: left out of the figures"
    yield from (f"{count} boxes left out: {reason}" for reason, count in left_out.items())
    if truth is None:
        return
    if settings.boxes is None and truth.people > len(samples):
        yield f"{truth.people - len(samples)} labeled people have no box that can be cropped, and count as missed"
    actions = {
        "area": f"without area: {SHARE_OF_BOX:g} of the box is taken",
        "num_keypoints": "without num_keypoints: the labeled ones are counted",
        "iscrowd": "without iscrowd: taken as a person, not a crowd",
        IGNORED: f"with {IGNORED}: ignored",
    }
    for name, count in truth.completed.items():
        yield f"{count} annotation{'' if count == 1 else 's'} {actions[name]}"
