"""Calibration: maps from the peak of a heatmap to the probability that its keypoint is correct."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from tokenpose.files import foreign, is_number, listed, shown

FORMAT_VERSION = 1  # of the JSON; raised when a reader of today could misread a file of tomorrow
MOST_CHARACTERS, MOST_MAPS, MOST_KNOTS, LARGEST_SIDE, LARGEST_NUMBER = 1_000_000, 64, 64, 100_000, 1e6
SMALLEST_GAP = 1e-7  # between the peaks of two knots; a slope over less could overflow

Pair = tuple[float, float]
Scores = Float[np.ndarray, "people keypoints"]


class Curves(NamedTuple):
    """How peaks become probabilities: log odds of all keypoints, and how each keypoint's differ from them."""

    knots: tuple[Pair, ...]
    """(peak, log odds) of all keypoints pooled, by rising peaks; linear between two knots, and beyond the ends with
    the slope from the first knot to the last."""
    lines: tuple[Pair, ...]
    """For each keypoint (slope, offset): its log odds are slope x those of all + offset. No slope is below 0."""


def read_log_odds(peaks: Float[np.ndarray, "..."], knots: Sequence[Pair]) -> Float[np.ndarray, "..."]:
    """The log odds of all keypoints at these peaks."""
    places, log_odds = np.array(knots, dtype=np.float64).T
    slope = (log_odds[-1] - log_odds[0]) / (places[-1] - places[0]) if len(knots) > 1 else 0.0
    inside = peaks.astype(np.float64).clip(places[0], places[-1])
    return np.interp(inside, places, log_odds) + slope * (peaks - inside)


def apply_curves(peaks: Scores, curves: Curves) -> Scores:
    """The probabilities, from 0 to 1, that keypoints with these peaks are correct."""
    slopes, offsets = np.array(curves.lines, dtype=np.float64).reshape(-1, 2).T
    log_odds = (read_log_odds(peaks, curves.knots) * slopes + offsets).clip(-60, 60)  # float32 rounds more to 0 or 1
    return (1 / (1 + np.exp(-log_odds))).astype(peaks.dtype)


