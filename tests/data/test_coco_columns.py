import numpy as np
import pytest

from tokenpose.data.coco import read_columns

from .fly_files import content, record, write_flies

WITH_ROCK = content()["categories"] + [{"id": 2, "name": "rock"}]


def test_rows_are_the_annotations_of_the_category_crowds_included(tmp_path):
    others = record(id=5, category_id=2, image_id=1), record(id=6, iscrowd=1, keypoints=[0] * 9)
    columns = read_columns(write_flies(tmp_path, content(others[0], record(), others[1], categories=WITH_ROCK)))
    assert columns.positions.tolist() == [1, 2]
    assert columns.ids == [7, 6]
    assert columns.is_crowd.tolist() == [False, True]
    assert columns.is_labeled.tolist() == [True, False]
    assert columns.other_categories == 1
    assert columns.annotated.tolist() == [2, 1]  # of any category
    assert columns.faults == ()


def test_file_that_only_lists_images_is_read_where_it_need_not_be_annotated(tmp_path):
    bare = {name: section for name, section in content().items() if name != "annotations"}
    path = write_flies(tmp_path, bare)
    columns = read_columns(path, annotated=False)
    assert columns.lists_images_only
    assert (len(columns), columns.skeleton.keypoints[0]) == (0, content()["categories"][0]["keypoints"][0])
    with pytest.raises(ValueError, match="is not a COCO keypoint file: it has no annotations"):
        read_columns(path)


def test_file_with_annotations_of_any_category_is_no_list_of_images(tmp_path):
    assert not read_columns(write_flies(tmp_path, content(record())), annotated=False).lists_images_only
    other = content(record(category_id=2), categories=WITH_ROCK)
    assert not read_columns(write_flies(tmp_path, other), annotated=False).lists_images_only


def test_missing_values_are_nan_and_counted_as_missing(tmp_path):
    bare = {"id": 7, "image_id": 3, "category_id": 1}
    columns = read_columns(write_flies(tmp_path, content(bare, record(area=4, num_keypoints=2))))
    assert np.isnan(columns.areas).tolist() == np.isnan(columns.num_keypoints).tolist() == [True, False]
    assert np.isnan(columns.boxes).all(axis=1).tolist() == [True, False]
    assert columns.states_crowd.tolist() == [False, True]
    assert columns.keypoints[0].tolist() == [[0, 0, 0]] * 3
    assert columns.is_unlabeled.tolist() == [True, False]


def test_keypoints_that_cannot_be_read_are_neither_labeled_nor_unlabeled(tmp_path):
    columns = read_columns(write_flies(tmp_path, content(record(keypoints=[1, 2]))))
    assert (columns.is_labeled.tolist(), columns.is_unlabeled.tolist()) == ([False], [False])


def test_scores_are_1_where_a_record_has_none_and_nan_where_it_has_something_else(tmp_path):
    assert read_columns(write_flies(tmp_path, content(record()))).scores is None
    records = record(scores=[0, 0.5, 1]), record(id=8), record(id=9, scores=[1]), record(id=10, scores=["a", 1, 1])
    columns = read_columns(write_flies(tmp_path, content(*records)))
    assert np.nan_to_num(columns.scores, nan=7).tolist() == [[0, 0.5, 1], [1, 1, 1], [7, 7, 7], [7, 1, 1]]
    assert [fault.message for fault in columns.faults] == [
        "scores must be 3 numbers from 0 to 1, one for each keypoint; got 1 numbers",
        "scores must be 3 numbers from 0 to 1, one for each keypoint; got 'a'",
    ]
