"""Checks of boxes, beyond the single faults of test_check.py."""

import re

import numpy as np

from .planting import HERE


def test_loose_box_is_told_from_one_that_fits(content, check):
    for annotation in content["annotations"][:2]:
        numbers = np.array(annotation["keypoints"]).reshape(-1, 3)
        x, y = numbers[:, :2].min(axis=0)
        numbers[:, :2] = (numbers[:, :2] - (x, y)) / 4 + (50, 50)
        annotation["keypoints"] = numbers.ravel().tolist()
    content["annotations"][0]["bbox"] = [5, 5, 110, 140]  # about 6 times as long as a figure of 15 x 25
    content["annotations"][1]["bbox"] = [45, 45, 35, 55]
    (found,) = (finding for finding in check(content) if finding.check == "boxes")
    assert found.record == "annotation 0 in 000.png"
    assert "times as long as its keypoints' extent" in found.message


def test_loose_box_is_told_from_what_is_usual_in_the_file(content, check):
    """Of faces in boxes around whole people: a box eight times as long as its keypoints' extent is like the others."""
    for row, annotation in enumerate(content["annotations"]):
        numbers = np.array(annotation["keypoints"]).reshape(-1, 3)
        top = numbers[-1, :2]
        numbers[:, :2] = top + (numbers[:, :2] - top) / (32 if row == HERE else 8)
        annotation["keypoints"] = numbers.ravel().round(3).tolist()
    (found,) = (finding for finding in check(content) if finding.check == "boxes")
    assert found.record == "annotation 7 in 007.png"
    assert re.search(r"is 3\d\.\d times as long as its keypoints' extent, where \d\.\d is usual$", found.message)
    del content["annotations"][HERE]
    assert not [finding for finding in check(content) if finding.check == "boxes"]


def test_of_few_people_nothing_is_usual(content, check):
    content["annotations"] = content["annotations"][:4]
    for annotation in content["annotations"]:
        numbers = np.array(annotation["keypoints"]).reshape(-1, 3)
        numbers[:, :2] = numbers[-1, :2] + (numbers[:, :2] - numbers[-1, :2]) / 8
        annotation["keypoints"] = numbers.ravel().round(3).tolist()
    found = [finding for finding in check(content) if finding.check == "boxes"]
    assert len(found) == 4
    assert found[0].message.endswith("times as long as its keypoints' extent")


def test_boxes_as_corners_are_told_once(content, check):
    for annotation in content["annotations"]:
        x, y, width, height = annotation["bbox"]
        annotation["bbox"] = [x, y, x + width, y + height]
    (found,) = (finding for finding in check(content) if finding.check == "boxes")
    assert found.severity == "error"
    assert "make sense as x1, y1, x2, y2" in found.message
