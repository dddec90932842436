"""Poses: the people found in one image."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from tokenpose.skeletons import Skeleton


@dataclass(frozen=True, kw_only=True)
class Poses:
    """The people of one image, as float32 arrays.

    ``keypoints`` (people, K, 2) as (x, y) in image pixels; ``scores`` (people, K), the peaks of their heatmaps,
    or the probabilities that they are correct (`tokenpose.calibrate`); ``boxes`` (people, 4) as x1, y1, x2, y2: the
    boxes that were given.
    """

    keypoints: Float[np.ndarray, "people keypoints 2"]
    scores: Float[np.ndarray, "people keypoints"]
    boxes: Float[np.ndarray, "people 4"]
    skeleton: Skeleton

    def __len__(self) -> int:
        return len(self.keypoints)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """People one by one, each ``{name: (x, y, score)}``."""
        for points, scores in zip(self.keypoints, self.scores, strict=True):
            triples = np.concatenate((points, scores[:, None]), axis=1).tolist()
            yield dict(zip(self.skeleton.keypoints, map(tuple, triples), strict=True))

    def to_coco(self, image_id: int | str, category_id: int = 1) -> list[dict[str, Any]]:
        """Records of a COCO results file: a flat x, y, score list, the box (x, y, width, height) and the mean score."""
        records = []
        for points, scores, (x1, y1, x2, y2) in zip(self.keypoints, self.scores, self.boxes.tolist(), strict=True):
            triples = np.concatenate((points, scores[:, None]), axis=1)
            records.append(
                {
                    "image_id": image_id,
                    "category_id": category_id,
                    "keypoints": [round(value, 4) for value in triples.ravel().tolist()],
                    "score": float(scores.mean()),
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                }
            )
        return records
