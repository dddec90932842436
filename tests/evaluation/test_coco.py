import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tokenpose.data.coco import read_coco
from tokenpose.evaluation.coco import (
    FIGURES,
    GroundTruth,
    make_results,
    measure_coco,
    padded_areas,
    person_scores,
    read_detections,
    read_ground_truth,
)
from tokenpose.evaluation.run import Boxes, Predicted
from tokenpose.models.spec import ModelSpec
from tokenpose.skeletons import COCO

SIGMAS = np.array(COCO.sigmas)
FRAMING = ModelSpec(
    backbone="pixels", backbone_stride=1, image_size=(256, 192), patch_size=(16, 12), width=192, heads=8, depth=1,
    skeleton=COCO,
)  # fmt: skip
FLY = {"id": 1, "name": "fly", "keypoints": ["head", "left_wing", "right_wing"], "skeleton": []}
FLY_SIGMAS = np.array([0.1, 0.1, 0.1])
SEEN = [10, 20, 2, 30, 40, 1, 50, 20, 2]


def record(**changes: Any) -> dict[str, Any]:
    """A fly of 10,000 square pixels."""
    whole = {"id": 0, "image_id": 3, "category_id": 1, "iscrowd": 0, "bbox": [0, 0, 100, 100], "area": 10_000}
    return {**whole, "num_keypoints": 3, "keypoints": SEEN, **changes}


def test_whole_numbers_may_be_written_with_a_point(write):
    truth = read(write(record(num_keypoints=3.0, iscrowd=0.0)))
    assert [(entry["num_keypoints"], entry["iscrowd"]) for entry in truth.annotations] == [(3, 0)]
    assert truth.people == 1
    for wrong in (2.5, "3", math.nan):
        with pytest.raises(ValueError, match=r"flies\.json: annotation 0: num_keypoints must be a whole number; got"):
            read_ground_truth(write(record(num_keypoints=wrong)))


@pytest.fixture
def write(tmp_path) -> Callable[..., Path]:
    def save(*annotations: dict[str, Any], name: str = "flies.json", **changes: Any) -> Path:
        images = [{"id": number, "file_name": f"{number}.jpg", "height": 200, "width": 200} for number in (3, 4)]
        whole = {"images": images, "annotations": list(annotations), "categories": [FLY], **changes}
        path = tmp_path / name
        path.write_text(json.dumps(whole))
        return path

    return save


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in record().items() if key != name}


def read(path: Path) -> GroundTruth:
    truth = read_ground_truth(path)
    assert truth is not None
    return truth


def found(keypoints: list[float], image: int = 3, score: float = 1.0) -> dict[str, Any]:
    return {"image_id": image, "category_id": 1, "keypoints": keypoints, "score": score}


def moved(keypoints: list[float], x: float) -> list[float]:
    return [value + x if index % 3 == 0 else value for index, value in enumerate(keypoints)]


# What counts


def test_people_of_coco_mini_are_those_that_pycocotools_counts(data_folder):
    from pycocotools.coco import COCO as Annotations

    path = data_folder / "coco-mini" / "person_keypoints.json"
    theirs = Annotations(str(path))
    counted = theirs.loadAnns(theirs.getAnnIds(iscrowd=False))
    truth = read(path)
    assert truth.people == sum(entry["num_keypoints"] > 0 for entry in counted) == len(read_coco(path)) == 86
    assert len(truth.annotations) == len(theirs.anns) == 147
    assert sum(entry["iscrowd"] for entry in truth.annotations) == 5
    assert truth.filled == {}


def test_perfect_predictions_of_coco_mini_have_an_ap_of_1(data_folder):
    path = data_folder / "coco-mini" / "person_keypoints.json"
    samples, truth = read_coco(path), read(path)
    # an unlabelled keypoint is somewhere in its person's box: all at (0, 0) people would be too similar
    middle = samples.boxes[:, None, :2] + samples.boxes[:, None, 2:] / 2
    keypoints = np.where(samples.visible[..., None], samples.keypoints, middle).astype(np.float32)
    predicted = Predicted(keypoints=keypoints, scores=np.ones(keypoints.shape[:2], dtype=np.float32))
    records = make_results(Boxes.of_samples(samples), predicted, truth, SIGMAS, FRAMING)
    assert len(records) == 86
    assert measure_coco(truth, records, SIGMAS) == dict.fromkeys(FIGURES, 1.0)


