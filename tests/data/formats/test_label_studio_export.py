import json
from typing import Any
from xml.etree import ElementTree

import pytest

from tokenpose.data.formats.label_studio import read_label_studio
from tokenpose.data.formats.label_studio_export import describe_labels, write_label_studio
from tokenpose.data.formats.labels import Category

from .exports import write

KEYPOINTS = [10.37, 20.01, 2, 33.333, 44.4, 1, 0, 0, 0]


def coco(file: str = "day 1/a.png", **fields: Any) -> dict:
    person = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [5.5, 6, 40, 50], "keypoints": KEYPOINTS}
    other = person | {"id": 2, "bbox": [0, 0, 80, 60], "keypoints": [1, 1, 2, 20, 30, 2, 3, 3, 2]}
    return {
        "images": [{"id": 1, "file_name": file, "width": 80, "height": 60}],
        "annotations": [person | fields, other | fields],
        "categories": [{"id": 1, "name": "fly", "keypoints": ["head", "left wing", "right <wing>"], "skeleton": []}],
    }


@pytest.mark.parametrize("role", ["predictions", "annotations"])
def test_what_is_written_is_read_again_to_the_last_digit(tmp_path, role):
    original = coco()
    write_label_studio(write(tmp_path / "data.json", original), tmp_path / "tasks.json", role=role)
    content = read_label_studio(tmp_path / "tasks.json", predictions=role == "predictions", keypoints=NAMES)
    assert [person["keypoints"] for person in content["annotations"]] == [
        person["keypoints"] for person in original["annotations"]
    ]
    assert [person["bbox"] for person in content["annotations"]] == [[5.5, 6, 40, 50], [0, 0, 80, 60]]
    assert content["images"][0]["file_name"] == "day 1/a.png"


NAMES = ["head", "left wing", "right <wing>"]


def test_predictions_keep_scores_and_leave_out_what_is_below_the_threshold(tmp_path):
    data = write(tmp_path / "data.json", coco(scores=[0.75, 0.25, 0]))
    write_label_studio(data, tmp_path / "tasks.json", threshold=0.2)
    [task] = json.loads((tmp_path / "tasks.json").read_text())
    assert task["data"]["image"] == "/data/local-files/?d=day%201/a.png"
    [prediction] = task["predictions"]
    assert (prediction["model_version"], prediction["score"]) == ("tokenpose", 0.5)
    points = [result for result in prediction["result"] if result["type"] == "keypointlabels"]
    assert [(point["value"]["keypointlabels"], point["score"]) for point in points] == [
        (["head"], 0.75), (["left wing"], 0.25), (["head"], 0.75), (["left wing"], 0.25),
    ]  # fmt: skip
    assert {point["parentID"] for point in points} == {"person0", "person1"}


def test_every_result_names_a_tag_of_the_configuration(tmp_path):
    config = write_label_studio(write(tmp_path / "data.json", coco()), tmp_path / "tasks.json", prefix="http://h/")
    tags = {tag.get("name"): tag for tag in ElementTree.fromstring(config.read_text()).iter() if tag.get("name")}
    [task] = json.loads((tmp_path / "tasks.json").read_text())
    assert task["data"]["image"] == "http://h/day%201/a.png"
    for result in task["predictions"][0]["result"]:
        labels = {label.get("value") for label in tags[result["from_name"]]}
        assert set(result["value"][result["type"]]) <= labels
        assert result["to_name"] in tags


def test_the_configuration_has_a_color_for_each_keypoint():
    config = ElementTree.fromstring(describe_labels(Category(name="fly", keypoints=("a", "b & c"))))
    labels = config.find("KeyPointLabels")
    assert [(label.get("value"), label.get("background")) for label in labels] == [
        ("a", "#e61717"),
        ("b & c", "#17e6e6"),
    ]


def test_several_files_become_one_list_of_tasks(tmp_path):
    paths = [write(tmp_path / f"{name}.json", coco(f"{name}.png")) for name in ("a", "b")]
    write_label_studio(paths, tmp_path / "tasks.json")
    assert len(json.loads((tmp_path / "tasks.json").read_text())) == 2


def test_another_suffix_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"tasks are a \.json file; got tasks\.xml"):
        write_label_studio("data.json", "tasks.xml")
