import json
import logging
from typing import Any

import pytest
import yaml

from tokenpose.data.formats.yolo import find_labels, read_yolo
from tokenpose.skeletons import COCO

from .exports import keypoint, people_of, save_image, train_on, write

# kpt_shape, flip_idx and kpt_names as Ultralytics documents them.
SETTINGS: dict[str, Any] = {
    "path": "../somewhere/else", "train": "images/train", "val": "images/val", "names": {0: "fly"}, "nc": 1,
    "kpt_shape": [3, 3], "flip_idx": [0, 2, 1], "kpt_names": {0: ["head", "left_wing", "right_wing"]},
}  # fmt: skip
LINE = "0 0.5 0.5 0.25 0.5 0.5 0.25 2 0.375 0.5 1 0 0 0"


def data_set(folder, *lines: str, **changes: Any):
    """A folder as Ultralytics lays it out; a.png is 80 x 60 in train, b.png in val has no text file."""
    save_image(folder / "images" / "train" / "a.png", 80, 60)
    save_image(folder / "images" / "val" / "b.png", 80, 60)
    write(folder / "labels" / "train" / "a.txt", "\n".join(lines))
    settings = {name: value for name, value in {**SETTINGS, **changes}.items() if value is not None}
    return write(folder / "data.yaml", yaml.safe_dump(settings))


def test_shares_of_the_image_become_pixels(tmp_path):
    content = read_yolo(data_set(tmp_path, LINE))
    [fly] = people_of(content, "images/train/a.png")
    assert fly["bbox"] == [30, 15, 20, 30]
    assert [keypoint(content, fly, name) for name in SETTINGS["kpt_names"][0]] == [[40, 15, 2], [30, 30, 1], [0, 0, 0]]
    assert content["categories"][0] == {
        "id": 1, "name": "fly", "keypoints": SETTINGS["kpt_names"][0], "skeleton": [],
        "flip_pairs": [["left_wing", "right_wing"]],
    }  # fmt: skip
    assert [image["split"] for image in content["images"]] == ["train", "val"]
    assert len(train_on(content, tmp_path)) == 1


def test_a_split_is_read_alone(tmp_path):
    path = data_set(tmp_path, LINE)
    assert [image["file_name"] for image in read_yolo(path, split="train")["images"]] == ["images/train/a.png"]
    with pytest.raises(ValueError, match=r"data\.yaml has no split 'test'; it has train, val"):
        read_yolo(path, split="test")


def test_the_folder_of_roboflow_is_read(tmp_path):
    """Its splits are beside data.yaml, which says ../train/images."""
    save_image(tmp_path / "train" / "images" / "a_jpg.rf.0.jpg", 80, 60)
    write(tmp_path / "train" / "labels" / "a_jpg.rf.0.txt", "0 0.5 0.5 1 1 0.5 0.5 2 0.25 0.25 2 0 0 0")
    settings = {
        "train": "../train/images", "val": "../valid/images", "kpt_shape": [3, 3], "flip_idx": [0, 1, 2], "nc": 1,
        "names": ["fly"], "roboflow": {"workspace": "w", "project": "p", "version": 1},
    }  # fmt: skip
    save_image(tmp_path / "valid" / "images" / "b.jpg")
    write(tmp_path / "data.yaml", yaml.safe_dump(settings))
    content = read_yolo(tmp_path)
    assert people_of(content, "train/images/a_jpg.rf.0.jpg")[0]["keypoints"] == [40, 30, 2, 20, 15, 2, 0, 0, 0]
    assert content["categories"][0]["keypoints"] == ["keypoint_0", "keypoint_1", "keypoint_2"]
    assert content["categories"][0]["flip_pairs"] == []


def test_a_list_of_images_and_several_classes(tmp_path):
    lines = [LINE, "1" + LINE[1:]]
    path = data_set(tmp_path, *lines, train=["train.txt"], val=None, names=["fly", "bee", "wasp"])
    write(tmp_path / "train.txt", "./images/train/a.png\n")
    content = read_yolo(path)
    assert [category["name"] for category in content["categories"]] == ["fly", "bee"]
    assert [person["category_id"] for person in content["annotations"]] == [1, 2]


def test_two_numbers_a_keypoint_are_labeled_unless_0_0(tmp_path):
    path = data_set(tmp_path, "0 0.5 0.5 0.25 0.5 0.5 0.25 0.375 0.5 0 0", kpt_shape=[3, 2])
    assert read_yolo(path)["annotations"][0]["keypoints"] == [40, 15, 2, 30, 30, 2, 0, 0, 0]


