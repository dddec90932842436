"""A detector's boxes, as COCO results."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tokenpose.evaluation.detections import read_detections
from tokenpose.evaluation.run import BoxesToPredict

from .flies import FLY, read, record, write_flies


def detection(**changes: Any) -> dict[str, Any]:
    return {"image_id": 3, "category_id": 1, "bbox": [10, 20, 30, 40], "score": 0.9, **changes}


@pytest.fixture
def detect(write, tmp_path) -> Callable[..., tuple[BoxesToPredict, dict[str, int]]]:
    def run(*detections: dict[str, Any], threshold: float = 0.0) -> tuple[BoxesToPredict, dict[str, int]]:
        path = tmp_path / "boxes.json"
        path.write_text(json.dumps(detections))
        return read_detections(path, threshold, read(write(record())))

    return run


def test_detections_are_read_with_scores_for_the_images_of_the_file(detect):
    boxes, left_out = detect(detection(image_id=4), detection(), detection(score=0.1))
    assert boxes.image_index.tolist() == [0, 0, 1]
    assert boxes.scores.tolist() == [0.9, 0.1, 0.9]
    assert boxes.boxes.tolist() == [[10, 20, 30, 40]] * 3
    assert left_out == {}


def test_detections_are_left_out_and_counted(detect):
    boxes, left_out = detect(
        detection(),
        detection(category_id=62),
        detection(category_id=62, image_id=99),
        detection(category_id="1"),
        detection(score=0.2),
        detection(image_id=99),
        detection(bbox=[10, 20, 0.5, 40]),
        detection(bbox=[300, 20, 30, 40]),
        threshold=0.3,
    )
    assert len(boxes) == 1
    assert left_out == {
        "score below 0.3": 1,
        "under a pixel a side, or outside the image": 2,
        "in images that are not in flies.json": 1,
        "of category 62, '1' instead of 1 (fly)": 3,
    }


def test_detections_without_scores_are_told(detect, caplog):
    detect(detection(), detection(image_id=99, score=0.5))
    assert caplog.messages == []
    bare = {"image_id": 3, "category_id": 1, "bbox": [10, 20, 30, 40]}
    boxes, left_out = detect(bare, detection(), bare, {**bare, "image_id": 99})
    assert boxes.scores.tolist() == [1, 0.9, 1]
    assert left_out == {"in images that are not in flies.json": 1}
    (message,) = caplog.messages
    assert message.endswith("boxes.json: 2 boxes have no score: 1 is taken")


def test_detections_of_other_images_only_are_refused(detect):
    message = r"boxes\.json has boxes of 'fly' for none of the images of .*flies\.json: it has "
    with pytest.raises(ValueError, match=message + r"image_id 99, that file 3, 4$"):
        detect(detection(image_id=99))
    with pytest.raises(ValueError, match=message + r"image_id '3', '4', 5, \.\.\., that file 3, 4$"):
        detect(*(detection(image_id=image) for image in ("3", "4", 5, 6)))
    with pytest.raises(ValueError, match=message + r"file_name 'a/3\.png', that file '3\.jpg', '4\.jpg'$"):
        detect({"file_name": "a/3.png", "bbox": [10, 20, 30, 40]})
    with pytest.raises(ValueError, match=r"boxes\.json has no boxes of 'fly'$"):
        detect()
    with pytest.raises(ValueError, match=r"boxes\.json: record 1 needs bbox"):
        detect(detection(), {"image_id": 3})


def test_detections_of_other_categories_only_are_refused_with_what_they_are(detect):
    message = r"boxes\.json has boxes of category 2, '1', and none of 1 \(fly\) as in .*flies\.json$"
    with pytest.raises(ValueError, match=message):
        detect(detection(category_id=2), detection(category_id=2, image_id=99), detection(category_id="1"))


def test_detections_belong_to_the_image_of_their_id_whatever_images_are_called(write, tmp_path):
    images = [
        {"id": 3, "file_name": "4", "height": 200, "width": 200},
        {"id": 4, "file_name": "3", "height": 200, "width": 200},
    ]
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps([detection(bbox=[3, 3, 30, 30]), detection(image_id=4, bbox=[4, 4, 40, 40])]))
    boxes, _ = read_detections(path, 0.0, read(write(record(), images=images)))
    assert boxes.image_index.tolist() == [0, 1]
    assert boxes.boxes.tolist() == [[3, 3, 30, 30], [4, 4, 40, 40]]


def test_an_image_whose_name_is_anothers_id_does_not_take_its_detections(write, tmp_path):
    images = [
        {"id": 3, "file_name": "4", "height": 200, "width": 200},
        {"id": 4, "file_name": "3", "height": 200, "width": 200},
    ]
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps([detection(image_id=4, bbox=[4, 4, 40, 40])]))
    boxes, _ = read_detections(path, 0.0, read(write(record(), images=images)))
    assert boxes.image_index.tolist() == [1]


def test_detection_with_a_score_of_exactly_the_threshold_stays(detect):
    boxes, left_out = detect(detection(score=0.3), detection(score=0.2999), threshold=0.3)
    assert boxes.scores.tolist() == [0.3]
    assert left_out == {"score below 0.3": 1}


@pytest.mark.parametrize(
    ("outside", "inside"),
    [
        ([-30, 20, 30, 40], [-30, 20, 31, 40]),  # ends at the left edge, or a pixel beyond it
        ([10, -40, 30, 40], [10, -40, 30, 41]),
        ([200, 20, 30, 40], [199, 20, 30, 40]),  # starts at the right edge of 200 columns
        ([10, 200, 30, 40], [10, 199, 30, 40]),
        ([10, 20, 0.99, 40], [10, 20, 1, 40]),  # under a pixel wide, or one
        ([10, 20, 30, 0.99], [10, 20, 30, 1]),
    ],
)
def test_detection_that_ends_exactly_at_the_images_edge_is_left_out(detect, outside, inside):
    boxes, left_out = detect(detection(bbox=outside), detection(bbox=inside))
    assert boxes.boxes.tolist() == [inside]
    assert left_out == {"under a pixel a side, or outside the image": 1}


def test_detections_of_each_category_that_is_evaluated_are_taken(tmp_path):
    both = [FLY, {**FLY, "id": 2, "name": "wasp"}]
    truth = read(write_flies(tmp_path, record(), record(category_id=2), categories=both))
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps([detection(), detection(category_id=2), detection(category_id=3)]))
    boxes, left_out = read_detections(path, 0.0, truth)
    assert (len(boxes), left_out) == (2, {"of category 3 instead of 1 (fly), 2 (wasp)": 1})
