"""Evaluation of a model on annotation files: people, images, predictor and metrics put together."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tokenpose.data.annotations import read_with_columns
from tokenpose.data.combine import Places, rename_keypoints
from tokenpose.data.samples import Samples
from tokenpose.data.settings import read_settings, takes_settings
from tokenpose.data.sources import ImageSource, Source
from tokenpose.evaluation.coco import make_results, measure_coco
from tokenpose.evaluation.ground_truth import GroundTruth
from tokenpose.evaluation.measure import measure
from tokenpose.evaluation.pck import PckResult, pck
from tokenpose.evaluation.plots import plot_reliability, require_matplotlib
from tokenpose.evaluation.processes import join_processes
from tokenpose.evaluation.result import Evaluation
from tokenpose.evaluation.run import BoxesToPredict, PredictMany, predict_boxes
from tokenpose.evaluation.settings import EvaluationSettings, SheetSettings
from tokenpose.evaluation.units import choose_unit
from tokenpose.files import make_folder, shown
from tokenpose.jobs.sheets import write_sheet
from tokenpose.models.tokenpose import TokenPose
from tokenpose.predictor import PosePredictor

logger = logging.getLogger(__name__)


@takes_settings(EvaluationSettings)
def evaluate(
    model: TokenPose,
    data: str | Path,
    images: Places,
    *,
    ground_truth: str | Path | None = None,
    category: str | Sequence[str] | None = None,
    boxes_from_keypoints: float | None = None,
    rename: Mapping[str, str] | None = None,
    **settings: Any,
) -> Evaluation:
    """Evaluate a model on the labeled people of an annotation file. The result prints as a table, JSON or CSV.

    ``settings`` are fields of [`EvaluationSettings`][tokenpose.evaluation.settings.EvaluationSettings] by name:

    - ``metrics``: "coco" (AP and AR, computed by pycocotools), "pck", "pckh" (at 0.5 of the head, and its AUC),
      "epe", the error in pixels, and "ece", how far the scores of a calibrated model are from the shares of correct
      keypoints; None: all that apply. ``thresholds`` of PCK are relative to the ``unit``: the "torso", the "head" or
      the "box" (its longer side). Default: 0.2 of the torso (of the head 0.5), or of the box if the
      skeleton has no torso. People whose unit isn't labeled are skipped where it is needed, and the result says how
      many.
    - ``boxes``: a file of a detector's boxes, in the form of COCO results; None: the labeled boxes. With a detector's
      boxes only COCO's metrics can be reported. Boxes with a score below ``box_threshold`` are skipped. Of two poses
      with an OKS above ``nms`` the one with the lower score is removed; ``soft_nms`` is the threshold of soft
      suppression instead. Sigmas are the skeleton's. If it has none they are estimated
      (`tokenpose.data.sigmas.estimate_sigmas`), and the result says so.
    - ``flip_test``, ``decoder`` and ``batch_size``: as in `tokenpose.PosePredictor`.
    - ``results``: a file to which the predictions are also written, before any metric is computed: a .json file of COCO
      results for COCO data, MPII's pred.mat for MPII data. Data without labels, which are COCO files that only list
      images (with ``boxes``) and MPII files without joints, are predicted and not measured.
    - ``plot``: a PNG file for a reliability plot of a calibrated model's scores.

    ``category``: one name or several; required if categories of a COCO file have different keypoints. ``rename``:
    other names for the keypoints of the file, {"throat": "neck"}, as in training; the metrics use the new names.
    ``boxes_from_keypoints``: people without a box get that of their labeled keypoints, grown by this share of its width
    and height on each side.
    ``ground_truth``: for MPII's files, the MATLAB file with the head sizes of the published PCKh.

    Keypoints are matched by name. If the model lacks some, the others are measured, without COCO's metrics. Under
    `torchrun` or `accelerate launch` the processes share the images, and every process gets the result.
    Raises FileNotFoundError, LookupError for names to rename that the file doesn't have, TypeError, and ValueError that
    names file and record, or a metric that doesn't apply.
    """
    chosen = read_settings(EvaluationSettings, settings)
    return evaluate_with(
        chosen, model, data, images, ground_truth=ground_truth, category=category, rename=rename,
        boxes_from_keypoints=boxes_from_keypoints,
    )  # fmt: skip


def evaluate_with(
    settings: EvaluationSettings,
    model: TokenPose,
    data: str | Path,
    images: Places,
    *,
    ground_truth: str | Path | None = None,
    category: str | Sequence[str] | None = None,
    boxes_from_keypoints: float | None = None,
    rename: Mapping[str, str] | None = None,
    sheet: SheetSettings | None = None,
) -> Evaluation:
    """The same as `evaluate`, with ready-made settings; the main process also draws the ``sheet``."""
    if not isinstance(data, str | Path):
        raise TypeError(f"data must be the path of one annotation file; got {shown(data)}")
    if sheet is not None and sheet.sheet is not None and settings.boxes is not None:
        raise ValueError("a sheet shows people in their labeled boxes, and can't be drawn with boxes of a detector")
    if settings.plot is not None:
        require_matplotlib()
    predictor = PosePredictor(model, settings.decoder, settings.flip_test)
    _refuse_overwriting(settings.results, (data, settings.boxes, ground_truth))
    people, columns = read_with_columns(
        data, category, ground_truth, annotated=False, boxes_from_keypoints=boxes_from_keypoints
    )
    people = rename_keypoints(people, rename or {})
    if sheet is not None and sheet.sheet is not None and not people.visible.any():
        raise ValueError(f"a sheet shows labels beside predictions, and {data} has no labels")
    source, processes = ImageSource(images), join_processes()
    predict_many = _predict_many(predictor, settings.batch_size)
    result = measure(
        predict_many, model.spec, Path(data), people, source, settings, processes, columns, predictor.is_calibrated
    )
    if result.reliability is not None and settings.plot is not None and processes.is_main:
        make_folder(settings.plot.parent)
        plot_reliability(result.reliability, settings.plot)
    if sheet is not None and processes.is_main:
        write_sheet(predictor, people, source, sheet, result.person_errors)
    return result


def measure_pck(
    model: TokenPose, samples: Samples, source: Source, threshold: float = 0.2, flip_test: bool = False
) -> PckResult:
    """PCK of a model on labeled people, cropped by their labeled boxes: by torso, or by box without a torso.

    Processes that were launched together share the people, and every process must call this.
    """
    return measure_validation(model, samples, source, None, threshold, flip_test)[0]


def measure_validation(
    model: TokenPose,
    samples: Samples,
    source: Source,
    truth: GroundTruth | None,
    threshold: float = 0.2,
    flip_test: bool = False,
) -> tuple[PckResult, float | None]:
    """PCK as `measure_pck` gives it, and COCO's AP, 0 to 1, if the ``truth`` is given.

    AP is by the skeleton's sigmas and labeled boxes, and needs pycocotools.
    """
    predict_many = _predict_many(PosePredictor(model, flip_test=flip_test), batch_size=64)
    skeleton = model.spec.skeleton
    boxes = BoxesToPredict.of_samples(samples)
    predicted = predict_boxes(predict_many, boxes, samples, source, skeleton, join_processes())
    known = np.array([name in skeleton.keypoints for name in samples.skeleton.keypoints])
    unit = choose_unit(samples)
    shares = pck(predicted.keypoints, samples.keypoints, samples.visible & known, samples.skeleton, threshold, unit)
    if truth is None:
        return shares, None
    sigmas = np.array(samples.skeleton.sigmas)
    records = make_results(boxes, predicted, truth, sigmas, model.spec)
    return shares, measure_coco(truth, records, sigmas)["AP"]


def _refuse_overwriting(results: Path | None, read: Iterable[str | Path | None]) -> None:
    """Raise ValueError where the file of results is one that is read."""
    for path in read:
        if results is not None and path is not None and results.resolve() == Path(path).resolve():
            raise ValueError(f"results would overwrite {path}, which is read; choose another file")


def _predict_many(predictor: PosePredictor, batch_size: int) -> PredictMany:
    return lambda images, boxes: predictor.many(images, boxes, "xywh", batch_size)
