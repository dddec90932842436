"""OKS, and non-maximum suppression by it."""

import numpy as np
from jaxtyping import Float, Int

from tokenpose.shapes import KeypointArray, LengthArray, SigmaArray


def oks(
    first: Float[np.ndarray, "keypoints 2"],
    first_area: float,
    others: KeypointArray,
    areas: LengthArray,
    sigmas: SigmaArray,
) -> Float[np.ndarray, " people"]:
    """Object keypoint similarity of one pose to others; areas in square pixels, sigmas as COCO gives them."""
    squares = ((others - first) ** 2).sum(axis=-1)
    mean_area = (first_area + areas)[:, None] / 2 + np.spacing(1)
    return np.exp(-squares / (2 * (2 * sigmas) ** 2 * mean_area)).mean(axis=-1)


def oks_nms(
    keypoints: KeypointArray, scores: LengthArray, areas: LengthArray, sigmas: SigmaArray, threshold: float
) -> Int[np.ndarray, " kept"]:
    """Which poses stay, by falling score: one goes if its OKS with a kept one is above the threshold."""
    order = scores.argsort()[::-1]
    kept = []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        similar = oks(keypoints[best], areas[best], keypoints[order], areas[order], sigmas)
        order = order[similar <= threshold]
    return np.array(kept, dtype=np.int64)


def soft_oks_nms(
    keypoints: KeypointArray,
    scores: LengthArray,
    areas: LengthArray,
    sigmas: SigmaArray,
    threshold: float,
    most: int = 20,
) -> Int[np.ndarray, " kept"]:
    """Which poses stay, at most ``most``: each taken one multiplies the others' scores by exp(-OKS^2 / threshold)."""
    order = scores.argsort()[::-1]
    remaining = scores[order]
    kept: list[int] = []
    while len(order) and len(kept) < most:
        best, order, remaining = order[0], order[1:], remaining[1:]
        kept.append(int(best))
        similar = oks(keypoints[best], areas[best], keypoints[order], areas[order], sigmas)
        remaining = remaining * np.exp(-(similar**2) / threshold)
        again = remaining.argsort()[::-1]
        order, remaining = order[again], remaining[again]
    return np.array(kept, dtype=np.int64)
