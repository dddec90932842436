"""The columns of a COCO keypoint file: its images, and the annotations of one category or of several as one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from tokenpose.data.coco_records import NOT_STATED, AnnotationRecords, ImageRecords
from tokenpose.data.faults import Fault, Note
from tokenpose.skeletons import Skeleton


@dataclass(frozen=True, kw_only=True)
class CocoColumns:
    """A file's images, and the annotations of the chosen categories: a row each, in the file's order, with crowds."""

    path: Path
    categories: tuple[Mapping[str, Any], ...]
    """The records of the chosen categories: one, or several with the very same keypoints, which are read as one."""
    skeleton: Skeleton
    image_ids: list[Any]
    """As the file has them."""
    files: list[str | None]
    """The images' file names; None where a record has none."""
    sizes: Float[np.ndarray, "images 2"]
    """Width and height, NaN where the record has no size."""
    annotated: Int[np.ndarray, " images"]
    """How many annotations of any category each image has."""
    positions: Int[np.ndarray, " rows"]
    """The annotations' places in the file's list."""
    ids: list[Any]
    """As the file has them."""
    image_index: Int[np.ndarray, " rows"]
    """-1 for an image that isn't listed."""
    is_crowd: Bool[np.ndarray, " rows"]
    states_crowd: Bool[np.ndarray, " rows"]
    """Whether the record has ``iscrowd``."""
    boxes: Float[np.ndarray, "rows 4"]
    """x, y, width, height; NaN where the record has none, or something else."""
    areas: Float[np.ndarray, " rows"]
    """In square pixels; NaN where the record has none, something else, or an area that can't belong to its box."""
    num_keypoints: Float[np.ndarray, " rows"]
    """What the record says; NaN where it has none, or something else."""
    keypoints: Float[np.ndarray, "rows keypoints 3"]
    """x, y, v; 0 where the record has none, NaN where it has something else."""
    scores: Float[np.ndarray, "rows keypoints"] | None
    """Of the keypoints: 1 where the record has none, NaN where it has something else; None if no record has any."""
    other_categories: int
    """How many annotations are of the file's other categories."""
    faults: tuple[Fault, ...] = ()
    """Everything that is wrong with the records: of the category, of images, of annotations, each by position."""
    notes: tuple[Note, ...] = ()
    """What is read in another way than the records say it."""

    @property
    def category(self) -> Mapping[str, Any]:
        """The record of the first category."""
        return self.categories[0]

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def lists_images_only(self) -> bool:
        """Whether the file has no annotations at all, of any category."""
        return not len(self) and not self.other_categories

    @property
    def is_labeled(self) -> Bool[np.ndarray, " rows"]:
        """Which annotations have a keypoint with v above 0."""
        return np.asarray((self.keypoints[..., 2] > 0).any(axis=1))

    @property
    def labeled_counts(self) -> Int[np.ndarray, " rows"]:
        """How many keypoints with v above 0 the annotations have."""
        return np.asarray((self.keypoints[..., 2] > 0).sum(axis=1))

    @property
    def contradicts_count(self) -> Bool[np.ndarray, " rows"]:
        """Which annotations say by ``num_keypoints`` that no keypoint is labeled where one is, or the reverse.

        Other differences change no figure: COCO's evaluation only asks whether it is 0.
        """
        return np.where(self.num_keypoints == 0, self.is_labeled, (self.num_keypoints > 0) & self.is_unlabeled)

    @property
    def has_box(self) -> Bool[np.ndarray, " rows"]:
        """Which annotations have four numbers as their box."""
        return ~np.isnan(self.boxes).any(axis=1)

    @property
    def is_unlabeled(self) -> Bool[np.ndarray, " rows"]:
        """Which annotations have no such keypoint for certain: none whose numbers can't be read."""
        return ~self.is_labeled & ~np.isnan(self.keypoints).any(axis=(1, 2))


MOST_UNSTATED = 30_000_000
"""Of a category's numbers x, y, v, how many the file may leave out, unless it states a quarter of them."""


def _refuse_empty_millions(path: Path, needed: int, stated: int) -> None:
    """Raise ValueError for a small file whose annotations without keypoints would fill the memory with zeros."""
    if needed > max(MOST_UNSTATED, 4 * stated):
        raise ValueError(
            f"{path}: its annotations would have {needed:,} numbers x, y, v, and {stated:,} are in the file: leave "
            "annotations without keypoints out"
        )


def select_columns(
    path: Path,
    images: ImageRecords,
    annotations: AnnotationRecords,
    categories: Sequence[Mapping[str, Any]],
    skeleton: Skeleton,
) -> CocoColumns:
    """The columns of the categories' annotations, without faults. Raises ValueError as `_refuse_empty_millions`."""
    chosen = [category["id"] for category in categories]
    of_category = np.array([other in chosen for other in annotations.category_ids], dtype=bool)
    rows = np.flatnonzero(of_category)
    _refuse_empty_millions(path, rows.size * len(skeleton) * 3, len(annotations.keypoints))
    image_index = annotations.find_images(images.positions)
    crowds = np.frombuffer(annotations.crowds, dtype=np.uint8)[rows]
    return CocoColumns(
        path=path,
        categories=tuple(categories),
        skeleton=skeleton,
        image_ids=images.ids,
        files=images.files,
        sizes=np.array(images.sizes, dtype=np.float64).reshape(-1, 2),
        annotated=np.bincount(image_index[image_index >= 0], minlength=len(images.ids)),
        positions=rows,
        ids=[annotations.ids[row] for row in rows.tolist()],
        image_index=image_index[rows],
        is_crowd=crowds == 1,
        states_crowd=crowds != NOT_STATED,
        boxes=np.array(annotations.boxes, dtype=np.float64).reshape(-1, 4)[rows],
        areas=np.array(annotations.areas, dtype=np.float64)[rows],
        num_keypoints=np.array(annotations.num_keypoints, dtype=np.float64)[rows],
        keypoints=annotations.keypoints_of(of_category, len(skeleton)),
        scores=annotations.scores_of(of_category, len(skeleton)),
        other_categories=int((~of_category).sum()),
    )
