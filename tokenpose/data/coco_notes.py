"""What is read in another way than the annotations of a COCO keypoint file say it, and the lines that say so."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float

from tokenpose.data.coco_columns import CocoColumns
from tokenpose.data.faults import Note, name_record

LARGEST_OF_BOX = 2.0
"""How many times as large as its box an area may be. COCO's areas are parts of their boxes; other files have
that of a box that was drawn more loosely."""
SMALLEST_OF_BOX = 1e-3
"""The smallest part of its box that an area may be."""
SMALLEST_AREA = 1.0
"""Square pixels. Nobody is that small: 0 and 1 stand for "unknown", and shares of the image lie between."""
TINY_BOX = 100.0
"""Square pixels; in smaller boxes an area may be that small."""


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
    too_small = (areas <= 0) | (areas < SMALLEST_OF_BOX * of_boxes) | ((areas <= SMALLEST_AREA) & (of_boxes > TINY_BOX))
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


def _example(columns: CocoColumns, rows: Bool[np.ndarray, " rows"]) -> str:
    """How many annotations, and the first of them: "3 annotations, for example annotation 7 in a.jpg"."""
    count, row = int(rows.sum()), int(np.argmax(rows))
    image = int(columns.image_index[row])
    file = columns.files[image] if image >= 0 else None
    first = name_record("annotations", int(columns.positions[row]), columns.ids[row], file)
    return f"1 annotation, {first}" if count == 1 else f"{count} annotations, for example {first}"
