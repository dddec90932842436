"""Calibration: maps from the peak of a heatmap to the probability that its keypoint is correct."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from tokenpose.files import is_number

FORMAT_VERSION = 1  # of the JSON; raised when a reader of today could misread a file of tomorrow
MOST_CHARACTERS, MOST_MAPS, LARGEST_SIDE, LARGEST_NUMBER = 1_000_000, 64, 100_000, 1e6

Curve = tuple[float, float]
"""Slope and offset: the probability is 1 / (1 + exp(-(slope x peak + offset))). The slope is 0 or more."""
Scores = Float[np.ndarray, "people keypoints"]


def apply_curves(peaks: Scores, curves: Sequence[Curve]) -> Scores:
    """Probabilities, from 0 to 1, of peaks of heatmaps; a curve for each keypoint."""
    slopes, offsets = np.array(curves, dtype=np.float64).reshape(-1, 2).T
    logits = (peaks.astype(np.float64) * slopes + offsets).clip(-60, 60)  # beyond, float32 has only 0 and 1
    return (1 / (1 + np.exp(-logits))).astype(peaks.dtype)


@dataclass(frozen=True, kw_only=True)
class ScoreMap:
    """How peaks become probabilities for one image size, with or without the flip test. Raises ValueError when made
    with values that make no sense."""

    image_size: tuple[int, int]
    """(height, width) of the crops."""
    flip_test: bool
    """Whether the heatmaps were averaged with those of the mirrored crop, which lowers their peaks."""
    curves: Mapping[str, Curve]
    """By keypoint."""
    data: str = ""
    """The annotation file that the curves were fitted on."""

    def __post_init__(self) -> None:
        size = self.image_size
        is_size = isinstance(size, tuple) and len(size) == 2 and all(type(side) is int for side in size)
        if not is_size or not all(0 < side <= LARGEST_SIDE for side in size):
            raise ValueError(f"image_size must be (height, width) in whole pixels; got {size!r:.80}")
        if type(self.flip_test) is not bool:
            raise ValueError(f"flip_test must be true or false; got {self.flip_test!r:.80}")
        if not isinstance(self.data, str):
            raise ValueError(f"data must be the name of a file; got {self.data!r:.80}")
        if not isinstance(self.curves, Mapping):
            raise ValueError(f"curves must be a curve for each keypoint; got {self.curves!r:.80}")
        for name, curve in self.curves.items():
            _check_curve(name, curve)

    def apply(self, peaks: Scores, keypoints: Sequence[str]) -> Scores:
        """The probabilities that keypoints with these peaks are correct."""
        return apply_curves(peaks, [self.curves[name] for name in keypoints])


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What makes the scores of a model probabilities: a map for each image size that was fitted, with and without the
    flip test. Scores of other sizes stay peaks: their maps differ too much. Raises ValueError for two maps of one kind.
    """

    maps: tuple[ScoreMap, ...]

    def __post_init__(self) -> None:
        kinds = [(entry.image_size, entry.flip_test) for entry in self.maps]
        if not 0 < len(kinds) <= MOST_MAPS or len(set(kinds)) < len(kinds):
            raise ValueError(f"a calibration has 1 to {MOST_MAPS} maps, each of another kind; got {kinds!r:.120}")

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
        """The keypoints without a curve in one of the maps."""
        return [name for name in keypoints if not all(name in entry.curves for entry in self.maps)]

    def add(self, maps: Sequence[ScoreMap]) -> "Calibration":
        """The same with new maps, which replace those of their kind."""
        new = {(entry.image_size, entry.flip_test): entry for entry in (*self.maps, *maps)}
        return Calibration(maps=tuple(new[kind] for kind in sorted(new)))

    def rename(self, sources: Mapping[str, str]) -> "Calibration":
        """The curves of other keypoints: ``sources`` maps each new name to the name that has its curve here."""
        return Calibration(
            maps=tuple(
                ScoreMap(**{**vars(entry), "curves": {new: entry.curves[old] for new, old in sources.items()}})
                for entry in self.maps
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
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"a calibration must be JSON; got {text[:80]!r}: {error}") from error
        if not isinstance(values, dict) or not isinstance(values.get("maps"), list):
            raise ValueError(f"a calibration must be a JSON object with a list of maps; got {text[:80]!r}")
        version = values.get("format_version")
        if version != FORMAT_VERSION:
            raise ValueError(
                f"this calibration has format_version {version!r:.80}; this tokenpose reads {FORMAT_VERSION}: "
                "upgrade tokenpose"
            )
        found = cls(maps=tuple(map(_read_map, values["maps"])))
        for entry in found.maps:
            if entry.curves.keys() != set(keypoints):
                raise ValueError(
                    f"a calibration must have a curve for each keypoint of the model and no others; "
                    f"it has {', '.join(entry.curves)[:200]}"
                )
        return found


def _read_map(values: Any) -> ScoreMap:
    names = {"image_size", "flip_test", "curves", "data"}
    if not isinstance(values, dict) or values.keys() != names:
        raise ValueError(f"a map of a calibration must have {', '.join(sorted(names))}; got {values!r:.120}")
    size, curves = values["image_size"], values["curves"]
    curves = {name: _tuple(curve) for name, curve in curves.items()} if isinstance(curves, dict) else curves
    return ScoreMap(**{**values, "image_size": _tuple(size), "curves": curves})


def _tuple(value: Any) -> Any:
    """JSON's lists as tuples; other values as they are, for the check to refuse."""
    return tuple(value) if isinstance(value, list) else value


def _check_curve(name: str, curve: Any) -> None:
    is_pair = isinstance(curve, tuple) and len(curve) == 2 and all(map(is_number, curve))
    if not is_pair or curve[0] < 0 or max(map(math.fabs, curve)) > LARGEST_NUMBER:
        raise ValueError(
            f"the curve of keypoint {name!r:.80} must be a slope of 0 or more and an offset, both up to "
            f"{LARGEST_NUMBER:g}; got {curve!r:.80}"
        )
