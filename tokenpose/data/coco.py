"""COCO keypoint files -> samples."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from tokenpose.data.coco_categories import (
    choose_categories,
    choose_predicted_categories,
    number_keypoints,
    read_skeleton,
)
from tokenpose.data.coco_columns import CocoColumns, select_columns
from tokenpose.data.coco_corrections import (
    check_growth,
    drop_impossible_areas,
    fill_boxes,
    note_categories,
    note_contradicted_counts,
    note_truth_values,
)
from tokenpose.data.coco_faults import find_faults
from tokenpose.data.coco_records import read_sections
from tokenpose.data.faults import raise_first
from tokenpose.data.samples import Samples


def read_coco(
    path: str | Path, category: str | Sequence[str] | None = None, *, boxes_from_keypoints: float | None = None
) -> Samples:
    """The labeled people of a COCO keypoint file, of the category of that name (None: those with keypoints).

    Several categories are read as one if they have the very same keypoints, and else refused.

    As published: crowds and annotations without a labeled keypoint are left out, boxes are cut to their image, those
    without area are left out, and keypoints outside their image stay. Image ids that are not whole numbers are replaced
    by the images' positions, from 0. ``boxes_from_keypoints``: as in `read_columns`.

    Raises FileNotFoundError, and ValueError that names file and record.
    """
    return to_samples(read_columns(path, category, boxes_from_keypoints=boxes_from_keypoints))


def read_columns(
    path: str | Path,
    category: str | Sequence[str] | None = None,
    *,
    annotated: bool = True,
    boxes_from_keypoints: float | None = None,
) -> CocoColumns:
    """A COCO keypoint file's images, the annotations of one category or of several as one, and what is wrong with them.

    Unless it must be ``annotated``, a file may list images only; its category "person" then has COCO's keypoints.
    ``boxes_from_keypoints``: people without a box get that of their labeled keypoints, grown by this share of its width
    and height on each side.

    Raises FileNotFoundError, and ValueError for a file that is not COCO keypoint JSON or has no such category.
    """
    check_growth(boxes_from_keypoints)
    path = Path(path)
    images, annotations, categories = read_sections(path, annotated=annotated)
    named, numbered = number_keypoints(categories, category, annotations.count_numbers, path)
    choose = choose_categories if annotated or annotations.ids else choose_predicted_categories
    chosen = choose(named, category, path)
    skeleton, faults, notes = read_skeleton(chosen[0][1], chosen[0][0], path)
    columns = select_columns(path, images, annotations, [record for _, record in chosen], skeleton)
    columns = replace(columns, notes=(*numbered, *note_categories(columns.categories), *notes))
    columns = drop_impossible_areas(columns, annotations.odd_areas)  # before boxes: a new one says nothing of the area
    if boxes_from_keypoints is not None:
        unreadable = np.isin(columns.positions, annotations.unreadable("bbox"))
        columns = fill_boxes(columns, boxes_from_keypoints, unreadable)
    columns = note_contradicted_counts(note_truth_values(columns, annotations.truth_values))
    return replace(columns, faults=(*faults, *find_faults(images, annotations, categories, columns)))


def to_samples(columns: CocoColumns, *, unlabeled: bool = False) -> Samples:
    """The people to train on, as `read_coco` says. ``unlabeled``: also those with a box and without a labeled keypoint.

    Raises ValueError for the first fault that concerns them.
    """
    raise_first(columns.faults, columns.path, "evaluation" if unlabeled else "training")
    has_box = ~np.isnan(columns.boxes).any(axis=1)
    taken = (columns.is_labeled | (has_box if unlabeled else False)) & ~columns.is_crowd
    rows = np.flatnonzero(taken)
    boxes, has_area = cut_boxes(columns.boxes[rows], columns.sizes[columns.image_index[rows]])
    rows = rows[has_area]
    index = columns.image_index[rows]
    keypoints, visible = columns.keypoints[rows, :, :2].astype(np.float32), columns.keypoints[rows, :, 2] > 0
    outside = ((keypoints < 0) | (keypoints >= columns.sizes[index][:, None])).any(axis=-1)
    skipped = {
        "crowd": int(columns.is_crowd.sum()),
        "no labeled keypoint": int((~taken & ~columns.is_crowd).sum()),
        "box without area": int((~has_area).sum()),
        "other category": columns.other_categories,
    }
    ids = whole_numbers(columns.image_ids)
    return Samples(
        skeleton=columns.skeleton,
        files=tuple(map(str, columns.files)),
        image_ids=np.arange(len(columns.files)) if ids is None else ids,
        image_index=index,
        boxes=boxes[has_area].astype(np.float32),
        keypoints=keypoints,
        visible=visible,
        weights=None if columns.scores is None else columns.scores[rows].astype(np.float32),
        skipped={reason: count for reason, count in skipped.items() if count},
        annotation_ids=whole_numbers([columns.ids[row] for row in rows.tolist()]),
        areas=_areas_of(columns, rows),
        origins=(str(columns.path),),
        outside=int((visible & outside).sum()),
    )


def cut_boxes(
    boxes: Float[np.ndarray, "rows 4"], sizes: Float[np.ndarray, "rows 2"]
) -> tuple[Float[np.ndarray, "rows 4"], Bool[np.ndarray, " rows"]]:
    """Boxes x, y, width, height cut to images (width, height) as published; which have area.

    A corner left of or above the image moves in and the size stays. A box inside its image stays as it is.
    """
    corner = np.maximum(boxes[:, :2], 0)
    extent = np.minimum(sizes - 1, corner + np.maximum(boxes[:, 2:] - 1, 0)) - corner + 1
    return np.concatenate((corner, extent), axis=1), ((extent >= 1) & (boxes[:, 2:] > 0)).all(axis=1)


def whole_numbers(ids: Sequence[Any]) -> Int[np.ndarray, " ids"] | None:
    """The ids as an array; None where one of them is missing, or is not a whole number."""
    try:
        numbers = np.array([math.trunc(number) for number in ids], dtype=np.int64)
    except (TypeError, ValueError, OverflowError):
        return None
    return numbers if numbers.tolist() == list(ids) else None


def _areas_of(columns: CocoColumns, rows: Int[np.ndarray, " people"]) -> Float[np.ndarray, " people"] | None:
    """The records' areas, None where no record has one."""
    areas = columns.areas[rows].astype(np.float32)
    return None if len(areas) and np.isnan(areas).all() else areas
