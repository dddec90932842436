"""People of five keypoints, whose torsos are 50 pixels long."""

import numpy as np

from tokenpose.data.samples import Samples
from tokenpose.skeletons import Skeleton

BODY = Skeleton(
    name="body",
    keypoints=("right_shoulder", "left_shoulder", "right_hip", "left_hip", "head"),
    flip_pairs=((0, 1), (2, 3)),
)


PERSON = np.array([[0, 0], [30, 0], [0, 40], [30, 40], [15, -20]], dtype=np.float32)


def people(count: int) -> tuple[np.ndarray, np.ndarray]:
    return np.repeat(PERSON[None], count, axis=0), np.ones((count, 5), dtype=bool)


def samples(count: int = 1, skeleton: Skeleton = BODY, **changes) -> Samples:
    """People as PERSON, in boxes of 30 x 40."""
    keypoints, visible = people(count)
    given = {
        "skeleton": skeleton,
        "files": ("a.png",),
        "image_ids": np.array([1]),
        "image_index": np.zeros(count, dtype=np.int64),
        "boxes": np.tile(np.float32([0, 0, 30, 40]), (count, 1)),
        "keypoints": keypoints,
        "visible": visible,
        "skipped": {},
    }
    return Samples(**{**given, **changes})


HEADED = Skeleton(name="headed", keypoints=("a", "b", "c", "head_top", "upper_neck"), flip_pairs=())
