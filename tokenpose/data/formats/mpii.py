"""MPII's files, the usual JSON and the published .mat -> COCO."""

import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tokenpose.data.faults import raise_first
from tokenpose.data.formats.image_sizes import ImageSizes, Places
from tokenpose.data.formats.labels import HIDDEN, VISIBLE, Category, Keypoint, Person, Photograph, to_coco
from tokenpose.data.mpii import COUNT, MpiiPerson, place_boxes, read_mpii_people
from tokenpose.skeletons import MPII

logger = logging.getLogger(__name__)

MOST_BYTES = 256 << 20
"""Of a .mat file; the published one has 13 million."""
HEAD_SHARE_FIELD = "head_box"


def read_mpii(path: str | Path, *, images: Places | None = None) -> dict[str, Any]:
    """The content of a COCO keypoint file, from MPII's JSON list or mpii_human_pose_v1_u12_1.mat.

    Positions count from 1 in MPII's files and from 0 in COCO's. The box is the square that center and scale say, as in
    training; people without them get one from their keypoints. Head boxes stay, as "head_box" (x1, y1, x2, y2). Of the
    .mat, the training images' people who have keypoints are read; what isn't visible there has v = 1. In JSON, which
    doesn't say, labeled keypoints have v = 2.

    ``images``: where the images are, since the files don't say their sizes; None: beside the file. A .mat needs
    ``pip install "tokenpose[mpii]"``. Raises FileNotFoundError, ModuleNotFoundError, and ValueError that names file and
    record.
    """
    path = Path(path)
    records = _read_matlab(path) if path.suffix.lower() == ".mat" else _read_json(path)
    by_image: dict[str, list[Person]] = {}
    for image, person in records:
        by_image.setdefault(image, []).append(person)
    sizes = ImageSizes(images, path.parent)
    photographs = []
    for image, people in by_image.items():
        width, height = sizes.find(image)
        photographs.append(Photograph(file=image, width=width, height=height, people=people))
    category = Category(name="person", keypoints=MPII.keypoints, limbs=MPII.limbs, flip_pairs=MPII.flip_pairs)
    return to_coco(photographs, [category], path)


def _read_json(path: Path) -> Iterator[tuple[str, Person]]:
    people, faults = read_mpii_people(path)
    raise_first(faults, path, "training")
    for person in filter(None, people):
        yield person.image, _to_person(person, np.where(person.visible, VISIBLE, 0), None)


def _to_person(record: MpiiPerson, visibility: np.ndarray, head: Sequence[float] | None) -> Person:
    """A person; positions count from 0 from here on."""
    keypoints = {
        name: Keypoint(float(x) - 1, float(y) - 1, int(v))
        for name, (x, y), v in zip(MPII.keypoints, record.keypoints, visibility, strict=True)
        if v
    }
    box = None
    if record.has_box:
        left, top, width, height = place_boxes([record])[0].tolist()
        box = (left, top, width, height)
    return Person(
        category="person", keypoints=keypoints, box=box, fields={} if head is None else {HEAD_SHARE_FIELD: list(head)}
    )


# MATLAB


def _read_matlab(path: Path) -> Iterator[tuple[str, Person]]:
    release = _load(path)
    training = np.atleast_1d(release.img_train)
    for index, entry in enumerate(np.atleast_1d(release.annolist)):
        if index >= len(training) or not training[index]:
            continue
        where, image = f"{path}: annolist({index + 1})", str(entry.image.name)
        for rectangle in np.atleast_1d(entry.annorect):
            person = _read_rectangle(rectangle, image, where)
            if person is not None:
                yield image, person


def _load(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        from scipy.io import loadmat
        from scipy.io.matlab import MatReadError
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f'reading {path} needs scipy: pip install "tokenpose[mpii]"') from error
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path} has {path.stat().st_size:,} bytes; MPII's file has 13 million")
    try:
        content = loadmat(path, struct_as_record=False, squeeze_me=True, variable_names=["RELEASE"])
    except (MatReadError, NotImplementedError, ValueError, TypeError) as error:
        raise ValueError(f"{path} can't be read as a MATLAB file (up to version 7.2): {error}") from error
    if getattr(content.get("RELEASE"), "annolist", None) is None:
        raise ValueError(f"{path} is not MPII's mpii_human_pose_v1_u12_1.mat: it has no RELEASE.annolist")
    return content["RELEASE"]


def _read_rectangle(rectangle: Any, image: str, where: str) -> Person | None:
    """One person of an image; None where nobody labeled keypoints."""
    points = getattr(getattr(rectangle, "annopoints", None), "point", None)
    if points is None:
        return None
    positions, visibility = np.zeros((COUNT, 2)), np.zeros(COUNT, dtype=int)
    for point in np.atleast_1d(points):
        number = int(point.id)
        if not 0 <= number < COUNT:
            raise ValueError(f"{where}: a point's id must be 0 to {COUNT - 1}; got {number}")
        positions[number] = float(point.x), float(point.y)
        visibility[number] = HIDDEN if _is_hidden(getattr(point, "is_visible", None)) else VISIBLE
    center, scale = (-1.0, -1.0), -1.0
    place = getattr(rectangle, "objpos", None)
    stated: list[Any] = [getattr(place, "x", None), getattr(place, "y", None), getattr(rectangle, "scale", None)]
    if all(map(_is_scalar, stated)):
        center, scale = (float(stated[0]), float(stated[1])), float(stated[2])
    head: list[Any] = [getattr(rectangle, name, None) for name in ("x1", "y1", "x2", "y2")]
    record = MpiiPerson(image, center, scale, positions, visibility > 0, math.nan)
    return _to_person(record, visibility, [float(side) for side in head] if all(map(_is_scalar, head)) else None)


def _is_hidden(value: Any) -> bool:
    """The field is "0", 0 or empty; neck and head have none."""
    return str(value) == "0"


def _is_scalar(value: Any) -> bool:
    return value is not None and np.ndim(value) == 0 and np.size(value) == 1
