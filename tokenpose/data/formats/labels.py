"""What the files of labeling tools hold, in one form: photographs with people; and COCO keypoint JSON made of it."""

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tokenpose.skeletons import Skeleton

logger = logging.getLogger(__name__)

Number = int | float
Box = tuple[Number, Number, Number, Number]
"""x, y, width, height."""
Pairs = tuple[tuple[int, int], ...]

DIGITS = 9
"""After the point, of positions that files have as shares of the image: a billionth of a pixel is lost, and what 10.37
pixels became as a share is 10.37 again."""

GROWTH = 0.15
"""Of the keypoints' extent, on each side, where a person has no box."""
LEAST_SHARE = 0.25
"""Of the longer side of an extent, for the shorter one: the keypoints of a straight arm are no box of width 0."""
LONE_SHARE = 0.1
"""Of the image's longer side, for the box of a single keypoint."""

HIDDEN, VISIBLE = 1, 2


class Keypoint(NamedTuple):
    """A position in image pixels; v is 0 where it isn't labeled, 1 where it is hidden, 2 where it is visible."""

    x: Number
    y: Number
    v: int = VISIBLE
    score: Number | None = None


@dataclass(frozen=True, kw_only=True)
class Category:
    """A kind of people or animals with its keypoints; indices count from 0."""

    name: str
    keypoints: tuple[str, ...]
    limbs: Pairs = ()
    flip_pairs: Pairs | None = None
    """None: the format doesn't have them, and names may tell."""


@dataclass(frozen=True, kw_only=True)
class Person:
    """One of a photograph's people, or animals."""

    category: str
    keypoints: Mapping[str, Keypoint]
    """By name. Those that aren't labeled may be missing."""
    box: Box | None = None
    is_crowd: bool = False
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Further members of the record, such as a track."""


@dataclass(frozen=True, kw_only=True)
class Photograph:
    """An image with its people."""

    file: str
    width: int
    height: int
    people: Sequence[Person]
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Further members of the record, such as a video."""


def to_coco(photographs: Iterable[Photograph], categories: Sequence[Category], path: str | Path) -> dict[str, Any]:
    """The content of a COCO keypoint file: ids count from 1, in the order given.

    People without a box get their keypoints' extent, grown by 15 % on each side and cut to the image; people with
    neither box nor labeled keypoint are left out; a line in the log counts both. ``path``: the file's name, for errors
    and the log. Raises ValueError where nobody is left, and for categories that are not sound.
    """
    numbers = {category.name: number for number, category in enumerate(categories, 1)}
    named = {category.name: category for category in categories}
    images, annotations, grown, empty = list[dict[str, Any]](), list[dict[str, Any]](), 0, 0
    for photograph in photographs:
        images.append(_image(photograph, len(images) + 1))
        for person in photograph.people:
            if person.box is None and not any(keypoint.v for keypoint in person.keypoints.values()):
                empty += 1
                continue
            grown += person.box is None
            record = {"id": len(annotations) + 1, "image_id": len(images), "category_id": numbers[person.category]}
            annotations.append({**record, **_annotation(person, named[person.category], photograph)})
    if not annotations:
        raise ValueError(f"{path} has no labeled people in its {counted(len(images), 'image', 'images')}")
    _log(str(path), len(annotations), len(images), grown, empty)
    records = [_category(category, number, str(path)) for number, category in enumerate(categories, 1)]
    return {"images": images, "annotations": annotations, "categories": records}


