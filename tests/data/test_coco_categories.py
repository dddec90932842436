import pytest

from tokenpose.data.annotations import read_annotations
from tokenpose.data.coco import read_coco, read_columns
from tokenpose.data.coco_categories import (
    choose_categories,
    choose_predicted_categories,
    name_categories,
    read_skeleton,
)
from tokenpose.doctor.check import check_data
from tokenpose.evaluation.ground_truth import make_ground_truth
from tokenpose.skeletons import COCO, MOST_KEYPOINTS, Skeleton

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
    assert choose_categories(["rock", {"id": 2}, FLY], None, "a.json") == [(2, FLY)]


WASP, CAT = {**FLY, "id": 3.0, "name": "wasp", "skeleton": []}, {"id": 4, "name": "cat", "keypoints": ["nose"]}


def test_categories_with_the_very_same_keypoints_are_read_together():
    both = [(0, FLY), (1, {**WASP, "id": 3})]
    assert choose_categories([FLY, WASP], None, "a.json") == both
    assert choose_categories([FLY, WASP, CAT], ["wasp", "fly"], "a.json") == both
    assert choose_categories([FLY, WASP, CAT], ["wasp"], "a.json") == both[1:]
    assert choose_categories([FLY, {**FLY, "id": 5}], "fly", "a.json") == [(0, FLY), (1, {**FLY, "id": 5})]


def test_unknown_categories_and_those_with_other_keypoints_are_refused():
    with pytest.raises(ValueError, match=r"must have one category 'dog' with keypoints; .* it has: fly, wasp, cat$"):
        choose_categories([FLY, WASP, CAT], ["fly", "dog"], "a.json")
    message = r"must have the same keypoints to be read together; fly has \['head'.* and cat \['nose'\]; read one"
    with pytest.raises(ValueError, match=message):
        choose_categories([FLY, WASP, CAT], ["fly", "cat"], "a.json")
    with pytest.raises(ValueError, match="must have the same flip_pairs to be read together; fly has None and fly"):
        choose_categories([FLY, {**FLY, "flip_pairs": []}], ["fly"], "a.json")
    with pytest.raises(ValueError, match="it has: fly, wasp, cat; say which: --category NAME"):
        choose_categories([FLY, WASP, CAT], None, "a.json")


def test_people_of_several_categories_are_read_as_one_with_a_line(tmp_path, caplog):
    fly = content()["categories"][0]
    several = content(
        record(), record(id=8, category_id=2), record(id=9, category_id=3),
        categories=[fly, {**fly, "id": 2, "name": "wasp"}, {"id": 3, "name": "rock"}],
    )  # fmt: skip
    path = write_flies(tmp_path, several)
    with caplog.at_level("INFO"):
        samples = read_annotations(path)
    assert (samples.annotation_ids.tolist(), samples.skipped) == ([7, 8], {"other category": 1})
    assert "2 categories have the same keypoints and are read as one: fly, wasp; choose with --category" in caplog.text
    assert len(read_annotations(path, ["fly", "wasp"])) == 2
    assert read_annotations(path, "wasp").annotation_ids.tolist() == [8]
    truth = make_ground_truth(read_columns(path))
    assert [entry["category_id"] for entry in truth.annotations] == [1, 1]


@pytest.mark.parametrize("names", [{"keypoints": []}, {"keypoints": None}, {}])
def test_keypoints_without_names_are_numbered_with_a_line(tmp_path, caplog, names):
    people = record(), record(id=8), record(id=9, keypoints=[1, 2, 2]), record(id=10, keypoints=[])
    path = write_flies(tmp_path, content(*people[:2], categories=[{"id": 1, "name": "face", **names}, {"id": 2}]))
    assert read_annotations(path).skeleton.keypoints == Skeleton.from_count(3).keypoints
    message = "category face has no names of keypoints, and 2 annotations have 3: they are keypoint_0 to keypoint_2"
    assert message in caplog.text
    (finding,) = (one for one in check_data(path).findings if one.check == "corrected values")
    assert (finding.severity, finding.message) == ("warning", message)
    bare = content(*people, categories=[{"id": 1, "name": "face", **names}])
    with pytest.raises(ValueError, match=r"annotation 9 in a\.jpg: keypoints must be 9 finite numbers.* got 3 numbers"):
        read_annotations(write_flies(tmp_path, bare))


