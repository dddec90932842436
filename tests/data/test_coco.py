import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tokenpose.data.coco import read_coco
from tokenpose.skeletons import COCO, LSP

SEEN = [10, 20, 2, 30, 40, 1, 0, 0, 0]


def record(**changes: Any) -> dict[str, Any]:
    return {"id": 7, "image_id": 3, "category_id": 1, "iscrowd": 0, "bbox": [5, 6, 21, 31], "keypoints": SEEN} | changes


def content(*annotations: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "images": [
            {"id": 3, "file_name": "a.jpg", "height": 100, "width": 80},
            {"id": 1, "file_name": "b.jpg", "height": 50, "width": 60},
        ],
        "annotations": list(annotations),
        "categories": [
            {"id": 1, "name": "fly", "keypoints": ["head", "left_wing", "right_wing"], "skeleton": [[1, 2], [1, 3]]}
        ],
    } | changes


@pytest.fixture
def write(tmp_path):
    def save(values: Any) -> Path:
        path = tmp_path / "people.json"
        path.write_text(values if isinstance(values, str) else json.dumps(values))
        return path

    return save


def test_people_are_read_with_boxes_keypoints_and_skeleton(write):
    samples = read_coco(write(content(record(), record(id=8, image_id=1, bbox=[0, 0, 10, 20]))))
    assert len(samples) == 2
    assert samples.files == ("a.jpg", "b.jpg")
    assert samples.image_ids.tolist() == [3, 1]
    assert samples.image_index.tolist() == [0, 1]
    assert [samples.file_of(0), samples.file_of(1)] == ["a.jpg", "b.jpg"]
    assert samples.keypoints.tolist() == [[[10, 20], [30, 40], [0, 0]]] * 2
    assert samples.visible.tolist() == [[True, True, False]] * 2  # 1: there but hidden, 2: seen, 0: not labelled
    assert samples.skipped == {}
    assert samples.skeleton.keypoints == ("head", "left_wing", "right_wing")
    assert samples.skeleton.limbs == ((0, 1), (0, 2))
    assert samples.skeleton.flip_pairs == ((1, 2),)
    assert samples.keypoints.dtype == samples.boxes.dtype == np.float32


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ([5, 6, 21, 31], [5, 6, 20, 30]),  # from the first pixel to the last: 20 x 30
        ([-5, -6, 21, 31], [0, 0, 20, 30]),  # as published: the corner moves in, the size stays
        ([70, 90, 50, 50], [70, 90, 9, 9]),  # to pixel 79 and 99
        ([2.5, 3.5, 10, 10], [2.5, 3.5, 9, 9]),
    ],
)
def test_boxes_are_cut_to_their_image_as_published(write, given, read):
    assert read_coco(write(content(record(bbox=given)))).boxes.tolist() == [read]


LEFT_OUT = {
    "crowd": record(iscrowd=1, keypoints=[0] * 9),
    "no labelled keypoint": record(keypoints=[0] * 9),
    "box without area": record(bbox=[5, 6, 0, 31]),
}


@pytest.mark.parametrize("reason", LEFT_OUT)
def test_people_that_cannot_train_are_left_out_and_counted(write, reason):
    samples = read_coco(write(content(LEFT_OUT[reason], record(), LEFT_OUT[reason])))
    assert len(samples) == 1
    assert samples.skipped == {reason: 2}


@pytest.mark.parametrize("box", [[81, 5, 20, 20], [5, 101, 20, 20], [5, 5, 20, 1], [79, 5, 20, 20]])
def test_boxes_outside_the_image_have_no_area(write, box):
    assert read_coco(write(content(record(bbox=box)))).skipped == {"box without area": 1}


@pytest.mark.parametrize("keypoints", [[], None])
def test_annotations_without_keypoints_are_left_out(write, keypoints):
    assert read_coco(write(content(record(keypoints=keypoints)))).skipped == {"no labelled keypoint": 1}
    bare = {key: value for key, value in record().items() if key != "keypoints"}
    assert read_coco(write(content(bare))).skipped == {"no labelled keypoint": 1}


def test_crowds_mask_may_stand_in_place_of_everything(write):
    crowd = {"id": 9, "image_id": 3, "category_id": 1, "iscrowd": 1, "segmentation": {"counts": [1], "size": [100, 80]}}
    assert read_coco(write(content(crowd))).skipped == {"crowd": 1}


