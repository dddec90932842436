"""A COCO file's records as columns of numbers, read one by one, in little memory; what doesn't fit is noted."""

import math
from array import array
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from tokenpose.data.faults import is_id, whole_id
from tokenpose.data.json_records import JsonRecords
from tokenpose.data.other_formats import explain_object
from tokenpose.files import is_number

NOT_STATED = 2
"""In the column of crowds: the record has no ``iscrowd``."""

WHOLE_RECORD = ""
"""In place of a field, where a record is not a JSON object."""

Odd = dict[tuple[int, str], str]
"""What a record has in place of a field's values, as text, by the record's position and the field."""

FARTHEST = 1e7
"""Pixels; a number beyond is no position in an image."""

_NUMBERS = {int, float}  # not bool


class ImageRecords:
    """The columns of a file's images."""

    def __init__(self) -> None:
        self.ids: list[Any] = []
        self.files: list[str | None] = []
        self.sizes = array("d")
        """Width and height, NaN where the record has no size."""
        self.positions: dict[Any, int] = {}
        """Where an id stands first."""
        self.odd: Odd = {}

    def add(self, record: Any) -> None:
        """Append an image."""
        if isinstance(record, dict):
            self._add(record.get("id"), record.get("file_name"), (record.get("width"), record.get("height")))
            return
        self.odd[len(self.ids), WHOLE_RECORD] = f"{record!r:.60}"
        self.ids.append(None)
        self.files.append(None)
        self.sizes.extend((math.nan, math.nan))

    def _add(self, identity: Any, file: Any, size: tuple[Any, Any]) -> None:
        row, identity = len(self.ids), whole_id(identity)
        if not is_id(identity) or self.positions.setdefault(identity, row) != row:
            self.odd[row, "id"] = f"{identity!r:.60}"
        has_name = isinstance(file, str) and file != ""
        if not has_name:
            self.odd[row, "file_name"] = f"{file!r:.60}"
        if not all(is_number(side) and side >= 1 for side in size):
            self.odd[row, "width"], size = f"{size[0]!r:.30} and {size[1]!r:.30}", (math.nan, math.nan)
        self.ids.append(identity)
        self.files.append(file if has_name else None)
        self.sizes.extend(size)


