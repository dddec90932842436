import numpy as np
import pytest

from tokenpose.data.annotations import read_annotations
from tokenpose.data.coco import read_coco, read_columns
from tokenpose.data.coco_corrections import box_keypoints
from tokenpose.doctor.check import check_data
from tokenpose.evaluation.ground_truth import make_ground_truth

from .fly_files import content, record, write_flies

AROUND = [20, 30, 2, 40, 70, 1, 5, 5, 0]
"""Labeled are (20, 30) and (40, 70): 20 wide and 40 high, in an image of 80 x 100."""
GROWN = [17, 24, 26, 52]  # by 0.15 of 20 and of 40 on each side


@pytest.mark.parametrize("missing", [{"bbox": None}, {"bbox": []}, {}, {"bbox": [0, 0, 0, 0]}])
def test_missing_boxes_are_those_of_the_labeled_keypoints_grown_on_each_side(tmp_path, caplog, missing):
    bare = {name: value for name, value in record(keypoints=AROUND).items() if name != "bbox"} | missing
    path = write_flies(tmp_path, content(bare, record(id=8)))
    assert read_annotations(path, boxes_from_keypoints=0.15).boxes.tolist() == [GROWN, [5, 6, 21, 31]]
    with caplog.at_level("INFO"):
        truth = make_ground_truth(read_columns(path, boxes_from_keypoints=0.15))
        read_annotations(path, boxes_from_keypoints=0.15)
    assert [entry["bbox"] for entry in truth.annotations] == [GROWN, [5, 6, 21, 31]]
    message = "bbox is missing in 1 annotation, annotation 7 in a.jpg: it is that of the labeled keypoints, grown by 0"
    assert message in caplog.text
    (finding,) = (one for one in check_data(path, boxes_from_keypoints=0.15).findings if message in one.message)
    assert (finding.check, finding.severity, finding.annotations) == ("corrected values", "note", (7,))


def test_boxes_that_the_file_has_stay_and_unreadable_ones_are_refused(tmp_path):
    path = write_flies(tmp_path, content(record(bbox=[1, 2, 3])))
    with pytest.raises(ValueError, match=r"bbox must be 4 finite numbers.* got \[1, 2, 3\]; correct the record"):
        read_coco(path, boxes_from_keypoints=0.15)


def test_nobody_without_labels_and_no_crowd_gets_a_box(tmp_path):
    others = record(bbox=None, keypoints=[0] * 9), record(bbox=None, iscrowd=1, keypoints=AROUND)
    columns = read_columns(write_flies(tmp_path, content(record(), *others)), boxes_from_keypoints=0.15)
    assert columns.has_box.tolist() == [True, False, False]
    assert columns.notes == ()


def test_box_of_keypoints_grows_is_cut_to_the_image_and_leaves_lines_their_width():
    seen = np.array([[[0, 50, 2], [60, 90, 1]], [[30, 20, 2], [30, 60, 2]], [[9, 9, 2], [50, 50, 0]]], dtype=float)
    boxes = box_keypoints(seen, np.array([[64.0, 100.0]] * 3), 0.25)
    assert boxes.tolist() == [[0, 40, 64, 60], [20, 10, 20, 60], [9, 9, 0, 0]]  # one keypoint has no extent
    assert box_keypoints(seen[:1], np.array([[np.nan] * 2]), 0.25).tolist() == [[0, 40, 75, 60]]


def test_person_with_one_labeled_keypoint_has_no_box_and_is_counted(tmp_path):
    single = record(bbox=None, keypoints=[20, 30, 2, 0, 0, 0, 0, 0, 0])
    samples = read_coco(write_flies(tmp_path, content(single, record())), boxes_from_keypoints=0.15)
    assert (len(samples), samples.skipped) == (1, {"box without area": 1})


@pytest.mark.parametrize("share", [-0.1, float("nan"), float("inf")])
def test_share_that_boxes_cannot_grow_by_is_refused(tmp_path, share):
    with pytest.raises(ValueError, match=r"boxes_from_keypoints is the share .* for example 0\.15; got"):
        read_columns(write_flies(tmp_path, content(record())), boxes_from_keypoints=share)


def test_area_is_not_compared_with_a_box_that_comes_from_the_keypoints(tmp_path):
    path = write_flies(tmp_path, content(record(bbox=None, area=7000), record(bbox=None, area=8001)))
    columns = read_columns(path, boxes_from_keypoints=0.0)  # the keypoints' extent is 20 x 20, the image 80 x 100
    assert np.nan_to_num(columns.areas, nan=-1).tolist() == [7000, -1]
