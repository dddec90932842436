"""Training runs: data, model, batches and trainer put together."""

import logging
import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import fields, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import torch

from tokenpose.data.batches import TrainingBatches, WindowDataset
from tokenpose.data.samples import Samples
from tokenpose.deploy.comparison import require_plain
from tokenpose.files import locked
from tokenpose.jobs.evaluation import Places, measure_pck
from tokenpose.jobs.training_data import Annotations, TrainingData, digest, read_training_data
from tokenpose.models.create import create_model, read_model
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

_MODEL = {"name", "pretrained", "weights", "backbone_pretrained"} | {entry.name for entry in fields(ModelSpec)} - {
    "skeleton"
}
"""What a recipe's table ``model`` may hold."""


def train_model(
    model: TokenPose,
    data: TrainingData,
    output: str | Path,
    settings: TrainingSettings,
    resume: bool = False,
    card: Mapping[str, Any] | None = None,
    start: Mapping[str, Any] | None = None,
) -> Path:
    """Train a model; returns the weights file, ``output``/model.safetensors.

    PCK@0.2 of the people held out is measured as the run goes, and some of them are drawn to ``output``/predictions.
    ``resume``: go on from ``output``'s checkpoint. ``start``: what the model was made from (`choose_start`), for
    settings.json. The file holds the moving average in float32, with spec and card, as
    of the latest validation. Under ``accelerate launch`` or ``torchrun`` every process calls this with the same
    arguments, and the main one writes.

    Raises ModuleNotFoundError without the `train` extra, ValueError for a model that is optimized, compiled or being
    recorded and where the data's keypoints or the loss aren't the model's, BlockingIOError where another run is at work
    in ``output``, and what `tokenpose.training.loop.Trainer` raises. Images are decoded once all else is checked.
    """
    require_plain(model, "train", "trained")
    output = Path(output)
    check_output(output, resume)
    accelerator = make_accelerator(settings, output)
    from tokenpose.training.loop import Trainer

    settings = resolve_loss(settings, model)
    data.check_model(model)
    logger.info("%s", data.describe_validation())
    batches = make_batches(data, model.spec, settings, accelerator)
    depth = model.spec.groups * model.spec.depth
    network = Supervised(
        model,
        patch_blocks=_patch_blocks(settings, depth),
        guided_blocks=_guided_blocks(settings, depth),
    )

    def validate(averaged: Any) -> dict[str, float]:
        result = measure_pck(averaged.model, data.held_out, data.held_out_source)
        if accelerator.is_main_process:
            made = {"train": _file_name(data.people), "val": _file_name(data.held_out), "people": len(data.people)}
            figures = {"steps": trainer.step, "pck": result.mean, "pck_unit": result.unit}
            origin = {"started_from": model.card} if model.card else {}  # its terms go on
            write_weights(averaged.model, trainer.weights, {**made, **origin, **(card or {}), **figures})
        return {"pck": result.mean}

    def draw(averaged: Any) -> None:
        _draw_predictions(averaged.model, data, settings, output / "predictions" / f"step-{trainer.step:06}.jpg")

    identity = {
        "spec": model.spec.to_json(),
        "data": digest(data.people),
        "validation data": digest(data.held_out),
        **{name: (start or {}).get(name) for name in ("pretrained", "weights", "backbone_pretrained")},
    }
    made_of = _made_of(data, start)
    trainer = Trainer(
        network, batches, validate, settings, output, accelerator, model.spec.grid_size, identity, made_of, draw
    )
    with _held(output, accelerator.is_main_process):
        if resume:
            trainer.resume()
        else:
            trainer.refuse_earlier()
        data.check_images()
        batches.dataset.load()
        trainer.train()
        if _is_missing(trainer.weights, accelerator):  # of a finished run, resumed
            logger.info("%s is not there: validating again", trainer.weights)
            validate(trainer.average.module)
    return trainer.weights


def check_output(output: Path, resume: bool = False) -> None:
    """Raise NotADirectoryError for a file, FileNotFoundError where there is no run to resume."""
    if output.exists() and not output.is_dir():
        raise NotADirectoryError(f"the output {output} is a file, and a run needs a folder: give another")
    checkpoint = output / "checkpoint.pt"
    if resume and not checkpoint.exists():
        raise FileNotFoundError(f"there is no checkpoint {checkpoint} to resume from")


