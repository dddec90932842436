"""COCO keypoint files -> samples."""

import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from jaxtyping import Bool, Float, Int

from tokenpose.data.json_records import JsonRecords
from tokenpose.data.samples import Samples
from tokenpose.skeletons import Skeleton

Rows = Int[np.ndarray, " rows"]
Labelled = tuple[Int[np.ndarray, " labelled"], Float[np.ndarray, "labelled keypoints 3"], int]
Boxes = Float[np.ndarray, "rows 4"]
Sizes = Float[np.ndarray, "rows 2"]

NUMBERS = (TypeError, ValueError, OverflowError)
"""What `array` raises for what isn't numbers."""


def read_coco(path: str | Path, category: str | None = None) -> Samples:
    """The labelled people of a COCO keypoint JSON; the skeleton is that of its category (None: the one with keypoints).

    As published: crowds and annotations without a labelled keypoint are left out, boxes are cut to their image, those
    without area are left out, and keypoints outside their image stay. Image ids that are text are replaced by the
    images' positions, from 0. Raises FileNotFoundError, and ValueError that names file and record.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no annotation file {path}")
    images, annotations, categories = _Images(path), _Annotations(path), _Categories(path)
    takers = {"images": images.add, "annotations": annotations.add, "categories": categories.add}
    missing = dict(takers)
    with JsonRecords(path, without="segmentation") as content:
        for name, records in content.sections(takers) if content.kind == "object" else ():
            take = missing.pop(name)
            for record in records:
                take(record)
    if missing:
        raise ValueError(f"{path} is not a COCO keypoint file: it has no {', '.join(missing)}")
    return _gather(images, annotations, categories, category)


def _gather(images: "_Images", annotations: "_Annotations", categories: "_Categories", name: str | None) -> Samples:
    """The people of one category, step by step fewer."""
    category, skeleton = categories.choose(name)
    rows, others = annotations.of_category(category, categories.all_of_them)
    rows, crowds = annotations.without_crowds(rows)
    rows, triples, unlabelled = annotations.labelled(rows, len(skeleton))
    index = annotations.image_positions(rows, images.positions)
    sizes = images.all_sizes()[index]
    boxes, keep = cut_boxes(annotations.all_boxes(rows), sizes)
    rows, triples, index, sizes = rows[keep], triples[keep], index[keep], sizes[keep]
    skipped = {"crowd": crowds, "no labelled keypoint": unlabelled, "box without area": int((~keep).sum())}
    skipped["other category"] = others
    visible = triples[..., 2] > 0
    outside = (triples[..., :2] < 0).any(axis=-1) | (triples[..., :2] >= sizes[:, None]).any(axis=-1)
    ids = whole_numbers(images.ids)
    return Samples(
        skeleton=skeleton,
        files=tuple(images.files),
        image_ids=np.arange(len(images.files)) if ids is None else ids,
        image_index=index,
        boxes=boxes[keep].astype(np.float32),
        keypoints=triples[..., :2],
        visible=visible,
        skipped={reason: count for reason, count in skipped.items() if count},
        annotation_ids=whole_numbers([annotations.ids[row] for row in rows.tolist()]),
        areas=annotations.areas_of(rows),
        origin=str(annotations.path),
        outside=int((visible & outside).sum()),
    )


def cut_boxes(boxes: Boxes, sizes: Sizes) -> tuple[Boxes, Bool[np.ndarray, " rows"]]:
    """Boxes x, y, width, height as published: from first to last pixel, cut to images (width, height); which have area.

    A corner left of or above the image moves in and the size stays.
    """
    corner = np.maximum(boxes[:, :2], 0)
    extent = np.minimum(sizes - 1, corner + np.maximum(boxes[:, 2:] - 1, 0)) - corner
    return np.concatenate((corner, extent), axis=1), (extent >= 1).all(axis=1)


def whole_numbers(ids: Sequence[Any]) -> Int[np.ndarray, " ids"] | None:
    """The ids as an array; None where one of them is missing, or is text."""
    try:
        numbers = np.array([math.trunc(number) for number in ids], dtype=np.int64)
    except NUMBERS:
        return None
    return numbers if numbers.tolist() == list(ids) else None


def number_list(kind: str, values: Any) -> "array[float] | None":
    """A list of numbers as an array; None where it is something else."""
    if not isinstance(values, list):
        return None
    try:
        return array(kind, values)
    except NUMBERS:
        return None


def choose_category(categories: Iterable[Mapping[str, Any]], name: str | None, path: str | Path) -> Mapping[str, Any]:
    """The category of that name, or the only one with keypoints. Raises ValueError that names those with keypoints."""
    having = [entry for entry in categories if entry.get("keypoints")]
    fitting = [entry for entry in having if name in (None, entry.get("name"))]
    if len(fitting) != 1:
        names = ", ".join(str(entry.get("name")) for entry in having) or "none"
        wanted = "exactly one category with keypoints" if name is None else f"one category {name!r} with keypoints"
        several = name is None and len(fitting) > 1
        remedy = "; say which: --category NAME, in Python category=NAME" if several else ""
        raise ValueError(f"{path} must have {wanted}; with keypoints it has: {names}{remedy}")
    _require(fitting[0], ("id",), "category", path)
    return fitting[0]


def name_categories(categories: Iterable[Mapping[str, Any]]) -> str:
    """Their ids, as the file has them, with names: "1 (person), '2' (fly)", ten at most."""
    named = [f"{entry['id']!r:.40} ({entry.get('name')})" for entry in categories if "id" in entry]
    return ", ".join(named[:10]) + (", ..." if len(named) > 10 else "")


def _as_object(record: Any, section: str, position: int, path: Path) -> dict[str, Any]:
    if isinstance(record, dict):
        return record
    raise ValueError(f"{path}: {section}[{position}] must be an object; it is {record!r:.60}")


def _require(record: Mapping[str, Any], keys: tuple[str, ...], kind: str, path: str | Path) -> None:
    missing = [key for key in keys if key not in record]
    if missing:
        named = record.get("id", record.get("file_name", record.get("name")))
        raise ValueError(f"{path}: {kind} {named} has no {', '.join(missing)}")


class _Images:
    """The columns of a file's images."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ids: list[int | float | str] = []
        self.files: list[str] = []
        self.positions: dict[Any, int] = {}
        self._sizes = array("d")

    def add(self, record: Any) -> None:
        image = _as_object(record, "images", len(self.files), self.path)
        _require(image, ("id", "file_name", "width", "height"), "image", self.path)
        identity, file = image["id"], image["file_name"]
        if not isinstance(identity, int | float | str) or not isinstance(file, str):
            raise ValueError(
                f"{self.path}: image {identity!r:.60} needs a number or text as id and text as file_name; "
                f"it has {file!r:.60}"
            )
        size = number_list("d", [image["width"], image["height"]])
        if size is None or not all(0 < side < math.inf for side in size):
            raise ValueError(
                f"{self.path}: image {identity} needs its width and height in pixels; "
                f"it has {image['width']!r:.30} and {image['height']!r:.30}"
            )
        if identity in self.positions:
            other = self.files[self.positions[identity]]
            raise ValueError(f"{self.path}: two images have the id {identity}: {other} and {file}")
        self.positions[identity] = len(self.files)
        self.ids.append(identity)
        self.files.append(file)
        self._sizes.extend(size)

    def all_sizes(self) -> Sizes:
        """(width, height) of each image."""
        return np.array(self._sizes, dtype=np.float64).reshape(-1, 2)


