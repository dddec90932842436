"""MPII's usual JSON files, and the MATLAB file of its ground truth -> samples."""

import math
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from tokenpose.data.faults import Fault, raise_first
from tokenpose.data.json_records import JsonRecords
from tokenpose.data.other_formats import explain_list
from tokenpose.data.samples import Samples
from tokenpose.files import check_size, foreign, is_number
from tokenpose.skeletons import MPII

UNIT = 200  # pixels in a scale of 1
DOWN = 15  # a box's center moves down by so many pixels for each unit of scale
HEAD_SHARE = 0.6  # of the head box's diagonal is the head's size

COUNT = len(MPII)
MOST_BYTES = 200_000_000
"""How large ground truth can be, also unpacked."""
_COMPRESSED = 15  # a MATLAB file's type of an element
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
    people, faults = read_mpii_people(path)
    raise_first(faults, path, "training")
    chosen = [person for person in people if person is not None]
    if ground_truth is not None:
        chosen = _with_ground_truth(chosen, Path(ground_truth), Path(path))
    return _gather(chosen, Path(path))


def read_mpii_people(path: str | Path) -> tuple[list["MpiiPerson | None"], list[Fault]]:
    """The records of an MPII file, None for a faulty one, and everything that is wrong with them.

    Raises FileNotFoundError, and ValueError for a file that is not a JSON list, or looks like another format.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no annotation file {path}")
    people, faults = list[MpiiPerson | None](), list[Fault]()
    with JsonRecords(path) as content:
        if content.kind != "list":
            raise ValueError(f"{path} is not an MPII file: it must hold a list of records, and holds an object")
        for position, record in enumerate(content.records()):
            other = explain_list(record, path) if position == 0 else ""
            if other:
                raise ValueError(other)
            found = list(_find_faults(record, position))
            people.append(None if found else _to_person(record))
            faults += found
    return people, faults


def to_matlab(keypoints: Float[np.ndarray, "people 16 2"]) -> Float[np.ndarray, "people 16 2"]:
    """Predicted keypoints as MPII's MATLAB files count them: from 1."""
    return keypoints + 1


class MpiiPerson(NamedTuple):
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


def _gather(people: Sequence[MpiiPerson], path: Path) -> Samples:
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
        origins=(str(path),),
    )


def place_boxes(people: Sequence[MpiiPerson]) -> Float[np.ndarray, "people 4"]:
    """x, y, width, height of squares whose center, as boxes have it, is the published one."""
    center = np.array([person.center for person in people], dtype=np.float64).reshape(-1, 2)
    scale = np.array([person.scale for person in people], dtype=np.float64)[:, None]
    center = center + np.concatenate((0 * scale, DOWN * scale), axis=1) - 1
    side = UNIT * scale
    return np.concatenate((center - (side - 1) / 2, side, side), axis=1)


def _find_faults(record: Any, position: int) -> Iterator[Fault]:
    """What is wrong with one record."""
    if not isinstance(record, dict):
        message = f"a record must be an object; got {record!r:.60}"
        yield Fault(section="records", position=position, field="", kind="not an object", message=message)
        return
    image = record.get("image")
    for field, expected in _expected(record):
        yield Fault(
            section="records",
            position=position,
            image=image if isinstance(image, str) else None,
            field=field,
            kind="invalid" if field in record else "missing",
            message=f"{field} must be {expected}; got {record.get(field)!r:.60}",
        )


