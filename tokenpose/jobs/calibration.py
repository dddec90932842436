"""Calibration of a model: the scores that it gives on labeled people become probabilities."""

import copy
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tokenpose.data.annotations import read_annotations
from tokenpose.data.combine import Places, rename_keypoints
from tokenpose.data.samples import Samples
from tokenpose.data.sources import ImageSource, Source
from tokenpose.deploy.comparison import require_plain
from tokenpose.evaluation.calibration import CalibrationResult, FittedMap, fit_curves, measure_held_out
from tokenpose.evaluation.processes import join_processes
from tokenpose.evaluation.reliability import find_correct
from tokenpose.evaluation.run import BoxesToPredict, predict_boxes
from tokenpose.files import make_folder
from tokenpose.models.calibration import Calibration, ScoreMap
from tokenpose.models.carry_over import load_weights
from tokenpose.models.create import find_bundled_file
from tokenpose.models.spec import Size
from tokenpose.models.tokenpose import TokenPose
from tokenpose.models.weights import WEIGHTS_FILE, Weights, copy_with_calibration
from tokenpose.predictor import PosePredictor

logger = logging.getLogger(__name__)


def calibrate(
    model: TokenPose,
    data: str | Path,
    images: Places,
    *,
    image_sizes: Iterable[Size] | None = None,
    ground_truth: str | Path | None = None,
    category: str | Sequence[str] | None = None,
    boxes_from_keypoints: float | None = None,
    rename: Mapping[str, str] | None = None,
    batch_size: int = 64,
) -> CalibrationResult:
    """Make the model's scores probabilities, from 0 to 1: that a keypoint lies within 0.2 torso diameters of its place,
    or, for people whose torso isn't labeled, with a keypoint similarity above 0.5.

    Predicts the labeled people of an annotation file, which the model must not have been trained on, and fits for each
    keypoint a rising curve from the peak of the heatmap to the probability. They become ``model.calibration``,
    which `tokenpose.save_pretrained` writes into the weights file, and which `predict`, `evaluate` and
    `attention_maps` use. The result prints how far held-out probabilities are from what is so (ECE).

    The curves hold for one image size, and there are others for the flip test (if the model's flip pairs are known).
    ``image_sizes``: sizes (height, width) that this model's weights will be loaded at; None: its own. Curves of other
    sizes that the model has already are kept. The other arguments are as in `tokenpose.evaluate`.

    Raises TypeError and ValueError for a model that is compiled or optimized (calibrate first), ValueError for a
    keypoint of the model without labels, and for labels in a single image, and what `tokenpose.evaluate` raises.
    """
    model = require_plain(model, "calibrate", "calibrated")
    labeled = read_annotations(data, category, ground_truth, boxes_from_keypoints=boxes_from_keypoints)
    people = rename_keypoints(labeled, rename or {})
    source, sizes = ImageSource(images), list(image_sizes or [model.spec.image_size])
    if not len(people):
        raise ValueError(f"{data} has no labeled people; left out: {people.left_out}")
    _require_labels(model, people)
    fitted, maps = [], []
    for size in dict.fromkeys(sizes):
        resized = _without_calibration(model, size)
        for flip_test in (False, True) if model.spec.skeleton.flip_pairs else (False,):
            logger.info("%dx%d%s: predicting %d people", *size, " with flip test" if flip_test else "", len(people))
            report, score_map = _fit(PosePredictor(resized, flip_test=flip_test), people, source, batch_size)
            fitted.append(report)
            maps.append(score_map)
    model.calibration = Calibration(maps=tuple(maps)) if model.calibration is None else model.calibration.add(maps)
    return CalibrationResult(data=Path(data).name, people=len(people), maps=tuple(fitted))


def write_calibrated(model: TokenPose, weights: Path | None, name: str, output: Path) -> None:
    """Write a copy of the weights file, or of the bundled file of the name, with the model's calibration; either path
    may be a folder with a model.safetensors.

    Raises ValueError for a model without one, and what `copy_with_calibration` raises.
    """
    if model.calibration is None:
        raise ValueError("the model has no calibration to write: call tokenpose.calibrate first")
    output = output / WEIGHTS_FILE if output.is_dir() else output
    make_folder(output.parent)
    copy_with_calibration(weights or find_bundled_file(name), output, model.calibration)


def _fit(predictor: PosePredictor, people: Samples, source: Source, batch_size: int) -> tuple[FittedMap, ScoreMap]:
    spec = predictor.model.spec
    predicted = predict_boxes(
        lambda images, boxes: predictor.many(images, boxes, "xywh", batch_size),
        BoxesToPredict.of_samples(people), people, source, spec.skeleton, join_processes(), batch_size,
    )  # fmt: skip
    rows = [people.skeleton.index(name) for name in spec.skeleton.keypoints]
    peaks, correct = predicted.scores[:, rows], find_correct(predicted.keypoints, people)[:, rows]
    counted = people.visible[:, rows]
    curves = fit_curves(peaks, correct, counted)
    lines = dict(zip(spec.skeleton.keypoints, curves.lines, strict=True))
    held_out = measure_held_out(peaks, correct, counted, people.image_index)
    size, flip_test, name = spec.image_size, predictor.flip_test, Path(people.origin).name
    return (
        FittedMap(image_size=size, flip_test=flip_test, held_out=held_out),
        ScoreMap(image_size=size, flip_test=flip_test, knots=curves.knots, lines=lines, data=name),
    )


def _without_calibration(model: TokenPose, size: Size) -> TokenPose:
    """The same weights at another image size, with peaks as scores; the model itself stays as it is."""
    if size == model.spec.image_size:
        bare = copy.copy(model)
        bare.calibration = None
        return bare
    resized = TokenPose(model.spec.replace(image_size=size, head_hidden=_head_hidden(model)))
    load_weights(resized, Weights(spec=model.spec, tensors=dict(model.state_dict()), origin="the model"))
    weights = next(model.parameters())
    return resized.to(weights.device, weights.dtype)


def _head_hidden(model: TokenPose) -> int | None:
    """The width of the head's hidden layer, which a new size must not change."""
    return model.spec.hidden_width if model.spec.head_layers == 2 else None


def _require_labels(model: TokenPose, people: Samples) -> None:
    """Raise ValueError for keypoints of the model that nobody has: no one can say how good they are."""
    names = model.spec.skeleton.keypoints
    known = [name for name in names if name in people.skeleton.keypoints]
    labeled = [name for name in known if people.visible[:, people.skeleton.index(name)].any()]
    if missing := [name for name in names if name not in labeled]:
        raise ValueError(
            f"{people.origin} has no labels of {', '.join(missing)}: calibrate with labels of every keypoint of the "
            "model, rename the file's, or leave keypoints out, create_model(..., keypoints=[...])"
        )
