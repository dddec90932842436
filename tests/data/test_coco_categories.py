import pytest

from tokenpose.data.coco import read_coco
from tokenpose.data.coco_categories import (
    choose_category,
    choose_predicted_category,
    name_categories,
    read_skeleton,
)
from tokenpose.skeletons import COCO

from .fly_files import content, record, write_flies


def test_one_of_two_categories_is_chosen_by_name(tmp_path):
    fly, cat = content()["categories"][0], {"id": 2, "name": "cat", "keypoints": ["nose"]}
    two = content(
        record(), record(category_id=2, keypoints=[1, 2, 1]), categories=[fly, cat, {"id": 3, "name": "rock"}]
    )
    assert len(read_coco(write_flies(tmp_path, two), category="fly")) == 1
    assert read_coco(write_flies(tmp_path, two), category="cat").skeleton.keypoints == ("nose",)
    with pytest.raises(
        ValueError, match="with keypoints it has: fly, cat; say which: --category NAME, in Python category=NAME"
    ):
        read_coco(write_flies(tmp_path, two))
    with pytest.raises(
        ValueError, match=r"must have one category 'dog' with keypoints; with keypoints it has: fly, cat"
    ):
        read_coco(write_flies(tmp_path, two), category="dog")


def test_category_without_keypoints_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"exactly one category with keypoints; with keypoints it has: none"):
        read_coco(write_flies(tmp_path, content(categories=[{"id": 1, "name": "person"}])))


FLY = {"id": 1, "name": "fly", "keypoints": ["head", "wing", "wing", "wing (2)"], "skeleton": [[1, 2]]}


def test_choice_gives_the_place_of_the_category_too():
    assert choose_category(["rock", {"id": 2}, FLY], None, "a.json") == (2, FLY)


def test_people_of_a_list_of_images_have_cocos_keypoints_unless_a_category_has_its_own():
    person, bicycle = {"id": 1, "name": "person", "supercategory": "person"}, {"id": 2, "name": "bicycle"}
    for name in (None, "person"):
        row, category = choose_predicted_category([bicycle, person], name, "a.json")
        assert (row, category["id"], category["name"]) == (1, 1, "person")
        assert tuple(category["keypoints"]) == COCO.keypoints
    assert "keypoints" not in person
    assert choose_predicted_category([person, FLY], None, "a.json") == (1, FLY)
    with pytest.raises(ValueError, match=r"a\.json must have one category 'bicycle' with keypoints; .* it has: none"):
        choose_predicted_category([bicycle, person], "bicycle", "a.json")
    with pytest.raises(ValueError, match=r"a\.json must have exactly one category with keypoints; .* it has: none"):
        choose_predicted_category([bicycle, person, person], None, "a.json")


def test_categories_are_named_by_id_and_name_and_others_passed_over():
    assert name_categories([FLY, "rock", {"id": "2"}]) == "1 (fly), '2' (None)"


def test_skeleton_of_repeated_names_has_numbers_behind_them_that_are_free():
    skeleton, (fault,) = read_skeleton(FLY, 0, "a.json")
    assert skeleton.keypoints == ("head", "wing", "wing (3)", "wing (2)")
    assert (fault.record, fault.kind, fault.field) == ("category 1", "repeated", "keypoints")


def test_skeleton_without_usable_limbs_has_none():
    sound = {**FLY, "keypoints": ["head", "wing"]}
    assert read_skeleton(sound, 0, "a.json")[0].limbs == ((0, 1),)
    skeleton, (fault,) = read_skeleton({**sound, "skeleton": [[0, 1]]}, 0, "a.json")
    assert skeleton.limbs == ()
    assert fault.message.startswith("category 'fly': skeleton holds [0, 1]")
