"""Units: lengths of people's bodies that distances are measured by."""

from dataclasses import dataclass
from typing import get_args

import numpy as np

from tokenpose.data.samples import Samples
from tokenpose.evaluation.settings import UnitName
from tokenpose.files import shown
from tokenpose.shapes import KeypointArray, LengthArray, VisibleArray
from tokenpose.skeletons import Skeleton

TORSO = (("right_shoulder", "left_hip"), ("left_shoulder", "right_hip"))
HEAD = ("head_top", ("upper_neck", "neck"))


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A length of each person that distances are measured by."""

    name: str
    """What it is: "torso", "box side", "head size", "head_top to neck"."""
    part: UnitName
    lengths: LengthArray
    """In pixels, NaN where a person's length isn't known."""


def has_torso(skeleton: Skeleton) -> bool:
    """Whether the skeleton has both shoulders and both hips, in any spelling."""
    return all(skeleton.find(name) is not None for pair in TORSO for name in pair)


def has_head(samples: Samples) -> bool:
    """Whether the data give the size of heads: MPII's head sizes, or the keypoints at both ends of the head."""
    return _has_head_sizes(samples) or _head_ends(samples.skeleton) is not None


def torso_lengths(keypoints: KeypointArray, visible: VisibleArray, skeleton: Skeleton) -> LengthArray:
    """The longer of the two shoulder-to-opposite-hip distances whose ends are visible; NaN where neither is.

    Raises ValueError where the skeleton lacks shoulders or hips.
    """
    places = {name: skeleton.find(name) for pair in TORSO for name in pair}
    missing = [name for name, index in places.items() if index is None]
    if missing:
        raise ValueError(
            f"a torso needs shoulders and hips; skeleton {shown(skeleton.name)} has no {', '.join(missing)}"
        )
    lengths = []
    for first, second in TORSO:
        a, b = places[first], places[second]
        distance = np.linalg.norm(keypoints[:, a] - keypoints[:, b], axis=-1)
        lengths.append(np.where(visible[:, a] & visible[:, b], distance, -np.inf))
    longest = np.maximum(*lengths)
    return np.where(longest > 0, longest, np.nan)


def choose_unit(samples: Samples, part: str | None = None) -> Unit:
    """The length of one part of each person; None: the torso if anyone has one labeled, else the box.

    "torso" as in `torso_lengths`; "box": the longer side of the labeled box (Yang and Ramanan, TPAMI 2013); "head":
    MPII's head size where the data has it, else from head_top to upper_neck or neck. Raises ValueError where the data
    has no such part.
    """
    if part is None:
        part = "torso" if _has_torsos(samples) else "box"
    if part not in get_args(UnitName):
        raise ValueError(f"a unit is one of {', '.join(get_args(UnitName))}; got {shown(part)}")
    if part == "torso":
        if not has_torso(samples.skeleton):
            raise ValueError(f"{samples.origin}: a torso needs shoulders and hips; {_list_keypoints(samples)}")
        lengths = torso_lengths(samples.keypoints, samples.visible, samples.skeleton)
        return Unit(name="torso", part="torso", lengths=lengths)
    if part == "box":
        return Unit(name="box side", part="box", lengths=samples.boxes[:, 2:].max(axis=1))
    return _head(samples)


def _has_torsos(samples: Samples) -> bool:
    if not has_torso(samples.skeleton):
        return False
    return bool(np.isfinite(torso_lengths(samples.keypoints, samples.visible, samples.skeleton)).any())


def _has_head_sizes(samples: Samples) -> bool:
    return samples.head_sizes is not None and bool((samples.head_sizes > 0).any())


def _head_ends(skeleton: Skeleton) -> tuple[int, int] | None:
    top = skeleton.find(HEAD[0])
    neck = next((index for index in map(skeleton.find, HEAD[1]) if index is not None), None)
    return None if top is None or neck is None else (top, neck)


def _head(samples: Samples) -> Unit:
    sizes = samples.head_sizes
    if sizes is not None and _has_head_sizes(samples):
        return Unit(name="head size", part="head", lengths=np.where(sizes > 0, sizes, np.nan))
    ends = _head_ends(samples.skeleton)
    if ends is None:
        raise ValueError(
            f"{samples.origin}: a head needs MPII's head sizes, or keypoints head_top and upper_neck or neck; "
            f"{_list_keypoints(samples)}"
        )
    top, neck = ends
    length = np.linalg.norm(samples.keypoints[:, top] - samples.keypoints[:, neck], axis=-1)
    is_known = samples.visible[:, top] & samples.visible[:, neck] & (length > 0)
    name = " to ".join(samples.skeleton.keypoints[index] for index in ends)
    return Unit(name=name, part="head", lengths=np.where(is_known, length, np.nan))


def _list_keypoints(samples: Samples) -> str:
    return f"skeleton {shown(samples.skeleton.name)} has {', '.join(samples.skeleton.keypoints)}"