def test_category_without_names_is_numbered_beside_one_with_names_only_when_it_is_asked_for(tmp_path):
    categories = [*content()["categories"], {"id": 2, "name": "face"}]
    path = write_flies(tmp_path, content(record(), record(category_id=2, id=8), categories=categories))
    assert read_annotations(path).annotation_ids.tolist() == [7]
    assert read_annotations(path, "face").skeleton.keypoints == Skeleton.from_count(3).keypoints


@pytest.mark.parametrize(
    ("keypoints", "message"),
    [([1, 2, 3, 4], "with keypoints it has: none"), ([0] * 3 * (MOST_KEYPOINTS + 1), "face has no names of")],
)
def test_numbers_that_are_no_keypoints_are_refused(tmp_path, keypoints, message):
    path = write_flies(tmp_path, content(record(keypoints=keypoints), categories=[{"id": 1, "name": "face"}]))
    with pytest.raises(ValueError, match=message):
        read_annotations(path)


def test_people_of_a_list_of_images_have_cocos_keypoints_unless_a_category_has_its_own():
    person, bicycle = {"id": 1, "name": "person", "supercategory": "person"}, {"id": 2, "name": "bicycle"}
    for name in (None, "person"):
        ((row, category),) = choose_predicted_categories([bicycle, person], name, "a.json")
        assert (row, category["id"], category["name"]) == (1, 1, "person")
        assert tuple(category["keypoints"]) == COCO.keypoints
    assert "keypoints" not in person
    assert choose_predicted_categories([person, FLY], None, "a.json") == [(1, FLY)]
    with pytest.raises(ValueError, match=r"a\.json must have one category 'bicycle' with keypoints; .* it has: none"):
        choose_predicted_categories([bicycle, person], "bicycle", "a.json")
    with pytest.raises(ValueError, match=r"a\.json must have exactly one category with keypoints; .* it has: none"):
        choose_predicted_categories([bicycle, person, person], None, "a.json")


def test_categories_are_named_by_id_and_name_and_others_passed_over():
    assert name_categories([FLY, "rock", {"id": "2"}]) == "1 (fly), '2' (None)"


def test_skeleton_of_repeated_names_has_numbers_behind_them_that_are_free():
    skeleton, (fault,), notes = read_skeleton(FLY, 0, "a.json")
    assert notes == []
    assert skeleton.keypoints == ("head", "wing", "wing (3)", "wing (2)")
    assert (fault.record, fault.kind, fault.field) == ("category 1", "repeated", "keypoints")


@pytest.mark.parametrize(
    ("stated", "read", "notes"),
    [
        ([[1, 2], [2, 3]], [(0, 1), (1, 2)], []),
        ([[0, 1], [1, 2]], [(0, 1), (1, 2)], ["holds a 0, in [0, 1]: its numbers are read as counted from 0"]),
        ([[1, 2], [2, 4]], [(0, 1)], ["1 limb of skeleton, [2, 4], can't be drawn"]),
        ([[0, 1], [1, 3], [2, 2]], [(0, 1)], ["counted from 0", "2 limbs of skeleton, for example [1, 3], can't be"]),
        ([[1.0, 2.0], [1, 2.5]], [(0, 1)], ["1 limb of skeleton, [1, 2.5], can't be drawn"]),
        ([[1], "ab", 3, None, [True, 2]], [], ["5 limbs of skeleton, for example [1], can't be drawn"]),
        ("all", [], ["1 limb of skeleton, 'all', can't be drawn"]),
        (None, [], []),
        ({}, [], []),
    ],
)
def test_limbs_are_read_as_far_as_they_can_be_drawn_and_a_line_says_so(stated, read, notes):
    three = {"id": 1, "name": "fly", "keypoints": ["a", "b", "c"], "skeleton": stated}
    skeleton, faults, found = read_skeleton(three, 0, "a.json")
    assert (list(skeleton.limbs), faults, len(found)) == (read, [], len(notes))
    assert all(part in note.message for part, note in zip(notes, found, strict=True))
    assert all(note.message.startswith("category 1: ") for note in found)


def test_skeleton_without_usable_limbs_has_none():
    sound = {**FLY, "keypoints": ["head", "wing"]}
    assert read_skeleton(sound, 0, "a.json")[0].limbs == ((0, 1),)
    skeleton, faults, (note,) = read_skeleton({**sound, "skeleton": [[1, 3]]}, 0, "a.json")
    assert (skeleton.limbs, faults) == ((), [])
    assert note.advice == "a limb is two different keypoints, counted from 1 to 2"
