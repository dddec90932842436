import csv
import json
from typing import Any

import pytest

from tokenpose.data.formats.via import read_via

from .exports import keypoint, save_image, train_on, write


def point(x: float, y: float, **attributes: Any) -> dict:
    return {"shape_attributes": {"name": "point", "cx": x, "cy": y}, "region_attributes": attributes}


def rect(x: float, y: float, width: float, height: float, **attributes: Any) -> dict:
    shape = {"name": "rect", "x": x, "y": y, "width": width, "height": height}
    return {"shape_attributes": shape, "region_attributes": attributes}


def project(*regions: dict) -> dict:
    records = {"a.jpg1000": {"filename": "a.jpg", "size": 1000, "regions": [*regions], "file_attributes": {}}}
    return {
        "_via_settings": {},
        "_via_img_metadata": records,
        "_via_attributes": {},
        "_via_data_format_version": "2.0.10",
    }


@pytest.fixture
def folder(tmp_path):
    save_image(tmp_path / "a.jpg", 80, 60)
    return tmp_path


REGIONS = [
    point(10, 11, keypoint="head", person="1"), point(20, 21, keypoint="tail", person="1", occluded={"yes": True}),
    rect(5, 6, 25, 29, person="1"), point(50, 40, keypoint="head", person="2"),
]  # fmt: skip


def check(content: dict) -> None:
    first, second = content["annotations"]
    assert first["bbox"] == [5, 6, 25, 29]
    assert [keypoint(content, first, name) for name in ("head", "tail")] == [[10, 11, 2], [20, 21, 1]]
    assert keypoint(content, second, "head") == [50, 40, 2]
    assert content["images"] == [{"id": 1, "file_name": "a.jpg", "width": 80, "height": 60}]


def test_a_project_is_read_with_groups_boxes_and_sizes_of_the_images(folder):
    content = read_via(write(folder / "a.json", project(*REGIONS)))
    check(content)
    assert len(train_on(content, folder)) == 2


def test_exported_annotations_in_json_and_csv_give_the_same(folder):
    check(read_via(write(folder / "a.json", project(*REGIONS)["_via_img_metadata"])))
    with (folder / "a.csv").open("w", newline="") as opened:
        rows = csv.writer(opened)
        rows.writerow(
            ["filename", "file_size", "file_attributes", "region_count", "region_id", "region_shape_attributes",
             "region_attributes"]
        )  # fmt: skip
        for number, region in enumerate(REGIONS):
            shape, attributes = (json.dumps(region[name]) for name in ("shape_attributes", "region_attributes"))
            rows.writerow(["a.jpg", 1000, "{}", len(REGIONS), number, shape, attributes])
    check(read_via(folder / "a.csv"))


def test_the_attribute_with_the_names_is_the_only_one_or_the_given_one(folder):
    save_image(folder / "b.jpg")
    path = write(folder / "a.json", project(point(1, 2, teil="kopf")))
    assert read_via(path)["categories"][0]["keypoints"] == ["kopf"]
    path = write(folder / "a.json", project(point(1, 2, teil="kopf", art="fisch")))
    with pytest.raises(ValueError, match=r"which attribute .* They have teil, art; say which: --attribute NAME"):
        read_via(path)
    assert read_via(path, attribute="teil")["categories"][0]["keypoints"] == ["kopf"]


def test_sizes_need_the_images(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no image a\.jpg .*say where the images are"):
        read_via(write(tmp_path / "a.json", project(*REGIONS)))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", [1], "is not VIA's JSON"),
        ("a.json", {"a": 1}, "must be an object; got 1"),
        ("a.json", project(rect(1, 2, 3, 4)), "has no points"),
        ("a.json", project({**point(1, 2, keypoint="head"), "shape_attributes": {"name": "point"}}), "cx must be"),
        ("a.csv", "a,b\n1,2\n", "is not VIA's csv: it has no column filename, region_attributes"),
        (
            "a.csv",
            'filename,region_shape_attributes,region_attributes\na.jpg,"{",{}\n',
            "line 2: region_shape.* is not JSON",
        ),
    ],
)
def test_other_files_are_refused_by_name(folder, name, content, message):
    with pytest.raises(ValueError, match=f"{name}.*{message}"):
        read_via(write(folder / name, content))
