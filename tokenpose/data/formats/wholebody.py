"""COCO-WholeBody's files: four lists of keypoints a person -> one list of 133."""

import itertools
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tokenpose.data.formats.labels import Pairs, counted
from tokenpose.data.formats.reading import show
from tokenpose.data.json_records import JsonRecords
from tokenpose.files import is_number
from tokenpose.skeletons import COCO

logger = logging.getLogger(__name__)

_FINGERS = ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky_finger")


def _hand(side: str) -> tuple[str, ...]:
    fingers = (f"{side}_{finger}{joint}" for finger in _FINGERS for joint in (1, 2, 3, 4))
    return (f"{side}_hand_root", *fingers)


_FEET = tuple(f"{side}_{part}" for side in ("left", "right") for part in ("big_toe", "small_toe", "heel"))

PARTS = {
    "keypoints": COCO.keypoints,
    "foot_kpts": _FEET,
    "face_kpts": tuple(f"face-{index}" for index in range(68)),
    "lefthand_kpts": _hand("left"),
    "righthand_kpts": _hand("right"),
}
"""The lists in the order in which they are joined, with their keypoints' names."""

KEYPOINTS = tuple(name for names in PARTS.values() for name in names)

_FACE_SUMS = {
    16: range(8), 43: range(17, 22), 66: range(31, 33), 81: range(36, 40), 87: (40, 41), 102: range(48, 51),
    114: (55, 56), 124: (60, 61), 132: (65,),
}  # fmt: skip
"""Face points come in pairs of one sum: 0 and 16, 1 and 15 on the jaw, 36 and 45 of the eyes, and so on."""


def _flip_pairs() -> Pairs:
    face = {f"face-{low}": f"face-{total - low}" for total, lows in _FACE_SUMS.items() for low in lows}
    sides = {name: f"right{name.removeprefix('left')}" for name in KEYPOINTS if name.startswith("left_")}
    pairs = {**sides, **face}
    return tuple(sorted((KEYPOINTS.index(first), KEYPOINTS.index(second)) for first, second in pairs.items()))


def _limbs() -> Pairs:
    """COCO's, heel and toes at each ankle, and five fingers at each hand."""
    names = [(COCO.keypoints[first], COCO.keypoints[second]) for first, second in COCO.limbs]
    for side in ("left", "right"):
        names += [(f"{side}_ankle", f"{side}_{part}") for part in ("big_toe", "small_toe", "heel")]
        names.append((f"{side}_wrist", f"{side}_hand_root"))
        for finger in _FINGERS:
            chain = [f"{side}_hand_root", *(f"{side}_{finger}{joint}" for joint in (1, 2, 3, 4))]
            names += itertools.pairwise(chain)
    return tuple((KEYPOINTS.index(first), KEYPOINTS.index(second)) for first, second in names)


FLIP_PAIRS = _flip_pairs()
LIMBS = _limbs()


def read_coco_wholebody(path: str | Path) -> dict[str, Any]:
    """The content of a COCO keypoint file with 133 keypoints, from COCO-WholeBody's file.

    They are the 17 of the body, 6 of the feet, 68 of the face and 21 of each hand, in this order; a part that a record
    lacks isn't labeled. Ids, boxes, crowds and areas stay as they are. Raises FileNotFoundError, and ValueError that
    names file and record.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no annotation file {path}")
    sections: dict[str, list[Any]] = {}
    with JsonRecords(path, without="segmentation") as content:
        for name, records in content.sections({"images", "annotations"}) if content.kind == "object" else ():
            taken = records if name == "images" else _annotations(records, path)
            sections[name] = list(taken)
    missing = [name for name in ("images", "annotations") if name not in sections]
    if missing:
        raise ValueError(f"{path} is not COCO-WholeBody's file: it has no {', '.join(missing)}")
    limbs = [[first + 1, second + 1] for first, second in LIMBS]
    pairs = [[KEYPOINTS[first], KEYPOINTS[second]] for first, second in FLIP_PAIRS]
    category = {"id": 1, "name": "person", "keypoints": list(KEYPOINTS), "skeleton": limbs, "flip_pairs": pairs}
    people = counted(len(sections["annotations"]), "person", "people")
    logger.info("%s: %s in %s", path, people, counted(len(sections["images"]), "image", "images"))
    return {**sections, "categories": [category]}


def _annotations(records: Iterator[Any], path: Path) -> Iterator[dict[str, Any]]:
    parted = False
    for position, record in enumerate(records):
        if not isinstance(record, Mapping):
            raise ValueError(f"{path}: annotations[{position}] must be an object; got {show(record)}")
        parted = parted or "face_kpts" in record
        keypoints = [
            number for part in PARTS for number in _read_part(record, part, f"{path}: annotations[{position}]")
        ]
        kept = {name: record[name] for name in ("id", "image_id", "bbox", "area", "iscrowd") if name in record}
        count = sum(v > 0 for v in keypoints[2::3])
        yield {**kept, "category_id": 1, "keypoints": keypoints, "num_keypoints": count}
    if not parted:
        raise ValueError(f"{path} is not COCO-WholeBody's file: none of its annotations has face_kpts")


def _read_part(record: Mapping[str, Any], part: str, where: str) -> list[int | float]:
    """The triples of a part, zeros where it isn't labeled. Visibilities are whole numbers, at most 2."""
    length, values = 3 * len(PARTS[part]), record.get(part)
    if values is None:
        return [0] * length
    if not isinstance(values, list) or len(values) != length or not all(map(is_number, values)):
        raise ValueError(f"{where}: {part} must be {length} finite numbers; got {show(values)}")
    triples = list[int | float]()
    for x, y, v in zip(values[::3], values[1::3], values[2::3], strict=True):
        triples += [x, y, min(2, max(1, round(v)))] if v > 0 else [0, 0, 0]
    return triples
