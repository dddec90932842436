import json
import logging
import re
from pathlib import Path

import pytest

from tokenpose.data.box_files import BoxesFile, ImageBoxes, read_boxes_file


@pytest.fixture
def write(tmp_path):
    def write(content) -> Path:
        path = tmp_path / "boxes.json"
        path.write_text(json.dumps(content))
        return path

    return write


def boxes_of(file: BoxesFile) -> dict[str, list]:
    return {name: people.boxes for name, people in file.images.items()}


def test_names_with_corners(write):
    file = read_boxes_file(write({"a.jpg": [[1, 2, 3, 4], [5, 6, 7.5, 8]], "b.jpg": []}))
    assert boxes_of(file) == {"a.jpg": [(1, 2, 3, 4), (5, 6, 7.5, 8)], "b.jpg": []}


def test_records_hold_x_y_width_height_and_are_gathered_by_image(write):
    records = [
        {"image_id": 785, "bbox": [1, 2, 10, 20], "score": 0.9},
        {"file_name": "b.jpg", "bbox": [5, 6, 7, 8]},
        {"image_id": 785, "bbox": [0, 0, 5, 5]},
    ]
    file = read_boxes_file(write(records))
    assert boxes_of(file) == {"785": [(1, 2, 11, 22), (0, 0, 5, 5)], "b.jpg": [(5, 6, 12, 14)]}
    assert [people.image_id for people in file.images.values()] == [785, None]


def test_annotations_are_taken_by_file_name_without_crowds_and_other_categories(write):
    content = {
        "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 8, "file_name": "b.jpg"}],
        "categories": [{"id": 1, "name": "person"}, {"id": 62, "name": "chair"}],
        "annotations": [
            {"image_id": 7, "category_id": 1, "bbox": [1, 2, 10, 20], "iscrowd": 0},
            {"image_id": 7, "category_id": 1, "bbox": [0, 0, 99, 99], "iscrowd": 1},
            {"image_id": 7, "category_id": 62, "bbox": [0, 0, 50, 50], "iscrowd": 0},
        ],
    }
    file = read_boxes_file(write(content))
    assert boxes_of(file) == {"a.jpg": [(1, 2, 11, 22)], "b.jpg": []}
    assert [people.image_id for people in file.images.values()] == [7, 8]


def test_all_annotations_count_where_no_category_tells(write):
    content = {"images": [{"id": 7, "file_name": "a.jpg"}], "annotations": [{"image_id": 7, "bbox": [1, 2, 10, 20]}]}
    assert boxes_of(read_boxes_file(write(content))) == {"a.jpg": [(1, 2, 11, 22)]}


def test_coco_mini_has_a_box_for_each_person_who_is_no_crowd(data_folder):
    path = data_folder / "coco-mini" / "person_keypoints.json"
    file = read_boxes_file(path)
    annotations = json.loads(path.read_text())["annotations"]
    assert len(file.images) == 28
    assert sum(len(people.boxes) for people in file.images.values()) == sum(not a["iscrowd"] for a in annotations)


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("images/000785.jpg", "images/000785.jpg"),  # the path as given
        ("000785.jpg", "images/000785.jpg"),  # its file name
        ("val2017/000785.jpg", "images/000785.jpg"),  # another path with the same file name
        ("000785", "images/000785.jpg"),  # its stem
        ("785", "images/000785.jpg"),  # its stem as a number
        ("0", "000.png"),
        ("photo", "photo.png"),
    ],
)
def test_image_is_found_by(key, path):
    file = BoxesFile(path=Path("boxes.json"), images={key: ImageBoxes(boxes=[(1.0, 2.0, 3.0, 4.0)])})
    assert file.of_images([Path(path)])[0].boxes == [(1, 2, 3, 4)]


def test_paths_tell_images_of_the_same_name_apart():
    images = {name: ImageBoxes(image_id=index) for index, name in enumerate(("a/1.jpg", "b/1.jpg"))}
    found = BoxesFile(path=Path("boxes.json"), images=images).of_images([Path("b/1.jpg"), Path("a/1.jpg")])
    assert [people.image_id for people in found] == [1, 0]


def test_image_that_is_not_named_has_no_boxes_and_a_warning_names_it(caplog):
    file = BoxesFile(path=Path("boxes.json"), images={"a.jpg": ImageBoxes(boxes=[(1.0, 2.0, 3.0, 4.0)])})
    with caplog.at_level(logging.WARNING, "tokenpose"):
        found = file.of_images([Path("a.jpg"), Path("b.jpg")])
    assert [len(people.boxes) for people in found] == [1, 0]
    assert caplog.messages == ["boxes.json has no boxes for 1 of the images: b.jpg"]


def test_file_that_names_none_of_the_images_is_refused():
    file = BoxesFile(path=Path("boxes.json"), images={f"{index}.jpg": ImageBoxes() for index in range(9)})
    with pytest.raises(LookupError, match=r"has boxes for none of the images: it names 0\.jpg, 1\.jpg, 2\.jpg, \.\.\."):
        file.of_images([Path("photo.jpg")])


def test_entry_that_fits_two_images_is_refused():
    file = BoxesFile(path=Path("boxes.json"), images={"1.jpg": ImageBoxes()})
    with pytest.raises(ValueError, match=r"'1\.jpg' fits a/1\.jpg, b/1\.jpg; name images by their paths there"):
        file.of_images([Path("a/1.jpg"), Path("b/1.jpg")])


