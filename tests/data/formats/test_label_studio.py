import logging
from typing import Any

import pytest

from tokenpose.data.formats.label_studio import read_label_studio

from .exports import keypoint, people_of, save_image, train_on, write

SIZE = {"original_width": 200, "original_height": 100, "image_rotation": 0}


def region(kind: str, label: str, identity: str | None = None, parent: str | None = None, **value: float) -> dict:
    result: dict[str, Any] = {**SIZE, "type": kind, "from_name": "kp", "to_name": "image", "origin": "manual"}
    result |= {"value": {**value, kind: [label]}}
    return result | ({"id": identity} if identity else {}) | ({"parentID": parent} if parent else {})


def point(label: str, x: float, y: float, identity: str | None = None, parent: str | None = None) -> dict:
    return region("keypointlabels", label, identity, parent, x=x, y=y, width=0.3)


def box(x: float, y: float, width: float, height: float, identity: str | None = None, label: str = "fish") -> dict:
    return region("rectanglelabels", label, identity, x=x, y=y, width=width, height=height, rotation=0)


def task(*results: dict, image: str = "/data/upload/1/0a1b2c3d-a.jpg", **fields: Any) -> dict:
    return {"id": 1, "data": {"image": image}, "annotations": [{"id": 1, "result": [*results]}], **fields}


def test_percent_become_pixels_and_the_rectangle_above_is_the_box(tmp_path):
    results = [box(10, 20, 25, 50, "r"), point("head", 12.5, 30, "p", "r"), point("tail", 30, 65, "q", "r")]
    content = read_label_studio(write(tmp_path / "a.json", [task(*results)]))
    [fish] = people_of(content, "a.jpg")
    assert fish["bbox"] == [20, 20, 50, 50]
    assert keypoint(content, fish, "head") == [25, 30, 2]
    assert keypoint(content, fish, "tail") == [60, 65, 2]
    assert content["images"][0]["width"], content["images"][0]["height"] == (200, 100)
    assert content["categories"][0]["name"] == "fish"
    assert len(train_on(content, tmp_path)) == 1


def test_relations_join_points_to_rectangles(tmp_path):
    relation = {"type": "relation", "from_id": "p", "to_id": "far", "direction": "right"}
    results = [box(0, 0, 20, 20, "near"), box(50, 50, 20, 20, "far"), point("head", 10, 10, "p"), relation]
    content = read_label_studio(write(tmp_path / "a.json", [task(*results)]))
    labeled, empty = content["annotations"]
    assert (labeled["bbox"], labeled["num_keypoints"]) == ([100, 50, 40, 20], 1)
    assert (empty["bbox"], empty["num_keypoints"]) == ([0, 0, 40, 20], 0)


def test_points_without_a_word_belong_to_the_rectangle_around_them(tmp_path):
    results = [box(0, 0, 20, 20), box(50, 50, 20, 20), point("head", 60, 60), point("head", 10, 10)]
    content = read_label_studio(write(tmp_path / "a.json", [task(*results)]))
    first, second = content["annotations"]
    assert (keypoint(content, first, "head"), keypoint(content, second, "head")) == ([20, 10, 2], [120, 60, 2])


def test_the_choice_hidden_of_a_region_makes_v_1(tmp_path):
    hidden = {
        "type": "choices",
        "id": "p",
        "from_name": "visibility",
        "to_name": "image",
        "value": {"choices": ["hidden"]},
    }
    content = read_label_studio(write(tmp_path / "a.json", [task(point("head", 10, 10, "p"), hidden)]))
    assert content["annotations"][0]["keypoints"] == [20, 10, 1]


def test_json_min_is_read(tmp_path):
    least = {
        "image": "/data/upload/a.jpg", "id": 1, "annotator": 1,
        "kp": [{"x": 10, "y": 10, "keypointlabels": ["head"], "original_width": 200, "original_height": 100}],
        "box": [{"x": 5, "y": 5, "width": 10, "height": 20, "rectanglelabels": ["fish"]}],
    }  # fmt: skip
    content = read_label_studio(write(tmp_path / "a.json", [least]))
    assert (content["annotations"][0]["keypoints"], content["annotations"][0]["bbox"]) == ([20, 10, 2], [10, 5, 20, 20])


