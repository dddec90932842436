"""How far predictions are from labels, in pixels and in parts of the person's size: PCK, PCKh, end-point error."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from jaxtyping import Bool, Float

from tokenpose.data.samples import Samples
from tokenpose.evaluation.settings import PCKH_THRESHOLD, UnitName
from tokenpose.skeletons import MPII, Skeleton

TORSO = (("right_shoulder", "left_hip"), ("left_shoulder", "right_hip"))
HEAD = ("head_top", ("upper_neck", "neck"))
AUC_THRESHOLDS = tuple(step / 100 for step in range(51))  # as MPII's own evaluation has it
MPII_LEFT_OUT = ("pelvis", "thorax")  # of PCKh, as published

Points = Float[np.ndarray, "people keypoints 2"]
Visible = Bool[np.ndarray, "people keypoints"]
Distances = Float[np.ndarray, "people keypoints"]
Lengths = Float[np.ndarray, " people"]


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A length of each person, by which distances are measured."""

    name: str
    """What it is: "torso", "box side", "head size", "head_top to neck"."""
    part: UnitName
    lengths: Lengths
    """In pixels, NaN where a person's isn't known."""


@dataclass(frozen=True, kw_only=True)
class PckResult:
    """PCK in percent; prints as a table."""

    threshold: float
    mean: float
    """Over all labelled keypoints of all people whose unit is known, pooled."""
    per_keypoint: dict[str, float]
    """NaN where none is labelled."""
    keypoint_count: int
    people: int
    people_left_out: int
    """Those whose unit isn't known."""
    unit: str = "torso"
    part: UnitName = "torso"

    def __str__(self) -> str:
        rows = [f"{name:<16} {value:6.2f}" for name, value in self.per_keypoint.items()]
        head = f"PCK@{self.threshold:g} ({self.unit}), {self.people} people, {self.keypoint_count} keypoints"
        if self.people_left_out:
            head += f", {self.people_left_out} people without a {self.part} left out"
        return "\n".join([head, *rows, f"{'mean':<16} {self.mean:6.2f}"])


@dataclass(frozen=True, kw_only=True)
class PckhResult:
    """PCKh@0.5, and the area under its curve from 0 to 0.5, in percent."""

    at_half: PckResult
    auc: float
    """Mean of PCKh at 0, 0.01, ..., 0.5."""
    auc_per_keypoint: dict[str, float]
    keypoints_left_out: tuple[str, ...] = ()
    """MPII's pelvis and thorax, as published."""


@dataclass(frozen=True, kw_only=True)
class Errors:
    """Distances from labels: in pixels over ``keypoint_count`` keypoints, and in units over those that have one."""

    mean: float
    median: float
    unit_mean: float
    unit_median: float
    keypoint_count: int


@dataclass(frozen=True, kw_only=True)
class EpeResult:
    """End-point error: how far a prediction is from its label."""

    pooled: Errors
    per_keypoint: dict[str, Errors]
    unit: str
    people: int


def has_torso(skeleton: Skeleton) -> bool:
    """Whether the skeleton has both shoulders and both hips."""
    return all(name in skeleton.keypoints for pair in TORSO for name in pair)


def has_head(samples: Samples) -> bool:
    """Whether people's heads can be measured: MPII's head sizes are known, or the skeleton has a head's two ends."""
    return _has_head_sizes(samples) or _head_ends(samples.skeleton) is not None


def torso_lengths(keypoints: Points, visible: Visible, skeleton: Skeleton) -> Lengths:
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


def choose_unit(samples: Samples, part: str | None = None) -> Unit:
    """Everybody's length of one part; None: the torso where somebody has one labelled, else the box.

    "torso" as in `torso_lengths`; "box": the longer side of the labelled box (Yang and Ramanan, TPAMI 2013); "head":
    MPII's head size where the data has it, else from head_top to upper_neck or neck. Raises ValueError where the data
    has no such part.
    """
    if part is None:
        part = "torso" if _has_torsos(samples) else "box"
    if part not in get_args(UnitName):
        raise ValueError(f"a unit is one of {', '.join(get_args(UnitName))}; got {part!r}")
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


def _head_ends(skeleton: Skeleton) -> tuple[str, str] | None:
    top, necks = HEAD
    neck = next((name for name in necks if name in skeleton.keypoints), None)
    return (top, neck) if neck is not None and top in skeleton.keypoints else None


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
    top, neck = map(samples.skeleton.index, ends)
    length = np.linalg.norm(samples.keypoints[:, top] - samples.keypoints[:, neck], axis=-1)
    is_known = samples.visible[:, top] & samples.visible[:, neck] & (length > 0)
    return Unit(name=" to ".join(ends), part="head", lengths=np.where(is_known, length, np.nan))


