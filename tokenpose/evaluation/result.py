"""What an evaluation found: prints as a table, and becomes JSON and CSV."""

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from tokenpose.evaluation.coco import CocoResult
from tokenpose.evaluation.pck import EpeResult, Errors, PckhResult, PckResult
from tokenpose.evaluation.reliability import Reliability

POOLED = "all"
"""The row of the figures over all keypoints."""
_NAMES_IN_JSON = {"mean_at_0_1": "mean_at_0.1", "mean_at_0_11": "mean_at_0.11"}


@dataclass(frozen=True, kw_only=True)
class Column:
    """A figure of each keypoint, and of all pooled."""

    title: str
    values: Mapping[str, int | float]
    decimals: int


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The figures of a model on labeled people; prints as a table. Figures that were not measured are None or empty.

    PCK, PCKh and AUC are percentages, AP and AR from 0 to 1, errors in pixels and in units.
    """

    data: str
    """The annotation file."""
    people: int
    """Labeled people, crowds left out."""
    images: int
    """Those with a box."""
    boxes: str
    """Which boxes people were cropped by: "labeled", or the name of a detector's file."""
    box_count: int
    flip_test: bool
    decoder: str
    coco: CocoResult | None
    pck: Mapping[float, PckResult]
    """By threshold."""
    pckh: PckhResult | None
    epe: EpeResult | None
    reliability: Reliability | None = None
    """How far the scores of a calibrated model are from the shares of correct keypoints: its ECE, 0 to 1."""
    notes: tuple[str, ...]
    """What is left out or completed, and why."""
    person_errors: Float[np.ndarray, " people"] | None = field(default=None, repr=False, compare=False)
    """The mean error of each person in longer sides of the labeled box, in the data's order; NaN where nothing can be
    compared. None with a detector's boxes."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON: None for a figure that isn't known."""
        plain = asdict(self) | {"pck": [asdict(result) for result in self.pck.values()]}
        del plain["person_errors"]
        if plain["pckh"] is not None:
            plain["pckh"] = {_NAMES_IN_JSON.get(name, name): value for name, value in plain["pckh"].items()}
        return _without_nan(plain)

    def to_json(self) -> str:
        """`to_dict` as text."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n"

    def to_csv(self) -> str:
        """A row for each keypoint, and one for all, which has AP, AR, ECE and PCKh's groups too.

        A figure that isn't known stays empty.
        """
        columns = [*self._columns(), *self._pooled_columns(), *self._group_columns()]
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["keypoint", *(column.title for column in columns)])
        for name in self._rows():
            figures = (column.values.get(name, float("nan")) for column in columns)
            table.writerow([name, *("" if figure != figure else figure for figure in figures)])
        return text.getvalue()

    def __str__(self) -> str:
        columns = self._columns()
        parts = [self._head(), *self._coco_lines()]
        if columns:
            parts.append("\n".join([*_draw(self._rows(), columns), "", *self._units()]))
        parts += self._group_lines()
        if self.reliability is not None:
            parts.append(_describe_reliability(self.reliability))
        if self.notes:
            parts.append("\n".join(f"note: {note}" for note in self.notes))
        return "\n\n".join(parts)

    def _head(self) -> str:
        looked_at = "labeled boxes" if self.boxes == "labeled" else f"{self.box_count} boxes of {self.boxes}"
        flip = ", flip test" if self.flip_test else ""
        people = f"{self.people} people, " if self.people else ""
        return f"{self.data}: {people}{looked_at} in {self.images} images, decoder {self.decoder}{flip}"

    def _coco_lines(self) -> list[str]:
        if self.coco is None:
            return []
        figures = self.coco.figures
        title = f"COCO: OKS with {self.coco.describe_sigmas()}; {self.coco.suppression}; {self.coco.people} people"
        names = "  ".join(f"{name:>5}" for name in figures)
        return [f"{title}\n{names}\n" + "  ".join(f"{_write(figure, 3):>5}" for figure in figures.values())]

    def _group_lines(self) -> list[str]:
        """PCKh as published tables have it: a line of groups."""
        if self.pckh is None or not self.pckh.groups:
            return []
        figures = {**self.pckh.groups, "Mean": self.pckh.at_half.mean, "Mean@0.1": self.pckh.mean_at_0_1}
        names = "  ".join(f"{name:>6}" for name in figures)
        line = "  ".join(f"{_write(figure, 2):>{max(6, len(name))}}" for name, figure in figures.items())
        table = f"PCKh@{self.pckh.at_half.threshold:g} by groups\n{names}\n{line}"
        if self.pckh.keypoints_left_out:
            table += (
                f"\nMean@0.1 in published tables is read at 0.11, which gives {_write(self.pckh.mean_at_0_11, 2)} here"
            )
        return [table]

    def _units(self) -> list[str]:
        """What the columns are relative to, and how many people have no such length."""
        lines = [
            f"{kind} by {result.unit}: {result.people} people, {result.keypoint_count} keypoints"
            + (f", {result.people_left_out} people without a {result.part} left out" if result.people_left_out else "")
            for kind, result in (
                *((("PCK", next(iter(self.pck.values()))),) if self.pck else ()),
                *((("PCKh", self.pckh.at_half),) if self.pckh else ()),
            )
        ]
        if self.pckh is not None and self.pckh.keypoints_left_out:
            lines[-1] += f", without {' and '.join(self.pckh.keypoints_left_out)}, as published"
        return lines

    def _rows(self) -> list[str]:
        keypoints = next((column.values for column in self._columns()), {POOLED: 0.0})
        return [name for name in keypoints if name != POOLED] + [POOLED]

    def _columns(self) -> list[Column]:
        columns = []
        if self.epe is not None:
            columns.append(Column(title="labeled", values=_each(self.epe, "keypoint_count"), decimals=0))
        for threshold, result in self.pck.items():
            values = {**result.per_keypoint, POOLED: result.mean}
            columns.append(Column(title=f"PCK@{threshold:g}", values=values, decimals=2))
        if self.pckh is not None:
            half = self.pckh.at_half
            values = {**half.per_keypoint, POOLED: half.mean}
            columns.append(Column(title=f"PCKh@{half.threshold:g}", values=values, decimals=2))
            values = {**self.pckh.auc_per_keypoint, POOLED: self.pckh.auc}
            columns.append(Column(title="PCKh AUC", values=values, decimals=2))
        if self.epe is not None:
            unit = self.epe.unit
            columns.append(Column(title="EPE px", values=_each(self.epe, "mean"), decimals=2))
            columns.append(Column(title="median px", values=_each(self.epe, "median"), decimals=2))
            columns.append(Column(title=f"EPE/{unit}", values=_each(self.epe, "unit_mean"), decimals=3))
            columns.append(Column(title=f"median/{unit}", values=_each(self.epe, "unit_median"), decimals=3))
        return columns

    def _pooled_columns(self) -> list[Column]:
        figures = {} if self.coco is None else self.coco.figures
        columns = [Column(title=name, values={POOLED: figure}, decimals=3) for name, figure in figures.items()]
        if self.reliability is not None:
            columns.append(Column(title="ECE", values={POOLED: self.reliability.ece}, decimals=4))
        return columns

    def _group_columns(self) -> list[Column]:
        if self.pckh is None:
            return []
        figures = {
            **{f"PCKh {group}": figure for group, figure in self.pckh.groups.items()},
            "PCKh@0.1": self.pckh.mean_at_0_1,
            "PCKh@0.11": self.pckh.mean_at_0_11,
        }
        return [Column(title=name, values={POOLED: figure}, decimals=2) for name, figure in figures.items()]


def _describe_reliability(reliability: Reliability) -> str:
    return (
        f"ECE {reliability.ece:.4f}: scores are probabilities to lie within 0.2 torsos (without a torso: keypoint "
        f"similarity above 0.5); {reliability.share_correct:.1%} of {reliability.keypoint_count} keypoints do"
    )


def _each(epe: EpeResult, figure: str) -> dict[str, int | float]:
    errors: dict[str, Errors] = {**epe.per_keypoint, POOLED: epe.pooled}
    return {name: getattr(entry, figure) for name, entry in errors.items()}


def _draw(rows: list[str], columns: list[Column]) -> list[str]:
    first = max(map(len, ("keypoint", *rows)))
    lines = [f"{'keypoint':<{first}}  " + "  ".join(f"{column.title:>8}" for column in columns)]
    for name in rows:
        cells = (f"{_write(column.values[name], column.decimals):>{max(8, len(column.title))}}" for column in columns)
        lines.append(f"{name:<{first}}  " + "  ".join(cells))
    return lines


def _write(figure: int | float, decimals: int) -> str:
    return "-" if figure != figure else f"{figure:.{decimals}f}"


def _without_nan(value: Any) -> Any:
    """The value with None in place of NaN, which JSON doesn't have."""
    if isinstance(value, Mapping):
        return {name: _without_nan(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(entry) for entry in value]
    return None if isinstance(value, float) and value != value else value
