"""Values of annotations that are read in another way than a COCO keypoint file has them, and the lines that say so."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from tokenpose.data.coco_columns import CocoColumns
from tokenpose.data.faults import Note, name_record
from tokenpose.files import is_number

LARGEST_OF_BOX = 2.0
"""How many times as large as its box an area may be. COCO's areas are parts of their boxes; other files have
that of a box that was drawn more loosely."""
SMALLEST_OF_BOX = 1e-3
"""The smallest part of its box that an area may be."""
SMALLEST_AREA = 1.0
"""Square pixels. Nobody is that small: 0 and 1 stand for "unknown", and shares of the image lie between."""
TINY_BOX = 100.0
"""Square pixels; in smaller boxes an area may be that small."""


def check_growth(boxes_from_keypoints: float | None) -> None:
    """Raise ValueError for a share that boxes can't grow by."""
    if boxes_from_keypoints is not None and not (is_number(boxes_from_keypoints) and boxes_from_keypoints >= 0):
        raise ValueError(
            "boxes_from_keypoints is the share of the keypoints' extent that their box grows by on each side, a number "
            f"of at least 0, for example 0.15; got {boxes_from_keypoints!r:.80}"
        )


def fill_boxes(columns: CocoColumns, growth: float, unreadable: Bool[np.ndarray, " rows"]) -> CocoColumns:
    """The columns with boxes around the labeled keypoints where an annotation has no box, or one of 0 by 0.

    ``growth``: the share of the extent that is added on each side, before the box is cut to the image. Where the
    keypoints lie on a vertical or horizontal line, that side grows by the share of the other. ``unreadable`` boxes stay
    what they are. A note counts the new ones.
    """
    is_missing = (~columns.has_box & ~unreadable) | (columns.boxes[:, 2:] == 0).all(axis=1)
    is_known = np.isfinite(columns.keypoints).all(axis=(1, 2)) & (columns.image_index >= 0)
    filled = is_missing & is_known & columns.is_labeled & ~columns.is_crowd
    if not filled.any():
        return columns
    boxes = columns.boxes.copy()
    boxes[filled] = box_keypoints(columns.keypoints[filled], columns.sizes[columns.image_index[filled]], growth)
    note = Note(
        field="bbox",
        message=f"bbox is missing in {_example(columns, filled)}: it is that of the labeled keypoints, grown by "
        f"{growth:g} of their extent a side",
        advice="look at a preview: the crops are made from it",
        is_warning=False,
        positions=tuple(columns.positions[filled].tolist()),
    )
    return replace(columns, boxes=boxes, notes=(*columns.notes, note))


def box_keypoints(
    keypoints: Float[np.ndarray, "people keypoints 3"], sizes: Float[np.ndarray, "people 2"], growth: float
) -> Float[np.ndarray, "people 4"]:
    """Boxes x, y, width, height of keypoints x, y, v with v above 0, grown and cut as `fill_boxes` says.

    ``sizes``: of the images, width and height; a box isn't cut where they are NaN.
    """
    labeled = keypoints[..., 2:] > 0
    low = np.where(labeled, keypoints[..., :2], np.inf).min(axis=1)
    high = np.where(labeled, keypoints[..., :2], -np.inf).max(axis=1)
    extent = high - low
    margin = growth * np.where(extent > 0, extent, extent.max(axis=1, keepdims=True))
    first, last = np.fmax(low - margin, 0), np.fmin(high + margin, sizes)
    return np.concatenate((first, np.maximum(last - first, 0)), axis=1)


def drop_impossible_areas(columns: CocoColumns, odd: Mapping[int, str]) -> CocoColumns:
    """The columns without areas that can't belong to their boxes, and with a note that counts them.

    ``odd``: numbers that are no areas, as text, by the annotation's place in the file's list.
    """
    stated_odd = np.isin(columns.positions, list(odd))
    impossible = (stated_odd | _is_impossible(columns)) & (columns.has_box | columns.is_labeled)
    if not impossible.any():
        return columns
    row = int(np.argmax(impossible))
    area = odd.get(int(columns.positions[row]), f"{columns.areas[row]:g}")
    width, height = columns.boxes[row, 2:]
    box = f" in a box of {width:g} x {height:g}" if columns.has_box[row] else ""
    example = f"{_example(columns, impossible)} with {area}{box}"
    note = Note(
        field="area",
        message=f"area can't belong to the box in {example}: it counts as missing",
        advice="give the area of the person in square pixels, or leave it out",
        positions=tuple(columns.positions[impossible].tolist()),
    )
    return replace(columns, areas=np.where(impossible, np.nan, columns.areas), notes=(*columns.notes, note))


