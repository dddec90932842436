import logging
from typing import Any

import pytest

from tokenpose.data.formats.labelme import read_labelme

from .exports import keypoint, people_of, save_image, train_on, write


def shape(label: str, *points: list[float], kind: str = "point", group: int | None = None, **flags: bool) -> dict:
    return {
        "label": label, "points": [*points], "group_id": group, "description": "", "shape_type": kind, "flags": flags,
        "mask": None,
    }  # fmt: skip


def file(*shapes: dict, image: str = "a.jpg", size: Any = (80, 60)) -> dict:
    sizes = {"imageHeight": size[1], "imageWidth": size[0]} if size else {}
    return {"version": "5.5.0", "flags": {}, "shapes": [*shapes], "imagePath": image, "imageData": None, **sizes}


def test_groups_are_people_and_rectangles_their_boxes(tmp_path):
    shapes = [
        shape("head", [10, 11], group=1), shape("tail", [20.5, 21], group=1, occluded=True),
        shape("fish", [30, 35], [5, 6], kind="rectangle", group=1), shape("head", [50, 40], group=2),
    ]  # fmt: skip
    write(tmp_path / "a.json", file(*shapes))
    write(tmp_path / "sub" / "b.json", file(shape("head", [1, 2]), image="b.jpg"))
    content = read_labelme(tmp_path)
    first, second = people_of(content, "a.jpg")
    assert first["bbox"] == [5, 6, 25, 29]
    assert [keypoint(content, first, name) for name in ("head", "tail")] == [[10, 11, 2], [20.5, 21, 1]]
    assert keypoint(content, second, "head") == [50, 40, 2]
    assert len(people_of(content, "sub/b.jpg")) == 1
    assert len(train_on(content, tmp_path, "fish")) == 1


def test_paths_of_windows_and_of_other_folders(tmp_path):
    write(tmp_path / "a.json", file(shape("head", [1, 2]), image="..\\photos\\a.jpg"))
    write(tmp_path / "b.json", file(shape("head", [1, 2]), image="photos\\b.jpg"))
    assert [image["file_name"] for image in read_labelme(tmp_path)["images"]] == ["a.jpg", "photos/b.jpg"]


def test_a_single_file_is_read_and_a_size_that_is_missing_comes_from_the_image(tmp_path):
    path = write(tmp_path / "a.json", file(shape("head", [1, 2]), size=None))
    save_image(tmp_path / "a.jpg", 80, 60)
    assert read_labelme(path)["images"] == [{"id": 1, "file_name": "a.jpg", "width": 80, "height": 60}]


def test_other_shapes_and_other_json_files_are_left_out_with_a_line(tmp_path, caplog):
    caplog.set_level(logging.INFO, "tokenpose")
    write(tmp_path / "a.json", file(shape("head", [1, 2]), shape("pond", [0, 0], [9, 0], [0, 9], kind="polygon")))
    write(tmp_path / "notes.json", {"a": 1})
    assert len(read_labelme(tmp_path)["annotations"]) == 1
    assert any("left out: 1 'polygon'" in line for line in caplog.messages)
    assert any("notes.json is left out: it has no shapes" in line for line in caplog.messages)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": 1}, "is not labelme's JSON: it has no shapes"),
        (file(shape("head", [1])), "shapes\\[0\\]: points must be pairs x, y"),
        (file(shape("head", [1, 2], [3, 4])), "a point has one position, a rectangle two"),
        (file(shape("head", [1, 2]), image=7), "imagePath must be text"),
        (file({**shape("head"), "points": 3}), "points must be a list; got 3"),
        (file(7), "shapes\\[0\\] must be an object; got 7"),
        (file({**shape("head", [1, 2]), "group_id": [1]}), "group_id must be a number or null; got \\[1\\]"),
    ],
)
def test_other_files_are_refused_by_file_and_shape(tmp_path, content, message):
    with pytest.raises(ValueError, match=f"a\\.json.*{message}"):
        read_labelme(write(tmp_path / "a.json", content))


def test_a_folder_without_files_of_labelme_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has no file of labelme"):
        read_labelme(tmp_path)