def finetune(
    name: str,
    train: Annotations,
    val: Annotations,
    images: Places | None,
    output: str | Path,
    *,
    pretrained: bool = True,
    recipe: str | Path = "finetune",
    epochs: int | None = None,
    learning_rate: float | None = None,
    batch_size: int | None = None,
    settings: Mapping[str, Any] | None = None,
    rename: Mapping[str, str] | None = None,
    flip_pairs: str | None = None,
    category: str | None = None,
    resume: bool = False,
    **model_changes: Any,
) -> TokenPose:
    """Fine-tune a model by name on the keypoints of annotation files; returns it with the averaged weights.

    ``train`` and ``val``: COCO keypoint files, or MPII's, one or several; ``rename``, ``flip_pairs`` and ``category``
    as in `tokenpose.jobs.training_data.read_training_data`. ``images``: folders, tar and zip files, globs.
    The data's keypoints are the model's; tokens of keypoints with the same name start from the pretrained ones, or from
    those of ``weights=...``, a "local-dir:..." or a "hf-hub:..." name. ``recipe`` as in
    `tokenpose.training.recipes.read_recipe`, whose ``rename``, ``flip_pairs`` and ``category`` hold where none are
    given; ``epochs``, ``learning_rate``, ``batch_size`` and ``settings``, fields of
    TrainingSettings and Augmentation by name, change it. ``model_changes`` as for `tokenpose.create_model`.
    Raises what `create_model` and `tokenpose.jobs.training.train_model` raise.
    """
    if "skeleton" in model_changes:
        raise TypeError("finetune has no skeleton=...: the keypoints are the data's; rename=... gives them other names")
    given = {"epochs": epochs, "learning_rate": learning_rate, "batch_size": batch_size}
    changes = {**{key: value for key, value in given.items() if value is not None}, **(settings or {})}
    chosen = read_recipe(recipe)
    of_data = choose_reading(chosen, rename=rename, flip_pairs=flip_pairs, category=category)
    data = read_training_data(train, val, images, **of_data)
    choice: dict[str, Any] = {"name": name, "pretrained": pretrained, **model_changes}
    model, resolved = make_trainee(chosen, changes, data.skeleton, **choice)
    trained = read_model(train_model(model, data, output, resolved, resume, start=choose_start(chosen, **choice)))
    trained.newly_initialized = model.newly_initialized
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
    start = choose_start(recipe, name, pretrained=pretrained, weights=weights, **model_changes)
    given_name, given_weights = name, weights
    name, pretrained, weights = start.pop("name"), start.pop("pretrained"), start.pop("weights", None)
    is_new = not pretrained and weights is None and ":" not in name
    if settings.loss is not None or is_new:  # cross-entropy makes the outputs logits, and the spec has to say so
        fitting = "softmax" if settings.loss in (None, "cross_entropy") else "identity"
        start.setdefault("heatmap_activation", fitting)
    keypoints = start.pop("keypoints", skeleton)
    torch.manual_seed(settings.seed)
    given = {"name": given_name, "weights": given_weights, **model_changes}
    with _naming_the_recipe(recipe, [field for field, value in given.items() if value is not None]):
        model = create_model(name, pretrained, weights=weights, keypoints=keypoints, **start)
    if model.spec.skeleton.keypoints == skeleton.keypoints:  # names alone don't tell all that the data do
        model.spec = model.spec.replace(skeleton=skeleton)
    if is_new and settings.start == "wide":
        widen_start(model)
    return model, settings


@contextmanager
def _naming_the_recipe(recipe: Recipe, given: Collection[str]) -> Iterator[None]:
    """Errors about what the recipe's table ``model`` holds, and was not given otherwise, name the recipe too."""
    try:
        yield
    except (TypeError, ValueError, LookupError, OSError) as error:
        own = {field: value for field, value in recipe.model.items() if field not in given}
        text = str(error)
        words = {field: own["name"] if field == "name" else field for field in own}
        blamed = [field for field, word in words.items() if re.search(rf"\b{re.escape(word)}\b", text)]
        if not blamed or isinstance(error, KeyError | IndexError):
            raise
        kinds = (FileNotFoundError, OSError, LookupError, TypeError, ValueError)
        kind = next(kind for kind in kinds if isinstance(error, kind))
        fields_in_front = "" if text.startswith(blamed[0]) else f"{', '.join(blamed)}: "
        raise kind(f"{recipe.name}: model: {fields_in_front}{text}") from error


def choose_reading(recipe: Recipe, **given: Any) -> dict[str, Any]:
    """How `read_training_data` reads files: ``rename``, ``flip_pairs`` and ``category``, else the recipe's."""
    return {name: recipe.data.get(name) if value is None else value for name, value in given.items()}