def grow_box(keypoints: Iterable[Keypoint], width: int, height: int) -> Box:
    """The labeled keypoints' extent, grown by 15 % on each side and cut to the image of that size.

    Its shorter side is at least a quarter of the longer one; a single keypoint's box is a square, a tenth of the
    image's longer side.
    """
    labeled = [keypoint for keypoint in keypoints if keypoint.v]
    left, right = min(keypoint.x for keypoint in labeled), max(keypoint.x for keypoint in labeled)
    top, bottom = min(keypoint.y for keypoint in labeled), max(keypoint.y for keypoint in labeled)
    longer = max(right - left, bottom - top)
    least = LEAST_SHARE * longer or LONE_SHARE * max(width, height) / (1 + 2 * GROWTH)
    x1, x2 = _grow(left, right, least)
    y1, y2 = _grow(top, bottom, least)
    inside = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
    if inside[2] > inside[0] and inside[3] > inside[1]:
        x1, y1, x2, y2 = inside
    return round(x1, DIGITS), round(y1, DIGITS), round(x2 - x1, DIGITS), round(y2 - y1, DIGITS)


def _grow(low: Number, high: Number, least: Number) -> tuple[float, float]:
    center, size = (low + high) / 2, max(high - low, least)
    half = size * (0.5 + GROWTH)
    return center - half, center + half


def _image(photograph: Photograph, number: int) -> dict[str, Any]:
    size = {"width": photograph.width, "height": photograph.height}
    return {"id": number, "file_name": photograph.file, **size, **photograph.fields}


def _annotation(person: Person, category: Category, photograph: Photograph) -> dict[str, Any]:
    unlabeled = Keypoint(0.0, 0.0, 0)
    keypoints = [person.keypoints.get(name, unlabeled) for name in category.keypoints]
    keypoints = [keypoint if keypoint.v else unlabeled._replace(score=keypoint.score) for keypoint in keypoints]
    for name, keypoint in zip(category.keypoints, keypoints, strict=True):
        if not (math.isfinite(keypoint.x) and math.isfinite(keypoint.y)):
            raise ValueError(f"{photograph.file}: {name} is at {keypoint.x}, {keypoint.y}, which is no position")
    box = person.box or grow_box(keypoints, photograph.width, photograph.height)
    if not all(map(math.isfinite, box)):
        raise ValueError(f"{photograph.file}: a box is at {', '.join(map(str, box))}, which is no position")
    record: dict[str, Any] = {
        "bbox": list(box),
        "iscrowd": int(person.is_crowd),
        "keypoints": [number for keypoint in keypoints for number in keypoint[:3]],
        "num_keypoints": sum(keypoint.v > 0 for keypoint in keypoints),
    }
    if any(keypoint.score is not None for keypoint in keypoints):
        record["scores"] = [0.0 if keypoint.score is None else keypoint.score for keypoint in keypoints]
    return {**record, **person.fields}


def _category(category: Category, number: int, path: str) -> dict[str, Any]:
    """The record of a category; `Skeleton` checks it."""
    try:
        Skeleton(name=category.name, keypoints=category.keypoints, limbs=category.limbs, flip_pairs=category.flip_pairs)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error
    record = {"id": number, "name": category.name, "keypoints": list(category.keypoints)}
    limbs = [[first + 1, second + 1] for first, second in category.limbs]
    names, pairs = category.keypoints, category.flip_pairs
    flipped = {} if pairs is None else {"flip_pairs": [[names[first], names[second]] for first, second in pairs]}
    return {**record, "skeleton": limbs, **flipped}


def log_grown(path: str | Path, grown: int) -> None:
    """Say whose boxes are made from keypoints, if there is anybody."""
    if grown:
        whose = counted(grown, "person has", "people have")
        logger.info("%s: %s a box made from keypoints: their extent, grown by 15 %% on each side", path, whose)


def counted(number: int, one: str, several: str) -> str:
    """A number and its noun: "1 image", "2 images"."""
    return f"{number} {one if number == 1 else several}"


def _log(path: str, people: int, images: int, grown: int, empty: int) -> None:
    logger.info("%s: %s in %s", path, counted(people, "person", "people"), counted(images, "image", "images"))
    log_grown(path, grown)
    if empty:
        whose = counted(empty, "person", "people")
        logger.info("%s: left out: %s with neither a box nor a labeled keypoint", path, whose)
