"""Records: what a COCO keypoint file says, read without stopping at what is wrong in it."""

import itertools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from tokenpose.data.coco import choose_category, name_categories
from tokenpose.data.samples import Samples
from tokenpose.doctor.findings import Finding, Place, Severity
from tokenpose.files import is_number
from tokenpose.skeletons import Skeleton

FARTHEST = 1e7
"""Pixels; a number beyond is no position in an image."""

REPAIR = "correct the record or leave it out"


@dataclass(frozen=True, kw_only=True)
class Records:
    """The images of a file and the people with keypoints in it, a row each; what can't be read is in ``findings``."""

    path: str
    skeleton: Skeleton
    image_ids: tuple[Any, ...]
    files: tuple[str | None, ...]
    """The images' file names; None where a record has none."""
    sizes: Float[np.ndarray, "images 2"]
    """Width and height by the file, NaN where it doesn't say."""
    annotation_ids: tuple[Any, ...]
    image_index: Int[np.ndarray, " people"]
    boxes: Float[np.ndarray, "people 4"]
    """x, y, width, height, NaN where they are no numbers."""
    keypoints: Float[np.ndarray, "people keypoints 2"]
    """NaN where they are no numbers."""
    flags: Float[np.ndarray, "people keypoints"]
    """v: 0 not labelled, 1 hidden, 2 seen; whatever else the file says."""
    counts: Float[np.ndarray, " people"]
    """num_keypoints, NaN where a record has none."""
    areas: Float[np.ndarray, " people"]
    """area, NaN where a record has none."""
    annotated: Int[np.ndarray, " images"]
    """How many annotations of any kind each image has."""
    findings: tuple[Finding, ...]

    def __len__(self) -> int:
        return len(self.boxes)

    def labelled(self) -> Bool[np.ndarray, "people keypoints"]:
        """Which keypoints count: v above 0, and a place that is numbers other than (0, 0), the mark of no place."""
        placed = np.isfinite(self.keypoints).all(axis=-1) & (self.keypoints != 0).any(axis=-1)
        return (self.flags > 0) & placed

    def about_person(self, person: int, check: str, severity: Severity, message: str, **values: Any) -> Finding:
        """A finding about one person, who is named and placed in it."""
        image = int(self.image_index[person])
        name, identity = self.files[image], self.annotation_ids[person]
        return Finding(
            check=check,
            severity=severity,
            file=self.path,
            record=f"annotation {identity} in {name}",
            message=message,
            annotations=(identity,),
            images=(name,) if name else (),
            places=(Place(self.path, image, person),),
            **values,
        )

    def about_image(self, image: int, check: str, severity: Severity, message: str, **values: Any) -> Finding:
        """A finding about one image, which is named and placed in it."""
        name = self.files[image]
        return Finding(
            check=check,
            severity=severity,
            file=self.path,
            record=f"image {self.image_ids[image]}" + (f" ({name})" if name else ""),
            message=message,
            images=(name,) if name else (),
            places=(Place(self.path, image),),
            **values,
        )

    def about_file(self, check: str, severity: Severity, message: str, **values: Any) -> Finding:
        """A finding about the file as a whole."""
        return Finding(check=check, severity=severity, file=self.path, record="", message=message, **values)


def read_records(
    path: str | Path, category: str | None = None, flip_pairs: Sequence[tuple[str, str]] | None = None
) -> Records:
    """What a COCO keypoint file says of its one category with keypoints, or of the one with the given name.

    ``flip_pairs``: names of keypoints, instead of the pairs that the names tell. Raises FileNotFoundError, ValueError
    for what is no COCO keypoint file, and LookupError for pairs of unknown names; faults of records are findings.
    """
    content = _load(Path(path))
    categories = [entry for entry in content["categories"] if isinstance(entry, dict)]
    records = _Reader(str(path), content, choose_category(categories, category, path)).read()
    if flip_pairs is None:
        return records
    skeleton = records.skeleton
    given = tuple((skeleton.index(first), skeleton.index(second)) for first, second in flip_pairs)
    return replace(records, skeleton=replace(skeleton, flip_pairs=given))


def _load(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise FileNotFoundError(f"there is no annotation file {path}")
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if isinstance(content, list):
        raise ValueError(f"{path} is a JSON list, as MPII's files are, and not a COCO keypoint file")
    keys = ("images", "annotations", "categories")
    missing = [key for key in keys if not isinstance(content, dict) or not isinstance(content.get(key), list)]
    if missing:
        raise ValueError(f"{path} is not a COCO keypoint file: it has no list of {', '.join(missing)}")
    return dict(content)


def _numbers(values: Any, count: int) -> list[float] | None:
    """A list of ``count`` numbers, those that are none or no position as NaN; None for anything else."""
    if not isinstance(values, list) or len(values) != count:
        return None
    return [_number(value) for value in values]


def _number(value: Any) -> float:
    sound = isinstance(value, int | float) and not isinstance(value, bool) and -FARTHEST < value < FARTHEST
    return float(value) if sound else float("nan")


def _number_repeated(names: Sequence[str]) -> list[str]:
    """The names; of one that stands there again, with the next number that is free: a, a -> a, a (2)."""
    given, distinct = set(names), dict[str, None]()
    for name in names:
        numbered = (f"{name} ({number})" for number in itertools.count(2))
        free = (new for new in numbered if new not in given and new not in distinct)
        distinct[next(free) if name in distinct else name] = None
    return list(distinct)


def _is_id(value: Any) -> bool:
    """A whole number, or text, which is read too."""
    return (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, str) and value != "")