def test_file_without_people_gives_none(write):
    samples = read_coco(write(content()))
    assert len(samples) == 0
    assert samples.boxes.shape == (0, 4)
    assert samples.keypoints.shape == (0, 3, 2)
    assert samples.visible.shape == (0, 3)


def test_annotations_of_other_categories_are_passed_by(write):
    samples = read_coco(write(content(record(), record(category_id=2, keypoints=[1, 2, 3, 4]))))
    assert len(samples) == 1
    assert samples.skipped == {}


def test_one_of_two_categories_is_chosen_by_name(write):
    fly, cat = content()["categories"][0], {"id": 2, "name": "cat", "keypoints": ["nose"]}
    two = content(
        record(), record(category_id=2, keypoints=[1, 2, 1]), categories=[fly, cat, {"id": 3, "name": "rock"}]
    )
    assert len(read_coco(write(two), category="fly")) == 1
    assert read_coco(write(two), category="cat").skeleton.keypoints == ("nose",)
    with pytest.raises(
        ValueError, match=r"must have exactly one category with keypoints; with keypoints it has: fly, cat"
    ):
        read_coco(write(two))
    with pytest.raises(
        ValueError, match=r"must have one category 'dog' with keypoints; with keypoints it has: fly, cat"
    ):
        read_coco(write(two), category="dog")


def test_category_without_keypoints_is_refused(write):
    with pytest.raises(ValueError, match=r"exactly one category with keypoints; with keypoints it has: none"):
        read_coco(write(content(categories=[{"id": 1, "name": "person"}])))


def without(mapping: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in mapping.items() if name != key}


IMAGE = content()["images"][0]
FAULTS = {
    "json": ("{", "people.json is not JSON: "),
    "list": ([1, 2], "people.json is not a COCO keypoint file: it has no images, annotations, categories"),
    "no images": (without(content(), "images"), "people.json is not a COCO keypoint file: it has no images$"),
    "no names": ({}, "it has no images, annotations, categories$"),
    "length": (content(record(keypoints=SEEN[:6])), "annotation 7 has 6 keypoint numbers; 3 keypoints need 9"),
    "image": (content(record(image_id=99)), "annotation 7 is of image 99, which is not listed"),
    "box": (content(without(record(), "bbox")), r"annotation 7 needs a bbox of x, y, width, height; it has \[\]"),
    "box length": (content(record(bbox=[1, 2, 3])), r"annotation 7 needs a bbox of .*; it has \[1, 2, 3\]"),
    "width": (content(images=[without(IMAGE, "width")]), "image 3 has no width"),
    "file": (content(images=[without(IMAGE, "file_name")]), "image 3 has no file_name"),
    "id": (content(images=[without(IMAGE, "id")]), r"image a\.jpg has no id"),
    "category id": (content(categories=[without(content()["categories"][0], "id")]), "category fly has no id"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_files_are_refused_by_file_and_record(write, fault):
    values, message = FAULTS[fault]
    with pytest.raises(ValueError, match=rf"people\.json.*{message}" if "people" not in message else message):
        read_coco(write(values))


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no annotation file .*nowhere\.json"):
        read_coco(tmp_path / "nowhere.json")


def test_some_of_the_people_can_be_taken(write):
    samples = read_coco(write(content(record(), record(image_id=1), record(bbox=[1, 1, 9, 9]))))
    taken = samples.take(np.array([2, 1]))
    assert len(taken) == 2
    assert [taken.file_of(0), taken.file_of(1)] == ["a.jpg", "b.jpg"]
    assert taken.boxes[0].tolist() == [1, 1, 8, 8]
    assert len(samples.take(slice(1))) == 1


@pytest.mark.parametrize(("part", "people"), [("train", 9000), ("val", 500)])
def test_leeds_sports_poses_are_all_there(data_folder, part, people):
    samples = read_coco(data_folder / "lspet" / f"person_keypoints_{part}.json")
    assert len(samples) == people
    assert samples.skeleton == LSP
    assert samples.skipped == {}
    assert samples.visible.any(axis=1).all()


def test_coco_mini_has_86_people_with_keypoints_among_147(data_folder):
    samples = read_coco(data_folder / "coco-mini" / "person_keypoints.json")
    assert len(samples) == 86
    assert len(samples) + sum(samples.skipped.values()) == 147
    assert samples.skipped["crowd"] == 5
    assert samples.skeleton.keypoints == COCO.keypoints
    assert samples.skeleton.sigmas == COCO.sigmas
    assert (samples.boxes[:, 2:] > 0).all()