def test_17_keypoints_that_flip_as_cocos_get_cocos_names(tmp_path, caplog):
    caplog.set_level(logging.INFO, "tokenpose")
    flip = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
    line = "0 0.5 0.5 1 1" + " 0.5 0.5 2" * 17
    path = data_set(tmp_path, line, kpt_shape=[17, 3], flip_idx=flip, kpt_names=None)
    content = read_yolo(path)
    assert content["categories"][0]["keypoints"] == list(COCO.keypoints)
    assert any("so they get COCO's names" in message for message in caplog.messages)
    names = [f"n{index}" for index in range(17)]
    assert read_yolo(path, keypoints=names)["categories"][0]["keypoints"] == names


def test_flip_idx_that_exchanges_nothing_gives_way_to_names_with_sides(tmp_path, caplog):
    """Tools write it where nobody said anything."""
    content = read_yolo(data_set(tmp_path, LINE, flip_idx=[0, 1, 2]))
    assert "flip_pairs" not in content["categories"][0]
    assert train_on(content, tmp_path).skeleton.flip_pairs == ((1, 2),)
    assert any("the names count" in line for line in caplog.messages)
    content = read_yolo(data_set(tmp_path, LINE, flip_idx=[1, 0, 2]))
    assert content["categories"][0]["flip_pairs"] == [["head", "left_wing"]]
    assert train_on(content, tmp_path).skeleton.flip_pairs == ((0, 1),)
    assert any("flip_idx counts" in line for line in caplog.messages)


def test_labels_are_looked_for_as_ultralytics_does(tmp_path):
    assert find_labels(tmp_path / "images" / "images" / "a.b.jpg") == tmp_path / "images" / "labels" / "a.b.txt"
    assert find_labels(tmp_path / "photos" / "a.jpg") == tmp_path / "photos" / "a.txt"


@pytest.mark.parametrize(
    ("line", "changes", "message"),
    [
        (LINE, {"kpt_shape": None}, r"data\.yaml: kpt_shape must be \[keypoints, 2 or 3\] for pose; got None"),
        (LINE, {"kpt_shape": [3, 4]}, r"kpt_shape must be .* got \[3, 4\]"),
        (LINE, {"kpt_shape": [10**9, 3]}, r"kpt_shape must be"),
        (LINE, {"flip_idx": [1, 2, 0]}, "flip_idx must pair 3 indices"),
        (LINE, {"kpt_names": {0: ["a"]}}, "kpt_shape says 3 keypoints; the names are 1: a"),
        (LINE, {"names": 3}, "names must list the classes; got 3"),
        ("0 0.5", {}, r"a\.txt, line 1: a class, a box and 3 keypoints are 14 numbers; got 2"),
        ("0 x", {}, r"a\.txt, line 1 must be numbers; got '0 x'"),
        ("7" + LINE[1:], {}, "class 7 is not one of names"),
        (LINE.replace(" 1 0 0 0", " 3 0 0 0"), {}, "a keypoint's visibility must be 0, 1 or 2; got 3"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_file_and_line(tmp_path, line, changes, message):
    with pytest.raises(ValueError, match=message):
        read_yolo(data_set(tmp_path, line, **changes))


def test_missing_places_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder or list of images images/x in"):
        read_yolo(data_set(tmp_path, LINE, train="images/x"))
    with pytest.raises(ValueError, match=r"has no \.yaml files; give the data set's data\.yaml"):
        read_yolo(tmp_path / "images")


def test_what_another_program_writes_is_read(tmp_path):
    """sleap-io's writer of Ultralytics' format."""
    sleap_io = pytest.importorskip("sleap_io")
    numpy = pytest.importorskip("numpy")
    skeleton = sleap_io.Skeleton(
        ["head", "left_wing", "right_wing"], symmetries=[("left_wing", "right_wing")], name="fly"
    )
    video = sleap_io.Video([str(save_image(tmp_path / "frames" / f"{index}.png", 80, 60)) for index in range(4)])
    positions = numpy.array([[40, 15], [30, 30], [50, 30]])
    frames = [
        sleap_io.LabeledFrame(
            video=video, frame_idx=index, instances=[sleap_io.Instance.from_numpy(positions, skeleton=skeleton)]
        )
        for index in range(4)
    ]
    labels = sleap_io.Labels(frames)
    sleap_io.save_ultralytics(labels, str(tmp_path / "yolo"), split_ratios={"train": 0.5, "val": 0.5})
    content = read_yolo(tmp_path / "yolo", keypoints=skeleton.node_names)
    assert len(content["images"]) == len(content["annotations"]) == 4
    for person in content["annotations"]:
        assert person["keypoints"] == pytest.approx([40, 15, 2, 30, 30, 2, 50, 30, 2], abs=1e-3), json.dumps(person)