def _list_keypoints(samples: Samples) -> str:
    return f"skeleton {samples.skeleton.name!r} has {', '.join(samples.skeleton.keypoints)}"


def pck(
    predicted: Points,
    keypoints: Points,
    visible: Visible,
    skeleton: Skeleton,
    threshold: float = 0.2,
    unit: Unit | None = None,
) -> PckResult:
    """The share of labelled keypoints whose prediction is within ``threshold`` x unit, in the same pixels; None: torso.

    People whose unit isn't known are left out. Raises ValueError for arrays of differing shape.
    """
    if unit is None:
        unit = Unit(name="torso", part="torso", lengths=torso_lengths(keypoints, visible, skeleton))
    distances = _distances(predicted, keypoints)
    is_known = ~np.isnan(unit.lengths)
    counted = visible & is_known[:, None]
    counts = counted.sum(axis=0)
    right = (counted & (distances <= threshold * np.nan_to_num(unit.lengths)[:, None])).sum(axis=0)
    return PckResult(
        threshold=threshold,
        mean=_percent(int(right.sum()), int(counts.sum())),
        per_keypoint=dict(zip(skeleton.keypoints, map(_percent, right.tolist(), counts.tolist()), strict=True)),
        keypoint_count=int(counts.sum()),
        people=int(is_known.sum()),
        people_left_out=int((~is_known).sum()),
        unit=unit.name,
        part=unit.part,
    )


def pckh(predicted: Points, keypoints: Points, visible: Visible, skeleton: Skeleton, head: Unit) -> PckhResult:
    """PCKh@0.5 and its area under the curve; of MPII's skeleton without pelvis and thorax, as published."""
    left_out = MPII_LEFT_OUT if skeleton.keypoints == MPII.keypoints else ()
    counted = visible & np.array([name not in left_out for name in skeleton.keypoints])
    curve = [pck(predicted, keypoints, counted, skeleton, threshold, head) for threshold in AUC_THRESHOLDS]
    return PckhResult(
        at_half=curve[AUC_THRESHOLDS.index(PCKH_THRESHOLD)],
        auc=_average(np.mean, (point.mean for point in curve)),
        auc_per_keypoint={
            name: _average(np.mean, (point.per_keypoint[name] for point in curve)) for name in skeleton.keypoints
        },
        keypoints_left_out=left_out,
    )


def measure_errors(predicted: Points, keypoints: Points, visible: Visible, skeleton: Skeleton, unit: Unit) -> EpeResult:
    """End-point errors of labelled keypoints, in pixels, and in units of those people whose unit is known."""
    distances = _distances(predicted, keypoints)
    relative = distances / unit.lengths[:, None]
    measured = visible & ~np.isnan(unit.lengths)[:, None]
    per_keypoint = [
        _errors(distances[visible[:, index], index], relative[measured[:, index], index])
        for index in range(len(skeleton))
    ]
    return EpeResult(
        pooled=_errors(distances[visible], relative[measured]),
        per_keypoint=dict(zip(skeleton.keypoints, per_keypoint, strict=True)),
        unit=unit.name,
        people=int(visible.any(axis=1).sum()),
    )


def person_errors(
    predicted: Points, keypoints: Points, visible: Visible, boxes: Float[np.ndarray, "people 4"]
) -> Lengths:
    """Everybody's mean error in longer sides of their boxes (x, y, width, height); NaN where nothing is compared."""
    counts = visible.sum(axis=1)
    sums = np.where(visible, _distances(predicted, keypoints), 0).sum(axis=1)
    mean = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return mean / boxes[:, 2:].max(axis=1)


def _errors(in_pixels: Float[np.ndarray, " labelled"], in_units: Float[np.ndarray, " measured"]) -> Errors:
    return Errors(
        mean=_average(np.mean, in_pixels),
        median=_average(np.median, in_pixels),
        unit_mean=_average(np.mean, in_units),
        unit_median=_average(np.median, in_units),
        keypoint_count=len(in_pixels),
    )


def _distances(predicted: Points, keypoints: Points) -> Distances:
    if predicted.shape != keypoints.shape:
        raise ValueError(
            f"predicted and labelled keypoints must have one shape; got {predicted.shape} and {keypoints.shape}"
        )
    return np.linalg.norm(predicted.astype(np.float64) - keypoints, axis=-1)


def _percent(part: int, whole: int) -> float:
    return 100 * part / whole if whole else float("nan")


def _average(of: Callable[..., Any], values: Iterable[float]) -> float:
    """NaN of none, without numpy's warning."""
    numbers = np.fromiter(values, dtype=np.float64)
    return float(of(numbers)) if len(numbers) else float("nan")
