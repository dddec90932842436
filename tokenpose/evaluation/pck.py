"""PCK: the share of keypoints within a part of the person's size."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from tokenpose.skeletons import Skeleton

TORSO = (("right_shoulder", "left_hip"), ("left_shoulder", "right_hip"))

Points = Float[np.ndarray, "people keypoints 2"]
Visible = Bool[np.ndarray, "people keypoints"]


@dataclass(frozen=True, kw_only=True)
class PckResult:
    """PCK in percent; prints as a table."""

    threshold: float
    mean: float
    """Over all labelled keypoints of all people who have a torso, pooled."""
    per_keypoint: dict[str, float]
    """NaN where none is labelled."""
    keypoint_count: int
    people: int
    people_without_torso: int
    unit: str = "torso"

    def __str__(self) -> str:
        rows = [f"{name:<16} {value:6.2f}" for name, value in self.per_keypoint.items()]
        head = f"PCK@{self.threshold:g} ({self.unit}), {self.people} people, {self.keypoint_count} keypoints"
        if self.people_without_torso:
            head += f", {self.people_without_torso} people without a torso left out"
        return "\n".join([head, *rows, f"{'mean':<16} {self.mean:6.2f}"])


def has_torso(skeleton: Skeleton) -> bool:
    """Whether the skeleton has both shoulders and both hips."""
    return all(name in skeleton.keypoints for pair in TORSO for name in pair)


def torso_lengths(keypoints: Points, visible: Visible, skeleton: Skeleton) -> Float[np.ndarray, " people"]:
    """The longer of the two shoulder-to-opposite-hip distances whose ends are visible; NaN where neither is.

    Raises ValueError where the skeleton lacks shoulders or hips.
    """
    missing = [name for pair in TORSO for name in pair if name not in skeleton.keypoints]
    if missing:
        raise ValueError(f"a torso needs shoulders and hips; skeleton {skeleton.name!r} has no {', '.join(missing)}")
    lengths = []
    for first, second in TORSO:
        a, b = skeleton.index(first), skeleton.index(second)
        distance = np.linalg.norm(keypoints[:, a] - keypoints[:, b], axis=-1)
        lengths.append(np.where(visible[:, a] & visible[:, b], distance, -np.inf))
    longest = np.maximum(*lengths)
    return np.where(longest > 0, longest, np.nan)


def pck(
    predicted: Points,
    keypoints: Points,
    visible: Visible,
    skeleton: Skeleton,
    threshold: float = 0.2,
    boxes: Float[np.ndarray, "people 4"] | None = None,
) -> PckResult:
    """The share of labelled keypoints whose prediction is within ``threshold`` x torso, in the same pixels.

    People without a torso are left out. With ``boxes`` (x, y, width, height) their diagonals take the torso's place:
    for skeletons that have none. Raises ValueError for arrays of differing shape.
    """
    if predicted.shape != keypoints.shape:
        raise ValueError(
            f"predicted and labelled keypoints must have one shape; got {predicted.shape} and {keypoints.shape}"
        )
    torso = torso_lengths(keypoints, visible, skeleton) if boxes is None else np.linalg.norm(boxes[:, 2:], axis=1)
    counted = visible & ~np.isnan(torso)[:, None]
    distance = np.linalg.norm(predicted.astype(np.float64) - keypoints, axis=-1)
    right = counted & (distance <= threshold * np.nan_to_num(torso)[:, None])
    counts = counted.sum(axis=0)
    shares = np.where(counts > 0, 100 * right.sum(axis=0) / np.maximum(counts, 1), np.nan)
    return PckResult(
        threshold=threshold,
        mean=float(100 * right.sum() / counted.sum()) if counted.any() else float("nan"),
        per_keypoint=dict(zip(skeleton.keypoints, shares.tolist(), strict=True)),
        keypoint_count=int(counted.sum()),
        people=int((~np.isnan(torso)).sum()),
        people_without_torso=int(np.isnan(torso).sum()),
        unit="torso" if boxes is None else "box diagonal",
    )
