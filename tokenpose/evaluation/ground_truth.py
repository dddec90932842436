"""What COCO's figures are measured against: the annotations of a file as pycocotools needs them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from tokenpose.data.coco_columns import CocoColumns
from tokenpose.data.faults import raise_first
from tokenpose.data.sigmas import SHARE_OF_BOX

IGNORED = "neither keypoints nor a box"


@dataclass(frozen=True, kw_only=True)
class GroundTruth:
    """The annotations of one category, crowds and people without keypoints included; a row each."""

    columns: CocoColumns
    rows: Int[np.ndarray, " annotations"]
    """Which of the columns' rows pycocotools gets."""
    areas: Float[np.ndarray, " annotations"]
    num_keypoints: Int[np.ndarray, " annotations"]
    completed: Mapping[str, int]
    """How many annotations lack a field, which gets a value here, or are ignored (`IGNORED`)."""

    @property
    def people(self) -> int:
        """How many annotations count: no crowds, with keypoints."""
        return int((~self.columns.is_crowd[self.rows] & (self.num_keypoints > 0)).sum())

    @property
    def category(self) -> Mapping[str, Any]:
        """The category's record."""
        return self.columns.category

    @property
    def image_ids(self) -> Sequence[Any]:
        """The ids of all images of the file."""
        return self.columns.image_ids

    @property
    def annotations(self) -> list[dict[str, Any]]:
        """Records for pycocotools, new ones each time since it writes into them; keypoints are views of the columns."""
        columns, boxes = self.columns, self.columns.boxes[self.rows].tolist()
        return [
            {
                "id": number,  # pycocotools takes the id 0 for "none"
                "image_id": columns.image_ids[columns.image_index[row]],
                "category_id": columns.category["id"],
                "iscrowd": int(columns.is_crowd[row]),
                "bbox": box,
                "area": area,
                "num_keypoints": count,
                "keypoints": columns.keypoints[row].reshape(-1),
            }
            for number, (row, box, area, count) in enumerate(
                zip(self.rows.tolist(), boxes, self.areas.tolist(), self.num_keypoints.tolist(), strict=True), 1
            )
        ]


def make_ground_truth(columns: CocoColumns) -> GroundTruth:
    """The annotations of a COCO keypoint file that pycocotools needs.

    An annotation without ``area`` gets 0.53 of its box, one without ``iscrowd`` is no crowd, and one whose
    ``num_keypoints`` is missing or contradicts its labels has as many as are labeled. Crowds and people
    without keypoints are ignored where they have no box: predictions in their boxes are not counted as wrong, and they
    have none. Raises ValueError for the first fault.
    """
    raise_first(columns.faults, columns.path, "evaluation")
    has_box = columns.has_box
    rows = np.flatnonzero(has_box)
    areas, counts = columns.areas[rows], columns.num_keypoints[rows]
    sides = columns.boxes[rows, 2:].clip(0)
    of_box = SHARE_OF_BOX * sides[:, 0] * sides[:, 1]
    uncounted = np.isnan(counts) | columns.contradicts_count[rows]
    missing = {
        "area": int(np.isnan(areas).sum()),
        "num_keypoints": int(np.isnan(counts).sum()),
        "iscrowd": int((~columns.states_crowd[rows]).sum()),
        IGNORED: int((~has_box).sum()),
    }
    return GroundTruth(
        columns=columns,
        rows=rows,
        areas=np.where(np.isnan(areas), of_box, areas),
        num_keypoints=np.where(uncounted, columns.labeled_counts[rows], counts).astype(np.int64),
        completed={name: count for name, count in missing.items() if count},
    )
