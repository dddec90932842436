"""MPII's usual JSON files, and the MATLAB file of its ground truth -> samples."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from tokenpose.data.json_records import JsonRecords
from tokenpose.data.samples import Samples
from tokenpose.files import is_number
from tokenpose.skeletons import MPII

UNIT = 200  # pixels in a scale of 1
DOWN = 15  # a box's center moves down by so many pixels for each unit of scale
HEAD = 0.6  # of the head box's diagonal is the head's size

COUNT = len(MPII)
FIELDS = ("headboxes_src", "jnt_missing", "pos_gt_src")


def read_mpii(path: str | Path, ground_truth: str | Path | None = None) -> Samples:
    """The people of a JSON list of {"image", "center", "scale", "joints", "joints_vis"}, with or without joints.

    As published: positions count from 1 in the file and from 0 here, centers move down by 15 x scale, and boxes are
    squares of 200 x scale, which a box padding of 1.25 makes 1.25 times as large. People without a center or scale (-1)
    are left out. A record's "head_box" (x1, y1, x2, y2) gives its head size, 0.6 x the diagonal.

    ``ground_truth``: MATLAB's gt_valid.mat, whose people are the records in their order: joints, which are visible and
    head sizes are then the ground truth's; scipy is needed. Images are numbered from 0, people by their place in the
    file. Raises FileNotFoundError, ModuleNotFoundError, and ValueError that names file and record.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no annotation file {path}")
    with JsonRecords(path) as content:
        if content.kind != "list":
            raise ValueError(f"{path} is not an MPII file: a list of records is needed, and it holds an object")
        people = [read_person(record, f"{path}: record {index}") for index, record in enumerate(content.records())]
    if ground_truth is not None:
        people = _with_ground_truth(people, Path(ground_truth), path)
    return _gather(people, path)


def to_matlab(keypoints: Float[np.ndarray, "people 16 2"]) -> Float[np.ndarray, "people 16 2"]:
    """Predicted keypoints as MPII's MATLAB files count them: from 1."""
    return keypoints + 1


class Person(NamedTuple):
    """A record, positions still counted from 1."""

    image: str
    center: tuple[float, float]
    scale: float
    keypoints: Float[np.ndarray, "16 2"]
    visible: Bool[np.ndarray, " 16"]
    head_size: float

    @property
    def has_box(self) -> bool:
        """Whether center and scale are known."""
        return self.center[0] != -1 and self.scale > 0


def _gather(people: Sequence[Person], path: Path) -> Samples:
    kept = [index for index, person in enumerate(people) if person.has_box]
    chosen = [people[index] for index in kept]
    files = {name: index for index, name in enumerate(dict.fromkeys(person.image for person in chosen))}
    visible = np.array([person.visible for person in chosen], dtype=bool).reshape(-1, COUNT)
    keypoints = np.array([person.keypoints for person in chosen], dtype=np.float32).reshape(-1, COUNT, 2)
    head_sizes = np.array([person.head_size for person in chosen], dtype=np.float32)
    return Samples(
        skeleton=MPII,
        files=tuple(files),
        image_ids=np.arange(len(files)),
        image_index=np.array([files[person.image] for person in chosen], dtype=np.int64),
        boxes=place_boxes(chosen).astype(np.float32),
        keypoints=np.where(visible[..., None], keypoints - 1, np.float32(0)),
        visible=visible,
        skipped={"no center or scale": len(people) - len(kept)} if len(kept) < len(people) else {},
        annotation_ids=np.array(kept, dtype=np.int64),
        head_sizes=None if np.isnan(head_sizes).all() else head_sizes,
        origin=str(path),
    )


def place_boxes(people: Sequence[Person]) -> Float[np.ndarray, "people 4"]:
    """x, y, width, height of squares whose center, as boxes have it, is the published one."""
    center = np.array([person.center for person in people], dtype=np.float64).reshape(-1, 2)
    scale = np.array([person.scale for person in people], dtype=np.float64)[:, None]
    center = center + np.concatenate((0 * scale, DOWN * scale), axis=1) - 1
    side = UNIT * scale
    return np.concatenate((center - (side - 1) / 2, side, side), axis=1)


