import json
import logging
from pathlib import Path

import pytest
import torch

from tokenpose.jobs.box_source import BoxSource, choose_box_source, whole_image

BOX = (5.0, 5.0, 50.0, 50.0)


def test_box_of_a_whole_image_is_its_width_and_height():
    assert whole_image(torch.zeros(3, 60, 80, dtype=torch.uint8)).tolist() == [[0, 0, 80, 60]]


def test_boxes_come_from_one_source():
    for given in ({"boxes": [BOX], "file": Path("b.json")}, {"boxes": [BOX], "detector": "x"}):
        with pytest.raises(ValueError, match=r"^give only one of boxes, a boxes file and a detector$"):
            choose_box_source(**given)


def test_only_missing_boxes_are_warned_of(caplog):
    with caplog.at_level(logging.WARNING):
        assert choose_box_source([BOX]).given == [BOX]
        assert choose_box_source(file=Path("boxes.json")).file == Path("boxes.json")
        assert caplog.messages == []
        assert choose_box_source().find is whole_image
    assert caplog.messages == [
        "no boxes given: the whole image is taken as one person; give --detect, --box or --boxes"
    ]


def test_detector_and_threshold_are_those_that_are_asked_for(detector_weights):
    image = torch.zeros(3, 60, 80, dtype=torch.uint8)
    assert len(choose_box_source(detector=detector_weights).find(image)) > 0
    assert len(choose_box_source(detector=detector_weights, threshold=1.0).find(image)) == 0
    with pytest.raises(LookupError, match="torchvision has no detector named 'yolo'"):
        choose_box_source(detector="yolo")


def test_given_boxes_are_those_of_each_image_and_a_file_names_its_own(tmp_path):
    paths = [Path("a.png"), Path("b.png")]
    (tmp_path / "boxes.json").write_text(json.dumps({"b.png": [list(BOX)], "a.png": []}))
    assert [found.boxes for found in BoxSource(given=[BOX]).of_images(paths)] == [[BOX], [BOX]]
    assert [found.boxes for found in BoxSource(file=tmp_path / "boxes.json").of_images(paths)] == [[], [BOX]]
    assert BoxSource().of_images(paths) == [None, None]
