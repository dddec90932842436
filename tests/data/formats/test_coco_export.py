import logging
from typing import Any

import pytest

from tokenpose.data.formats.coco_export import read_coco_export

from .exports import save_image, train_on, write

# As CVAT writes "COCO Keypoints 1.0" and Roboflow "COCO": a category without keypoints, boxes without area.
CATEGORIES: list[dict[str, Any]] = [
    {"id": 0, "name": "animals", "supercategory": "none"},
    {"id": 1, "name": "fly", "supercategory": "", "keypoints": ["head", "left_wing", "right_wing"],
     "skeleton": [[1, 2], [1, 3]]},
]  # fmt: skip
IMAGE = {"id": 1, "width": 80, "height": 60, "file_name": "a.jpg", "license": 0}
FLY = {
    "id": 1, "image_id": 1, "category_id": 1, "segmentation": [], "area": 0.0, "bbox": [0.0, 0.0, 0.0, 0.0],
    "iscrowd": 0, "attributes": {"occluded": False}, "keypoints": [20, 20, 2, 40, 40, 1, 0, 0, 0], "num_keypoints": 2,
}  # fmt: skip


def export(*people: dict, images: Any = (IMAGE,), categories: Any = CATEGORIES) -> dict:
    return {"licenses": [], "info": {}, "categories": categories, "images": [*images], "annotations": [*people]}


def test_boxes_without_area_come_from_keypoints_and_the_rest_stays(tmp_path, caplog):
    caplog.set_level(logging.INFO, "tokenpose")
    boxed = FLY | {"id": 2, "bbox": [1, 2, 30, 40]}
    content = read_coco_export(write(tmp_path / "a.json", export(FLY, boxed, FLY | {"id": 3, "category_id": 0})))
    assert content["annotations"] == [FLY | {"bbox": pytest.approx([17, 17, 26, 26])}, boxed]
    assert content["categories"] == CATEGORIES[1:]
    assert content["images"] == [IMAGE]
    assert any("1 person has a box made from keypoints" in line for line in caplog.messages)
    assert any("left out: 1 annotation of categories without keypoints" in line for line in caplog.messages)
    assert len(train_on(content, tmp_path)) == 2


def test_sizes_that_are_missing_are_read_from_the_images(tmp_path):
    save_image(tmp_path / "a.jpg", 80, 60)
    bare = {"id": 1, "file_name": "a.jpg"}
    content = read_coco_export(write(tmp_path / "a.json", export(FLY, images=[bare])))
    assert content["images"] == [bare | {"width": 80, "height": 60}]


@pytest.mark.parametrize(
    ("limbs", "expected"), [([[0, 1], [0, 2]], [[1, 2], [1, 3]]), ([[1, 3], [1, 4], [2, 2]], [[1, 3]]), (None, [])]
)
def test_limbs_count_from_1_and_name_keypoints(tmp_path, limbs, expected):
    categories = [CATEGORIES[1] | {"skeleton": limbs}]
    content = read_coco_export(write(tmp_path / "a.json", export(FLY, categories=categories)))
    assert content["categories"][0]["skeleton"] == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "must be an object"),
        ({"images": []}, "annotations must be a list"),
        (export(FLY, categories=CATEGORIES[:1]), "has no category with keypoints; export it as COCO keypoints"),
        (export(7), "annotations\\[0\\] must be an object; got 7"),
        (export(FLY | {"image_id": []}), "annotations\\[0\\]: image_id must be that of a listed image; got \\[\\]"),
        (export(FLY | {"image_id": 9}), "annotations\\[0\\]: image_id must be that of a listed image; got 9"),
        (export(FLY, images=[{"id": 1}]), "images\\[0\\]: file_name must be text; got None"),
        (export(FLY, images=[{"file_name": "a.jpg"}]), "images\\[0\\] has no id"),
    ],
)
def test_other_files_are_refused_by_file_and_record(tmp_path, content, message):
    with pytest.raises(ValueError, match=f"a\\.json.*{message}"):
        read_coco_export(write(tmp_path / "a.json", content))
