"""Reliability: how often keypoints are correct whose scores say how often they should be."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from tokenpose.data.samples import Samples
from tokenpose.data.sigmas import estimate_sigmas, fill_areas
from tokenpose.evaluation.units import has_torso, torso_lengths
from tokenpose.shapes import KeypointArray, LengthArray, VisibleArray

CORRECT_WITHIN = 0.2  # torso diameters
CORRECT_ABOVE = 0.5  # keypoint similarity of people without a torso
BINS = 10

KeypointScores = Float[np.ndarray, "people keypoints"]


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    """The keypoints whose scores lie between two limits."""

    lower: float
    upper: float
    count: int
    mean_score: float
    """NaN without keypoints, as is the share."""
    share_correct: float


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """What scores promise, and what is so: in 10 bins of equal width, over labeled keypoints of all kinds, pooled."""

    ece: float
    """Expected calibration error (Naeini et al., AAAI 2015): the mean over keypoints of how far their bin's mean score
    is from its share of correct keypoints."""
    keypoint_count: int
    share_correct: float
    bins: tuple[ReliabilityBin, ...]


def find_correct(predicted: KeypointArray, samples: Samples) -> VisibleArray:
    """Which predicted keypoints are correct: within 0.2 torso diameters of their label.

    For people whose torso isn't labeled: those with a keypoint similarity exp(-d^2 / (2 (2 sigma)^2 area)) above 0.5.
    The area is that of the record, or 0.53 of the box; sigmas are the skeleton's, or estimated. Only labeled keypoints
    have a meaning in the result.
    """
    distances = np.linalg.norm(predicted.astype(np.float64) - samples.keypoints, axis=-1)
    torsos = _torso_lengths(samples)[:, None]
    known = samples.skeleton.sigmas
    sigmas = estimate_sigmas(samples).values if known is None else np.array(known)
    spread = (2 * sigmas) ** 2 * np.maximum(fill_areas(samples).astype(np.float64), 1e-9)[:, None]
    similar = np.exp(-(distances**2) / (2 * spread)) > CORRECT_ABOVE
    return np.where(np.isnan(torsos), similar, distances <= CORRECT_WITHIN * np.nan_to_num(torsos))


def measure_reliability(scores: KeypointScores, correct: VisibleArray, counted: VisibleArray) -> Reliability:
    """Compare scores, from 0 to 1, with what is correct, over the keypoints that are counted. Raises ValueError for
    other scores, and where nothing is counted."""
    values, right = scores[counted].astype(np.float64), correct[counted]
    if not len(values):
        raise ValueError("reliability needs labeled keypoints; got none")
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"scores must be probabilities, from 0 to 1; got {values.min():g} to {values.max():g}")
    index = np.minimum((values * BINS).astype(np.int64), BINS - 1)
    bins = tuple(_measure_bin(number, values[index == number], right[index == number]) for number in range(BINS))
    gaps = (entry.count * abs(entry.mean_score - entry.share_correct) for entry in bins if entry.count)
    return Reliability(
        ece=sum(gaps) / len(values), keypoint_count=len(values), share_correct=float(right.mean()), bins=bins
    )


def _torso_lengths(samples: Samples) -> LengthArray:
    """NaN for people without a torso."""
    if not has_torso(samples.skeleton):
        return np.full(len(samples), np.nan)
    return torso_lengths(samples.keypoints, samples.visible, samples.skeleton)


def _measure_bin(
    number: int, scores: Float[np.ndarray, " keypoints"], correct: "np.ndarray[tuple[int], np.dtype[np.bool_]]"
) -> ReliabilityBin:
    return ReliabilityBin(
        lower=number / BINS,
        upper=(number + 1) / BINS,
        count=len(scores),
        mean_score=float(scores.mean()) if len(scores) else float("nan"),
        share_correct=float(correct.mean()) if len(scores) else float("nan"),
    )