def test_nothing_found_has_an_ap_of_0_and_nobody_has_none(write):
    figures = measure_coco(read(write(record())), [], FLY_SIGMAS)
    assert (figures["AP"], figures["AR"], figures["APL"]) == (0, 0, 0)
    assert math.isnan(figures["APM"])  # 10,000 square pixels are large
    assert all(math.isnan(figure) for figure in measure_coco(read(write()), [], FLY_SIGMAS).values())


def test_shift_to_an_oks_of_072_passes_five_of_the_ten_thresholds(write):
    # d with exp(-d^2 / (2 x (2 x 0.1)^2 x 10,000)) = 0.72: above 0.5, 0.55, 0.6, 0.65 and 0.7, below 0.75
    shift = math.sqrt(-2 * 0.04 * 10_000 * math.log(0.72))
    figures = measure_coco(read(write(record())), [found(moved(SEEN, shift))], FLY_SIGMAS)
    assert figures["AP"] == pytest.approx(0.5)
    assert figures["AR"] == pytest.approx(0.5)
    steps = [figures[name] for name in ("AP50", "AP75", "AR50", "AR75")]
    assert steps == pytest.approx([1, 0, 1, 0])


def test_larger_sigmas_forgive_more(write):
    shift = math.sqrt(-2 * 0.04 * 10_000 * math.log(0.72))
    figures = measure_coco(read(write(record())), [found(moved(SEEN, shift))], 2 * FLY_SIGMAS)
    assert figures["AP"] == pytest.approx(0.9)  # 0.72 ** (1 / 4) = 0.92


def test_second_best_of_two_people_counts_half(write):
    truth = read(write(record(), record(image_id=4)))
    records = [found(SEEN, 3, 0.9), found(moved(SEEN, 1000), 4, 0.8)]
    # a recall of 0.5 at full precision: 51 of the 101 recall levels
    assert measure_coco(truth, records, FLY_SIGMAS)["AP"] == pytest.approx(51 / 101)


def test_wrong_pose_with_a_higher_score_costs_precision(write):
    truth = read(write(record()))
    right, wrong = found(SEEN, 3), found(moved(SEEN, 1000), 4)
    assert measure_coco(truth, [right | {"score": 0.9}, wrong | {"score": 0.5}], FLY_SIGMAS)["AP"] == pytest.approx(1)
    assert measure_coco(truth, [right | {"score": 0.5}, wrong | {"score": 0.9}], FLY_SIGMAS)["AP"] == pytest.approx(0.5)


def test_pose_in_a_crowd_is_forgiven(write):
    crowd = record(iscrowd=1, keypoints=[0] * 9, num_keypoints=0, image_id=4, bbox=[0, 0, 200, 200])
    wrong = found(moved(SEEN, 3), 4, 1.0)
    assert measure_coco(read(write(record(), crowd)), [found(SEEN, 3, 0.5), wrong], FLY_SIGMAS)["AP"] == pytest.approx(
        1
    )


def test_crowds_and_people_without_keypoints_are_kept_and_do_not_count(write):
    truth = read(write(record(), record(iscrowd=1), record(keypoints=[0] * 9, num_keypoints=0)))
    assert (len(truth.annotations), truth.people) == (3, 1)


def test_record_with_the_id_0_is_matched_like_any_other(write):
    assert measure_coco(read(write(record(id=0))), [found(SEEN)], FLY_SIGMAS)["AP"] == pytest.approx(1)


def test_pycocotools_says_nothing(write, capsys):
    measure_coco(read(write(record())), [found(SEEN)], FLY_SIGMAS)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_what_is_given_stays_as_it_was(write):
    truth, records = read(write(record())), [found(SEEN)]
    before = json.dumps([truth.annotations, records])
    measure_coco(truth, records, FLY_SIGMAS)
    assert json.dumps([truth.annotations, records]) == before


# Files that lack what pycocotools needs


def test_missing_area_is_053_of_the_box(write):
    truth = read(write(without("area"), record()))
    assert [entry["area"] for entry in truth.annotations] == [pytest.approx(5300), 10_000]
    assert truth.filled == {"area": 1}


def test_missing_area_of_a_box_without_one_is_none(write):
    bare = without("area")
    bare["bbox"] = [10, 10, -20, 30]
    assert [entry["area"] for entry in read(write(bare, record())).annotations] == [0, 10_000]


