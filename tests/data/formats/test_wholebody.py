import pytest

from tokenpose.data.formats.wholebody import FLIP_PAIRS, KEYPOINTS, LIMBS, PARTS, read_coco_wholebody
from tokenpose.skeletons import COCO

from .exports import keypoint, train_on, write


def person(**fields) -> dict:
    """Each keypoint at its number: x = 1, 2, 3, ... in the order of the 133."""
    start, lists = 0, {}
    for part, names in PARTS.items():
        numbers = range(start + 1, start + len(names) + 1)
        lists[part] = [value for number in numbers for value in (number, 0.5, 2)]
        start += len(names)
    record = {"id": 8, "image_id": 5, "category_id": 1, "bbox": [0, 0, 140, 20], "area": 50.0, "iscrowd": 0}
    return record | {"segmentation": [[1, 2, 3, 4]], "face_box": [0, 0, 9, 9], "face_valid": True} | lists | fields


def export(*people: dict) -> dict:
    image = {"id": 5, "file_name": "a.jpg", "width": 150, "height": 30}
    return {"images": [image], "annotations": [*people], "categories": [{"id": 1, "name": "person"}]}


def test_four_lists_become_133_keypoints_in_order(tmp_path):
    content = read_coco_wholebody(write(tmp_path / "a.json", export(person())))
    [record] = content["annotations"]
    assert len(KEYPOINTS) == 133
    assert record["keypoints"][::3] == list(range(1, 134))
    assert record["num_keypoints"] == 133
    assert {name: keypoint(content, record, name)[0] for name in ("left_big_toe", "face-0", "left_hand_root")} == {
        "left_big_toe": 18, "face-0": 24, "left_hand_root": 92,
    }  # fmt: skip
    assert keypoint(content, record, "right_pinky_finger4") == [133, 0.5, 2]
    assert {name: record[name] for name in ("id", "image_id", "bbox", "area", "iscrowd")} == {
        "id": 8, "image_id": 5, "bbox": [0, 0, 140, 20], "area": 50.0, "iscrowd": 0,
    }  # fmt: skip
    assert train_on(content, tmp_path).visible.all()


def test_a_part_that_is_missing_or_not_labeled_has_v_0(tmp_path):
    record = person(lefthand_kpts=[7, 8, 0] * 21)
    del record["face_kpts"]
    content = read_coco_wholebody(write(tmp_path / "a.json", export(person(), record)))
    found = content["annotations"][1]
    assert found["num_keypoints"] == 133 - 68 - 21
    assert keypoint(content, found, "left_hand_root") == [0, 0, 0]


def test_every_keypoint_but_those_of_the_middle_has_one_partner():
    paired = [index for pair in FLIP_PAIRS for index in pair]
    assert len(paired) == len(set(paired))
    alone = [name for index, name in enumerate(KEYPOINTS) if index not in paired]
    middle = (8, 27, 28, 29, 30, 33, 51, 57, 62, 66)
    assert alone == ["nose", *(f"face-{index}" for index in middle)]
    named = {(KEYPOINTS[first], KEYPOINTS[second]) for first, second in FLIP_PAIRS}
    assert {("face-36", "face-45"), ("face-41", "face-46"), ("face-40", "face-47"), ("face-0", "face-16")} <= named
    assert {("face-48", "face-54"), ("face-59", "face-55"), ("face-55", "face-59"), ("left_heel", "right_heel")} & named
    assert {(a, b) for a, b in FLIP_PAIRS if b < 17} == set(COCO.flip_pairs)


def test_limbs_reach_fingers_and_toes():
    named = {(KEYPOINTS[first], KEYPOINTS[second]) for first, second in LIMBS}
    assert {("left_wrist", "left_hand_root"), ("left_thumb3", "left_thumb4"), ("right_ankle", "right_heel")} <= named
    assert len(LIMBS) == 19 + 2 * (3 + 1 + 20)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"images": []}, "is not COCO-WholeBody's file: it has no annotations"),
        ([], "has no images, annotations"),
        (export(person(face_kpts=[1, 2])), "annotations\\[0\\]: face_kpts must be 204 finite numbers; got \\[1, 2\\]"),
        (export({"id": 1, "keypoints": [0] * 51}), "none of its annotations has face_kpts"),
        (export(7), "annotations\\[0\\] must be an object; got 7"),
    ],
)
def test_other_files_are_refused_by_file_and_record(tmp_path, content, message):
    with pytest.raises(ValueError, match=f"a\\.json.*{message}"):
        read_coco_wholebody(write(tmp_path / "a.json", content))
