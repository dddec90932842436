"""Losses: what the network should say, and where its keypoint tokens should look."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

Maps = Float[Tensor, "batch keypoints rows columns"]
Weights = Float[Tensor, "batch keypoints"]
Scalar = Float[Tensor, ""]


def squared_error(predicted: Maps, target: Maps, weights: Weights) -> Scalar:
    """The published loss: half the mean square, averaged over keypoints; weights enter squared."""
    error = (predicted.float() - target).square().mean(dim=(-2, -1))
    return 0.5 * (error * weights.square()).mean()


def hard_keypoint_error(predicted: Maps, target: Maps, weights: Weights, hardest: int = 8) -> Scalar:
    """The published hard-keypoint variant: of each person the ``hardest`` largest errors, averaged."""
    error = 0.5 * (predicted.float() - target).square().mean(dim=(-2, -1)) * weights.square()
    return error.topk(min(hardest, error.shape[1]), dim=1).values.mean()


def cross_entropy(logits: Maps, target: Maps, weights: Weights) -> Scalar:
    """Cross-entropy between softmax(logits) over the cells and the target Gaussian as a distribution; mean over
    keypoints that count."""
    wanted = target.flatten(2)
    wanted = wanted / wanted.sum(dim=-1, keepdim=True).clamp(min=1e-6)
    entropy = -(wanted * logits.float().flatten(2).log_softmax(dim=-1)).sum(dim=-1)
    return (entropy * weights).sum() / weights.sum().clamp(min=1)


def attention_guidance(
    attention: Float[Tensor, "blocks batch keypoints visual"], target: Maps, weights: Weights, grid: tuple[int, int]
) -> Scalar:
    """Cross-entropy between attention over the visual tokens and the target pooled to patches (rows, columns); mean
    over blocks and keypoints that count."""
    wanted = functional.adaptive_avg_pool2d(target, grid).flatten(2)
    wanted = wanted / wanted.sum(dim=-1, keepdim=True).clamp(min=1e-6)
    entropy = -(wanted * attention.clamp(min=1e-8).log()).sum(dim=-1).mean(dim=0)
    return (entropy * weights).sum() / weights.sum().clamp(min=1)


def quick_accuracy(
    predicted: Maps, target: Maps, threshold: float = 0.5
) -> tuple[Float[Tensor, " keypoints"], Scalar, int]:
    """The published training accuracy: (per keypoint, -1 where none counts; mean of those that count; their number).

    Argmax against argmax, differences divided by a tenth of the map's size, right if below ``threshold``; only targets
    with x > 1 and y > 1 count.
    """
    height, width = target.shape[-2:]

    def peaks(maps: Maps) -> Tensor:
        scores, index = maps.flatten(2).max(dim=-1)
        points = torch.stack((index % width, index // width), dim=-1).to(torch.float64)
        return points * (scores > 0).unsqueeze(-1)

    wanted = peaks(target)
    unit = wanted.new_tensor([width / 10, height / 10])
    distance = ((peaks(predicted) - wanted) / unit).norm(dim=-1)
    counts = (wanted > 1).all(dim=-1)
    right = ((distance < threshold) & counts).sum(dim=0)
    accuracy = torch.where(counts.any(dim=0), right / counts.sum(dim=0).clamp(min=1), -1.0)
    counted = accuracy >= 0
    return accuracy, accuracy[counted].mean() if counted.any() else accuracy.new_zeros(()), int(counted.sum())
