"""The first stage of growth: a new trunk learns the visual tokens of a smaller model, in a run of its own."""

import logging
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tokenpose.data.augment import Batch
from tokenpose.deploy.comparison import require_plain
from tokenpose.jobs.evaluation import measure_validation
from tokenpose.jobs.teaching import digest_model
from tokenpose.jobs.training_data import TrainingData, digest
from tokenpose.jobs.training_model import complete_settings
from tokenpose.models.create import read_model
from tokenpose.models.growth import Growing, GrowthOutputs, fit_smaller, has_new_trunk
from tokenpose.models.tokenpose import TokenPose
from tokenpose.models.weights import write_weights
from tokenpose.shapes import Crops
from tokenpose.training.accelerator import make_accelerator
from tokenpose.training.distillation import visual_distillation
from tokenpose.training.folder import GROWTH, RunFolder, check_output
from tokenpose.training.objective import Totals
from tokenpose.training.settings import TrainingSettings

logger = logging.getLogger(__name__)


def learn_trunk_first(
    model: TokenPose, data: TrainingData, output: Path, settings: TrainingSettings, resume: bool,
    start: Mapping[str, Any],
) -> None:  # fmt: skip
    """Train the trunk of a model that grows, before `tokenpose.jobs.training.train_model`; nothing for other models.

    ``start``: as of `tokenpose.jobs.training_model.choose_start`. ``resume``: continue what was interrupted, and leave
    the model as it is where the run itself has begun. Raises what `train_model` raises.
    """
    if "grow" not in start or not settings.grow_epochs or (resume and (output / "checkpoint.pt").exists()):
        return
    require_plain(model, "train", "trained")
    check_output(output, resume)
    if not resume:
        RunFolder(output, settings).refuse_earlier()
    source = read_model(start["grow"])
    smaller = fit_smaller(source, model.spec)
    if not has_new_trunk(model, smaller):
        logger.info("the backbone is that of %s: there is nothing to learn before everything learns", start["grow"])
        return
    learn_trunk(model, smaller, data, output, complete_settings(settings, model), resume, digest_model(source))


def learn_trunk(
    model: TokenPose,
    smaller: TokenPose,
    data: TrainingData,
    output: Path,
    settings: TrainingSettings,
    resume: bool,
    source: str,
) -> None:
    """Train the new trunk of a model that has grown from a smaller one, and leave the averaged weights in it.

    ``smaller``: with the model's keypoints and sizes, as `tokenpose.models.growth.fit_smaller` gives it. ``source``: a
    hash of the weights that it comes from. The run's folder is ``output``/growth.
    """
    from tokenpose.jobs.training import make_batches
    from tokenpose.training.loop import Trainer
    from tokenpose.training.step import TrainingStep

    settings = _settings_of_stage(settings)
    accelerator = make_accelerator(settings, output / GROWTH)
    data.check_model(model)
    batches = make_batches(data, model.spec, settings, accelerator)
    identity = {"spec": model.spec.to_json(), "data": digest(data.people), "grown from": source}
    folder = RunFolder(output / GROWTH, settings, identity, labels={"pck": "PCK@0.2, %"})
    network = Growing(model, smaller)
    step = TrainingStep(
        network, settings, accelerator, settings.epochs * batches.batch_count, folder.advise,
        VisualTeacher(smaller, accelerator.device), growth_loss,
    )  # fmt: skip

    def validate(averaged: Any) -> dict[str, float]:
        pck = measure_validation(averaged.model, data.held_out, data.held_out_source, None)[0].mean
        if accelerator.is_main_process:
            write_weights(averaged.model, folder.weights, {"started_from": model.card, "pck": pck})
        return {"pck": pck}

    trainer = Trainer(step, folder, batches, validate, advises=False)
    with folder.held() if accelerator.is_main_process else nullcontext():
        if resume and folder.checkpoint.exists():
            trainer.resume()
        data.check_images()
        batches.dataset.load()
        logger.info("the trunk learns visual tokens for %d epochs; then everything learns", settings.epochs)
        trainer.train()
    network.release()
    model.load_state_dict(step.average.module.model.state_dict())
    model.to("cpu")
    accelerator.free_memory()


def _settings_of_stage(settings: TrainingSettings) -> TrainingSettings:
    """The run's settings with those of its first stage."""
    return replace(
        settings, epochs=settings.grow_epochs, min_steps=0, learning_rate=settings.grow_rate, optimizer="adamw",
        schedule="cosine", backbone_rate=1.0, freeze_backbone=False, keep="last", trackers=(), predictions=0,
    )  # fmt: skip


class VisualTeacher:
    """Teaches the visual tokens of a model, without positions; crops of any size."""

    def __init__(self, model: TokenPose, device: torch.device) -> None:
        self.model = model.to(device).eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(self, crops: Crops, _output_size: tuple[int, int]) -> Float[Tensor, "people visual features"]:
        """The visual tokens of normalized crops."""
        return self.model.tokenizer.visual(self.model.backbone(crops))


def growth_loss(
    predictions: GrowthOutputs,
    batch: Batch,
    _settings: TrainingSettings,
    totals: Totals | None = None,
    taught: Tensor | None = None,
) -> dict[str, Tensor]:
    """The share of the visual tokens' variance that is left unexplained, as "visual" and as "loss"."""
    if taught is None:
        raise ValueError("growth needs the visual tokens of a smaller model")
    of_people = batch.weights.new_ones(()) if totals is None else len(batch.weights) / totals.people
    unexplained = of_people * visual_distillation(predictions.visual, taught)
    return {"loss": unexplained, "visual": unexplained}