class _Categories:
    """A file's categories, few."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.all_of_them: list[dict[str, Any]] = []

    def add(self, record: Any) -> None:
        self.all_of_them.append(_as_object(record, "categories", len(self.all_of_them), self.path))

    def choose(self, name: str | None) -> tuple[Any, Skeleton]:
        """The id and skeleton of the category of that name, or of the only one with keypoints."""
        chosen = choose_category(self.all_of_them, name, self.path)
        try:
            return chosen["id"], Skeleton.from_coco_category(chosen)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{self.path}: {error}") from error


class _Annotations:
    """The columns of a file's annotations: numbers alone, since there may be very many.

    The categories may come last in the file, so what is wrong with an annotation is kept, and refused once it is known
    that the annotation counts.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ids: list[Any] = []
        self._images: list[Any] = []
        self._categories: list[Any] = []
        self._crowds = bytearray()
        self._boxes, self._areas = array("d"), array("d")
        self._keypoints, self._counts = array("f"), array("q")
        self._odd: dict[tuple[int, str], str] = {}

    def add(self, record: Any) -> None:
        annotation = _as_object(record, "annotations", len(self.ids), self.path)
        read = annotation.get
        self._categories.append(read("category_id"))
        self._images.append(read("image_id"))
        crowd = read("iscrowd")
        if crowd not in (None, 0, 1):
            self._odd[len(self.ids), "iscrowd"] = f"{crowd!r:.60}"
        self._crowds.append(bool(crowd))
        self._add_numbers(read("keypoints") or [], read("bbox") or [], read("area"))
        self.ids.append(read("id"))

    def _add_numbers(self, keypoints: Any, box: Any, area: Any) -> None:
        row, known = len(self.ids), number_list("f", keypoints)
        if known is None:
            self._odd[row, "keypoints"] = f"{keypoints!r:.60}"
        self._counts.append(len(known or ()))
        self._keypoints.extend(known or ())
        known = number_list("d", box)
        if known is None or len(known) != 4:
            self._odd[row, "bbox"], known = f"{box!r:.60}", None
        self._boxes.extend(known or (math.nan,) * 4)
        try:
            self._areas.append(math.nan if area is None else area)
        except NUMBERS:
            self._odd[row, "area"] = f"{area!r:.60}"
            self._areas.append(math.nan)

    def of_category(self, category: Any, categories: Sequence[Mapping[str, Any]]) -> tuple[Rows, int]:
        """The category's annotations, and how many are of the others that the file lists."""
        if None in self._categories:
            self._refuse(self._categories.index(None), "has no category_id")
        is_of_it = np.array([other == category for other in self._categories], dtype=bool)
        listed = [entry["id"] for entry in categories if "id" in entry]
        others = np.flatnonzero(~is_of_it)
        for row in others.tolist():
            if self._categories[row] not in listed:
                unlisted, known = self._categories[row], name_categories(categories)
                self._refuse(row, f"is of category {unlisted!r:.60}, which is not listed; categories: {known}")
        return np.flatnonzero(is_of_it), len(others)

    def without_crowds(self, rows: Rows) -> tuple[Int[np.ndarray, " kept"], int]:
        """Those that are no crowds, and how many crowds there are."""
        self._refuse_odd(rows, "iscrowd", "0 or 1")
        crowd = np.frombuffer(self._crowds, dtype=bool)[rows]
        return rows[~crowd], int(crowd.sum())

    def labelled(self, rows: Rows, count: int) -> Labelled:
        """Those with a labelled keypoint, their triples x, y, v, and how many have none."""
        self._refuse_odd(rows, "keypoints", "a flat list of numbers x, y, v")
        counts = np.array(self._counts, dtype=np.int64)
        starts = np.cumsum(counts) - counts
        for row in rows[counts[rows] != 3 * count].tolist():
            if any(self._keypoints[starts[row] : starts[row] + counts[row]]):
                self._refuse(row, f"has {counts[row]} keypoint numbers; {count} keypoints need {3 * count}")
        whole = rows[counts[rows] == 3 * count]
        values = np.frombuffer(self._keypoints, dtype=np.float32)
        triples = values[starts[whole][:, None] + np.arange(3 * count)].reshape(-1, count, 3)
        infinite = ~np.isfinite(triples).all(axis=(1, 2))
        if infinite.any():
            self._refuse(
                int(whole[infinite][0]), "has keypoint numbers that are not finite: NaN, Infinity or beyond 3.4e38"
            )
        labelled = (triples[..., 2] > 0).any(axis=1)
        return whole[labelled], triples[labelled], len(rows) - int(labelled.sum())

    def image_positions(self, rows: Rows, positions: dict[Any, int]) -> Rows:
        """Where the annotations' images stand."""
        found = []
        for row in rows.tolist():
            image = self._images[row]
            if not isinstance(image, int | float | str) or image not in positions:
                self._refuse(row, f"is of image {image!r:.60}, which is not listed")
            found.append(positions[image])
        return np.array(found, dtype=np.int64)

    def all_boxes(self, rows: Rows) -> Boxes:
        """Their boxes as the file has them."""
        boxes = np.array(self._boxes, dtype=np.float64).reshape(-1, 4)[rows]
        faulty = ~np.isfinite(boxes).all(axis=1)
        if faulty.any():
            row, box = int(rows[faulty][0]), boxes[faulty][0].tolist()
            self._refuse(row, f"needs a bbox of x, y, width, height; it has {self._odd.get((row, 'bbox'), box)}")
        return boxes

    def areas_of(self, rows: Rows) -> Float[np.ndarray, " rows"] | None:
        """Their areas, None where none has one."""
        self._refuse_odd(rows, "area", "a number")
        areas = np.array(self._areas, dtype=np.float32)[rows]
        return areas if len(areas) == 0 or not np.isnan(areas).all() else None

    def _refuse_odd(self, rows: Rows, field: str, wanted: str) -> None:
        odd = {row: found for (row, name), found in self._odd.items() if name == field}
        for row in rows[np.isin(rows, list(odd))][:1].tolist():
            self._refuse(row, f"must have as {field} {wanted}; it has {odd[row]}")

    def _refuse(self, row: int, reason: str) -> NoReturn:
        name = f"annotations[{row}]" if self.ids[row] is None else f"annotation {self.ids[row]}"
        raise ValueError(f"{self.path}: {name} {reason}")
