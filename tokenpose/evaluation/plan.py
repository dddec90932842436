"""What an evaluation measures and writes, decided before anything is predicted."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from tokenpose.data.coco_columns import CocoColumns
from tokenpose.data.samples import Samples
from tokenpose.evaluation.ground_truth import GroundTruth, make_ground_truth
from tokenpose.evaluation.results import check_results
from tokenpose.evaluation.run import shared_keypoints
from tokenpose.evaluation.settings import EvaluationSettings, Metric
from tokenpose.evaluation.units import has_head
from tokenpose.files import cut, listed
from tokenpose.skeletons import Skeleton


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Which metrics apply, and what they need."""

    is_labeled: bool
    """Whether anyone has labels; without them nothing is measured, and the predictions are written."""
    shared: Collection[str]
    """The data's keypoints that the predictor has."""
    truth: GroundTruth | None
    """What a COCO file has for COCO's metrics and results; None where neither is asked for."""
    metrics: Collection[Metric]
    refused: Mapping[Metric, str]
    """The metrics that don't apply, and why."""


def make_plan(
    skeleton: Skeleton,
    data: Path,
    samples: Samples,
    columns: CocoColumns | None,
    settings: EvaluationSettings,
    is_calibrated: bool = False,
) -> Plan:
    """What of the settings applies to the people of the annotation file ``data``; ``skeleton`` is the predictor's.
    ``is_calibrated``: its scores are probabilities.

    Raises ValueError for a metric that was asked for by name and doesn't apply, where none applies, and for data
    without labels unless their predictions are to be written; and what `check_results` raises.
    """
    is_labeled = bool(samples.visible.any())
    if not is_labeled:
        _check_unlabeled(data, samples, columns, settings)
    shared = shared_keypoints(skeleton, samples)
    truth = None
    if columns is not None and (settings.may("coco") or settings.results is not None):
        truth = make_ground_truth(columns)
    refused = dict[Metric, str]()
    if is_labeled:
        found = _refuse(data, samples, shared, truth, settings, is_calibrated)
        refused = {name: reason for name, reason in found if settings.may(name)}
    metrics = _choose_metrics(refused, settings) if is_labeled else set()
    if settings.results is not None:
        _refuse_several_categories(data, columns)
        check_results(settings.results, data, samples.skeleton, shared, is_coco=columns is not None)
    elif "coco" not in metrics:
        truth = None
    return Plan(is_labeled=is_labeled, shared=shared, truth=truth, metrics=metrics, refused=refused)


def _refuse_several_categories(data: Path, columns: CocoColumns | None) -> None:
    """Raise ValueError for results of several categories as one: each record of a results file names its category."""
    names = [cut(str(category.get("name"))) for category in ([] if columns is None else columns.categories)]
    if len(names) > 1:
        raise ValueError(
            f"results name the category of each pose, and {data} is evaluated with {len(names)} categories as one "
            f"({listed(names)}): write them for one category at a time, --category NAME, in Python category=NAME"
        )


def _check_unlabeled(data: Path, samples: Samples, columns: CocoColumns | None, settings: EvaluationSettings) -> None:
    """Raise ValueError unless the settings say how to predict the people of data without labels.

    These are COCO files that only list images, and MPII files without joints.
    """
    is_list = columns is not None and columns.lists_images_only
    if not is_list and (columns is not None or not len(samples)):
        raise ValueError(f"{data} has no labeled people; left out: {samples.left_out}")
    if is_list and (settings.boxes is None or settings.results is None):
        raise ValueError(
            f"{data} only lists images, so nothing can be measured; to predict its people, give the boxes of a "
            "detector and a file for the results: --boxes FILE --results FILE.json, in Python boxes= and results="
        )
    if not is_list and settings.boxes is not None:
        raise ValueError(f"boxes go with COCO files; {data} has a box for each person")
    if settings.results is None:
        raise ValueError(
            f"{data} has no labeled keypoints, so nothing can be measured; to predict its people, give a file for the "
            "results: --results pred.mat, in Python results="
        )
    for name in ("metrics", "thresholds", "unit"):
        if getattr(settings, name) is not None:
            raise ValueError(f"{name} can't be used: {data} has no labels, so nothing is measured")


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