class AnnotationRecords:
    """The columns of a file's annotations, of all categories: the list of categories may come last in the file."""

    def __init__(self) -> None:
        self.ids: list[Any] = []
        self.image_ids: list[Any] = []
        self.category_ids: list[Any] = []
        self.crowds = bytearray()
        """0, 1 or NOT_STATED."""
        self.boxes, self.areas, self.num_keypoints = array("d"), array("d"), array("d")
        """NaN where the record has none, or something else."""
        self.keypoints, self.keypoint_counts = array("d"), array("q")
        """The numbers of all records, NaN for anything else in their lists; and how many each record has."""
        self.scores, self.score_counts = array("d"), array("q")
        """The same of the keypoints' scores."""
        self.odd: Odd = {}
        self.odd_areas: dict[int, str] = {}
        """Numbers that are no areas, as text, by the record's position: NaN, infinite, negative."""
        self.truth_values: list[int] = []
        """The positions of records with true or false as a v."""
        self.empty_boxes: dict[int, str] = {}
        """What stands in place of a box, as JSON, by the record's position: null, []; not where there is no bbox."""

    def add(self, record: Any) -> None:
        """Append an annotation."""
        row = len(self.ids)
        if not isinstance(record, dict):
            self.odd[row, WHOLE_RECORD] = f"{record!r:.60}"
            record = {}
        read = record.get
        self.ids.append(whole_id(read("id")))
        self.image_ids.append(read("image_id"))
        self.category_ids.append(read("category_id"))
        crowd = read("iscrowd")
        if crowd not in (None, 0, 1):
            self.odd[row, "iscrowd"] = f"{crowd!r:.60}"
        self.crowds.append(NOT_STATED if crowd is None else bool(crowd))
        self._add_keypoints(row, read("keypoints"))
        self._add_scores(row, read("scores"))
        box = read("bbox")
        if not box and "bbox" in record:
            self.empty_boxes[row] = "null" if box is None else f"{box!r}"
        self._add_box(row, box)
        self.areas.append(self._read_area(row, read("area")))
        self.num_keypoints.append(self._read_count(row, read("num_keypoints")))

    def _add_keypoints(self, row: int, given: Any) -> None:
        values = _position_array(given)
        if values is None and isinstance(given, list):
            given = _flatten(given)
            if any(isinstance(v, bool) for v in given[2::3]):
                self.truth_values.append(row)
            given = _read_triples(given)
            values = _position_array(given)
        if values is None and isinstance(given, list):
            bad = [value for value in given if not _is_position(value)]
            self.odd[row, "keypoints"] = f"{bad[0]!r:.40}" + (f" and {len(bad) - 1} more" if len(bad) > 1 else "")
            values = array("d", [value if _is_position(value) else math.nan for value in given])
        elif values is None:
            self.odd[row, "keypoints"], values = f"{given!r:.60}", array("d", [math.nan])
        self.keypoint_counts.append(len(values))
        self.keypoints.extend(values)

    def _add_scores(self, row: int, given: Any) -> None:
        values = given if isinstance(given, list) else [] if given is None else [given]
        bad = [value for value in values if not _is_score(value)]
        if bad or not isinstance(given, list | None):
            self.odd[row, "scores"] = f"{bad[0] if isinstance(given, list) else given!r:.60}"
            values = [value if _is_score(value) else math.nan for value in values]
        self.score_counts.append(len(values))
        self.scores.extend(values)

    def _add_box(self, row: int, given: Any) -> None:
        values = _position_array(given)
        if values is None or len(values) != 4:
            if given:
                self.odd[row, "bbox"] = f"{given!r:.60}"
            values = _NO_BOX
        self.boxes.extend(values)

    def _read_area(self, row: int, value: Any) -> float:
        if value is None:
            return math.nan
        if is_number(value) and value >= 0:
            return float(value)
        if type(value) in _NUMBERS:
            self.odd_areas[row] = f"{value!r:.60}"
        else:
            self.odd[row, "area"] = f"{value!r:.60}"
        return math.nan

    def _read_count(self, row: int, value: Any) -> float:
        if value is None:
            return math.nan
        if not is_number(value) or value < 0 or value != int(value):
            self.odd[row, "num_keypoints"] = f"{value!r:.60}"
            return math.nan
        return float(value)

    def count_numbers(self) -> dict[Any, Counter[int]]:
        """For each category's id, how many annotations have how many numbers as their keypoints; those with none left
        out."""
        counted: dict[Any, Counter[int]] = {}
        for category, count in zip(self.category_ids, self.keypoint_counts, strict=True):
            if count and is_id(category):
                counted.setdefault(category, Counter())[count] += 1
        return counted

    def unreadable(self, field: str) -> list[int]:
        """The positions of the records that have something in the field that can't be used."""
        return [row for row, name in self.odd if name == field]

    def find_images(self, positions: Mapping[Any, int]) -> Int[np.ndarray, " annotations"]:
        """Where the annotations' images stand; -1 for one that isn't listed."""
        found = (positions.get(image, -1) if is_id(image) else -1 for image in self.image_ids)
        return np.fromiter(found, dtype=np.int64, count=len(self.image_ids))

    def keypoints_of(
        self, of_category: Bool[np.ndarray, " annotations"], count: int
    ) -> Float[np.ndarray, "rows {count} 3"]:
        """The triples x, y, v of a category's annotations; zeros of any length are none, other lengths become NaN."""
        counts, values = np.array(self.keypoint_counts, dtype=np.int64), np.frombuffer(self.keypoints)
        whole = of_category & (counts == 3 * count)
        flat = values if whole.all() else values[np.repeat(whole, counts)]
        if whole[of_category].all():
            return flat.reshape(-1, count, 3)
        triples = np.zeros((len(counts), count, 3))
        triples[whole] = flat.reshape(-1, count, 3)
        starts = np.cumsum(counts) - counts
        for row in np.flatnonzero(of_category & ~whole & (counts > 0)).tolist():
            if values[starts[row] : starts[row] + counts[row]].any():
                triples[row] = np.nan
        return triples[of_category]

    def scores_of(
        self, of_category: Bool[np.ndarray, " annotations"], count: int
    ) -> Float[np.ndarray, "rows {count}"] | None:
        """The scores of a category's keypoints: 1 where a record has none, NaN where it has something else. None where
        no record has any."""
        counts = np.array(self.score_counts, dtype=np.int64)
        if not counts[of_category].any():
            return None
        whole = of_category & (counts == count)
        scores = np.ones((len(counts), count))
        scores[whole] = np.frombuffer(self.scores)[np.repeat(whole, counts)].reshape(-1, count)
        scores[of_category & ~whole & (counts > 0)] = np.nan
        return scores[of_category]