def read_person(record: Any, place: str) -> Person:
    """One record. Raises ValueError that begins with ``place``."""
    if not isinstance(record, dict):
        raise ValueError(f"{place} must be an object; it is {record!r:.60}")
    needed = ("image", "center", "scale", *(("joints_vis",) if "joints" in record else ()))
    missing = [name for name in needed if name not in record]
    if missing:
        raise ValueError(f"{place} has no {', '.join(missing)}")
    if not isinstance(record["image"], str):
        raise ValueError(f"{place}: image must be text; it is {record['image']!r:.60}")
    if not is_number(record["scale"]):
        raise ValueError(f"{place}: scale must be a finite number; it is {record['scale']!r:.60}")
    x, y = _numbers(record, "center", 2, place)
    keypoints, visible = _read_joints(record, place)
    return Person(record["image"], (x, y), float(record["scale"]), keypoints, visible, _read_head(record, place))


def _read_joints(record: Mapping[str, Any], place: str) -> tuple[Float[np.ndarray, "16 2"], Bool[np.ndarray, " 16"]]:
    if "joints" not in record:
        return np.zeros((COUNT, 2)), np.zeros(COUNT, dtype=bool)
    visible = np.array(_numbers(record, "joints_vis", COUNT, place)) > 0
    try:
        keypoints = np.array(record["joints"], dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        keypoints = np.zeros(0)
    if keypoints.shape != (COUNT, 2) or not np.isfinite(keypoints[visible]).all():
        raise ValueError(f"{place}: joints must be {COUNT} points x, y; it is {record['joints']!r:.60}")
    return keypoints, visible


def _read_head(record: Mapping[str, Any], place: str) -> float:
    name = next((name for name in ("head_box", "headbox") if record.get(name) is not None), None)
    if name is None:
        return math.nan
    x1, y1, x2, y2 = _numbers(record, name, 4, place)
    return HEAD * math.hypot(x2 - x1, y2 - y1)


def _numbers(record: Mapping[str, Any], name: str, count: int, place: str) -> list[float]:
    values = record[name]
    if (
        not isinstance(values, list)
        or len(values) != count
        or not all(isinstance(value, bool) or is_number(value) for value in values)
    ):
        raise ValueError(f"{place}: {name} must be {count} finite numbers; it is {values!r:.60}")
    return [float(value) for value in values]


def _with_ground_truth(people: Sequence[Person], truth: Path, path: Path) -> list[Person]:
    heads, missing, positions = _read_matlab(truth)
    if positions.shape[2] != len(people):
        raise ValueError(f"{truth} has {positions.shape[2]} people; {path} has {len(people)}: they don't go together")
    sizes = HEAD * np.linalg.norm(heads[1] - heads[0], axis=0)
    return [
        person._replace(
            keypoints=positions[..., index].astype(np.float64),
            visible=missing[:, index] == 0,
            head_size=float(sizes[index]),
        )
        for index, person in enumerate(people)
    ]


def _read_matlab(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Head boxes (2 corners, 2, people), missing joints (16, people) and positions (16, 2, people)."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no ground-truth file {path}")
    try:
        from scipy.io import loadmat
        from scipy.io.matlab import MatReadError
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"reading {path} needs scipy: pip install scipy") from error
    try:
        content = loadmat(path, variable_names=FIELDS)
    except (MatReadError, NotImplementedError, ValueError, TypeError) as error:
        raise ValueError(f"{path} can't be read as a MATLAB file (up to version 7.2): {error}") from error
    absent = [name for name in FIELDS if name not in content]
    if absent:
        raise ValueError(f"{path} is no MPII ground truth: it has no {', '.join(absent)}")
    heads, missing, positions = (content[name] for name in FIELDS)
    if positions.ndim == 2 and heads.ndim == 2:  # MATLAB drops the axis of a single person
        heads, positions = heads[..., None], positions[..., None]
    if positions.ndim != 3 or positions.shape[:2] != (COUNT, 2):
        raise ValueError(f"{path}: pos_gt_src must be ({COUNT}, 2, people); it is {positions.shape}")
    people = positions.shape[2]
    for name, found, shape in (("headboxes_src", heads, (2, 2, people)), ("jnt_missing", missing, (COUNT, people))):
        if found.shape != shape:
            raise ValueError(f"{path}: {name} must be {shape}, as pos_gt_src has it; it is {found.shape}")
    faulty = ~np.isfinite(positions).all(axis=1) & (missing == 0)
    if faulty.any():
        person = int(faulty.any(axis=0).argmax())
        raise ValueError(f"{path}: pos_gt_src is not finite for record {person}, though jnt_missing has it")
    return heads, missing, positions
