"""Sigmas for custom keypoints: how precisely people can place each one, estimated from the labels."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from tokenpose.data.samples import Samples
from tokenpose.skeletons import COCO, read_names

Origin = Literal["named", "estimated"]

SHARE_OF_NEIGHBOR = 0.25
"""A sigma as a share of the distance to the nearest other keypoint; calibrated on COCO, see `estimate_sigmas`."""
SHARE_OF_BOX = 0.53
"""How much of the box a person covers: the median is 0.52 for 86 people of COCO and 0.54 for 500 of LSPET."""
MOST_PEOPLE = 1_000  # medians over more people hardly differ

_BY_PART = {name.part: sigma for name, sigma in zip(read_names(COCO.keypoints), COCO.sigmas or (), strict=True)}
_SMALLEST, _LARGEST = min(_BY_PART.values()), max(_BY_PART.values())


@dataclass(frozen=True, kw_only=True)
class Sigmas:
    """A sigma for each keypoint, in COCO's unit (shares of the person's sqrt(area)), and where it comes from."""

    values: Float[np.ndarray, " keypoints"]
    origins: tuple[Origin, ...]
    """ "named": COCO has a keypoint of that name; "estimated": from the distances among the labeled keypoints."""


def estimate_sigmas(samples: Samples) -> Sigmas:
    """Sigmas for OKS on keypoints for which no one has measured sigmas.

    COCO's sigmas were measured, as the spread of several people's labels of one keypoint. One label shows no spread, so
    this is an estimate. A keypoint with the name of one of COCO's, apart from the side, gets COCO's sigma. Any other
    gets a quarter of the distance to the nearest other keypoint, relative to the person's sqrt(area): the median over
    people for each other keypoint, then the smallest of these, within COCO's range of 0.025 to 0.107. A keypoint that
    is never labeled together with another gets the median of COCO's.

    How good this is: for the 86 people of COCO on whom the quarter was calibrated, without using the names, it is off
    by a factor of 1.18 in the median of the 17 keypoints and of 1.53 at worst (hips, 0.070 instead of 0.107); with few
    people by more. Compare AP with estimated sigmas among models on the same data, not with AP on COCO.
    """
    known = [_BY_PART.get(name.part) for name in read_names(samples.skeleton.keypoints)]
    measured = sigmas_from_distances(samples).tolist()
    return Sigmas(
        values=np.array([there if sigma is None else sigma for sigma, there in zip(known, measured, strict=True)]),
        origins=tuple("estimated" if sigma is None else "named" for sigma in known),
    )


def sigmas_from_distances(samples: Samples) -> Float[np.ndarray, " keypoints"]:
    """The estimate from distances alone, without the names."""
    step = max(1, -(-len(samples) // MOST_PEOPLE))
    some = samples.take(slice(None, None, step))
    sides = np.sqrt(fill_areas(some)).astype(np.float64)
    count = len(some.skeleton)
    nearest = np.array([_nearest(some.keypoints, some.visible, sides, keypoint) for keypoint in range(count)])
    sigmas = np.where(np.isfinite(nearest), SHARE_OF_NEIGHBOR * nearest, np.median(COCO.sigmas or ()))
    return sigmas.clip(_SMALLEST, _LARGEST)


def fill_areas(samples: Samples) -> Float[np.ndarray, " people"]:
    """The area of each person in square pixels: that of the record, or 0.53 of the box where the record has none."""
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
    """The smallest median distance to another keypoint, in units of people's sides; infinite without other keypoints.

    Keypoints at the same place don't count: they say nothing about the distance between the two.
    """
    distances = np.linalg.norm(keypoints - keypoints[:, keypoint : keypoint + 1], axis=-1)
    counts = visible & visible[:, keypoint : keypoint + 1] & (distances > 0) & (sides > 0)[:, None]
    relative = distances / np.where(sides > 0, sides, 1)[:, None]
    medians = (np.median(relative[counts[:, other], other]) for other in np.flatnonzero(counts.any(axis=0)))
    return min(map(float, medians), default=np.inf)
