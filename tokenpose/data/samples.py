"""Samples: who is where in which image, as arrays."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from tokenpose.skeletons import Skeleton


@dataclass(frozen=True, kw_only=True)
class Samples:
    """People with labeled keypoints, a row each; pixels of the image named in ``files[image_index]``."""

    skeleton: Skeleton
    files: tuple[str, ...]
    image_ids: Int[np.ndarray, " images"]
    image_index: Int[np.ndarray, " people"]
    boxes: Float[np.ndarray, "people 4"]
    """x, y, width, height."""
    keypoints: Float[np.ndarray, "people keypoints 2"]
    visible: Bool[np.ndarray, "people keypoints"]
    skipped: dict[str, int]
    """How many annotations are left out, by reason."""
    weights: Float[np.ndarray, "people keypoints"] | None = None
    """How much each keypoint counts in training, from 0 to 1; None: each labeled one counts fully."""
    annotation_ids: Int[np.ndarray, " people"] | None = None
    """The records' ids in their file; None where they are not whole numbers."""
    areas: Float[np.ndarray, " people"] | None = None
    """Areas of the segmented people in square pixels; NaN where a record has none, None if no record has one."""
    head_sizes: Float[np.ndarray, " people"] | None = None
    """MPII's measure of a person, in pixels; NaN where it isn't known, None if it is known for no one."""
    origins: tuple[str, ...] = ("the data",)
    """The annotation files that they come from."""
    origin_index: Int[np.ndarray, " images"] | None = None
    """Which of the origins each image comes from; None: all from the first."""
    outside: int = 0
    """How many labeled keypoints lie outside their image; these are kept, as published."""

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def origin(self) -> str:
        """The annotation files, for messages."""
        return " + ".join(self.origins)

    def file_of(self, person: int) -> str:
        """The name of the image file of one person."""
        return self.files[self.image_index[person]]

    def origin_of(self, image: int) -> int:
        """Which of the origins an image comes from."""
        return 0 if self.origin_index is None else int(self.origin_index[image])

    def name_of(self, person: int) -> str:
        """What messages call one person: the annotation's id, or the place among the people, and the file."""
        number = f"person {person}" if self.annotation_ids is None else f"annotation {self.annotation_ids[person]}"
        return f"{number} of {self.origins[self.origin_of(int(self.image_index[person]))]}"

    @property
    def left_out(self) -> str:
        """How many annotations are left out, and why: "1 crowd, 2 no labeled keypoint", or "none"."""
        return ", ".join(f"{count} {reason}" for reason, count in self.skipped.items()) or "none"

    def describe(self) -> str:
        """What was read and left out, in one line: "people.json: 3 annotations: 2 people; left out: 1 crowd"."""
        line = f"{self.origin}: {_count(len(self) + sum(self.skipped.values()), 'annotation', 'annotations')}"
        line += f": {_count(len(self), 'person', 'people')}; left out: {self.left_out}"
        keypoints = _count(self.outside, "keypoint", "keypoints")
        return f"{line}; {keypoints} outside their image, kept" if self.outside else line

    def take(self, rows: "Int[np.ndarray, ' rows'] | slice") -> "Samples":
        """Some of the people; the list of files stays whole."""
        return replace(
            self,
            image_index=self.image_index[rows],
            boxes=self.boxes[rows],
            keypoints=self.keypoints[rows],
            visible=self.visible[rows],
            weights=None if self.weights is None else self.weights[rows],
            annotation_ids=None if self.annotation_ids is None else self.annotation_ids[rows],
            areas=None if self.areas is None else self.areas[rows],
            head_sizes=None if self.head_sizes is None else self.head_sizes[rows],
        )


def _count(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"
