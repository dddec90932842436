"""How far predictions are from labels, in pixels and in units of the person's size: PCK, PCKh, end-point error."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from tokenpose.evaluation.settings import PCKH_THRESHOLD
from tokenpose.evaluation.units import Unit, UnitName, torso_lengths
from tokenpose.shapes import DistanceArray, KeypointArray, LengthArray, VisibleArray
from tokenpose.skeletons import MPII, Skeleton, read_names

AUC_THRESHOLDS = tuple(step / 100 for step in range(51))  # as in MPII's own evaluation
MPII_LEFT_OUT = ("pelvis", "thorax")  # of PCKh, as published
GROUPS = {
    "Head": ("head", "top"),
    "Shoulder": ("shoulder",),
    "Elbow": ("elbow",),
    "Wrist": ("wrist",),
    "Hip": ("hip",),
    "Knee": ("knee",),
    "Ankle": ("ankle",),
}
"""The columns of published tables of PCKh, and the part that their keypoints' names say."""
FINE_THRESHOLD = 0.1
FINE_AS_PUBLISHED = 0.11
"""Where the published code reads its curve for "Mean@0.1": it takes the 11th step after 0, which is one too far."""


@dataclass(frozen=True, kw_only=True)
class PckResult:
    """PCK in percent; prints as a table."""

    threshold: float
    mean: float
    """Over all labeled keypoints of all people whose unit is known, pooled."""
    per_keypoint: dict[str, float]
    """NaN where none is labeled."""
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
    """PCKh@0.5, the area under its curve from 0 to 0.5, and what published tables have; in percent."""

    at_half: PckResult
    auc: float
    """Mean of PCKh at 0, 0.01, ..., 0.5."""
    auc_per_keypoint: dict[str, float]
    keypoints_left_out: tuple[str, ...] = ()
    """MPII's pelvis and thorax, as published."""
    groups: dict[str, float]
    """PCKh@0.5 by the columns of published tables, Head, Shoulder, ..., those of which the skeleton has keypoints: the
    mean of left and right, NaN where either is."""
    mean_at_0_1: float
    """At 0.1 of the head, pooled."""
    mean_at_0_11: float
    """At 0.11 of the head: what the published code, and so published tables, call Mean@0.1."""


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


def pck(
    predicted: KeypointArray,
    keypoints: KeypointArray,
    visible: VisibleArray,
    skeleton: Skeleton,
    threshold: float = 0.2,
    unit: Unit | None = None,
) -> PckResult:
    """The share of labeled keypoints whose prediction is within ``threshold`` x unit, in the same pixels; None: torso.

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


def pckh(
    predicted: KeypointArray, keypoints: KeypointArray, visible: VisibleArray, skeleton: Skeleton, head: Unit
) -> PckhResult:
    """PCKh@0.5, its area under the curve and groups; of MPII's skeleton without pelvis and thorax, as published."""
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
        groups=group_keypoints(curve[AUC_THRESHOLDS.index(PCKH_THRESHOLD)].per_keypoint),
        mean_at_0_1=curve[AUC_THRESHOLDS.index(FINE_THRESHOLD)].mean,
        mean_at_0_11=curve[AUC_THRESHOLDS.index(FINE_AS_PUBLISHED)].mean,
    )


def group_keypoints(per_keypoint: Mapping[str, float]) -> dict[str, float]:
    """The mean figure of each of `GROUPS` that has keypoints, told by their names; NaN where one of them is NaN."""
    parts = [name.part for name in read_names(tuple(per_keypoint))]
    found = {
        group: [figure for figure, part in zip(per_keypoint.values(), parts, strict=True) if part == words]
        for group, words in GROUPS.items()
    }
    return {group: sum(figures) / len(figures) for group, figures in found.items() if figures}


def measure_errors(
    predicted: KeypointArray, keypoints: KeypointArray, visible: VisibleArray, skeleton: Skeleton, unit: Unit
) -> EpeResult:
    """End-point errors of labeled keypoints, in pixels, and in units of those people whose unit is known."""
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
    predicted: KeypointArray, keypoints: KeypointArray, visible: VisibleArray, boxes: Float[np.ndarray, "people 4"]
) -> LengthArray:
    """Each person's mean error in longer sides of the box (x, y, width, height); NaN where no keypoint is compared."""
    counts = visible.sum(axis=1)
    sums = np.where(visible, _distances(predicted, keypoints), 0).sum(axis=1)
    mean = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return mean / boxes[:, 2:].max(axis=1)


def _errors(in_pixels: Float[np.ndarray, " labeled"], in_units: Float[np.ndarray, " measured"]) -> Errors:
    return Errors(
        mean=_average(np.mean, in_pixels),
        median=_average(np.median, in_pixels),
        unit_mean=_average(np.mean, in_units),
        unit_median=_average(np.median, in_units),
        keypoint_count=len(in_pixels),
    )


def _distances(predicted: KeypointArray, keypoints: KeypointArray) -> DistanceArray:
    if predicted.shape != keypoints.shape:
        raise ValueError(
            f"predicted and labeled keypoints must have one shape; got {predicted.shape} and {keypoints.shape}"
        )
    return np.linalg.norm(predicted.astype(np.float64) - keypoints, axis=-1)


def _percent(part: int, whole: int) -> float:
    return 100 * part / whole if whole else float("nan")


def _average(how: Callable[..., Any], values: Iterable[float]) -> float:
    """NaN for no values, without numpy's warning."""
    numbers = np.fromiter(values, dtype=np.float64)
    return float(how(numbers)) if len(numbers) else float("nan")