class _Reader:
    """Goes through a file's records once, and notes what is wrong with them."""

    def __init__(self, path: str, content: dict[str, Any], category: Mapping[str, Any]) -> None:
        self.path, self.content, self.category = path, content, category
        self.categories = [entry for entry in content["categories"] if isinstance(entry, dict)]
        self.findings: list[Finding] = []
        for row, entry in enumerate(content["categories"]):
            if not isinstance(entry, dict):
                self._note(f"category at position {row}", f"it is {entry!r:.40}, not a record")
        self.skeleton = self._read_skeleton()
        self.rows: list[tuple[Any, int, list[float], list[float], float, float]] = []

    def read(self) -> Records:
        images = [image if isinstance(image, dict) else {} for image in self.content["images"]]
        ids = [image.get("id") for image in images]
        index: dict[Any, int] = {}
        for row, image in enumerate(images):
            self._check_image(image, row, index)
        annotated = np.zeros(len(images), dtype=np.int64)
        seen: set[Any] = set()
        for row, annotation in enumerate(self.content["annotations"]):
            self._read_annotation(annotation, row, index, annotated, seen)
        columns = zip(*self.rows, strict=True) if self.rows else ((),) * 6
        identities, image_index, boxes, triples, counts, areas = columns
        keypoints = np.array(triples, dtype=np.float64).reshape(-1, len(self.skeleton), 3)
        sizes = [_numbers([image.get("width"), image.get("height")], 2) for image in images]
        return Records(
            path=self.path,
            skeleton=self.skeleton,
            image_ids=tuple(ids),
            files=tuple(image["file_name"] if isinstance(image.get("file_name"), str) else None for image in images),
            sizes=np.array(sizes, dtype=np.float64).reshape(-1, 2),
            annotation_ids=tuple(identities),
            image_index=np.array(image_index, dtype=np.int64),
            boxes=np.array(boxes, dtype=np.float64).reshape(-1, 4),
            keypoints=keypoints[..., :2],
            flags=np.nan_to_num(keypoints[..., 2], nan=-1.0),
            counts=np.array(counts, dtype=np.float64),
            areas=np.array(areas, dtype=np.float64),
            annotated=annotated,
            findings=tuple(self.findings),
        )

    def _note(self, record: str, message: str, advice: str = REPAIR, **values: Any) -> None:
        self.findings.append(
            Finding(
                check="records",
                severity="error",
                file=self.path,
                record=record,
                message=message,
                advice=advice,
                **values,
            )
        )

    def _read_skeleton(self) -> Skeleton:
        """With the category's limbs, or without them where they make no sense; repeated names with a number."""
        category = {**self.category, "keypoints": self._read_names()}
        try:
            return Skeleton.from_coco_category(category)
        except (ValueError, TypeError) as error:
            limbless = {key: value for key, value in category.items() if key != "skeleton"}
            try:
                skeleton = Skeleton.from_coco_category(limbless)
            except (ValueError, TypeError) as fault:
                raise ValueError(f"{self.path}: {fault}") from fault
            advice = "give pairs of keypoint numbers that count from 1"
            self._note(f"category {self.category['id']}", f"its limbs can't be used: {error}", advice)
            return skeleton

    def _read_names(self) -> Any:
        """The names of the category's keypoints, repeated ones told apart; what is no list of names as it is."""
        names = self.category["keypoints"]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            return names
        distinct = _number_repeated(names)
        later = [repr(new) for name, new in zip(names, distinct, strict=True) if name != new]
        if later:
            repeated = ", ".join(name for name, times in Counter(names).items() if times > 1)
            message = f"its keypoints' names must differ; repeated: {repeated}"
            here = f"the later one is {later[0]}" if len(later) == 1 else f"the later ones are {', '.join(later)}"
            advice = f"give each a name of its own; in this report {here}"
            self._note(f"category {self.category['id']}", message, advice)
        return distinct

    def _check_image(self, image: dict[str, Any], row: int, index: dict[Any, int]) -> None:
        """Note what the record lacks, and where its id is to be found."""
        name, identity = image.get("file_name"), image.get("id")
        record = f"image {identity}" if _is_id(identity) else f"image at position {row}"
        record += f" ({name})" if name else ""
        places = (Place(self.path, row),)
        files = (name,) if isinstance(name, str) else ()
        if not _is_id(identity):
            self._note(record, f"its id is {identity!r}, neither a whole number nor text", images=files, places=places)
        elif identity in index:
            self._note(record, f"its id {identity} was given to an image before", images=files, places=places)
        else:
            index[identity] = row
        if not isinstance(name, str) or not name:
            self._note(record, f"its file_name is {name!r}, not a name", places=places)
        width, height = _number(image.get("width")), _number(image.get("height"))
        if not (width >= 1 and height >= 1):
            message = f"its width and height are {image.get('width')!r} and {image.get('height')!r}"
            self._note(record, message, "write the image's size in pixels", images=files, places=places)

    def _read_annotation(
        self, annotation: Any, row: int, index: dict[Any, int], annotated: np.ndarray, seen: set[Any]
    ) -> None:
        if not isinstance(annotation, dict):
            self._note(f"annotation at position {row}", f"it is {annotation!r:.40}, not a record")
            return
        identity, image = annotation.get("id"), annotation.get("image_id")
        record = f"annotation {identity}" if _is_id(identity) else f"annotation at position {row}"
        image_row = index.get(image) if _is_id(image) else None
        if image_row is not None:
            annotated[image_row] += 1
        if annotation.get("category_id") != self.category["id"]:
            self._check_other_category(annotation, record)
            return
        values: dict[str, Any] = {"annotations": (identity,)}
        if not _is_id(identity):
            self._note(record, f"its id is {identity!r}, neither a whole number nor text", **values)
        elif identity in seen:
            self._note(record, f"its id {identity} was given to an annotation before", **values)
        else:
            seen.add(identity)
        crowd = annotation.get("iscrowd")
        if crowd not in (None, 0, 1):
            self._note(record, f"its iscrowd is {crowd!r:.40}, neither 0 nor 1", **values)
        if crowd:
            return
        if image_row is None:
            self._note(record, f"it is of image {image!r}, which is not listed", **values)
            return
        name = self.content["images"][image_row].get("file_name")
        self._read_person(annotation, f"{record} in {name}", identity, image_row, values)

    def _check_other_category(self, annotation: dict[str, Any], record: str) -> None:
        """Note that the annotation is of no category that the file has."""
        if annotation.get("category_id") is None:
            self._note(record, "it has no category_id, and is passed over")
            return
        category, known = annotation["category_id"], name_categories(self.categories)
        if category not in [entry["id"] for entry in self.categories if "id" in entry]:
            message = f"it is of category {category!r:.60}, which is not listed; categories: {known}"
            self._note(record, message, "correct its category_id", annotations=(annotation.get("id"),))

    def _read_person(
        self, annotation: dict[str, Any], record: str, identity: Any, image: int, values: dict[str, Any]
    ) -> None:
        count = len(self.skeleton)
        given = annotation.get("keypoints") or []
        if isinstance(given, list) and not any(given):
            return  # nobody labelled this one: as published, it is left out
        name = self.content["images"][image].get("file_name")
        values = {**values, "places": (Place(self.path, image),), "images": (name,) if isinstance(name, str) else ()}
        keypoints, box = _numbers(given, 3 * count), _numbers(annotation.get("bbox"), 4)
        if keypoints is None:
            amount = f"{len(given)} keypoint numbers" if isinstance(given, list) else f"keypoints {given!r:.40}"
            self._note(record, f"it has {amount}; {count} keypoints need {3 * count}", **values)
            return
        values["places"] = (Place(self.path, image, len(self.rows)),)
        unsound = sum(np.isnan(keypoints))
        if unsound:
            bad = next(value for value in given if np.isnan(_number(value)))
            self._note(record, f"{unsound} of its keypoint numbers are no positions, {bad!r:.40} for one", **values)
        if box is None or any(np.isnan(box)):
            self._note(record, f"its bbox is {annotation.get('bbox')!r:.60}, not x, y, width, height", **values)
        counted, area = _number(annotation.get("num_keypoints")), _number(annotation.get("area"))
        for field, what in (("num_keypoints", "a count"), ("area", "square pixels")):
            value = annotation.get(field)
            if value is not None and not (is_number(value) and value >= 0):
                self._note(record, f"its {field} is {value!r:.40}, not {what}", **values)
        self.rows.append((identity, image, box or [float("nan")] * 4, keypoints, counted, area))


def to_samples(records: Records) -> Samples:
    """The people whose boxes make sense, as they would be trained on, were it not for other faults."""
    sound = np.flatnonzero((records.boxes[:, 2:] > 0).all(axis=1))
    labelled = records.labelled()[sound]
    return Samples(
        skeleton=records.skeleton,
        files=tuple(name or "" for name in records.files),
        image_ids=np.arange(len(records.files)),
        image_index=records.image_index[sound],
        boxes=records.boxes[sound].astype(np.float32),
        keypoints=np.where(labelled[..., None], records.keypoints[sound], 0).astype(np.float32),
        visible=labelled,
        skipped={},
        areas=records.areas[sound].astype(np.float32),
    )


def count_labels(records: Records) -> dict[str, int]:
    """How many people have each keypoint labelled."""
    return dict(zip(records.skeleton.keypoints, records.labelled().sum(axis=0).tolist(), strict=True))
