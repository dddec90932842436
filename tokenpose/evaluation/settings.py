"""Settings of an evaluation and of its sheet: frozen, checked when made."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tokenpose.data.settings import check_settings, setting

Metric = Literal["coco", "pck", "pckh", "epe", "ece"]
UnitName = Literal["torso", "head", "box"]
SheetOrder = Literal["file", "worst"]

PCK_THRESHOLD = 0.2
PCKH_THRESHOLD = 0.5
NMS = 0.9
SHEET_COUNT = 30
COCO_SUFFIX, MPII_SUFFIX = ".json", ".mat"  # of files of results


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """What an evaluation measures, and how. Raises ValueError that names the field."""

    metrics: tuple[Metric, ...] | None = setting(
        None,
        help="Metric to report. Repeatable. Default: every metric that applies to the data.",
        panel="Metrics", repeat="--metric",
    )  # fmt: skip
    thresholds: tuple[float, ...] | None = setting(
        None,
        help="Threshold of PCK: the largest distance that counts as correct, relative to the size of the person "
        "(--unit). Repeatable. Default: 0.5 for the head, 0.2 for other units.",
        panel="Metrics", repeat="--threshold", above=0,
    )  # fmt: skip
    unit: UnitName | None = setting(
        None,
        help="Size of a person that PCK and errors are relative to. Default: torso, or box if the skeleton has no "
        "torso.",
        panel="Metrics",
    )  # fmt: skip
    boxes: Path | None = setting(
        None,
        help="File of a detector's boxes, in the form of COCO results. Default: the labeled boxes.",
        panel="Boxes", metavar="FILE",
    )  # fmt: skip
    box_threshold: float = setting(0.0, help="Skip boxes of --boxes with a lower score.", panel="Boxes")
    nms: float = setting(
        NMS,
        help="Before AP: of two poses in an image with a higher OKS, remove the one with the lower score.",
        panel="Boxes", above=0, at_most=1,
    )  # fmt: skip
    soft_nms: float | None = setting(
        None,
        help="Use soft suppression with this OKS threshold instead of --nms.",
        panel="Boxes", above=0, at_most=1,
    )  # fmt: skip
    flip_test: bool = setting(
        False,
        help="Average the heatmaps of each crop and its mirror image: twice the time, slightly more accurate.",
        panel="Prediction",
    )  # fmt: skip
    decoder: str = setting(
        "dark",
        help='How keypoints are read from heatmaps: "dark", "shifted", "argmax" or "soft-argmax".',
        panel="Prediction",
    )  # fmt: skip
    batch_size: int = setting(
        64, help="People in each batch that goes through the network.", panel="Prediction", at_least=1
    )
    results: Path | None = setting(
        None,
        help="Also write the predictions: COCO's results (.json) or MPII's pred.mat. With --boxes also for a COCO file "
        "that only lists images, such as test-dev's.",
        panel="Output", metavar="FILE",
    )  # fmt: skip
    plot: Path | None = setting(
        None,
        help="Plot the reliability of a calibrated model's scores to this file.",
        panel="Output", metavar="FILE.png",
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_settings(self)
        if self.boxes is None and self.box_threshold != 0:
            raise ValueError("box_threshold needs boxes: labeled boxes have no scores")
        if self.soft_nms is not None and self.nms != NMS:
            raise ValueError(f"give nms or soft_nms, not both; got {self.nms} and {self.soft_nms}")
        if self.boxes is not None and set(self.metrics or ()) - {"coco"}:
            raise ValueError(
                "boxes of a detector allow only the metric coco: the others compare each person with their own labels; "
                f"got {', '.join(self.metrics or ())}"
            )
        if self.results is not None and self.results.suffix.lower() not in (COCO_SUFFIX, MPII_SUFFIX):
            raise ValueError(
                f"results must be a {COCO_SUFFIX} file, or a {MPII_SUFFIX} file for MPII's data; got {self.results}"
            )
        self._refuse_unused("thresholds", self.thresholds, ("pck",))
        self._refuse_unused("unit", self.unit, ("pck", "epe"))
        self._refuse_unused("plot", self.plot, ("ece",))

    def _refuse_unused(self, name: str, value: object, needed: tuple[Metric, ...]) -> None:
        """Raise ValueError for a setting of metrics that aren't reported."""
        if not value:
            return
        if self.boxes is not None:
            raise ValueError(f"{name} has no effect with boxes of a detector, which allow only the metric coco")
        if not any(map(self.may, needed)):
            raise ValueError(f"{name} needs the metric {' or '.join(needed)}; got {', '.join(self.metrics or ())}")

    def wants(self, metric: Metric) -> bool:
        """Whether the metric was asked for, by name or by a plot of it; if not and ``metrics`` is None, it is measured
        where it applies."""
        return (self.metrics is not None and metric in self.metrics) or (metric == "ece" and self.plot is not None)

    def may(self, metric: Metric) -> bool:
        """Whether the metric is measured where it applies."""
        return self.metrics is None or metric in self.metrics

    def pck_thresholds(self, unit: UnitName) -> tuple[float, ...]:
        """The given thresholds, or the usual one of the unit, in increasing order without repeats."""
        usual = PCKH_THRESHOLD if unit == "head" else PCK_THRESHOLD
        return tuple(sorted(set(self.thresholds or (usual,))))


@dataclass(frozen=True, kw_only=True)
class SheetSettings:
    """Which people an evaluation draws, and where to. Raises ValueError that names the field."""

    sheet: Path | None = setting(
        None,
        help="Draw people to this file, labels on the left and predictions on the right.",
        panel="Output", metavar="FILE.png",
    )  # fmt: skip
    sheet_order: SheetOrder | None = setting(
        None,
        help="Draw the first people of the file (default), or those with the largest mean error.",
        panel="Output",
    )  # fmt: skip
    sheet_count: int | None = setting(
        None, help=f"Number of people to draw. Default: {SHEET_COUNT}.", panel="Output", at_least=1
    )
    sheet_threshold: float | None = setting(
        None, help="Don't draw keypoints with a lower score. Default: 0.", panel="Output"
    )

    def __post_init__(self) -> None:
        check_settings(self)
        for name in ("sheet_order", "sheet_count", "sheet_threshold"):
            if self.sheet is None and getattr(self, name) is not None:
                raise ValueError(f"{name} needs sheet, the file to draw to")
