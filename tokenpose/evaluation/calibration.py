"""Calibration: curves from the peaks of heatmaps to probabilities, fitted to what was correct."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from tokenpose.evaluation.reliability import KeypointScores, Reliability, measure_reliability
from tokenpose.models.calibration import Curves, Pair, apply_curves, read_log_odds
from tokenpose.shapes import VisibleArray

PRIOR_WEIGHT = 5.0
"""How strongly a keypoint is held to the log odds of all: about as strongly as by 25 labels, so that a rarely labeled
keypoint has a curve too."""
KNOTS, LABELS_A_KNOT = 8, 20
DECIMALS = 6  # of what is kept, so that weights files stay small
FOLDS = 2
MOST_STEPS, LONGEST_STEP = 200, 2.0  # a longer Newton step may overshoot where the curve is flat

Values = Float[np.ndarray, " labels"]
Labels = Bool[np.ndarray, " labels"]
Line = Float[np.ndarray, "2"]
Block = tuple[list[float], float, float]


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


def fit_curves(peaks: KeypointScores, correct: VisibleArray, counted: VisibleArray) -> Curves:
    """Curves from peaks to the probability of being correct; none falls. Raises ValueError where nothing is counted.

    All keypoints pooled have 8 knots, fitted by isotonic regression. Each keypoint shifts and stretches their log odds,
    by logistic regression (Platt, 1999) that is held to no change (`PRIOR_WEIGHT`).
    """
    if not counted.any():
        raise ValueError("curves need labeled keypoints; got none")
    knots = _fit_knots(peaks[counted], correct[counted])
    log_odds = read_log_odds(peaks, knots)
    rows = [counted[:, keypoint] for keypoint in range(peaks.shape[1])]
    lines = (_fit_line(log_odds[some, index], correct[some, index]) for index, some in enumerate(rows))
    return Curves(
        knots, tuple((round(float(slope), DECIMALS), round(float(offset), DECIMALS)) for slope, offset in lines)
    )


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


def _fit_knots(peaks: Values, correct: Labels) -> tuple[Pair, ...]:
    """Median peak and log odds of the labels between quantiles of the peaks, made to rise."""
    parts = np.array_split(np.argsort(peaks, kind="stable"), max(1, min(KNOTS, len(peaks) // LABELS_A_KNOT)))
    medians = [round(float(np.median(peaks[part])), DECIMALS) for part in parts]
    blocks: list[Block] = []  # medians of the joined parts, correct ones, all
    for median, part in zip(medians, parts, strict=True):
        blocks.append(([median], int(correct[part].sum()) + 0.5, len(part) + 1.0))
        while len(blocks) > 1 and _must_join(*blocks[-2:]):
            (first, right, count), (second, more_right, more) = blocks[-2:]
            blocks[-2:] = [(first + second, right + more_right, count + more)]
    log_odds = [round(math.log(right / (count - right)), DECIMALS) for _, right, count in blocks]
    return tuple(
        {peak: height for (found, _, _), height in zip(blocks, log_odds, strict=True) for peak in found}.items()
    )


def _must_join(first: Block, second: Block) -> bool:
    """Whether the share of correct ones falls, or the peaks are the same."""
    return first[1] / first[2] >= second[1] / second[2] or first[0][-1] == second[0][0]


def _fit_line(log_odds: Values, correct: Labels) -> Line:
    """Slope and offset of a keypoint's log odds, near (1, 0); a slope below 0 becomes 0."""
    line = _newton(log_odds, correct, np.array([1.0, 0.0]))
    return line if line[0] >= 0 else _newton(np.zeros_like(log_odds), correct, np.zeros(2))


def _newton(log_odds: Values, correct: Labels, prior: Line) -> Line:
    """Minimize cross entropy + weight / 2 x |line - prior|^2, a convex function.

    Labels are moved inwards as in Platt's paper, or the curve of a keypoint that is always correct would be a step.
    """
    count, right = len(log_odds), int(correct.sum())
    targets = np.where(correct, (right + 1) / (right + 2), 1 / (count - right + 2))
    inputs = np.stack((log_odds, np.ones(count)), axis=1)
    line = prior
    for _ in range(MOST_STEPS):
        probabilities = 1 / (1 + np.exp(-(inputs @ line).clip(-60, 60)))
        gradient = inputs.T @ (probabilities - targets) + PRIOR_WEIGHT * (line - prior)
        curvature = (inputs * (probabilities * (1 - probabilities))[:, None]).T @ inputs + PRIOR_WEIGHT * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        line = line - step * min(1.0, LONGEST_STEP / max(np.abs(step).max(), 1e-12))
        if np.abs(step).max() < 1e-9:
            break
    return line