def choose_start(
    recipe: Recipe,
    name: str | None = None,
    *,
    pretrained: bool | None = None,
    weights: str | Path | None = None,
    **model_changes: Any,
) -> dict[str, Any]:
    """What `create_model` is called with: the recipe's model, changed. Plain values but for ``keypoints``."""
    if unknown := sorted(recipe.model.keys() - _MODEL):
        raise ValueError(f"{recipe.name}: model: there are no fields {', '.join(unknown)}")
    chosen: dict[str, Any] = {"name": "tokenpose_s_v1", "pretrained": False, **recipe.model}
    chosen |= {name: value for name, value in recipe.data.items() if name == "keypoints"}
    chosen = {key: tuple(value) if isinstance(value, list) else value for key, value in chosen.items()}
    given = {"name": name, "pretrained": pretrained, "weights": None if weights is None else str(weights)}
    chosen |= {key: value for key, value in given.items() if value is not None} | model_changes
    if weights is not None:
        chosen["pretrained"] = False
    elif pretrained:
        chosen.pop("weights", None)
    return chosen


def make_accelerator(settings: TrainingSettings, output: Path) -> "Accelerator":
    """accelerate's view of this process: its device and precision, the other processes, trackers.

    Raises ModuleNotFoundError without the `train` extra, ValueError for a precision that isn't to be had here and for
    trackers that aren't installed.
    """
    try:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
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
    precision = "no" if settings.precision == "fp32" else settings.precision
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if launched not in ("no", precision):
        raise ValueError(
            f"accelerate was launched with mixed precision {launched}, and the settings say {settings.precision}: "
            f"give precision {launched}, or leave it out there"
        )
    AcceleratorState._reset_state()  # of an earlier run in this process, whose precision may have been another
    try:
        accelerator = Accelerator(
            cpu=several and not torch.cuda.is_available(),
            mixed_precision=precision,
            log_with=list(settings.trackers) or None,
            project_dir=output,
        )
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"training in precision {settings.precision} can't start here: {error}") from error
    if settings.precision == "fp16" and accelerator.device.type == "cpu":  # accelerate would train in float32
        raise ValueError("precision fp16 needs a GPU, and this run is on a CPU: use fp32 or bf16")
    return accelerator


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
    """The same people after each epoch: labels left, predictions right."""
    from tokenpose.jobs.photographs import draw_sheet, save_picture

    if settings.predictions:
        predictor = PosePredictor(model)
        save_picture(draw_sheet(predictor, data.held_out, data.held_out_source, settings.predictions, 0.0), path)


def _guided_blocks(settings: TrainingSettings, depth: int) -> tuple[int, ...]:
    """All but the first third."""
    return tuple(range(depth // 3, depth)) if settings.guidance else ()


def _patch_blocks(settings: TrainingSettings, depth: int) -> tuple[int, ...]:
    """Halfway, and before the last block."""
    return (*sorted({max(0, depth // 2 - 1), depth - 2}),) if settings.patches and depth > 1 else ()


@contextmanager
def _held(output: Path, is_main_process: bool) -> Iterator[None]:
    """The folder, made where it isn't there, for one run at a time. Raises BlockingIOError for a second."""
    if not is_main_process:
        yield
        return
    is_new = not output.exists()
    output.mkdir(parents=True, exist_ok=True)
    try:
        with locked(output / ".lock", f"another run is at work in {output}: wait until it ends, or use another output"):
            yield
    finally:
        if is_new:
            with suppress(OSError):  # unless it is empty
                output.rmdir()


def _is_missing(path: Path, accelerator: "Accelerator") -> bool:
    """Whether the main process doesn't find the file, which all of them are told."""
    mine = float(accelerator.is_main_process and not path.exists())
    return bool(accelerator.reduce(torch.tensor(mine, device=accelerator.device), "sum"))


def _made_of(data: TrainingData, start: Mapping[str, Any] | None) -> dict[str, Any]:
    """What settings.json says of the model and the data."""
    keypoints = (start or {}).get("keypoints")
    plain = {"keypoints": keypoints} if isinstance(keypoints, Mapping | list | tuple) else {}
    model = {} if start is None else {"model": {key: value for key, value in start.items() if key != "keypoints"}}
    return {**model, **({"data": {**data.given, **plain}} if data.given or plain else {})}


def _file_name(samples: Samples) -> str:
    """The annotation files' names, without their folders, which are nobody's business."""
    return ", ".join(PurePath(name).name for name in samples.origin.split(" + "))