def test_scores_come_with_their_boxes_and_are_1_where_there_are_none(write):
    records = [
        {"image_id": 785, "bbox": [1, 2, 10, 20], "score": 0.9},
        {"image_id": 785, "bbox": [0, 0, 5, 5], "score": 0},
        {"image_id": 785, "bbox": [0, 0, 6, 6]},
    ]
    assert read_boxes_file(write(records)).images["785"].scores == [0.9, 0, 1]
    assert read_boxes_file(write({"a.jpg": [[1, 2, 3, 4], [5, 6, 7, 8]]})).images["a.jpg"].scores == [1, 1]


def test_boxes_without_a_score_are_counted(write):
    records = [{"image_id": 7, "bbox": [1, 2, 10, 20]} | score for score in ({"score": 1.0}, {}, {})]
    assert read_boxes_file(write(records)).images["7"].unscored == 2
    assert read_boxes_file(write({"a.jpg": [[1, 2, 3, 4], [5, 6, 7, 8]]})).images["a.jpg"].unscored == 2


def test_boxes_of_other_categories_are_counted_by_category_where_one_is_asked_for(write):
    records = [{"image_id": 7, "bbox": [1, 2, 10, 20], "category_id": category} for category in (1, 62, "1", 62, None)]
    path = write(records)
    assert read_boxes_file(path, category_ids=[1]).other_categories == {"62": 2, "'1'": 1, "None": 1}
    assert read_boxes_file(path).other_categories == {}
    content = {"images": [{"id": 7, "file_name": "a.jpg"}], "annotations": records}
    assert read_boxes_file(write(content), category_ids=[1]).other_categories == {"62": 2, "'1'": 1, "None": 1}


def test_records_of_other_categories_are_left_out_where_a_category_is_asked_for(write):
    records = [
        {"image_id": 785, "bbox": [1, 2, 10, 20], "category_id": 1},
        {"image_id": 785, "bbox": [0, 0, 5, 5], "category_id": 62},
        {"image_id": 785, "bbox": [0, 0, 6, 6]},
    ]
    path = write(records)
    assert read_boxes_file(path, category_ids=[1]).images["785"].boxes == [(1, 2, 11, 22), (0, 0, 6, 6)]
    assert len(read_boxes_file(path).images["785"].boxes) == 3


MESSAGES = {
    "must hold a JSON object or list of boxes; it holds 3": 3,
    "record 1 needs bbox, and file_name or image_id; got {'bbox': [1, 2, 3, 4]}": [
        {"image_id": 1, "bbox": [1, 2, 3, 4]},
        {"bbox": [1, 2, 3, 4]},
    ],
    "record 0 needs bbox, and file_name or image_id; got {'image_id': 1}": [{"image_id": 1}],
    "record 0: a box is four numbers x, y, width, height; got [1, 2, 3]": [{"image_id": 1, "bbox": [1, 2, 3]}],
    "record 0: a box is four numbers x, y, width, height; got ['a', 2, 3, 4]": [
        {"image_id": 1, "bbox": ["a", 2, 3, 4]}
    ],
    "record 0: a score is a number; got 'high'": [{"image_id": 1, "bbox": [1, 2, 3, 4], "score": "high"}],
    "'a.jpg': a box is four numbers x1, y1, x2, y2; got 1": {"a.jpg": [1, 2, 3, 4]},
    "'a.jpg' needs a list of boxes [[x1, y1, x2, y2], ...]; got 'b'": {"a.jpg": "b"},
    "an image needs id and file_name; got {'id': 1}": {"images": [{"id": 1}], "annotations": []},
    "record 0 needs bbox, and file_name or image_id; got 'a'": {"images": [], "annotations": ["a"]},
    "record 0: an image_id is a number or text; got [1]": [{"image_id": [1], "bbox": [1, 2, 3, 4]}],
    "record 0: a box is four numbers x, y, width, height; got [1000": [{"image_id": 1, "bbox": [10**400, 2, 3, 4]}],
    "record 0: a score is a number; got 1000": [{"image_id": 1, "bbox": [1, 2, 3, 4], "score": 10**400}],
    "an image needs id and file_name; got {'id': [1]": {"images": [{"id": [1], "file_name": "a"}], "annotations": []},
    "a category is an object; got 1": {"annotations": [], "categories": [1]},
}


@pytest.mark.parametrize("message", MESSAGES)
def test_wrong_entry_is_refused_with_file_and_entry(write, message):
    path = write(MESSAGES[message])
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        read_boxes_file(path)
    assert str(caught.value).startswith(str(path))


def test_byte_order_mark_is_no_fault_and_utf16_is_told(tmp_path):
    path = tmp_path / "boxes.json"
    path.write_text('{"a.jpg": [[1, 2, 3, 4]]}', encoding="utf-8-sig")
    assert read_boxes_file(path).images["a.jpg"].boxes == [(1, 2, 3, 4)]
    path.write_text('{"a.jpg": [[1, 2, 3, 4]]}', encoding="utf-16")
    with pytest.raises(ValueError, match=r"boxes\.json is not JSON: it is UTF-16; save it as UTF-8$"):
        read_boxes_file(path)


def test_missing_file_and_other_content_than_json_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no boxes file"):
        read_boxes_file(tmp_path / "boxes.json")
    (tmp_path / "boxes.json").write_bytes(b"\xff\xd8")
    with pytest.raises(ValueError, match=r"boxes\.json is not JSON"):
        read_boxes_file(tmp_path / "boxes.json")
