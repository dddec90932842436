"""Calibration: logistic curves from the peaks of heatmaps to probabilities, fitted to what was correct."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from tokenpose.evaluation.reliability import KeypointScores, Reliability, measure_reliability
from tokenpose.models.calibration import Curve, apply_curves
from tokenpose.shapes import VisibleArray

PRIOR_WEIGHT = 5.0
"""How strongly a keypoint's curve is held to that of all keypoints, in units of standardized peaks: about as strongly
as by 25 labels, so that a rarely labeled keypoint has a curve too."""
FOLDS = 2
MOST_STEPS, LONGEST_STEP = 200, 2.0  # a longer Newton step may overshoot where the curve is flat

Standardized = Float[np.ndarray, " labels"]
Labels = Shaped[np.ndarray, " labels"]
Line = Float[np.ndarray, "2"]


@dataclass(frozen=True, kw_only=True)
class FittedMap:
    """How well the curves of one image size fit people who were not used for the fit."""

    image_size: tuple[int, int]
    flip_test: bool
    held_out: Reliability
    """Of everybody, each with curves that were fitted on the images of the other half."""


@dataclass(frozen=True, kw_only=True)
class CalibrationResult:
    """What `tokenpose.calibrate` fitted; prints as a table."""

    data: str
    people: int
    maps: tuple[FittedMap, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [
            f"{self.data}: {self.people} people; a score is the probability to lie within 0.2 torso diameters "
            "(without a torso: keypoint similarity above 0.5)",
            "",
            "size       flip test  keypoints  correct  held-out ECE",
        ]
        for entry in self.maps:
            size = f"{entry.image_size[0]}x{entry.image_size[1]}"
            held_out = entry.held_out
            lines.append(
                f"{size:<9}  {'yes' if entry.flip_test else 'no':<9}  {held_out.keypoint_count:>9}  "
                f"{held_out.share_correct:>7.1%}  {held_out.ece:>12.4f}"
            )
        return "\n".join(lines)


def fit_curves(peaks: KeypointScores, correct: VisibleArray, counted: VisibleArray) -> list[Curve]:
    """A curve for each keypoint: logistic regression of being correct on the peak (Platt, 1999).

    Each is held to the curve of all keypoints pooled (`PRIOR_WEIGHT`), and none falls. Raises ValueError where nothing
    is counted.
    """
    if not counted.any():
        raise ValueError("curves need labeled keypoints; got none")
    values = peaks.astype(np.float64)
    mean, deviation = values[counted].mean(), values[counted].std() or 1.0
    standardized = (values - mean) / deviation
    pooled = _fit_line(standardized[counted], correct[counted], np.zeros(2), weight=1e-6)
    curves = []
    for keypoint in range(peaks.shape[1]):
        rows = counted[:, keypoint]
        slope, offset = _fit_line(standardized[rows, keypoint], correct[rows, keypoint], pooled, PRIOR_WEIGHT)
        curves.append((float(slope / deviation), float(offset - slope * mean / deviation)))
    return curves


def measure_held_out(
    peaks: KeypointScores, correct: VisibleArray, counted: VisibleArray, image_index: Int[np.ndarray, " people"]
) -> Reliability:
    """The reliability of the probabilities of everybody, each from curves that were fitted on the other half's images.

    Images take turns, so that people of one image are in one half. Raises ValueError for labels in one image only.
    """
    _, order = np.unique(image_index, return_inverse=True)
    fold = order % FOLDS
    probabilities = np.zeros_like(peaks)
    for number in range(FOLDS):
        others = fold != number
        if not counted[others].any():
            raise ValueError("calibration needs labeled keypoints in at least 2 images: half of them are held out")
        curves = fit_curves(peaks[others], correct[others], counted[others])
        probabilities[~others] = apply_curves(peaks[~others], curves)
    return measure_reliability(probabilities, correct, counted)


def _fit_line(values: Standardized, correct: Labels, prior: Line, weight: float) -> Line:
    """Slope and offset of the log odds of being correct, near the prior; a slope below 0 becomes 0."""
    line = _newton(values, correct, prior, weight, with_slope=True)
    return line if line[0] >= 0 else _newton(values, correct, prior * (0, 1), weight, with_slope=False)


def _newton(values: Standardized, correct: Labels, prior: Line, weight: float, with_slope: bool) -> Line:
    """Minimize cross entropy + weight / 2 x |line - prior|^2, a convex function.

    Labels are moved inwards as in Platt's paper, or the curve of a keypoint that is always correct would be a step.
    """
    count, right = len(values), int(correct.sum())
    targets = np.where(correct, (right + 1) / (right + 2), 1 / (count - right + 2))
    inputs = np.stack((values * with_slope, np.ones(count)), axis=1)
    line = prior.astype(np.float64)
    for _ in range(MOST_STEPS):
        probabilities = 1 / (1 + np.exp(-(inputs @ line).clip(-60, 60)))
        gradient = inputs.T @ (probabilities - targets) + weight * (line - prior)
        curvature = (inputs * (probabilities * (1 - probabilities))[:, None]).T @ inputs + weight * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        line = line - step * min(1.0, LONGEST_STEP / max(np.abs(step).max(), 1e-12))
        if np.abs(step).max() < 1e-9:
            break
    return line
