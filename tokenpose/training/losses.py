"""Losses: of the heatmaps, and of the keypoint tokens' attention."""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from tokenpose.shapes import Heatmaps, Scalar, TargetWeights

LEAST = 1e-6
"""In place of a sum of weights that is 0: then all that is divided by it is 0, too."""


def squared_error(predicted: Heatmaps, target: Heatmaps, weights: TargetWeights) -> Scalar:
    """The published loss: half the mean squared error, averaged over keypoints; weights are squared."""
    return (cell_error(predicted, target) * weights.square()).mean()


def hard_keypoint_error(predicted: Heatmaps, target: Heatmaps, weights: TargetWeights, hardest: int = 8) -> Scalar:
    """The published hard-keypoint variant: the mean of each person's ``hardest`` largest errors."""
    error = cell_error(predicted, target) * weights.square()
    return error.topk(min(hardest, error.shape[1]), dim=1).values.mean()


def cross_entropy(logits: Heatmaps, target: Heatmaps, weights: TargetWeights) -> Scalar:
    """Cross-entropy between softmax(logits) over the cells and the target Gaussian as a distribution, averaged over
    the keypoints by their weights."""
    return (cell_entropy(logits, target) * weights).sum() / weights.sum().clamp(min=LEAST)


def cell_error(predicted: Heatmaps, target: Heatmaps) -> TargetWeights:
    """Half the mean squared error over the cells, of each keypoint."""
    return 0.5 * (predicted.float() - target).square().mean(dim=(-2, -1))


def cell_entropy(logits: Heatmaps, target: Heatmaps) -> TargetWeights:
    """The cross-entropy between softmax(logits) over the cells and the target as a distribution, of each keypoint."""
    wanted = target.flatten(2)
    wanted = wanted / wanted.sum(dim=-1, keepdim=True).clamp(min=1e-6)
    return -(wanted * logits.float().flatten(2).log_softmax(dim=-1)).sum(dim=-1)


def attention_guidance(
    attention: Float[Tensor, "blocks people keypoints visual"],
    target: Heatmaps,
    weights: TargetWeights,
    grid: tuple[int, int],
) -> Scalar:
    """Cross-entropy between attention over the visual tokens and the target pooled to patches (rows, columns), averaged
    over blocks, and over the keypoints by their weights."""
    wanted = functional.adaptive_avg_pool2d(target, grid).flatten(2)
    wanted = wanted / wanted.sum(dim=-1, keepdim=True).clamp(min=1e-6)
    entropy = -(wanted * attention.clamp(min=1e-8).log()).sum(dim=-1).mean(dim=0)
    return (entropy * weights).sum() / weights.sum().clamp(min=LEAST)
