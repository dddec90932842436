import json

import numpy as np
import pytest

from tokenpose.poses import Poses
from tokenpose.skeletons import Skeleton

FOX = Skeleton(name="fox", keypoints=("nose", "tail"))


def make_poses(people: int = 2) -> Poses:
    return Poses(
        keypoints=np.array([[[1, 2], [3, 4]], [[5.5, 6], [7, -8]]], dtype=np.float32)[:people],
        scores=np.array([[0.5, 1.0], [0.25, 0.25]], dtype=np.float32)[:people],
        boxes=np.array([[0, 0, 10, 20], [5, 6, 8, 10]], dtype=np.float32)[:people],
        skeleton=FOX,
    )


def test_length_is_the_number_of_people():
    assert [len(make_poses(people)) for people in (0, 1, 2)] == [0, 1, 2]


def test_people_come_one_by_one_with_named_keypoints():
    assert list(make_poses()) == [
        {"nose": (1, 2, 0.5), "tail": (3, 4, 1)},
        {"nose": (5.5, 6, 0.25), "tail": (7, -8, 0.25)},
    ]


def test_coco_records_hold_flat_triples_the_mean_score_and_the_box_as_xywh():
    first, second = make_poses().to_coco(image_id=42)
    assert first == {
        "image_id": 42,
        "category_id": 1,
        "keypoints": [1, 2, 0.5, 3, 4, 1],
        "score": 0.75,
        "bbox": [0, 0, 10, 20],
    }
    assert second["bbox"] == [5, 6, 3, 4]
    assert second["score"] == 0.25


def test_coco_records_survive_json():
    records = make_poses().to_coco("photo", category_id=3)
    assert json.loads(json.dumps(records)) == records
    assert {record["category_id"] for record in records} == {3}


def test_nobody_gives_no_records():
    assert make_poses(0).to_coco(1) == list(make_poses(0)) == []


def test_poses_are_frozen_and_keyword_only():
    with pytest.raises(AttributeError):
        make_poses().scores = np.zeros((2, 2), dtype=np.float32)
    with pytest.raises(TypeError):
        Poses(np.zeros((1, 2, 2)), np.zeros((1, 2)), np.zeros((1, 4)), FOX)