@dataclass(frozen=True, kw_only=True)
class ScoreMap:
    """How peaks become probabilities for one image size, with or without the flip test. Raises ValueError when made
    with values that make no sense."""

    image_size: tuple[int, int]
    """(height, width) of the crops."""
    flip_test: bool
    """Whether the heatmaps were averaged with those of the mirrored crop, which lowers their peaks."""
    knots: tuple[Pair, ...]
    """As in `Curves`."""
    lines: Mapping[str, Pair]
    """Slope and offset by keypoint."""
    data: str = ""
    """The annotation file that they were fitted on."""

    def __post_init__(self) -> None:
        size = self.image_size
        is_size = isinstance(size, tuple) and len(size) == 2 and all(type(side) is int for side in size)
        if not is_size or not all(0 < side <= LARGEST_SIDE for side in size):
            raise ValueError(f"image_size must be (height, width) in whole pixels; got {shown(size)}")
        if type(self.flip_test) is not bool:
            raise ValueError(f"flip_test must be true or false; got {shown(self.flip_test)}")
        if not isinstance(self.data, str):
            raise ValueError(f"data must be the name of a file; got {shown(self.data)}")
        _check_knots(self.knots)
        if not isinstance(self.lines, Mapping):
            raise ValueError(f"lines must be slope and offset for each keypoint; got {shown(self.lines)}")
        for name, line in self.lines.items():
            if not _is_pair(line) or line[0] < 0:
                raise ValueError(
                    f"keypoint {shown(name)} must have a slope of 0 or more and an offset, both up to "
                    f"{LARGEST_NUMBER:g}; got {shown(line)}"
                )

    def apply(self, peaks: Scores, keypoints: Sequence[str]) -> Scores:
        """The probabilities that keypoints with these peaks are correct."""
        return apply_curves(peaks, Curves(self.knots, tuple(self.lines[name] for name in keypoints)))


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What makes the scores of a model probabilities: a map for each image size that was fitted, with and without the
    flip test. Scores of other sizes stay peaks: their maps differ too much. Raises ValueError for two maps of one kind.
    """

    maps: tuple[ScoreMap, ...]

    def __post_init__(self) -> None:
        kinds = [(entry.image_size, entry.flip_test) for entry in self.maps]
        if not 0 < len(kinds) <= MOST_MAPS or len(set(kinds)) < len(kinds):
            raise ValueError(f"a calibration has 1 to {MOST_MAPS} maps, each of another kind; got {shown(kinds)}")

    def find(self, image_size: tuple[int, int], flip_test: bool) -> ScoreMap | None:
        """The map that was fitted for this way of prediction, if there is one."""
        return next((one for one in self.maps if (one.image_size, one.flip_test) == (image_size, flip_test)), None)

    def describe(self) -> str:
        """The fitted sizes: "256x192, 256x192 with flip test"."""
        return ", ".join(
            f"{entry.image_size[0]}x{entry.image_size[1]}{' with flip test' if entry.flip_test else ''}"
            for entry in self.maps
        )

    def missing(self, keypoints: Sequence[str]) -> list[str]:
        """The keypoints that one of the maps lacks."""
        return [name for name in keypoints if not all(name in entry.lines for entry in self.maps)]

    def add(self, maps: Sequence[ScoreMap]) -> "Calibration":
        """The same with new maps, which replace those of their kind."""
        new = {(entry.image_size, entry.flip_test): entry for entry in (*self.maps, *maps)}
        return Calibration(maps=tuple(new[kind] for kind in sorted(new)))

    def rename(self, sources: Mapping[str, str]) -> "Calibration":
        """The same for other keypoints: ``sources`` maps each new name to the one that it has here."""
        return Calibration(
            maps=tuple(
                replace(entry, lines={new: entry.lines[old] for new, old in sources.items()}) for entry in self.maps
            )
        )

    def to_json(self) -> str:
        """One line of JSON that `from_json` reads back."""
        return json.dumps({"format_version": FORMAT_VERSION, **asdict(self)})

    @classmethod
    def from_json(cls, text: str, keypoints: Sequence[str]) -> "Calibration":
        """The inverse of `to_json`. Raises ValueError for anything but a calibration of just these keypoints."""
        if len(text) > MOST_CHARACTERS:
            raise ValueError(f"a calibration has at most {MOST_CHARACTERS} characters; got {len(text)}")
        with foreign(f"a calibration must be JSON; got {shown(text)}"):
            values = json.loads(text)
        if not isinstance(values, dict) or not isinstance(values.get("maps"), list):
            raise ValueError(f"a calibration must be a JSON object with a list of maps; got {shown(text)}")
        version = values.get("format_version")
        if version != FORMAT_VERSION:
            raise ValueError(
                f"this calibration has format_version {shown(version)}; this tokenpose reads {FORMAT_VERSION}: "
                "upgrade tokenpose"
            )
        found = cls(maps=tuple(map(_read_map, values["maps"])))
        for entry in found.maps:
            if entry.lines.keys() != set(keypoints):
                raise ValueError(
                    f"a calibration must have the keypoints of the model and no others; it has "
                    f"{listed(entry.lines, most=200)}"
                )
        return found


def _read_map(values: Any) -> ScoreMap:
    names = {"image_size", "flip_test", "knots", "lines", "data"}
    if not isinstance(values, dict) or values.keys() != names:
        raise ValueError(f"a map of a calibration must have {', '.join(sorted(names))}; got {shown(values)}")
    return ScoreMap(**{name: _tuples(value) for name, value in values.items()})


def _tuples(value: Any) -> Any:
    """JSON's lists as tuples, down to two levels, as deep as a map has them."""
    if isinstance(value, dict):
        return {name: tuple(entry) if isinstance(entry, list) else entry for name, entry in value.items()}
    return (
        tuple(tuple(entry) if isinstance(entry, list) else entry for entry in value)
        if isinstance(value, list)
        else value
    )


def _check_knots(knots: Any) -> None:
    if not isinstance(knots, tuple) or not 0 < len(knots) <= MOST_KNOTS or not all(map(_is_pair, knots)):
        raise ValueError(
            f"knots must be 1 to {MOST_KNOTS} pairs of a peak and log odds, numbers up to {LARGEST_NUMBER:g}; "
            f"got {shown(knots)}"
        )
    for (first, low), (second, high) in pairwise(knots):
        if second - first < SMALLEST_GAP or low > high:
            raise ValueError(
                f"peaks of knots must rise, by {SMALLEST_GAP:g} or more, and log odds must not fall; got {shown(knots)}"
            )


def _is_pair(value: Any) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) == 2
        and all(is_number(number) and abs(number) <= LARGEST_NUMBER for number in value)
    )
