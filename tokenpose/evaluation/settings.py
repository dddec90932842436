"""What is measured, and how."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from tokenpose.evaluation.pck import PCKH_THRESHOLD
from tokenpose.evaluation.units import UnitName
from tokenpose.files import is_number

Metric = Literal["coco", "pck", "pckh", "epe"]


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """Options of an evaluation; ``metrics`` None: all that apply."""

    metrics: tuple[Metric, ...] | None = None
    thresholds: tuple[float, ...] | None = None
    """Of PCK, in units; None: 0.5 of a head, 0.2 of another unit."""
    unit: UnitName | None = None
    """Of PCK and of normalised errors; None: the torso where the skeleton has one, else the box."""
    boxes: Path | None = None
    """A detector's box file; None: the labelled boxes."""
    box_threshold: float = 0.0
    """Boxes of a lower score are left out."""
    nms: float = 0.9
    """Of two poses in one image with a higher OKS the one with the lower score goes."""
    soft_nms: float | None = None
    """Soft suppression instead, with this threshold."""
    flip_test: bool = False
    decoder: str = "dark"
    batch_size: int = 64

    def __post_init__(self) -> None:
        _check_names("metric", self.metrics or (), get_args(Metric))
        _check_names("unit", () if self.unit is None else (self.unit,), get_args(UnitName))
        for threshold in self.thresholds or ():
            if not is_number(threshold) or threshold <= 0:
                raise ValueError(f"a PCK threshold must be a positive number of units; got {threshold!r:.80}")
        for name, value in (("nms", self.nms), ("soft_nms", 1.0 if self.soft_nms is None else self.soft_nms)):
            if not 0 < value <= 1:
                raise ValueError(f"{name} is a threshold of OKS in (0, 1]; got {value}")
        if self.box_threshold != self.box_threshold:
            raise ValueError("box_threshold must be a number; got nan")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1; got {self.batch_size}")
        if self.boxes is not None and set(self.metrics or ()) - {"coco"}:
            raise ValueError(
                "PCK, PCKh and EPE compare a person with their labels, which a detector's boxes do not tell: "
                "measure them without boxes, or ask for the metric coco alone"
            )
        if self.boxes is not None and (self.thresholds or self.unit):
            raise ValueError("thresholds and unit are of PCK and EPE, which a detector's boxes don't tell: omit them")

    def wants(self, metric: Metric) -> bool:
        """Whether the metric was asked for by name; if not and ``metrics`` is None, it is measured where it applies."""
        return self.metrics is not None and metric in self.metrics

    def may(self, metric: Metric) -> bool:
        """Whether the metric is measured where it applies."""
        return self.metrics is None or metric in self.metrics

    def pck_thresholds(self, unit: UnitName) -> tuple[float, ...]:
        """Those that were asked for, else the usual one of the unit, in order and each once."""
        usual = PCKH_THRESHOLD if unit == "head" else 0.2
        return tuple(sorted(set(self.thresholds or (usual,))))


def _check_names(kind: str, given: Iterable[str], known: tuple[str, ...]) -> None:
    unknown = [name for name in given if name not in known]
    if unknown:
        raise ValueError(f"a {kind} is one of {', '.join(known)}; got {', '.join(map(repr, unknown))}")
