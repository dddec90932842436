"""Training runs: data, model, batches and trainer put together."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from itertools import chain
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import torch

from tokenpose.data.augment import check_skeleton
from tokenpose.data.batches import TrainingBatches
from tokenpose.data.combine import Places
from tokenpose.data.samples import Samples
from tokenpose.data.windows import WindowDataset
from tokenpose.deploy.comparison import require_plain
from tokenpose.evaluation.units import choose_unit
from tokenpose.jobs.evaluation import measure_validation
from tokenpose.jobs.growing import learn_trunk_first
from tokenpose.jobs.teaching import Teacher, digest_model, name_teacher, read_teacher
from tokenpose.jobs.training_data import (
    Annotations,
    TrainingData,
    Validation,
    choose_reading,
    digest,
    read_training_data,
)
from tokenpose.jobs.training_model import choose_start, complete_settings, make_trainee
from tokenpose.models.create import read_model
from tokenpose.models.recording import attentions_of
from tokenpose.models.sizes import specs_of_sizes
from tokenpose.models.spec import ModelSpec
from tokenpose.models.supervised import Supervised
from tokenpose.models.tokenpose import TokenPose
from tokenpose.models.weights import write_weights
from tokenpose.predictor import PosePredictor
from tokenpose.training.accelerator import make_accelerator
from tokenpose.training.folder import GROWTH, RunFolder, check_output
from tokenpose.training.recipes import read_recipe
from tokenpose.training.settings import MOST_EPOCHS, TrainingSettings

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger(__name__)


def finetune(
    name: str | None,
    train: Annotations,
    val: Validation,
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
    category: str | Sequence[str] | None = None,
    boxes_from_keypoints: float | None = None,
    resume: bool = False,
    extend: int = 0,
    teacher: TokenPose | str | Path | None = None,
    grow: str | Path | None = None,
    **model_changes: Any,
) -> TokenPose:
    """Fine-tune a model by name on the keypoints of annotation files, and return it with the averaged weights.

    These are those of the last validation, or of the best one with the setting ``keep`` "best".

    ``train`` and ``val``: one or several COCO keypoint files or MPII files. ``val`` may also be a number: 0.2 holds out
    this share of the training images, the same ones each time. ``images``: folders, tar and zip files, globs.
    ``rename``, ``flip_pairs``, ``category`` and ``boxes_from_keypoints``: as in
    `tokenpose.jobs.training_data.read_training_data`.

    The model gets the keypoints of the data. Keypoint tokens start from the bundled weights' tokens of the same name,
    or from those of ``weights=...``, a "local-dir:..." or a "hf-hub:..." name. ``name`` None: the model is that of
    ``weights``. ``model_changes``: as in
    `tokenpose.create_model`.

    ``recipe``: as in `tokenpose.training.recipes.read_recipe`; those that it has are used if
    none are given. ``epochs``, ``learning_rate``, ``batch_size`` and ``settings`` (fields of TrainingSettings and
    Augmentation by name) override the recipe. ``resume`` and ``extend``: as in `tokenpose.jobs.training.train_model`.
    ``teacher``: a model, a weights file, or a name as of `tokenpose.create_model`, whose heatmaps are learned beside
    the labels; people without a labeled keypoint are then trained on too. ``grow``: the weights file of a smaller model
    from which this one starts, in place of ``pretrained``; its new backbone first learns the smaller one's visual
    tokens, in ``output``/growth.
    Raises what `create_model` and `tokenpose.jobs.training.train_model` raise.
    """
    if "skeleton" in model_changes:
        raise TypeError(
            "finetune has no skeleton=...: the keypoints are those of the data; rename=... gives them other names"
        )
    given = {"epochs": epochs, "learning_rate": learning_rate, "batch_size": batch_size}
    changes = {**{key: value for key, value in given.items() if value is not None}, **(settings or {})}
    chosen = read_recipe(recipe)
    of_data = choose_reading(
        chosen, rename=rename, flip_pairs=flip_pairs, category=category, boxes_from_keypoints=boxes_from_keypoints
    )
    taught_by = None if teacher is None else read_teacher(teacher)
    data = read_training_data(train, val, images, **of_data, teacher=name_teacher(teacher))
    choice: dict[str, Any] = {"name": name, "pretrained": pretrained and grow is None, "grow": grow, **model_changes}
    if name is None and "weights" not in model_changes:
        raise TypeError("finetune needs the name of a model, or weights=..., whose file says what the model is")
    model, resolved = make_trainee(chosen, changes, data.skeleton, **choice)
    start = choose_start(chosen, **choice)
    learn_trunk_first(model, data, Path(output), resolved, resume, start)
    trained = read_model(
        train_model(model, data, output, resolved, resume, start=start, extend=extend, teacher=taught_by)
    )
    trained.newly_initialized = model.newly_initialized
    return trained


def train_model(
    model: TokenPose,
    data: TrainingData,
    output: str | Path,
    settings: TrainingSettings,
    resume: bool = False,
    card: Mapping[str, Any] | None = None,
    start: Mapping[str, Any] | None = None,
    extend: int = 0,
    teacher: TokenPose | None = None,
) -> Path:
    """Train a model, and return the weights file: ``output``/model.safetensors, or best.safetensors with ``keep``
    "best".

    The run measures PCK@0.2 of the held-out people (with ``keep`` "best" also AP of COCO's keypoints), and draws some
    of them to ``output``/predictions. The weights file holds the moving average of the latest validation in float32,
    with spec and card. ``resume``: continue from the checkpoint in ``output``. ``extend``: if that run is finished,
    continue for so many epochs, from the full learning rate again. ``start``: the arguments that made the model
    (`choose_start`), for settings.json. ``teacher``: its heatmaps are learned beside the labels, as the setting
    ``distillation`` says. Under ``accelerate launch`` or ``torchrun`` every process calls this with the
    same arguments, and the main one writes.

    Raises ModuleNotFoundError without the `train` extra; ValueError for a model that is optimized, compiled or being
    recorded, and if the data's keypoints or the loss don't fit the model; BlockingIOError if another run uses
    ``output``; and what `tokenpose.training.loop.Trainer` raises. Images are decoded after all other checks.
    """
    output = Path(output)
    resume = resume and not _is_only_grown(output)
    if extend and not resume:
        raise ValueError("extend continues a finished run: it needs resume")
    require_plain(model, "train", "trained")
    check_output(output, resume)
    accelerator = make_accelerator(settings, output)
    from tokenpose.training.loop import Trainer
    from tokenpose.training.step import TrainingStep

    settings = complete_settings(settings, model)
    data.check_model(model)
    logger.info("%s", data.describe_validation())
    batches = make_batches(data, model.spec, settings, accelerator)
    settings = _stretch(settings, batches.batch_count)
    labels = {"pck": f"PCK@0.2 of the {choose_unit(data.held_out).name}, %", "ap": "AP, %"}
    identity = _identity(model, data, start, batches)
    teach = None
    if teacher is not None:
        teach = Teacher(teacher, model.spec, settings, accelerator.device)
        identity["teacher"] = digest_model(teacher)
    folder = RunFolder(output, settings, identity, _made_of(data, start), labels)
    if model.calibration is not None:
        logger.info("training changes the heatmaps: the calibration is dropped")
        model.calibration = None
    if accelerator.device.type == "cpu":
        _pad_heads(model)
    network = _supervise(model, settings, has_teacher=teacher is not None)
    steps = settings.epochs * batches.batch_count
    step = TrainingStep(network, settings, accelerator, steps, folder.advise, teach)
    truth = data.coco_truth(model) if settings.keep == "best" else None

    def validate(averaged: Any) -> dict[str, float]:
        pck, ap = measure_validation(averaged.model, data.held_out, data.held_out_source, truth)
        scores = {**({} if ap is None else {"ap": 100 * ap}), "pck": pck.mean}
        if accelerator.is_main_process:
            figures = {"steps": step.number, **scores, "pck_unit": pck.unit}
            origin = _origin(model, data, teacher)
            write_weights(averaged.model, folder.weights, {**origin, **(card or {}), **figures})
        return scores

    def draw(averaged: Any) -> None:
        _draw_predictions(averaged.model, data, settings, output / "predictions" / f"step-{step.number:06}.jpg")

    trainer = Trainer(step, folder, batches, validate, draw)
    with folder.held() if accelerator.is_main_process else nullcontext():
        if resume:
            trainer.resume(extend)
        else:
            folder.refuse_earlier()
        data.check_images()
        batches.dataset.load()
        trainer.train()
        if _is_missing(folder.weights, accelerator):  # a finished run was resumed
            logger.info("%s is missing: validating again to write it", folder.weights)
            validate(step.average.module)
    return folder.best if settings.keep == "best" and folder.best.exists() else folder.weights


def _is_only_grown(output: Path) -> bool:
    """Whether a run has trained a trunk and nothing else: there is nothing to resume but that."""
    return (output / GROWTH / "checkpoint.pt").exists() and not (output / "checkpoint.pt").exists()


def _stretch(settings: TrainingSettings, steps_an_epoch: int) -> TrainingSettings:
    """The settings with as many epochs as their ``min_steps`` asks for."""
    stretched = settings.stretched(steps_an_epoch)
    if stretched.epochs > settings.epochs:
        logger.info(
            "%d epochs are only %d steps: training for %d epochs, %d steps (min_steps %d, at most %d epochs)",
            settings.epochs, settings.epochs * steps_an_epoch, stretched.epochs, stretched.epochs * steps_an_epoch,
            settings.min_steps, MOST_EPOCHS,
        )  # fmt: skip
    return stretched


def make_batches(
    data: TrainingData, spec: ModelSpec, settings: TrainingSettings, accelerator: "Accelerator"
) -> TrainingBatches:
    """The batches of this process."""
    check_skeleton(settings.augmentation, spec.skeleton)  # before images are decoded
    framings = specs_of_sizes(spec, settings.sizes)
    dataset = WindowDataset(
        data.people, data.source, framings, settings.augmentation, settings.cache, accelerator.device
    )
    return TrainingBatches(
        dataset, settings.augmentation, batch_size=settings.people_a_step, seed=settings.seed,
        device=accelerator.device, workers=settings.workers, process=accelerator.process_index,
        processes=accelerator.num_processes, mixture=data.mixture,
    )  # fmt: skip


def _draw_predictions(model: TokenPose, data: TrainingData, settings: TrainingSettings, path: Path) -> None:
    """Draw the same people after each epoch: labels on the left, predictions on the right."""
    from tokenpose.images import write_image
    from tokenpose.jobs.sheets import draw_sheet

    if settings.predictions:
        predictor = PosePredictor(model)
        write_image(draw_sheet(predictor, data.held_out, data.held_out_source, settings.predictions, 0.0), path)


def _pad_heads(model: TokenPose) -> None:
    """Let attention pad heads whose width is not a multiple of 8: a CPU's fused kernel then computes the gradients of
    TokenPose-T's heads, which are 12 wide, in four fifths of the time."""
    for attention in chain.from_iterable(attentions_of(model)):
        if attention.path == "fused":
            attention.path = "padded"


def _supervise(model: TokenPose, settings: TrainingSettings, has_teacher: bool) -> Supervised:
    """The model with its auxiliary losses: guidance in all blocks except the first third, patches halfway and before
    the last block."""
    depth = model.spec.groups * model.spec.depth
    guided_blocks = tuple(range(depth // 3, depth)) if settings.guidance else ()
    patch_blocks = (*sorted({max(0, depth // 2 - 1), depth - 2}),) if settings.patches and depth > 1 else ()
    sizes = [spec.image_size for spec in specs_of_sizes(model.spec, settings.sizes)[1:]]
    return Supervised(
        model, patch_blocks=patch_blocks, guided_blocks=guided_blocks, sizes=sizes,
        keeps_tokens=has_teacher and settings.token_distillation > 0,
    )  # fmt: skip


def _origin(model: TokenPose, data: TrainingData, teacher: TokenPose | None) -> dict[str, Any]:
    """What a weights file says about its data, and about the weights that it started or learned from, whose terms still
    apply."""
    taught = {} if teacher is None else {"taught_by": teacher.card}
    made = {"train": _file_name(data.people), "val": _name_validation(data), "people": len(data.people)}
    return {**made, **({"started_from": model.card} if model.card else {}), **taught}


def _identity(
    model: TokenPose, data: TrainingData, start: Mapping[str, Any] | None, batches: TrainingBatches
) -> dict[str, Any]:
    """What a run must have in common with the one that it resumes."""
    is_smaller = batches.people_at_last < batches.people_a_step  # earlier versions left the last batch out
    return {
        "spec": model.spec.to_json(),
        "data": digest(data.people),
        "validation data": digest(data.held_out),
        **{name: (start or {}).get(name) for name in ("pretrained", "weights", "backbone_pretrained")},
        **{name: value for name, value in (start or {}).items() if name == "grow"},
        **({"shares": list(data.shares)} if any(data.shares) else {}),
        **({"people in the last batch of an epoch": batches.people_at_last} if is_smaller else {}),
    }


def _is_missing(path: Path, accelerator: "Accelerator") -> bool:
    """Whether the main process doesn't find the file. All processes get the same answer."""
    mine = float(accelerator.is_main_process and not path.exists())
    return bool(accelerator.reduce(torch.tensor(mine, device=accelerator.device), "sum"))


def _made_of(data: TrainingData, start: Mapping[str, Any] | None) -> dict[str, Any]:
    """What settings.json says about the model and the data."""
    keypoints = (start or {}).get("keypoints")
    plain = {"keypoints": keypoints} if isinstance(keypoints, Mapping | list | tuple) else {}
    model = {} if start is None else {"model": {key: value for key, value in start.items() if key != "keypoints"}}
    return {**model, **({"data": {**data.given, **plain}} if data.given or plain else {})}


def _name_validation(data: TrainingData) -> str:
    """The files' names, or how many of the training images are held out."""
    if data.held_out_images is None:
        return _file_name(data.held_out)
    return f"{data.held_out_images.sum()} of {len(data.held_out_images)} images of {_file_name(data.held_out)}"


def _file_name(samples: Samples) -> str:
    """The annotation files' names, without their folders, which may be private."""
    return ", ".join(PurePath(name).name for name in samples.origins)
