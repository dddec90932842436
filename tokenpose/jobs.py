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
from tokenpose.evaluation.pck import PckResult, has_torso, pck
from tokenpose.evaluation.run import predict_samples
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
