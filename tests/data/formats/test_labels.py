import logging

import pytest

from tokenpose.data.formats.labels import Category, Keypoint, Person, Photograph, grow_box, to_coco

from .exports import train_on

FLY = Category(name="fly", keypoints=("head", "left_wing", "right_wing"), limbs=((0, 1), (0, 2)), flip_pairs=((1, 2),))


def photograph(*people: Person) -> Photograph:
    return Photograph(file="a.jpg", width=100, height=80, people=people)


def fly(**values) -> Person:
    return Person(category="fly", **values)


def test_people_become_records_that_training_takes(tmp_path):
    person = fly(keypoints={"right_wing": Keypoint(30.5, 20.25, 1), "head": Keypoint(10, 12)}, box=(5, 6, 40, 30))
    content = to_coco([photograph(person)], [FLY], "x")
    assert content == {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 100, "height": 80}],
        "annotations": [
            {
                "id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 6, 40, 30], "iscrowd": 0,
                "keypoints": [10, 12, 2, 0.0, 0.0, 0, 30.5, 20.25, 1], "num_keypoints": 2,
            }
        ],
        "categories": [
            {
                "id": 1, "name": "fly", "keypoints": ["head", "left_wing", "right_wing"],
                "skeleton": [[1, 2], [1, 3]], "flip_pairs": [["left_wing", "right_wing"]],
            }
        ],
    }  # fmt: skip
    assert train_on(content, tmp_path).visible.tolist() == [[True, False, True]]


def test_a_missing_box_is_the_extent_grown_by_15_percent_a_side_with_a_line(caplog):
    caplog.set_level(logging.INFO, "tokenpose")
    person = fly(keypoints={"head": Keypoint(20, 20), "left_wing": Keypoint(40, 60), "right_wing": Keypoint(0, 0, 0)})
    content = to_coco([photograph(person)], [FLY], "flies.xml")
    assert content["annotations"][0]["bbox"] == pytest.approx([17, 14, 26, 52])
    assert "flies.xml: 1 person has a box made from keypoints: their extent, grown by 15 % on each side" in (
        caplog.messages
    )


def test_a_grown_box_ends_at_the_image():
    assert grow_box([Keypoint(2, 3), Keypoint(98, 43)], 100, 80) == pytest.approx((0, 0, 100, 49))


def test_keypoints_in_a_line_have_a_box_with_a_width():
    assert grow_box([Keypoint(50, 20), Keypoint(50, 60)], 100, 80) == pytest.approx((43.5, 14, 13, 52))


def test_a_single_keypoint_has_a_square_of_a_tenth_of_the_image():
    assert grow_box([Keypoint(50, 40)], 100, 80) == pytest.approx((45, 35, 10, 10))


def test_people_with_neither_box_nor_keypoint_are_left_out_with_a_line(caplog):
    caplog.set_level(logging.INFO, "tokenpose")
    boxed = fly(keypoints={}, box=(0, 0, 9, 9))
    content = to_coco([photograph(fly(keypoints={"head": Keypoint(0, 0, 0)}), boxed)], [FLY], "x")
    assert [person["num_keypoints"] for person in content["annotations"]] == [0]
    assert "x: left out: 1 person with neither a box nor a labeled keypoint" in caplog.messages


def test_scores_stand_beside_keypoints_and_are_0_where_there_is_none():
    person = fly(keypoints={"head": Keypoint(1, 1, 2, 0.5), "left_wing": Keypoint(2, 2)})
    assert to_coco([photograph(person)], [FLY], "x")["annotations"][0]["scores"] == [0.5, 0.0, 0.0]


def test_a_file_without_people_is_refused():
    with pytest.raises(ValueError, match=r"^x has no labeled people in its 1 image$"):
        to_coco([photograph()], [FLY], "x")


def test_a_category_that_is_not_sound_is_refused():
    with pytest.raises(ValueError, match=r"x: .*keypoint names must differ; repeated: head"):
        to_coco([photograph(fly(keypoints={}, box=(0, 0, 9, 9)))], [Category(name="fly", keypoints=("head",) * 2)], "x")


def test_a_position_that_is_no_number_is_refused():
    person = fly(keypoints={"head": Keypoint(float("nan"), 1)}, box=(0, 0, 9, 9))
    with pytest.raises(ValueError, match=r"a\.jpg: head is at nan, 1"):
        to_coco([photograph(person)], [FLY], "x")


def test_a_box_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match=r"a\.jpg: a box is at 0, 0, inf, 9"):
        to_coco([photograph(fly(keypoints={}, box=(0, 0, float("inf"), 9)))], [FLY], "x")