def _is_impossible(columns: CocoColumns) -> Bool[np.ndarray, " rows"]:
    """Which areas are no one's in the annotation's box and image; none where the record has no area."""
    areas, sides = columns.areas, columns.boxes[:, 2:].clip(0)
    of_boxes, of_images = sides[:, 0] * sides[:, 1], _image_areas(columns)
    too_small = (
        (areas <= 0) | (areas < SMALLEST_OF_BOX * of_boxes) | ((areas <= SMALLEST_AREA) & ~(of_boxes <= TINY_BOX))
    )
    too_large = (areas > of_images) | ((of_boxes > 0) & (areas > LARGEST_OF_BOX * of_boxes))
    return np.asarray(too_small | too_large)


def _image_areas(columns: CocoColumns) -> Float[np.ndarray, " rows"]:
    """In square pixels; NaN where the image isn't known."""
    areas = np.append(columns.sizes[:, 0] * columns.sizes[:, 1], np.nan)
    return np.asarray(areas[columns.image_index])


def note_contradicted_counts(columns: CocoColumns) -> CocoColumns:
    """The columns with a note that counts the annotations whose num_keypoints contradicts their labels."""
    contradicted = columns.contradicts_count & columns.has_box
    if not contradicted.any():
        return columns
    row = int(np.argmax(contradicted))
    stated, labeled = f"{columns.num_keypoints[row]:g}", int(columns.labeled_counts[row])
    example = f"{_example(columns, contradicted)} with {stated} where v is above 0 for {labeled}"
    note = Note(
        field="num_keypoints",
        message=f"num_keypoints contradicts the labels in {example}: the labels are counted",
        advice="correct num_keypoints, or leave it out",
        positions=tuple(columns.positions[contradicted].tolist()),
    )
    return replace(columns, notes=(*columns.notes, note))


def note_categories(categories: Sequence[Mapping[str, Any]]) -> list[Note]:
    """A note where several categories are read as one."""
    if len(categories) < 2:
        return []
    names = ", ".join(f"{category.get('name')!s:.40}" for category in categories[:10])
    more = f" and {len(categories) - 10} more" if len(categories) > 10 else ""
    message = f"{len(categories)} categories have the same keypoints and are read as one: {names}{more}"
    advice = "choose with --category NAME, in Python category=NAME, to read some of them"
    return [Note(field="categories", message=message, advice=advice, is_warning=False)]


def note_truth_values(columns: CocoColumns, truth_values: Sequence[int]) -> CocoColumns:
    """The columns with a note that counts the annotations at these places in the file's list, whose v is a boolean."""
    has_truth = np.isin(columns.positions, truth_values)
    if not has_truth.any():
        return columns
    note = Note(
        field="keypoints",
        message=f"v is true or false in {_example(columns, has_truth)}: true is read as 1, labeled, and false as 0, "
        "not labeled",
        advice="write 2 for visible, 1 for hidden and 0 for not labeled, if that is not what they mean",
        positions=tuple(columns.positions[has_truth].tolist()),
    )
    return replace(columns, notes=(*columns.notes, note))


def _example(columns: CocoColumns, rows: Bool[np.ndarray, " rows"]) -> str:
    """How many annotations, and the first of them: "3 annotations, for example annotation 7 in a.jpg"."""
    count, row = int(rows.sum()), int(np.argmax(rows))
    image = int(columns.image_index[row])
    file = columns.files[image] if image >= 0 else None
    first = name_record("annotations", int(columns.positions[row]), columns.ids[row], file)
    return f"1 annotation, {first}" if count == 1 else f"{count} annotations, for example {first}"