def test_category_is_chosen_by_name(write, tmp_path):
    content = json.loads(write(record(), record(category_id=2)).read_text())
    content["categories"].append({**content["categories"][0], "id": 2, "name": "wasp"})
    path = tmp_path / "two.json"
    path.write_text(json.dumps(content))
    assert read_ground_truth(path, "wasp").category["id"] == 2
    assert [entry["category_id"] for entry in read_ground_truth(path, "wasp").annotations] == [2]


def test_missing_counts_are_counted_and_nobody_is_a_crowd(write):
    empty = record(keypoints=[0] * 9)
    del empty["num_keypoints"]
    truth = read(write(without("num_keypoints"), without("iscrowd"), empty))
    assert [entry["num_keypoints"] for entry in truth.annotations] == [3, 3, 0]
    assert truth.people == 2
    assert truth.filled == {"num_keypoints": 2, "iscrowd": 1}
    assert measure_coco(truth, [found(SEEN), found(moved(SEEN, 0.1))], FLY_SIGMAS)["AP"] == pytest.approx(1)


def test_annotation_without_keypoints_and_box_is_left_out(write):
    truth = read(write(record(), record(keypoints=[], num_keypoints=0, bbox=[])))
    assert (len(truth.annotations), truth.filled) == (1, {"left out": 1})


def test_file_of_another_form_has_no_ground_truth(write, tmp_path):
    path = tmp_path / "list.json"
    path.write_text("[]")
    assert read_ground_truth(path) is None
    path.write_bytes(b"\xff\x00MATLAB")
    assert read_ground_truth(path) is None


