import numpy as np
import pytest

from tokenpose.data.coco_records import NOT_STATED, AnnotationRecords, ImageRecords, read_sections

from .fly_files import SEEN, content, record, write_flies


def annotations(*records):
    columns = AnnotationRecords()
    for one in records:
        columns.add(one)
    return columns


def test_columns_have_a_row_for_each_record_whatever_it_is(tmp_path):
    images, people, categories = read_sections(write_flies(tmp_path, content(record(), 5, {}, images=[None, {}])))
    assert (len(images.ids), len(people.ids), len(categories)) == (2, 3, 1)
    assert len(images.sizes) == 2 * len(images.files) == 4
    assert len(people.boxes) == 4 * len(people.areas) == 12
    assert people.crowds == bytes([0, NOT_STATED, NOT_STATED])
    assert people.odd == {(1, ""): "5"}


def test_numbers_are_kept_exactly_and_what_is_none_is_nan_and_noted():
    columns = annotations(record(keypoints=[0.1, 1e6, 2, None, "x", 1, 0, 0, 0], bbox=[1, 2, 3]))
    assert columns.keypoints[:3].tolist() == [0.1, 1e6, 2]
    assert np.isnan(columns.keypoints[3:5]).all()
    assert columns.odd == {(0, "keypoints"): "None and 1 more", (0, "bbox"): "[1, 2, 3]"}


def test_large_coordinates_are_positions_as_long_as_each_is_within_the_limit():
    far = [9e6] * 8 + [2]
    assert annotations(record(keypoints=far)).odd == {}
    assert annotations(record(keypoints=[1e7, *far[1:]])).odd == {(0, "keypoints"): "10000000.0"}


def test_triples_are_those_of_the_category_and_wrong_lengths_are_nan_but_for_zeros():
    columns = annotations(
        record(), record(category_id=2, keypoints=[1, 2]), record(keypoints=[0, 0]), record(keypoints=[0, 3]), record()
    )
    triples = columns.keypoints_of(np.array([True, False, True, True, True]), 3)
    assert triples[[0, 1, 3]].reshape(3, 9).tolist() == [SEEN, [0] * 9, SEEN]
    assert np.isnan(triples[2]).all()


def test_images_are_found_by_the_first_of_their_ids():
    images = ImageRecords()
    for identity in (3, "3", 3):
        images.add({"id": identity, "file_name": "a.jpg", "width": 4, "height": 5})
    columns = annotations(*(record(image_id=identity) for identity in (3.0, "3", True, [3], None)))
    assert columns.find_images(images.positions).tolist() == [0, 1, -1, -1, -1]
    assert images.odd == {(2, "id"): "3"}


NAN = float("nan")


@pytest.mark.parametrize(
    "given",
    [
        [[10, 20, 2], [30, 40, 1], [0, 0, 0]],
        [10, 20, 2, 30, 40, 1, NAN, NAN, 0],
        [10, 20, 2, 30, 40, 1, None, 5, 0],
        [10, 20, 2, 30, 40, True, 0, 0, False],
        [[10, 20, 2], [30, 40, True], [NAN, None, False]],
        [10, 20, 2, 30, 40, 1, None, None, None],
        [10.0, 20.0, 2.0, 30.0, 40.0, 1.0, float("inf"), 1e30, 0.0],
    ],
)
def test_keypoints_are_read_in_the_ways_in_which_people_write_them(given):
    columns = annotations(record(keypoints=given))
    assert columns.odd == {}
    assert columns.keypoints_of(np.array([True]), 3).ravel().tolist() == SEEN
    assert columns.truth_values == ([0] if "True" in str(given) else [])


def test_whole_numbers_as_ids_lose_their_point():
    images = ImageRecords()
    images.add({"id": 3.0, "file_name": "a.jpg", "width": 4, "height": 5})
    assert (f"{images.ids}", f"{annotations(record(id=7.0), record(id=0.5)).ids}") == ("[3]", "[7, 0.5]")
