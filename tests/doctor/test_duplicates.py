"""Images that occur twice."""

import io
import json
from copy import deepcopy
from pathlib import Path

import pytest
from PIL import Image

from .planting import HERE


def shrink(picture: Image.Image) -> Image.Image:
    return picture.resize((picture.width // 2, picture.height // 2))


def compress(picture: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=50)
    return Image.open(buffer)


COPIES = {"shrink": shrink, "compress": compress, "gray": lambda picture: picture.convert("L")}


@pytest.mark.parametrize("copy", COPIES)
def test_copies_of_an_image_are_found_in_the_file_and_across_train_and_validation(
    content, check, drawn, tmp_path, copy
):
    with Image.open(drawn.parent / "images" / "007.png") as picture:
        COPIES[copy](picture).save(tmp_path / "copy.png")
    with Image.open(tmp_path / "copy.png") as picture:
        record = {"id": 99, "file_name": "copy.png", "width": picture.width, "height": picture.height}
    places = [drawn.parent / "images", tmp_path]
    val = deepcopy(content)
    content["images"].append(record)
    found = [one for one in check(content, places) if one.check == "duplicate images"]  # type: ignore[arg-type]
    assert [(one.severity, one.images) for one in found] == [("warning", ("copy.png", "007.png"))]
    assert "it looks like 007.png (correlation 0.9" in found[0].message or "(correlation 1.0" in found[0].message
    del content["images"][-1]
    val["images"] = [record]
    val["annotations"] = [{**val["annotations"][HERE], "image_id": 99}]
    (tmp_path / "val.json").write_text(json.dumps(val))
    found = [one for one in check(content, places, val=tmp_path / "val.json") if "validation" in one.check]  # type: ignore[arg-type]
    assert [(one.severity, one.images, Path(one.file).name) for one in found] == [
        ("warning", ("copy.png", "007.png"), "val.json")
    ]


def test_images_of_training_in_validation_are_errors_where_the_bytes_are_the_same(content, check, drawn, tmp_path):
    val = {**content, "images": content["images"][:3], "annotations": content["annotations"][:3]}
    (tmp_path / "val.json").write_text(json.dumps(val))
    found = check(content, val=tmp_path / "val.json")
    assert [(one.check, one.severity, one.record) for one in found if one.check == "train and validation"] == [
        ("train and validation", "error", f"image {10 + row} ({row:03}.png)") for row in range(3)
    ]
    assert f"it is the same as 000.png of {tmp_path / 'people.json'}, byte for byte" in {one.message for one in found}
