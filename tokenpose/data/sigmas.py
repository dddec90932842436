"""Sigmas for keypoints of your own: how exactly each can be placed, estimated from the labels that are there."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from tokenpose.data.samples import Samples
from tokenpose.skeletons import COCO, words_without_side

Origin = Literal["named", "estimated"]

SHARE_OF_NEIGHBOR = 0.25
"""A sigma as a share of the way to the nearest other keypoint; calibrated on COCO, see `estimate_sigmas`."""
SHARE_OF_BOX = 0.53
"""How much of a person's box the person covers: the median of 86 people of COCO is 0.52, of 500 of LSPET 0.54."""
MOST_PEOPLE = 1_000  # medians over more people hardly differ

_BY_WORDS = {words_without_side(name): sigma for name, sigma in zip(COCO.keypoints, COCO.sigmas or (), strict=True)}
_SMALLEST, _LARGEST = min(_BY_WORDS.values()), max(_BY_WORDS.values())


@dataclass(frozen=True, kw_only=True)
class Sigmas:
    """A sigma for each keypoint, in COCO's unit (of the person's sqrt(area)), and where it comes from."""

    values: Float[np.ndarray, " keypoints"]
    origins: tuple[Origin, ...]
    """ "named": COCO has a keypoint of that name; "estimated": from the distances among the labelled keypoints."""


def estimate_sigmas(samples: Samples) -> Sigmas:
    """Sigmas for OKS on keypoints of which nobody has measured any.

    COCO's were measured, as the spread of several people's labels of one keypoint. One label each shows no spread, so
    this is an estimate. A keypoint with the name of one of COCO's, side aside, has COCO's sigma. Any other has a
    quarter of the way to the nearest other keypoint, relative to the person's sqrt(area): the median over people for
    each pair, then the least of its pairs; never beyond COCO's 0.025 to 0.107. A keypoint that is never labelled beside
    another has the median of COCO's.

    How good that is: from the 86 people of COCO on whom the quarter was calibrated, as if their names said nothing, it
    is off by a factor of 1.18 in the median of the 17 keypoints and of 1.53 at worst (hips, 0.070 for 0.107); from few
    people by more. Compare AP by estimated sigmas among models on the same data, not with AP on COCO.
    """
    known = [_BY_WORDS.get(words_without_side(name)) for name in samples.skeleton.keypoints]
    measured = sigmas_from_distances(samples).tolist()
    return Sigmas(
        values=np.array([there if sigma is None else sigma for sigma, there in zip(known, measured, strict=True)]),
        origins=tuple("estimated" if sigma is None else "named" for sigma in known),
    )


def sigmas_from_distances(samples: Samples) -> Float[np.ndarray, " keypoints"]:
    """The estimate alone, whatever the keypoints are called."""
    step = max(1, -(-len(samples) // MOST_PEOPLE))
    some = samples.take(slice(None, None, step))
    sides = np.sqrt(fill_areas(some)).astype(np.float64)
    count = len(some.skeleton)
    nearest = np.array([_nearest(some.keypoints, some.visible, sides, keypoint) for keypoint in range(count)])
    sigmas = np.where(np.isfinite(nearest), SHARE_OF_NEIGHBOR * nearest, np.median(COCO.sigmas or ()))
    return sigmas.clip(_SMALLEST, _LARGEST)


def fill_areas(samples: Samples) -> Float[np.ndarray, " people"]:
    """Everybody's area in square pixels: the record's where it gives one, else 0.53 of the box."""
    of_boxes = SHARE_OF_BOX * samples.boxes[:, 2] * samples.boxes[:, 3]
    if samples.areas is None:
        return of_boxes
    return np.where(samples.areas > 0, samples.areas, of_boxes)


def _nearest(
    keypoints: Float[np.ndarray, "people keypoints 2"],
    visible: Bool[np.ndarray, "people keypoints"],
    sides: Float[np.ndarray, " people"],
    keypoint: int,
) -> float:
    """The median distance to the keypoint that is nearest by it, in persons' sides; infinite where there is none.

    Two keypoints at one place say nothing about how far apart they are, and don't count.
    """
    distances = np.linalg.norm(keypoints - keypoints[:, keypoint : keypoint + 1], axis=-1)
    counts = visible & visible[:, keypoint : keypoint + 1] & (distances > 0) & (sides > 0)[:, None]
    relative = distances / np.where(sides > 0, sides, 1)[:, None]
    medians = (np.median(relative[counts[:, other], other]) for other in np.flatnonzero(counts.any(axis=0)))
    return min(map(float, medians), default=np.inf)
