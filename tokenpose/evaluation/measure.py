"""A whole evaluation: it measures what applies to the data, writes the predictions, and says what is left out."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from tokenpose.data.augment import Framing
from tokenpose.data.coco_columns import CocoColumns
from tokenpose.data.samples import Samples
from tokenpose.data.sigmas import SHARE_OF_BOX, estimate_sigmas
from tokenpose.data.sources import Source
from tokenpose.evaluation.coco import CocoResult, make_results, measure_coco
from tokenpose.evaluation.detections import read_detections
from tokenpose.evaluation.ground_truth import IGNORED, GroundTruth
from tokenpose.evaluation.pck import (
    EpeResult,
    PckhResult,
    PckResult,
    measure_errors,
    pck,
    pckh,
    person_errors,
)
from tokenpose.evaluation.plan import Plan, make_plan
from tokenpose.evaluation.processes import Processes
from tokenpose.evaluation.reliability import Reliability, find_correct, measure_reliability
from tokenpose.evaluation.result import Evaluation
from tokenpose.evaluation.results import describe_results, write_results
from tokenpose.evaluation.run import BoxesToPredict, PredictedKeypoints, PredictMany, predict_boxes
from tokenpose.evaluation.settings import EvaluationSettings
from tokenpose.evaluation.units import choose_unit
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
    The main process writes the results. Raises what `make_plan` raises before anything is predicted.
    """
    processes = processes or Processes()
    plan = make_plan(framing.skeleton, data, samples, columns, settings, is_calibrated)
    boxes, left_out = BoxesToPredict.of_samples(samples), dict[str, int]()
    if settings.boxes is not None and plan.truth is not None:
        boxes, left_out = read_detections(settings.boxes, settings.box_threshold, plan.truth)
    predicted = predict_boxes(predict_many, boxes, samples, source, framing.skeleton, processes, settings.batch_size)
    records = None if plan.truth is None else _make_records(boxes, predicted, plan.truth, samples, framing, settings)
    written = ""
    if settings.results is not None:
        written = describe_results(settings.results, records, samples)
        if processes.is_main:
            write_results(settings.results, records, predicted, samples)
    coco = None
    if plan.truth is not None and records is not None and "coco" in plan.metrics:
        coco = _coco(records, plan.truth, samples, settings)
    figures = (
        _compare(predicted, samples, plan, settings) if plan.is_labeled and settings.boxes is None else _Compared()
    )
    return Evaluation(
        data=data.name,
        people=len(samples),
        images=len(np.unique(boxes.image_index)),
        boxes="labeled" if settings.boxes is None else settings.boxes.name,
        box_count=len(boxes),
        flip_test=settings.flip_test,
        decoder=settings.decoder,
        coco=coco,
        notes=tuple(_note(plan, samples, left_out, settings, written)),
        **vars(figures),
    )


def _make_records(
    boxes: BoxesToPredict,
    predicted: PredictedKeypoints,
    truth: GroundTruth,
    samples: Samples,
    framing: Framing,
    settings: EvaluationSettings,
) -> list[dict[str, Any]]:
    """What COCO's metrics are computed from, and what a results file holds."""
    sigmas, _ = _choose_sigmas(samples)
    return make_results(boxes, predicted, truth, sigmas, framing, settings.nms, settings.soft_nms)


def _coco(
    records: list[dict[str, Any]], truth: GroundTruth, samples: Samples, settings: EvaluationSettings
) -> CocoResult:
    names = samples.skeleton.keypoints
    sigmas, origins = _choose_sigmas(samples)
    hard = f"OKS suppression at {settings.nms:g}"
    return CocoResult(
        figures=measure_coco(truth, records, sigmas),
        people=truth.people,
        predictions=len(records),
        suppression=hard if settings.soft_nms is None else f"soft OKS suppression at {settings.soft_nms:g}",
        sigmas=dict(zip(names, sigmas.tolist(), strict=True)),
        sigma_origins=dict(zip(names, origins, strict=True)),
    )


def _choose_sigmas(samples: Samples) -> tuple[Float[np.ndarray, " keypoints"], tuple[str, ...]]:
    """The skeleton's sigmas, or estimated ones; and where each comes from."""
    known = samples.skeleton.sigmas
    if known is not None:
        return np.array(known), ("skeleton",) * len(known)
    estimated = estimate_sigmas(samples)
    return estimated.values, estimated.origins


@dataclass(frozen=True, kw_only=True)
class _Compared:
    """The figures of comparing each person with their own labels."""

    pck: Mapping[float, PckResult] = field(default_factory=dict)
    pckh: PckhResult | None = None
    epe: EpeResult | None = None
    reliability: Reliability | None = None
    person_errors: Float[np.ndarray, " people"] | None = None


def _compare(predicted: PredictedKeypoints, samples: Samples, plan: Plan, settings: EvaluationSettings) -> _Compared:
    """On the keypoints that the model has."""
    visible = samples.visible & np.array([name in plan.shared for name in samples.skeleton.keypoints])
    points = predicted.keypoints, samples.keypoints, visible
    unit = choose_unit(samples, settings.unit)
    thresholds = settings.pck_thresholds(unit.part) if "pck" in plan.metrics else ()
    return _Compared(
        pck={threshold: pck(*points, samples.skeleton, threshold, unit) for threshold in thresholds},
        pckh=pckh(*points, samples.skeleton, choose_unit(samples, "head")) if "pckh" in plan.metrics else None,
        epe=measure_errors(*points, samples.skeleton, unit) if "epe" in plan.metrics else None,
        reliability=_measure_scores(predicted, samples, visible) if "ece" in plan.metrics else None,
        person_errors=person_errors(*points, samples.boxes),
    )


def _measure_scores(predicted: PredictedKeypoints, samples: Samples, visible: VisibleArray) -> Reliability:
    return measure_reliability(predicted.scores, find_correct(predicted.keypoints, samples), visible)


def _note(
    plan: Plan,
    samples: Samples,
    left_out: Mapping[str, int],
    settings: EvaluationSettings,
    written: str,
) -> Iterator[str]:
    """What a reader of the figures has to know, a sentence each."""
    if written:
        yield written if plan.is_labeled else f"no metrics, since {samples.origin} has no labels; {written}"
    unknown = [name for name in samples.skeleton.keypoints if name not in plan.shared]
    if "coco" in plan.refused:
        yield f"left out: {plan.refused['coco']}"
    if "pck" in plan.refused:
        yield f"left out: {plan.refused['pck']}"
    elif unknown:
        yield f"the model has no {', '.join(unknown)}: left out of the figures"
    yield from (f"{count} boxes left out: {reason}" for reason, count in left_out.items())
    if plan.truth is not None and "coco" in plan.metrics:
        if len(plan.truth.columns.categories) > 1:
            yield f"AP is of {len(plan.truth.columns.categories)} categories as one, not their mean"
        yield from _note_completed(plan.truth, samples, settings)


def _note_completed(truth: GroundTruth, samples: Samples, settings: EvaluationSettings) -> Iterator[str]:
    """Who can't be predicted, and which fields of annotations are completed for COCO's metrics."""
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
