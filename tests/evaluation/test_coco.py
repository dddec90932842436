import math

import numpy as np
import pytest

from tokenpose.data.coco import read_coco
from tokenpose.evaluation.coco import FIGURES, make_results, measure_coco, padded_areas, person_scores
from tokenpose.evaluation.ground_truth import GroundTruth
from tokenpose.evaluation.run import BoxesToPredict, PredictedKeypoints
from tokenpose.models.spec import ModelSpec
from tokenpose.skeletons import COCO

from .flies import FLY_SIGMAS, SEEN, found, moved, read, record

SIGMAS = np.array(COCO.sigmas)
FRAMING = ModelSpec(
    backbone="pixels", backbone_stride=1, image_size=(256, 192), patch_size=(16, 12), width=192, heads=8, depth=1,
    skeleton=COCO,
)  # fmt: skip


# What counts


def test_perfect_predictions_of_coco_mini_have_an_ap_of_1(data_folder):
    path = data_folder / "coco-mini" / "person_keypoints.json"
    samples, truth = read_coco(path), read(path)
    # an unlabeled keypoint is somewhere in its person's box: all at (0, 0) people would be too similar
    middle = samples.boxes[:, None, :2] + samples.boxes[:, None, 2:] / 2
    keypoints = np.where(samples.visible[..., None], samples.keypoints, middle).astype(np.float32)
    predicted = PredictedKeypoints(keypoints=keypoints, scores=np.ones(keypoints.shape[:2], dtype=np.float32))
    records = make_results(BoxesToPredict.of_samples(samples), predicted, truth, SIGMAS, FRAMING)
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
    before = str([truth.annotations, records])
    measure_coco(truth, records, FLY_SIGMAS)
    assert str([truth.annotations, records]) == before


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


def two_alike(write, apart: float) -> tuple[BoxesToPredict, PredictedKeypoints, GroundTruth]:
    """Two poses of one image, ``apart`` pixels from one another, the second one better."""
    keypoints = np.array([SEEN, moved(SEEN, apart)], dtype=np.float32).reshape(2, 3, 3)[..., :2]
    boxes = BoxesToPredict(
        image_index=np.array([0, 0]), boxes=np.float32([[0, 0, 60, 80]] * 2), scores=np.array([0.4, 0.8])
    )
    return boxes, PredictedKeypoints(keypoints=keypoints, scores=np.ones((2, 3), np.float32)), read(write(record()))


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
    boxes = BoxesToPredict(
        image_index=np.zeros(21, dtype=np.int64),
        boxes=np.float32([[0, 0, 60, 80]] * 21),
        scores=np.linspace(1.0, 0.8, 21),
    )
    crowd = boxes, PredictedKeypoints(keypoints=keypoints, scores=np.ones((21, 3), np.float32)), read(write(record()))
    assert len(make_results(*crowd, FLY_SIGMAS, FRAMING)) == 21
    kept = [entry["score"] for entry in make_results(*crowd, FLY_SIGMAS, FRAMING, soft_nms=0.5)]
    assert kept == pytest.approx(np.linspace(1.0, 0.8, 21)[:20])  # the 21st, of 0.8, is one too many
