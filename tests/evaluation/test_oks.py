import math
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tokenpose.evaluation.oks import oks, oks_nms, soft_oks_nms
from tokenpose.skeletons import COCO

SIGMAS = np.array(COCO.sigmas)


@pytest.fixture(scope="module")
def poses(golden: Path) -> dict[str, np.ndarray]:
    """Twelve poses of one image, and what the published routines make of them."""
    return load_file(golden / "ops.safetensors")


def test_oks_is_the_published_one(poses):
    keypoints, areas = poses["nms_keypoints"][..., :2], poses["nms_area"]
    found = oks(keypoints[0], float(areas[0]), keypoints, areas, SIGMAS)
    np.testing.assert_allclose(found, poses["oks_of_first_to_all"], rtol=0, atol=1e-9)


@pytest.mark.parametrize("threshold", ["0.5", "0.9"])
def test_suppression_keeps_the_published_poses(poses, threshold):
    kept = oks_nms(poses["nms_keypoints"][..., :2], poses["nms_score"], poses["nms_area"], SIGMAS, float(threshold))
    assert kept.tolist() == poses[f"oks_nms_keep_thr{threshold}"].tolist()


def test_soft_suppression_keeps_the_published_poses(poses):
    kept = soft_oks_nms(poses["nms_keypoints"][..., :2], poses["nms_score"], poses["nms_area"], SIGMAS, 0.5)
    assert kept.tolist() == poses["soft_oks_nms_keep_thr0.5"].tolist()


def test_oks_of_a_shifted_pose_by_hand():
    # one keypoint of sigma 0.1, 3 pixels away, areas 100 and 300: exp(-9 / (2 x 0.2^2 x 200))
    found = oks(np.zeros((1, 2)), 100.0, np.array([[[3.0, 0.0]]]), np.array([300.0]), np.array([0.1]))
    assert found[0] == pytest.approx(math.exp(-9 / 16))


def test_oks_averages_keypoints():
    others = np.array([[[0.0, 0.0], [1e6, 0.0]]])
    assert oks(np.zeros((2, 2)), 1.0, others, np.array([1.0]), np.array([0.1, 0.1])).tolist() == [0.5]


def test_same_pose_twice_keeps_the_better_one(poses):
    keypoints = np.repeat(poses["nms_keypoints"][:1, :, :2], 3, axis=0)
    keypoints[1] += 1000  # somebody else
    scores, areas = np.array([0.3, 0.1, 0.9]), np.full(3, 5000.0)
    assert oks_nms(keypoints, scores, areas, SIGMAS, 0.9).tolist() == [2, 1]


def test_pose_goes_only_where_its_oks_is_above_the_threshold_and_stays_where_it_is_equal():
    # of two keypoints one is at the same place, the other far away: an OKS of exactly (1 + 0) / 2
    keypoints = np.array([[[0.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [1e6, 0.0]]])
    scores, areas, sigmas = np.array([0.9, 0.8]), np.ones(2), np.array([0.1, 0.1])
    assert oks_nms(keypoints, scores, areas, sigmas, 0.5).tolist() == [0, 1]
    assert oks_nms(keypoints, scores, areas, sigmas, 0.499).tolist() == [0]


def test_soft_suppression_keeps_20_of_21_unless_told_otherwise():
    keypoints = 1000.0 * np.arange(21).reshape(21, 1, 1) * np.ones((1, 17, 2))
    scores, areas = np.linspace(0.9, 0.1, 21), np.ones(21)
    assert soft_oks_nms(keypoints, scores, areas, SIGMAS, 0.5).tolist() == list(range(20))


def test_soft_suppression_puts_a_doubled_pose_last_and_keeps_at_most_so_many(poses):
    keypoints = np.repeat(poses["nms_keypoints"][:1, :, :2], 3, axis=0)
    keypoints[1] += 1000
    scores, areas = np.array([0.8, 0.3, 0.9]), np.full(3, 5000.0)  # 0.8 x exp(-1 / 0.9) = 0.26 < 0.3
    assert soft_oks_nms(keypoints, scores, areas, SIGMAS, 0.9).tolist() == [2, 1, 0]
    assert soft_oks_nms(keypoints, scores, areas, SIGMAS, 0.9, most=2).tolist() == [2, 1]


@pytest.mark.parametrize("suppress", [oks_nms, soft_oks_nms])
def test_nobody_is_kept_of_nobody(suppress):
    assert suppress(np.zeros((0, 17, 2)), np.zeros(0), np.zeros(0), SIGMAS, 0.9).tolist() == []
