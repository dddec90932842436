"""Training runs: data, model, batches and trainer put together."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tokenpose.data.batches import TrainingBatches, WindowDataset
from tokenpose.data.coco import read_coco
from tokenpose.data.samples import Samples
from tokenpose.data.sources import ImageSource
from tokenpose.jobs import Places, measure_pck
from tokenpose.models.create import create_model, load_model
from tokenpose.models.spec import ModelSpec
from tokenpose.models.supervised import Supervised, widen_start
from tokenpose.models.tokenpose import TokenPose
from tokenpose.models.weights import write_weights
from tokenpose.predictor import PosePredictor
from tokenpose.skeletons import Skeleton
from tokenpose.training.recipes import Recipe, read_recipe
from tokenpose.training.settings import Loss, TrainingSettings

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger(__name__)

Annotations = str | Path | Sequence[str | Path]


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """Who is trained on, who is held out, and where their images are."""

    people: Samples
    source: ImageSource
    held_out: Samples
    held_out_source: ImageSource
    train: Annotations
    val: Annotations

    def __post_init__(self) -> None:
        for annotations, samples in ((self.train, self.people), (self.val, self.held_out)):
            logger.info("%s: %d people; left out: %s", annotations, len(samples), samples.skipped or "none")
            if not len(samples):
                raise ValueError(f"{annotations} has no labelled people")

    @property
    def skeleton(self) -> Skeleton:
        """The keypoints that are trained."""
        return self.people.skeleton

    def check_model(self, model: TokenPose) -> None:
        """Raise ValueError for a model of other keypoints, or where nobody is left to validate on."""
        for annotations, samples in ((self.train, self.people), (self.val, self.held_out)):
            if samples.skeleton.keypoints != model.spec.skeleton.keypoints:
                raise ValueError(
                    f"{annotations} has the keypoints {', '.join(samples.skeleton.keypoints)}; the model has "
                    f"{', '.join(model.spec.skeleton.keypoints)}: create the model with keypoints=[...] of the data"
                )


def read_training_data(train: Annotations, val: Annotations, images: Places) -> TrainingData:
    """Read the annotation files; images are opened when they are needed."""
    source = ImageSource(images)
    return TrainingData(
        people=read_coco(_only(train)),
        source=source,
        held_out=read_coco(_only(val)),
        held_out_source=source,
        train=train,
        val=val,
    )


def train_model(
    model: TokenPose,
    data: TrainingData,
    output: str | Path,
    settings: TrainingSettings,
    resume: bool = False,
    card: Mapping[str, Any] | None = None,
) -> Path:
    """Train a model; returns the weights file, ``output``/model.safetensors.

    PCK@0.2 of the people held out is measured as the run goes, and some of them are drawn to ``output``/predictions.
    ``resume``: go on from ``output``'s checkpoint. The file holds the moving average in float32, with spec and card, as
    of the latest validation. Under ``accelerate launch`` or ``torchrun`` every process calls this with the same
    arguments, and the main one writes.

    Raises ModuleNotFoundError without the `train` extra, ValueError where the data's keypoints or the loss aren't the
    model's, and what `tokenpose.training.loop.Trainer` raises.
    """
    accelerator = make_accelerator(settings, Path(output))
    from tokenpose.training.loop import Trainer

    output, settings = Path(output), resolve_loss(settings, model)
    data.check_model(model)
    batches = make_batches(data, model.spec, settings, accelerator)
    depth = model.spec.groups * model.spec.depth
    network = Supervised(
        model,
        auxiliary=settings.auxiliary > 0,
        patch_blocks=_patch_blocks(settings, depth),
        guided_blocks=_guided_blocks(settings, depth),
    )
    weights = output / "model.safetensors"

    def validate(averaged: Any) -> dict[str, float]:
        result = measure_pck(averaged.model, data.held_out, data.held_out_source)
        if accelerator.is_main_process:
            made = {"train": _names(data.train), "val": _names(data.val), "people": len(data.people)}
            figures = {"steps": trainer.step, "pck": result.mean, "pck_unit": result.unit}
            origin = {"started_from": model.card} if model.card else {}  # its terms go on
            write_weights(averaged.model, weights, {**made, **origin, **(card or {}), **figures})
            _draw_predictions(averaged.model, data, settings, output / "predictions" / f"step-{trainer.step:06}.jpg")
        return {"pck": result.mean}

    identity = {"spec": model.spec.to_json(), "people": len(data.people)}
    trainer = Trainer(network, batches, validate, settings, output, accelerator, model.spec.grid_size, identity)
    if resume:
        trainer.resume()
    trainer.train()
    return weights


def finetune(
    name: str,
    train: Annotations,
    val: Annotations,
    images: Places,
    output: str | Path,
    *,
    pretrained: bool = True,
    recipe: str | Path = "finetune",
    epochs: int | None = None,
    learning_rate: float | None = None,
    batch_size: int | None = None,
    settings: Mapping[str, Any] | None = None,
    resume: bool = False,
    **model_changes: Any,
) -> TokenPose:
    """Fine-tune a model by name on the keypoints of COCO files; returns it with the averaged weights.

    The data's keypoints are the model's; tokens of keypoints with the same name start from the pretrained ones, or from
    those of ``weights=...``, a "local-dir:..." or a "hf-hub:..." name. ``recipe`` as in
    `tokenpose.training.recipes.read_recipe`; ``epochs``, ``learning_rate``, ``batch_size`` and ``settings``, fields of
    TrainingSettings and Augmentation by name, change it. ``model_changes`` as for `tokenpose.create_model`.
    Raises what `create_model` and `tokenpose.runs.train_model` raise.
    """
    given = {"epochs": epochs, "learning_rate": learning_rate, "batch_size": batch_size}
    changes = {**{key: value for key, value in given.items() if value is not None}, **(settings or {})}
    data = read_training_data(train, val, images)
    chosen = read_recipe(recipe)
    model, resolved = make_trainee(chosen, changes, data.skeleton, name, pretrained=pretrained, **model_changes)
    trained = load_model(train_model(model, data, output, resolved, resume))
    trained.newly_initialised = model.newly_initialised
    return trained


def make_trainee(
    recipe: Recipe,
    changes: Mapping[str, Any],
    skeleton: Skeleton,
    name: str | None = None,
    *,
    pretrained: bool | None = None,
    weights: str | Path | None = None,
    **model_changes: Any,
) -> tuple[TokenPose, TrainingSettings]:
    """The model that a recipe starts from, and the settings it is trained with.

    ``changes`` of the recipe's settings; ``name``, ``pretrained``, ``weights`` and ``model_changes`` as for
    `tokenpose.create_model`, in place of the recipe's. Random weights follow from the seed.
    """
    settings = recipe.settings(changes)
    spec_changes = {key: _as_tuple(value) for key, value in recipe.model.items() if key not in ("name", "pretrained")}
    name = name or recipe.model.get("name", "tokenpose_s_v1")
    if pretrained is None:
        pretrained = bool(recipe.model.get("pretrained", False))
    pretrained = pretrained and weights is None
    is_new = not pretrained and weights is None and ":" not in name
    if settings.loss is not None or is_new:  # cross-entropy makes the outputs logits, and the spec has to say so
        spec_changes["heatmap_activation"] = "softmax" if settings.loss in (None, "cross_entropy") else "identity"
    spec_changes = {"keypoints": skeleton, **spec_changes, **model_changes}
    torch.manual_seed(settings.seed)
    model = create_model(name, pretrained, weights=weights, **spec_changes)
    if is_new and settings.start == "wide":
        widen_start(model)
    return model, settings


def make_accelerator(settings: TrainingSettings, output: Path) -> "Accelerator":
    """accelerate's view of this process: its device and precision, the other processes, trackers.

    Raises ModuleNotFoundError without the `train` extra, ValueError for a precision that isn't to be had here and for
    trackers that aren't installed.
    """
    try:
        from accelerate import Accelerator
        from accelerate.tracking import get_available_trackers
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('training needs accelerate: pip install "tokenpose[train]"') from error
    available = sorted(str(tracker) for tracker in get_available_trackers())
    if missing := sorted(set(settings.trackers) - set(available)):
        raise ValueError(
            f"trackers that aren't installed, or that accelerate doesn't know: {', '.join(missing)}; "
            f"there are {', '.join(available) or 'none'}"
        )
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    try:
        return Accelerator(
            cpu=several and not torch.cuda.is_available(),
            mixed_precision="no" if settings.precision == "fp32" else settings.precision,
            log_with=list(settings.trackers) or None,
            project_dir=output,
        )
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"training in precision {settings.precision} can't start here: {error}") from error


def make_batches(
    data: TrainingData, spec: ModelSpec, settings: TrainingSettings, accelerator: "Accelerator"
) -> TrainingBatches:
    """What this process trains on."""
    settings.augmentation.check_skeleton(spec.skeleton)  # before images are decoded
    dataset = WindowDataset(data.people, data.source, spec, settings.augmentation, settings.cache, accelerator.device)
    return TrainingBatches(
        dataset, spec, settings.augmentation, batch_size=settings.batch_size, seed=settings.seed,
        device=accelerator.device, workers=settings.workers, process=accelerator.process_index,
        processes=accelerator.num_processes,
    )  # fmt: skip


def resolve_loss(settings: TrainingSettings, model: TokenPose) -> TrainingSettings:
    """Settings whose loss, where it was left open, is the one that goes with the model.

    Raises ValueError for a loss that doesn't go with it.
    """
    fitting: Loss = "cross_entropy" if model.spec.heatmap_activation == "softmax" else "squared_error"
    settings = replace(settings, loss=settings.loss or fitting)
    if (settings.loss == "cross_entropy") != (fitting == "cross_entropy"):
        raise ValueError(
            f"loss {settings.loss!r} does not go with heatmap_activation {model.spec.heatmap_activation!r}: "
            'cross_entropy needs "softmax", the others "identity"; create the model with the other'
        )
    return settings


def _draw_predictions(model: TokenPose, data: TrainingData, settings: TrainingSettings, path: Path) -> None:
    """The same people at each validation: labels left, predictions right."""
    from tokenpose.photographs import draw_sheet, save_picture

    if settings.predictions:
        predictor = PosePredictor(model)
        save_picture(draw_sheet(predictor, data.held_out, data.held_out_source, settings.predictions, 0.0), path)


def _guided_blocks(settings: TrainingSettings, depth: int) -> tuple[int, ...]:
    if not settings.guidance:
        return ()
    return tuple(range(depth // 3, depth)) if settings.guided_blocks is None else settings.guided_blocks


def _patch_blocks(settings: TrainingSettings, depth: int) -> tuple[int, ...]:
    if not settings.patches or depth < 2:
        return ()
    return (*sorted({max(0, depth // 2 - 1), depth - 2}),) if settings.patch_blocks is None else settings.patch_blocks


def _only(annotations: Annotations) -> str | Path:
    several = [annotations] if isinstance(annotations, str | Path) else annotations
    if len(several) != 1:
        raise ValueError(f"one annotation file is needed; got {several}")
    return several[0]


def _names(annotations: Annotations) -> str:
    """The files' names, without the folders, which are nobody's business."""
    several = [annotations] if isinstance(annotations, str | Path) else annotations
    return ", ".join(Path(path).name for path in several)


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
