"""Boxes files: whose boxes are in which image, from a detector, by hand or from annotations."""

import json
import logging
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from tokenpose.boxes import Box
from tokenpose.files import decode, foreign, is_number, read_bytes, shown

logger = logging.getLogger(__name__)

MOST_BYTES = 1_000_000_000
"""How large a boxes file can be; it is read as a whole."""


@dataclass(kw_only=True)
class ImageBoxes:
    """The people's boxes in one image, and the image's id if the file has one."""

    boxes: list[Box] = field(default_factory=list)
    image_id: Any = None
    scores: list[float] = field(default_factory=list)
    """One score for each of a file's boxes; 1 if the file has none."""
    unscored: int = 0
    """The number of boxes without a score in the file."""


@dataclass(frozen=True, kw_only=True)
class BoxesFile:
    """A boxes file's content, by the image names in the file, or by their ids as text if it has no names."""

    path: Path
    images: Mapping[str, ImageBoxes]
    other_categories: Mapping[str, int] = field(default_factory=dict)
    """The number of boxes left out because of their category, by category id, if one category was requested."""

    def of_images(self, paths: Sequence[Path]) -> list[ImageBoxes]:
        """Each image's boxes. Images that the file doesn't name get none, and a warning is logged.

        An image is looked up by its path as given, by its file name, and by its stem as an id, with and without leading
        zeros. Raises LookupError if the file names none of the images, ValueError if an entry fits two of them.
        """
        keys = self._find_keys(paths)
        missing = [str(path) for path, key in zip(paths, keys, strict=True) if key is None]
        if len(missing) == len(paths):
            raise LookupError(f"{self.path} has boxes for none of the images: it names {_shorten(self.images)}")
        twice = [key for key, count in Counter(keys).items() if key is not None and count > 1]
        if twice:
            fitting = [str(path) for path, key in zip(paths, keys, strict=True) if key == twice[0]]
            raise ValueError(
                f"{self.path}: {shown(twice[0])} fits {_shorten(fitting)}; name images by their paths there"
            )
        if missing:
            logger.warning("%s has no boxes for %d of the images: %s", self.path, len(missing), _shorten(missing))
        return [self.images[key] if key is not None else ImageBoxes() for key in keys]

    def _find_keys(self, paths: Iterable[Path]) -> list[str | None]:
        by_file_name: dict[str, list[str]] = {}
        for key in self.images:
            by_file_name.setdefault(PurePath(key).name, []).append(key)
        keys = []
        for path in paths:
            same_name = by_file_name.get(path.name, [])
            candidates = [str(path), path.as_posix(), *(same_name if len(same_name) == 1 else [path.name])]
            candidates += [path.stem, path.stem.lstrip("0") or "0"]
            keys.append(next((key for key in candidates if key in self.images), None))
        return keys