def _expected(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The fields that can't be used, and what they must hold."""
    if not isinstance(record.get("image"), str):
        yield "image", "text"
    if _numbers(record.get("center"), 2) is None:
        yield "center", "2 finite numbers"
    if not is_number(record.get("scale")):
        yield "scale", "a finite number"
    if "joints" in record:
        visible = _numbers(record.get("joints_vis"), COUNT)
        if visible is None:
            yield "joints_vis", f"{COUNT} finite numbers"
        if _points(record["joints"], visible or [0.0] * COUNT) is None:
            yield "joints", f"{COUNT} points x, y"
    head = _head_field(record)
    if head is not None and _numbers(record[head], 4) is None:
        yield head, "4 finite numbers"


def _to_person(record: Mapping[str, Any]) -> MpiiPerson:
    """A record without faults."""
    keypoints, visible, head_size = np.zeros((COUNT, 2)), np.zeros(COUNT), math.nan
    if "joints" in record:
        keypoints, visible = np.array(record["joints"], dtype=np.float64), np.array(record["joints_vis"], dtype=float)
    head = _head_field(record)
    if head is not None:
        x1, y1, x2, y2 = map(float, record[head])
        head_size = HEAD_SHARE * math.hypot(x2 - x1, y2 - y1)
    x, y = map(float, record["center"])
    return MpiiPerson(record["image"], (x, y), float(record["scale"]), keypoints, visible > 0, head_size)


def _head_field(record: Mapping[str, Any]) -> str | None:
    return next((name for name in ("head_box", "headbox") if record.get(name) is not None), None)


def _points(values: Any, visible: Sequence[float]) -> Float[np.ndarray, "16 2"] | None:
    """Joints as an array; None where they are not 16 points, or a visible one is not finite."""
    try:
        points = np.array(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    sound = points.shape == (COUNT, 2) and np.isfinite(points[np.array(visible) > 0]).all()
    return points if sound else None


def _numbers(values: Any, count: int) -> list[float] | None:
    """A list of ``count`` finite numbers; None for anything else."""
    if not isinstance(values, list) or len(values) != count:
        return None
    numbers = all(isinstance(value, bool) or is_number(value) for value in values)
    return [float(value) for value in values] if numbers else None


def _with_ground_truth(people: Sequence[MpiiPerson], truth: Path, path: Path) -> list[MpiiPerson]:
    heads, missing, positions = _read_matlab(truth)
    if positions.shape[2] != len(people):
        raise ValueError(
            f"{truth} has {positions.shape[2]} people; {path} has {len(people)}: they must hold the same people"
        )
    sizes = HEAD_SHARE * np.linalg.norm(heads[1] - heads[0], axis=0)
    return [
        person._replace(
            keypoints=positions[..., index].astype(np.float64),
            visible=missing[:, index] == 0,
            head_size=float(sizes[index]),
        )
        for index, person in enumerate(people)
    ]


def _refuse_bomb(path: Path) -> None:
    """Raise ValueError for a MATLAB file that unpacks to more than ground truth has; scipy unpacks without a bound."""
    check_size(path, "ground truth", MOST_BYTES)
    unpacked = 0
    with path.open("rb") as opened:
        form = "<II" if opened.read(128)[126:] == b"IM" else ">II"
        while len(tag := opened.read(8)) == 8:
            kind, size = struct.unpack(form, tag)
            content = opened.read(min(size, MOST_BYTES))
            unpacker = zlib.decompressobj() if kind == _COMPRESSED else None
            while unpacker is not None and content:
                unpacked += len(unpacker.decompress(content, 1 << 20))
                if unpacked > MOST_BYTES:
                    raise ValueError(f"it unpacks to more than {MOST_BYTES:,} bytes")
                content = unpacker.unconsumed_tail


def _read_matlab(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Head boxes (2 corners, 2, people), missing joints (16, people) and positions (16, 2, people)."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no ground-truth file {path}")
    try:
        from scipy.io import loadmat
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f'reading {path} needs scipy: pip install "tokenpose[mpii]"') from error
    with foreign(f"{path} can't be read as a MATLAB file (up to version 7.2)", errors=(Exception,)):
        _refuse_bomb(path)
        content = loadmat(path, variable_names=FIELDS)
    absent = [name for name in FIELDS if name not in content]
    if absent:
        raise ValueError(f"{path} is not MPII's ground truth: it has no {', '.join(absent)}")
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
