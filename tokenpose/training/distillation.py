"""Distillation: losses against what a teacher says about the same crops."""

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Bool, Float
from torch import Tensor

from tokenpose.shapes import Crops, Heatmaps, Scalar, TargetWeights
from tokenpose.training.losses import cell_entropy, cell_error
from tokenpose.training.settings import TrainingSettings

LEAST_VARIANCE = 1e-6
"""Of a channel, where it divides an error."""


class Taught(NamedTuple):
    """What a teacher says about the people of a batch, for the student's keypoints."""

    heatmaps: Heatmaps
    """As wide as the student's, with a peak near 1 where the teacher is sure."""
    mass: TargetWeights
    """How much of a keypoint the teacher sees in the crop, from 0 to 1; 0 for keypoints that it doesn't know."""
    known: Bool[Tensor, " keypoints"]
    """Which of the student's keypoints the teacher knows."""
    tokens: Float[Tensor, "people keypoints features"] | None = None
    """The keypoint tokens that enter the head; None if they aren't taught."""


Teach = Callable[[Crops, tuple[int, int]], Taught]
"""Takes a batch of normalized crops, and the size of the student's heatmaps for them."""


def heatmap_distillation(logits: Heatmaps, taught: Taught, settings: TrainingSettings) -> Scalar:
    """The error of the heatmaps, averaged over people and the keypoints that the teacher knows.

    For the loss "cross_entropy" the teacher's heatmap is a distribution over the cells, which counts as much as the
    teacher sees of the keypoint; for the other losses it is the target of half the mean squared error.
    """
    if settings.loss == "cross_entropy":
        error = cell_entropy(logits, taught.heatmaps) * taught.mass
    else:
        error = cell_error(logits, taught.heatmaps) * taught.known
    return error.sum(dim=1).mean() / taught.known.sum().clamp(min=1)


def token_distillation(
    tokens: Float[Tensor, "people keypoints features"], taught: Float[Tensor, "people keypoints features"],
    known: Bool[Tensor, " keypoints"],
) -> Scalar:  # fmt: skip
    """The mean squared error of the known keypoints' tokens, of each channel over its variance in this batch."""
    weights = known.float().view(1, -1, 1)
    count = (known.sum() * len(tokens)).clamp(min=1)
    mean = (taught.float() * weights).sum(dim=(0, 1), keepdim=True) / count
    variance = ((taught.float() - mean).square() * weights).sum(dim=(0, 1)) / count
    error = ((tokens.float() - taught.float()).square() * weights).sum(dim=(0, 1)) / count
    return (error / variance.clamp(min=LEAST_VARIANCE)).mean()


def visual_distillation(
    tokens: Float[Tensor, "people visual features"], taught: Float[Tensor, "people visual features"]
) -> Scalar:
    """The mean squared error of visual tokens, of each channel over its variance in this batch."""
    error = (tokens.float() - taught.float()).square().mean(dim=(0, 1))
    variance = taught.float().flatten(0, 1).var(dim=0, correction=0)
    return (error / variance.clamp(min=LEAST_VARIANCE)).mean()