def read_boxes_file(path: str | Path, category_ids: Collection[Any] | None = None) -> BoxesFile:
    """Read a JSON file of boxes, in one of three forms. ``category_ids`` leaves out records of other categories.

    {"photo.jpg": [[x1, y1, x2, y2], ...]}; a list of records with "bbox" (x, y, width, height), "file_name" or
    "image_id", and perhaps "score", as in COCO results; a COCO annotation file, without its crowds and, where it lists
    categories, only those of people or with keypoints.

    Raises FileNotFoundError, and ValueError that names file and entry.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no boxes file {path}")
    written = read_bytes(path, "a boxes file", MOST_BYTES)
    with foreign(f"{path} is not JSON"):
        content = json.loads(decode(written))
    if isinstance(content, dict) and isinstance(content.get("annotations"), list):
        return _from_annotations(content, category_ids, path)
    if isinstance(content, list):
        images = _from_records(content, {}, category_ids, path)
        return BoxesFile(path=path, images=images, other_categories=_other_categories(content, category_ids))
    if isinstance(content, dict):
        return BoxesFile(path=path, images=_from_names(content, path))
    raise ValueError(f"{path} must hold a JSON object or list of boxes; it holds {shown(content)}")


def _from_names(content: Mapping[str, Any], path: Path) -> dict[str, ImageBoxes]:
    for name, boxes in content.items():
        if not isinstance(boxes, list):
            raise ValueError(f"{path}: {shown(name)} needs a list of boxes [[x1, y1, x2, y2], ...]; got {shown(boxes)}")
    return {
        name: ImageBoxes(
            boxes=[_numbers(box, f"{path}: {shown(name)}", "x1, y1, x2, y2") for box in boxes],
            scores=[1.0] * len(boxes),
            unscored=len(boxes),
        )
        for name, boxes in content.items()
    }


def _from_annotations(content: Mapping[str, Any], category_ids: Collection[Any] | None, path: Path) -> BoxesFile:
    names = {}
    for section in ("images", "categories"):
        if not isinstance(content.get(section), list | None):
            raise ValueError(f"{path}: {section} must be a list; got {shown(content[section])}")
    for image in content.get("images") or ():
        if not isinstance(image, dict) or not _is_id(image.get("id")) or "file_name" not in image:
            raise ValueError(f"{path}: an image needs id and file_name; got {shown(image)}")
        names[image["id"]] = str(image["file_name"])
    people = []
    for category in content.get("categories") or ():
        if not isinstance(category, dict):
            raise ValueError(f"{path}: a category is an object; got {shown(category)}")
        if category.get("keypoints") or category.get("name") == "person":
            people.append(category.get("id"))

    def counts(record: Any) -> bool:
        if not isinstance(record, dict):
            return True  # refused below
        other = people and "category_id" in record and record["category_id"] not in people
        return not record.get("iscrowd") and not other

    counted = list(filter(counts, content["annotations"]))
    without = {name: ImageBoxes(image_id=image_id) for image_id, name in names.items()}
    images = without | _from_records(counted, names, category_ids, path)
    return BoxesFile(path=path, images=images, other_categories=_other_categories(counted, category_ids))


def _from_records(
    records: Sequence[Any], names: Mapping[Any, str], category_ids: Collection[Any] | None, path: Path
) -> dict[str, ImageBoxes]:
    found: dict[str, ImageBoxes] = {}
    for index, record in enumerate(records):
        if not isinstance(record, dict) or "bbox" not in record or not {"file_name", "image_id"} & record.keys():
            raise ValueError(f"{path}: record {index} needs bbox, and file_name or image_id; got {shown(record)}")
        if _is_of_another(record, category_ids):
            continue
        image_id = record.get("image_id")
        if not (image_id is None or _is_id(image_id)):
            raise ValueError(f"{path}: record {index}: an image_id is a number or text; got {shown(image_id)}")
        name = str(record.get("file_name", names.get(image_id, image_id)))
        x, y, width, height = _numbers(record["bbox"], f"{path}: record {index}", "x, y, width, height")
        people = found.setdefault(name, ImageBoxes(image_id=image_id))
        people.boxes.append((x, y, x + width, y + height))
        people.scores.append(_score(record.get("score", 1.0), f"{path}: record {index}"))
        people.unscored += "score" not in record
    return found


def _is_of_another(record: Mapping[str, Any], category_ids: Collection[Any] | None) -> bool:
    return category_ids is not None and "category_id" in record and record["category_id"] not in category_ids


def _other_categories(records: Iterable[Mapping[str, Any]], category_ids: Collection[Any] | None) -> Counter[str]:
    return Counter(shown(record["category_id"]) for record in records if _is_of_another(record, category_ids))


def _is_id(value: Any) -> bool:
    return isinstance(value, int | float | str)


def _score(score: Any, where: str) -> float:
    if not is_number(score):
        raise ValueError(f"{where}: a score is a number; got {shown(score)}")
    return float(score)


def _numbers(box: Any, where: str, meaning: str) -> Box:
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
        raise ValueError(f"{where}: a box is four numbers {meaning}; got {shown(box)}")
    first, second, third, fourth = map(float, box)
    return first, second, third, fourth


def _shorten(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "") if names else "no image"
