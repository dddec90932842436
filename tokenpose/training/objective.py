"""The training objective: the weighted losses of a batch, and their sum."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from tokenpose.data.augment import Batch
from tokenpose.training.distillation import Taught, heatmap_distillation, token_distillation
from tokenpose.training.losses import LEAST, attention_guidance, cross_entropy, hard_keypoint_error, squared_error
from tokenpose.training.settings import TrainingSettings


@runtime_checkable
class Predictions(Protocol):
    """The network's output for a batch of crops."""

    @property
    def logits(self) -> Tensor: ...
    @property
    def grid(self) -> tuple[int, int]: ...
    @property
    def patches(self) -> Tensor | None: ...
    @property
    def attention(self) -> Tensor | None: ...
    @property
    def tokens(self) -> Tensor | None: ...


class Totals(NamedTuple):
    """The divisors of a step's losses: the people of all its parts and processes, and the sum of their weights."""

    people: Tensor
    weights: Tensor


def total_loss(
    predictions: Predictions,
    batch: Batch,
    settings: TrainingSettings,
    totals: Totals | None = None,
    taught: Taught | None = None,
) -> dict[str, Tensor]:
    """The parts of the loss, weighted, and their sum as "loss".

    ``totals``: those of the step that this batch is a part of; None: the batch is the whole step. The losses of the
    parts add up to the loss of the whole step. A keypoint with the weight 0.5 counts half in each of them. ``taught``:
    what a teacher says about the batch, a target beside the labels.
    """
    measures: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
        "squared_error": squared_error,
        "hard_keypoints": partial(hard_keypoint_error, hardest=settings.hardest),
        "cross_entropy": cross_entropy,
    }
    measure = measures[settings.loss or "cross_entropy"]
    of_people = of_weights = batch.weights.new_ones(())
    if totals is not None:
        of_people = len(batch.weights) / totals.people
        of_weights = batch.weights.sum() / totals.weights.clamp(min=LEAST)
    share, weights = of_weights, batch.weights
    if measure is not cross_entropy:
        share, weights = of_people, batch.weights.sqrt()  # the published losses square weights, which were 0 or 1
    parts = {"heatmaps": share * measure(predictions.logits, batch.heatmaps, weights)}
    if predictions.patches is not None:
        blocks = [measure(maps, batch.heatmaps, weights) for maps in predictions.patches]
        parts["patches"] = share * settings.patches * torch.stack(blocks).mean()
    if predictions.attention is not None:
        guidance = attention_guidance(predictions.attention, batch.heatmaps, batch.weights, predictions.grid)
        parts["guidance"] = of_weights * settings.guidance * guidance
    if taught is not None:
        distillation = heatmap_distillation(predictions.logits, taught, settings)
        parts["distillation"] = of_people * settings.distillation * distillation
        if taught.tokens is not None and predictions.tokens is not None:
            error = token_distillation(predictions.tokens, taught.tokens, taught.known)
            parts["tokens"] = of_people * settings.token_distillation * error
    return {"loss": torch.stack(list(parts.values())).sum(), **parts}