def test_predictions_are_read_with_scores_when_asked(tmp_path):
    predicted = {"result": [point("head", 10, 10) | {"score": 0.75}], "score": 0.5}
    both = [task(point("head", 50, 50), predictions=[predicted])]
    path = write(tmp_path / "a.json", both)
    assert read_label_studio(path)["annotations"][0]["keypoints"] == [100, 50, 2]
    [person] = read_label_studio(path, predictions=True)["annotations"]
    assert (person["keypoints"], person["scores"]) == ([20, 10, 2], [0.75])


def test_the_last_annotation_that_was_not_cancelled_counts(tmp_path, caplog):
    caplog.set_level(logging.INFO, "tokenpose")
    several = task()
    several["annotations"] = [
        {"result": [point("head", 1, 1)]},
        {"result": [point("head", 2, 2)]},
        {"result": [point("head", 3, 3)], "was_cancelled": True},
    ]
    nobody = {"id": 2, "data": {"image": "b.jpg"}, "annotations": []}
    content = read_label_studio(write(tmp_path / "a.json", [several, nobody]))
    assert [person["keypoints"] for person in content["annotations"]] == [[4, 2, 2]]
    assert any("left out: 1 task without annotations" in line for line in caplog.messages)


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("/data/upload/1/0a1b2c3d-a%20b.jpg", "a b.jpg"),
        ("/data/local-files/?d=photos/day1/a.jpg", "photos/day1/a.jpg"),
        ("https://host.org/bucket/a.jpg?token=1", "a.jpg"),
        ("s3://bucket/folder/a.jpg", "folder/a.jpg"),
    ],
)
def test_names_are_those_of_the_users_files(tmp_path, address, name):
    content = read_label_studio(write(tmp_path / "a.json", [task(point("head", 1, 1), image=address)]))
    assert content["images"][0]["file_name"] == name


def test_uploads_keep_their_digits_where_such_files_exist_or_names_would_meet(tmp_path):
    path = write(tmp_path / "a.json", [task(point("head", 1, 1))])
    save_image(tmp_path / "media" / "0a1b2c3d-a.jpg")
    assert read_label_studio(path, images=tmp_path / "media")["images"][0]["file_name"] == "0a1b2c3d-a.jpg"
    twice = [task(point("head", 1, 1), image=f"/data/upload/1/{digits}-a.jpg") for digits in ("0a1b2c3d", "ffffffff")]
    content = read_label_studio(write(tmp_path / "b.json", twice))
    assert [image["file_name"] for image in content["images"]] == ["0a1b2c3d-a.jpg", "ffffffff-a.jpg"]


def test_a_file_without_sizes_takes_them_from_the_images(tmp_path):
    least = {"type": "keypointlabels", "value": {"x": 10.0, "y": 20.0, "keypointlabels": ["tip"]}}
    path = write(tmp_path / "a.json", [task(least, image="/data/upload/1/fish1.png")])
    save_image(tmp_path / "photos" / "fish1.png", 80, 60)
    assert read_label_studio(path, images=tmp_path / "photos")["annotations"][0]["keypoints"] == [8, 12, 2]
    with pytest.raises(FileNotFoundError, match=r"no image fish1\.png .*; say where the images are: --images PLACE"):
        read_label_studio(path)


def test_names_have_the_given_order(tmp_path):
    path = write(tmp_path / "a.json", [task(point("tail", 1, 1), point("head", 2, 2))])
    assert read_label_studio(path)["categories"][0]["keypoints"] == ["tail", "head"]
    assert read_label_studio(path, keypoints=["head", "tail"])["categories"][0]["keypoints"] == ["head", "tail"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "is not Label Studio's JSON, which is a list of tasks"),
        ([7], "task 0: data must be an object"),
        ([{"data": {"text": "a"}}], "task 0 names no image"),
        ([task({"type": "keypointlabels", "value": []})], "task 0: result: value must be an object"),
        ([{"data": {"image": "a.jpg"}, "annotations": 7}], "task 0: annotations must be a list; got 7"),
        ([task(point("head", "a", 1))], "task 0: x must be a finite number; got 'a'"),
        ([task(point("head", 1, 1), point("head", 2, 2))], "nothing says to which person"),
    ],
)
def test_other_files_are_refused_by_file_and_task(tmp_path, content, message):
    with pytest.raises(ValueError, match=f"a\\.json.*{message}"):
        read_label_studio(write(tmp_path / "a.json", content))