_NO_BOX = array("d", [math.nan] * 4)


def _is_position(value: Any) -> bool:
    return is_number(value) and abs(value) < FARTHEST


def _is_score(value: Any) -> bool:
    return is_number(value) and 0 <= value <= 1


def _flatten(given: list[Any]) -> list[Any]:
    """[[x, y, v], ...] -> [x, y, v, ...]; any other list stays as it is."""
    nested = all(isinstance(entry, list) and len(entry) == 3 for entry in given)
    return [value for entry in given for value in entry] if nested else given


def _read_triples(given: list[Any]) -> list[Any]:
    """The keypoints with v as a number, and at (0, 0) where they aren't labeled and have no position."""
    if len(given) % 3:
        return given
    triples = zip(given[::3], given[1::3], given[2::3], strict=True)
    return [value for x, y, v in triples for value in _read_triple(x, y, int(v) if isinstance(v, bool) else v)]


def _read_triple(x: Any, y: Any, v: Any) -> tuple[Any, Any, Any]:
    is_nowhere = _is_none(x) or _is_none(y)
    if is_nowhere and (v == 0 or (_is_none(v) and _is_none(x) and _is_none(y))):
        return 0, 0, 0
    return x, y, v


def _is_none(value: Any) -> bool:
    """Whether it stands for a position that isn't known: null, or a number that is no position."""
    return value is None or (type(value) in _NUMBERS and not _is_position(value))


def _position_array(values: Any) -> "array[float] | None":
    """A list of positions as an array, an empty one for no value; None for anything else."""
    if not values:
        return array("d")
    if not isinstance(values, list) or not {*map(type, values)} <= _NUMBERS:
        return None
    try:
        near = sum(map(abs, values)) < FARTHEST  # faster than to look at each, and nearly always enough
    except OverflowError:
        return None
    return array("d", values) if near or all(map(_is_position, values)) else None


def read_sections(path: Path, *, annotated: bool = True) -> tuple[ImageRecords, AnnotationRecords, list[Any]]:
    """A file's images, annotations and categories; unless it must be ``annotated``, a file may lack annotations.

    Raises FileNotFoundError, and ValueError for a file that is not JSON or lacks one of the three lists.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no annotation file {path}")
    images, annotations, categories = ImageRecords(), AnnotationRecords(), list[Any]()
    takers = {"images": images.add, "annotations": annotations.add, "categories": categories.append}
    missing = dict.fromkeys(takers)
    with JsonRecords(path, without="segmentation") as content:
        for name, records in content.sections(takers) if content.kind == "object" else ():
            del missing[name]
            take = takers[name]
            for record in records:
                take(record)
    if not annotated:
        missing.pop("annotations", None)
    if missing:
        other = explain_object(content.members, path)
        raise ValueError(f"{path} is not a COCO keypoint file: it has no {', '.join(missing)}{other}")
    return images, annotations, categories