WRONG = {
    "annotation 7 needs an area in square pixels; it has 'big'": record(id=7, area="big"),
    "annotation 7 needs an area in square pixels; it has -1": record(id=7, area=-1),
    "annotation 7 has 4 keypoint numbers; 3 keypoints need 9": record(id=7, keypoints=[1, 2, 2, 3]),
    "annotation 7 needs a bbox of x, y, width, height; it has [1, 2]": record(id=7, bbox=[1, 2]),
    "annotation 7 needs a bbox of x, y, width, height; it has [1, 2, 3, 'a']": record(
        id=7, bbox=[1, 2, 3, "a"], iscrowd=1
    ),
    "annotation 7 needs a bbox of x, y, width, height; it has 5": record(id=7, bbox=5, iscrowd=1),
    "annotation 7 has keypoints 5; 3 keypoints need 9": record(id=7, keypoints=5, iscrowd=1),
    "annotation 7 is of image [1], which is no id": record(id=7, image_id=[1], iscrowd=1),
    "annotation 7 needs an area in square pixels; it has 1000": record(id=7, area=10**400),
    "annotation 7 has keypoints that are no finite numbers: [nan": record(id=7, keypoints=[math.nan, *SEEN[1:]]),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_record_is_refused_with_file_and_record(write, message):
    path = write(record(), WRONG[message])
    with pytest.raises(ValueError, match=re.escape(f"{path}: {message}")):
        read_ground_truth(path)


# Scores and suppression


def test_score_of_a_person_is_the_boxes_times_the_mean_of_keypoint_scores_above_02():
    scores = np.float32([[0.9, 0.5, 0.2], [0.1, 0.2, 0.0], [0.3, np.nan, 0.5]])
    # 0.5 x (0.9 + 0.5) / 2; nothing above 0.2; (0.3 + 0.5) / 2
    np.testing.assert_allclose(person_scores(scores, np.array([0.5, 1.0, 1.0])), [0.35, 0, 0.4], rtol=1e-6)


def test_area_is_that_of_the_padded_box_in_the_crops_aspect():
    # 100 x 100 grows to 100 x 133.3 for 256x192, times 1.25 each way
    np.testing.assert_allclose(
        padded_areas(np.float32([[5, 5, 100, 100]]), FRAMING), [1.25**2 * 100 * 400 / 3], rtol=1e-5
    )


def two_alike(write, apart: float) -> tuple[Boxes, Predicted, GroundTruth]:
    """Two poses of one image, ``apart`` pixels from one another, the second one better."""
    keypoints = np.array([SEEN, moved(SEEN, apart)], dtype=np.float32).reshape(2, 3, 3)[..., :2]
    boxes = Boxes(image_index=np.array([0, 0]), boxes=np.float32([[0, 0, 60, 80]] * 2), scores=np.array([0.4, 0.8]))
    return boxes, Predicted(keypoints=keypoints, scores=np.ones((2, 3), np.float32)), read(write(record()))


def test_the_worse_of_two_similar_poses_goes(write):
    # area 60 x 80 x 1.25^2 = 7,500; OKS exp(-d^2 / (2 x 0.04 x 7,500)): 0.98 for 3 pixels, 0.85 for 10
    near, far = two_alike(write, 3), two_alike(write, 10)
    assert [entry["score"] for entry in make_results(*near, FLY_SIGMAS, FRAMING)] == [0.8]
    assert [entry["score"] for entry in make_results(*far, FLY_SIGMAS, FRAMING)] == [0.8, 0.4]
    assert len(make_results(*far, FLY_SIGMAS, FRAMING, nms=0.8)) == 1
    assert len(make_results(*near, FLY_SIGMAS, FRAMING, soft_nms=0.5)) == 2  # both of at most 20 stay


def test_pose_that_is_not_finite_is_no_prediction(write):
    boxes, predicted, truth = two_alike(write, 100)
    predicted.keypoints[1, 0, 0] = np.nan
    (kept,) = make_results(boxes, predicted, truth, FLY_SIGMAS, FRAMING)
    assert kept["score"] == 0.4
    assert kept["image_id"] == 3


def test_suppression_takes_the_mean_of_the_two_areas(write):
    boxes, predicted, truth = two_alike(write, 10)
    boxes.boxes[0] *= 3  # 67,500 and 7,500 square pixels: OKS exp(-100 / (2 x 0.04 x 37,500)) = 0.967
    assert len(make_results(boxes, predicted, truth, FLY_SIGMAS, FRAMING, nms=0.96)) == 1
    assert len(make_results(boxes, predicted, truth, FLY_SIGMAS, FRAMING, nms=0.97)) == 2


def test_soft_suppression_leaves_20_people_an_image_as_coco_does_and_hard_suppression_all(write):
    far_apart = [moved(SEEN, 1000 * person) for person in range(21)]
    keypoints = np.array(far_apart, dtype=np.float32).reshape(21, 3, 3)[..., :2]
    boxes = Boxes(
        image_index=np.zeros(21, dtype=np.int64),
        boxes=np.float32([[0, 0, 60, 80]] * 21),
        scores=np.linspace(1.0, 0.8, 21),
    )
    crowd = boxes, Predicted(keypoints=keypoints, scores=np.ones((21, 3), np.float32)), read(write(record()))
    assert len(make_results(*crowd, FLY_SIGMAS, FRAMING)) == 21
    kept = [entry["score"] for entry in make_results(*crowd, FLY_SIGMAS, FRAMING, soft_nms=0.5)]
    assert kept == pytest.approx(np.linspace(1.0, 0.8, 21)[:20])  # the 21st, of 0.8, is one too many


# Detectors' boxes


def detection(**changes: Any) -> dict[str, Any]:
    return {"image_id": 3, "category_id": 1, "bbox": [10, 20, 30, 40], "score": 0.9, **changes}


@pytest.fixture
def detect(write, tmp_path) -> Callable[..., tuple[Boxes, dict[str, int]]]:
    def run(*detections: dict[str, Any], threshold: float = 0.0) -> tuple[Boxes, dict[str, int]]:
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
        "of category 62, '1', where 1 (fly) is wanted": 3,
    }


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


def test_detections_without_scores_are_told(detect, caplog):
    detect(detection(), detection(image_id=99, score=0.5))
    assert caplog.messages == []
    bare = {"image_id": 3, "category_id": 1, "bbox": [10, 20, 30, 40]}
    boxes, left_out = detect(bare, detection(), bare, {**bare, "image_id": 99})
    assert boxes.scores.tolist() == [1, 0.9, 1]
    assert left_out == {"in images that are not in flies.json": 1}
    (message,) = caplog.messages
    assert message.endswith("boxes.json: 2 boxes without a score: taken as 1")


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
    message = r"boxes\.json has boxes of category 2, '1', and none of 1 \(fly\) as .*flies\.json has it$"
    with pytest.raises(ValueError, match=message):
        detect(detection(category_id=2), detection(category_id=2, image_id=99), detection(category_id="1"))
