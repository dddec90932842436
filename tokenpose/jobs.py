"""Jobs: train, finetune and evaluate put the rooms of the package together."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tokenpose.data.batches import TrainingBatches, WindowDataset
from tokenpose.data.coco import read_coco
from tokenpose.data.samples import Samples
from tokenpose.data.sources import ImageSource
from tokenpose.evaluation.measure import measure
from tokenpose.evaluation.pck import PckResult, UnitName, choose_unit, pck
from tokenpose.evaluation.processes import join_processes
from tokenpose.evaluation.result import Evaluation
from tokenpose.evaluation.run import Boxes, PredictMany, predict_boxes
from tokenpose.evaluation.settings import EvaluationSettings, Metric
from tokenpose.models.create import create_model, load_model
from tokenpose.models.supervised import Supervised
from tokenpose.models.tokenpose import TokenPose
from tokenpose.models.weights import write_weights
from tokenpose.predictor import PosePredictor
from tokenpose.training.settings import TrainingSettings

logger = logging.getLogger(__name__)

Places = str | Path | Iterable[str | Path]


def train_model(
    model: TokenPose,
    train: str | Path,
    val: str | Path,
    images: Places,
    output: str | Path,
    settings: TrainingSettings,
    resume: bool = False,
    card: dict[str, Any] | None = None,
) -> Path:
    """Train a model on a COCO keypoint file; returns the weights file, ``output``/model.safetensors.

    ``val``: labelled people on whom PCK@0.2 is measured as the run goes. ``images``: folders, tar or zip files, globs.
    ``resume``: go on from ``output``'s checkpoint. The file holds the moving average in float32, with spec and card, as
    of the latest validation.

    Raises ModuleNotFoundError without the `train` extra, ValueError where the data's keypoints aren't the model's.
    """
    try:
        from accelerate import Accelerator
        from accelerate.utils import set_seed
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('training needs accelerate: pip install "tokenpose[train]"') from error
    from tokenpose.training.loop import Trainer

    source, output = ImageSource(images), Path(output)
    people, held_out = read_coco(train), read_coco(val)
    _check_data(model, {train: people, val: held_out}, settings)
    set_seed(settings.seed)
    accelerator = Accelerator(mixed_precision=settings.precision)
    if accelerator.num_processes > 1:
        raise ValueError(f"training runs in one process; got {accelerator.num_processes}")
    dataset = WindowDataset(people, source, model.spec, settings.augmentation, cache=settings.cache)
    batches = TrainingBatches(
        dataset, model.spec, settings.augmentation, batch_size=settings.batch_size, seed=settings.seed,
        device=accelerator.device, workers=settings.workers,
    )  # fmt: skip
    depth = model.spec.groups * model.spec.depth
    network = Supervised(
        model,
        auxiliary=settings.auxiliary > 0,
        patch_blocks=_patch_blocks(settings, depth),
        guided_blocks=_guided_blocks(settings, depth),
    )

    weights = output / "model.safetensors"

    def validate(averaged: Any) -> dict[str, float]:
        result = measure_pck(averaged.model, held_out, source)
        made: dict[str, Any] = {
            "train": Path(train).name,
            "val": Path(val).name,
            "people": len(people),
            "steps": trainer.step,
        }
        if model.card:  # the terms of what it started from go on
            made["started_from"] = model.card
        write_weights(averaged.model, weights, {**made, **(card or {}), "pck": result.mean, "pck_unit": result.unit})
        return {"pck": result.mean}

    identity = {"spec": model.spec.to_json(), "people": len(people)}
    trainer = Trainer(network, batches, validate, settings, output, accelerator, model.spec.grid_size, identity)
    if resume:
        trainer.resume()
    trainer.train()
    return weights


def _check_data(model: TokenPose, data: dict[str | Path, Samples], settings: TrainingSettings) -> None:
    """Refuse data with other keypoints than the model's or nobody in it, and a loss that the model isn't made for."""
    for path, samples in data.items():
        if samples.skeleton.keypoints != model.spec.skeleton.keypoints:
            raise ValueError(
                f"{path} has the keypoints {', '.join(samples.skeleton.keypoints)}; the model has "
                f"{', '.join(model.spec.skeleton.keypoints)}: create the model with keypoints=[...] of the data"
            )
        if not len(samples):
            raise ValueError(f"{path} has no labelled people")
        logger.info("%s: %d people; left out: %s", path, len(samples), samples.skipped or "none")
    if (settings.loss == "cross_entropy") != (model.spec.heatmap_activation == "softmax"):
        raise ValueError(
            f"loss {settings.loss!r} does not go with heatmap_activation {model.spec.heatmap_activation!r}: "
            'cross_entropy needs "softmax", squared_error "identity"; create the model with the other'
        )


def _guided_blocks(settings: TrainingSettings, depth: int) -> tuple[int, ...]:
    if not settings.guidance:
        return ()
    return tuple(range(depth // 3, depth)) if settings.guided_blocks is None else settings.guided_blocks


def _patch_blocks(settings: TrainingSettings, depth: int) -> tuple[int, ...]:
    if not settings.patches or depth < 2:
        return ()
    return (*sorted({max(0, depth // 2 - 1), depth - 2}),) if settings.patch_blocks is None else settings.patch_blocks


def finetune(
    name: str,
    train: str | Path,
    val: str | Path,
    images: Places,
    output: str | Path,
    *,
    pretrained: bool = True,
    epochs: int = 20,
    learning_rate: float = 3e-4,
    settings: TrainingSettings | None = None,
    resume: bool = False,
    **model_changes: Any,
) -> TokenPose:
    """Fine-tune a model by name on the keypoints of a COCO file; returns it with the averaged weights.

    The data's keypoints are the model's; tokens of keypoints with the same name start from the pretrained ones, or from
    those of ``weights=...``, a "local-dir:..." or a "hf-hub:..." name.
    ``settings`` replace ``epochs`` and ``learning_rate``. ``model_changes`` as for `tokenpose.create_model`.
    Raises what `create_model` and `tokenpose.jobs.train_model` raise.
    """
    skeleton = read_coco(train).skeleton
    torch.manual_seed(settings.seed if settings else 0)  # of the tokens that are new
    pretrained = pretrained and "weights" not in model_changes
    model = create_model(name, pretrained, **{"keypoints": skeleton, **model_changes})
    if settings is None:
        settings = TrainingSettings(
            epochs=epochs,
            learning_rate=learning_rate,
            loss="cross_entropy" if model.spec.heatmap_activation == "softmax" else "squared_error",
        )
    weights = train_model(model, train, val, images, output, settings, resume)
    trained = load_model(weights)
    trained.newly_initialised = model.newly_initialised
    return trained


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
) -> Evaluation:
    """Measure a model on an annotation file's labelled people; prints as a table, becomes JSON and CSV.

    ``metrics``: "coco" (AP and AR through pycocotools), "pck", "pckh" (at 0.5 of the head, and its AUC) and "epe", the
    error in pixels; None: all that apply. ``thresholds`` of PCK, in units of the "torso", the "head" or the "box"
    (its diagonal); None: 0.2 of the torso (the head: 0.5), or of the box where the skeleton has no torso. People whose
    unit isn't labelled are left out of what needs it, and the result says how many.

    ``boxes``: a detector's file, in COCO's results form; None: the labelled boxes. With a detector's only COCO's
    figures can be told. Boxes of a score under ``box_threshold`` are left out; of two poses with an OKS above ``nms``
    the worse goes, or ``soft_nms`` is the threshold of soft suppression. Sigmas are the skeleton's, estimated where it
    has none (`tokenpose.data.sigmas.estimate_sigmas`), and the result says so.

    Keypoints are matched by name; those that the model doesn't have are left out, and COCO's figures with them. Under
    `torchrun` or `accelerate launch` the processes share the images and each gets the same result.
    Raises FileNotFoundError, and ValueError that names file and record, also where a metric doesn't apply.
    """
    settings = EvaluationSettings(
        metrics=None if metrics is None else tuple(metrics),
        thresholds=None if thresholds is None else tuple(thresholds),
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
    people = read_people(data)
    return measure(predict_many, model.spec, Path(data), people, ImageSource(images), settings, join_processes())


def measure_pck(
    model: TokenPose, samples: Samples, source: ImageSource, threshold: float = 0.2, flip_test: bool = False
) -> PckResult:
    """PCK of a model on labelled people, cropped by their labelled boxes, in torsos or, without one, box diagonals.

    Processes that were launched together share the people, and all of them have to call it.
    """
    predict_many = _predict_many(PosePredictor(model, flip_test=flip_test), batch_size=64)
    skeleton = model.spec.skeleton
    predicted = predict_boxes(predict_many, Boxes.of_samples(samples), samples, source, skeleton, join_processes())
    known = np.array([name in skeleton.keypoints for name in samples.skeleton.keypoints])
    unit = choose_unit(samples)
    return pck(predicted.keypoints, samples.keypoints, samples.visible & known, samples.skeleton, threshold, unit)


def read_people(data: str | Path) -> Samples:
    """The labelled people of an annotation file, as they are evaluated."""
    return read_coco(data)


def _predict_many(predictor: PosePredictor, batch_size: int) -> PredictMany:
    return lambda images, boxes: predictor.many(images, boxes, "xywh", batch_size)
