"""COCO keypoint files as photographs with people: what is written in other tools' formats."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tokenpose.data.coco import read_columns
from tokenpose.data.coco_columns import CocoColumns
from tokenpose.data.faults import raise_first
from tokenpose.data.formats.labels import Category, Keypoint, Person, Photograph

logger = logging.getLogger(__name__)


class LabelFile(NamedTuple):
    """The photographs of files, and the category of their people."""

    photographs: Sequence[Photograph]
    category: Category


def read_people(paths: Sequence[Path], category: str | None = None) -> LabelFile:
    """The people of COCO keypoint files with the same keypoints, without crowds.

    Images keep their order; a file's images without people are among them. Raises FileNotFoundError, and ValueError for
    faults of the files, and for files with different keypoints.
    """
    files = [read_columns(path, category) for path in paths]
    photographs = list[Photograph]()
    for columns in files:
        raise_first(columns.faults, columns.path, "evaluation")
        if columns.skeleton.keypoints != files[0].skeleton.keypoints:
            raise ValueError(f"{columns.path} has other keypoints than {files[0].path}; export them one at a time")
        photographs += _photographs(columns)
    skeleton = files[0].skeleton
    chosen = Category(
        name=str(files[0].category.get("name", "person")),
        keypoints=skeleton.keypoints,
        limbs=skeleton.limbs,
        flip_pairs=skeleton.flip_pairs,
    )
    return LabelFile(photographs, chosen)


def _photographs(columns: CocoColumns) -> list[Photograph]:
    """The images that have a name and a size; a fault says so where one hasn't."""
    rows_of: dict[int, list[int]] = {}
    for row in np.flatnonzero(~columns.is_crowd).tolist():
        rows_of.setdefault(int(columns.image_index[row]), []).append(row)
    name = str(columns.category.get("name", "person"))
    photographs = []
    for index, (file, (width, height)) in enumerate(zip(columns.files, columns.sizes.tolist(), strict=True)):
        people = [_person(columns, row, name) for row in rows_of.get(index, ())]
        photographs.append(Photograph(file=str(file), width=int(width), height=int(height), people=people))
    return photographs


def _person(columns: CocoColumns, row: int, category: str) -> Person:
    box = columns.boxes[row]
    scores = [None] * len(columns.skeleton) if columns.scores is None else columns.scores[row].tolist()
    keypoints = {
        name: Keypoint(x, y, min(int(v), 2), score)
        for name, (x, y, v), score in zip(
            columns.skeleton.keypoints, columns.keypoints[row].tolist(), scores, strict=True
        )
        if v > 0
    }
    left, top, width, height = box.tolist()
    identity = columns.ids[row]
    return Person(
        category=category,
        keypoints=keypoints,
        box=None if np.isnan(box).any() else (left, top, width, height),
        fields={"id": identity if isinstance(identity, str | int | float) else row},
    )
