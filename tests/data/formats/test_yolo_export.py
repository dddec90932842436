import logging
import os
import zipfile
from typing import Any

import pytest
import yaml

from tokenpose.data.formats.yolo import find_labels, read_yolo
from tokenpose.data.formats.yolo_export import write_yolo

from .exports import save_image, write

KEYPOINTS = [10.37, 20.01, 2, 33.333, 44.4, 1, 0, 0, 0]


def coco(*files: str, **fields: Any) -> dict:
    person = {"category_id": 1, "bbox": [5.5, 6, 40, 50], "keypoints": KEYPOINTS} | fields
    names = files or ("a.png",)
    return {
        "images": [{"id": index, "file_name": name, "width": 80, "height": 60} for index, name in enumerate(names)],
        "annotations": [{"id": index, "image_id": index, **person} for index in range(len(names))],
        "categories": [{"id": 1, "name": "fly", "keypoints": ["head", "left_wing", "right_wing"], "skeleton": []}],
    }


@pytest.fixture
def folder(tmp_path):
    for name in ("a.png", "day 1/b.png", "images/c.png"):
        save_image(tmp_path / "photos" / name, 80, 60)
    return tmp_path


def test_what_is_written_is_read_again_to_the_last_digit(folder):
    data = write(folder / "data.json", coco("a.png", "day 1/b.png", "images/c.png"))
    path = write_yolo(data, folder / "yolo", images=folder / "photos")
    content = read_yolo(path)
    assert [person["keypoints"] for person in content["annotations"]] == [KEYPOINTS] * 3
    assert [person["bbox"] for person in content["annotations"]] == [[5.5, 6, 40, 50]] * 3
    assert content["categories"] == [
        {
            "id": 1, "name": "fly", "keypoints": ["head", "left_wing", "right_wing"], "skeleton": [],
            "flip_pairs": [["left_wing", "right_wing"]],
        }
    ]  # fmt: skip
    assert yaml.safe_load(path.read_text()) == {
        "train": "images/train", "val": "images/train", "names": {0: "fly"}, "kpt_shape": [3, 3],
        "kpt_names": {0: ["head", "left_wing", "right_wing"]}, "flip_idx": [0, 2, 1],
    }  # fmt: skip


def test_labels_are_where_ultralytics_looks_for_them(folder):
    data = write(folder / "data.json", coco("a.png", "day 1/b.png", "images/c.png"))
    write_yolo(data, folder / "yolo", images=folder / "photos")
    images = sorted((folder / "yolo" / "images").rglob("*.png"))
    assert len(images) == 3
    assert all(find_labels(image).is_file() for image in images)


def test_images_are_links_or_copies_or_come_from_a_zip(folder):
    data = write(folder / "data.json", coco("a.png"))
    place = ("images", "train", "a.png")
    write_yolo(data, folder / "links", images=folder / "photos")
    assert os.path.samefile(folder.joinpath("links", *place), folder / "photos" / "a.png")
    write_yolo(data, folder / "copies", images=folder / "photos", copy=True)
    assert not folder.joinpath("copies", *place).is_symlink()
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.write(folder / "photos" / "a.png", "a.png")
    write_yolo(data, folder / "zipped", images=folder / "a.zip")
    content = (folder / "photos" / "a.png").read_bytes()
    assert folder.joinpath("copies", *place).read_bytes() == folder.joinpath("zipped", *place).read_bytes() == content


def test_a_file_to_validate_on_is_a_split_of_its_own(folder):
    train, val = write(folder / "train.json", coco("a.png")), write(folder / "val.json", coco("day 1/b.png"))
    path = write_yolo(train, folder / "yolo", val=val, images=folder / "photos")
    assert [image["file_name"] for image in read_yolo(path, split="val")["images"]] == ["images/val/day 1/b.png"]


def test_without_images_only_labels_are_written_with_a_line(folder, caplog):
    caplog.set_level(logging.INFO, "tokenpose")
    write_yolo(write(folder / "data.json", coco()), folder / "yolo")
    assert f"put the 1 image of train into {folder / 'yolo' / 'images' / 'train'}" in caplog.messages
    assert (folder / "yolo" / "labels" / "train" / "a.txt").read_text().startswith("0 0.31874999999999998 ")


def test_what_lies_outside_the_image_is_cut_with_a_line(folder, caplog):
    caplog.set_level(logging.INFO, "tokenpose")
    data = write(folder / "data.json", coco(bbox=[-10, -10, 200, 30], keypoints=[-1, 5, 2, 10, 10, 2, 81, 5, 1]))
    content = read_yolo(write_yolo(data, folder / "yolo", images=folder / "photos"))
    assert content["annotations"][0]["bbox"] == pytest.approx([0, 0, 80, 20])
    assert content["annotations"][0]["keypoints"] == [0, 0, 0, 10, 10, 2, 0, 0, 0]
    assert "train: left out: 2 keypoints outside their image" in caplog.messages


def test_two_images_with_one_file_of_labels_are_refused(folder):
    with pytest.raises(ValueError, match=r"the labels of a\.png and a\.jpg would be one file, a\.txt"):
        write_yolo(write(folder / "data.json", coco("a.png", "a.jpg")), folder / "yolo")


def test_a_folder_with_a_data_set_is_refused(folder):
    data = write(folder / "data.json", coco())
    write_yolo(data, folder / "yolo")
    with pytest.raises(FileExistsError, match=r"has a data\.yaml already; choose another folder"):
        write_yolo(data, folder / "yolo")
