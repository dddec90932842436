"""What is correct, and how far scores are from it: numbers that can be checked by hand."""

import math

import numpy as np
import pytest

from tokenpose.evaluation.reliability import find_correct, measure_reliability
from tokenpose.skeletons import Skeleton

from .bodies import BODY, PERSON, people, samples


def shifted(pixels: float, count: int = 1) -> np.ndarray:
    return people(count)[0] + np.float32([pixels, 0])


def all_of(correct: np.ndarray) -> np.ndarray:
    return np.ones_like(correct, dtype=bool)


@pytest.mark.parametrize(("pixels", "expected"), [(0.0, True), (9.9, True), (10.1, False)])
def test_keypoint_within_a_fifth_of_the_torso_is_correct(pixels, expected):
    assert (find_correct(shifted(pixels), samples()) == expected).all()  # torsos are 50 pixels long


def test_without_a_torso_the_keypoint_similarity_decides():
    skeleton = Skeleton(name="blob", keypoints=("a", "b", "c", "d", "e"), flip_pairs=(), sigmas=(0.05,) * 5)
    body = samples(skeleton=skeleton, areas=np.array([1000.0]))
    limit = 2 * 0.05 * math.sqrt(1000 * 2 * math.log(2))  # exp(-d^2 / (2 (2 sigma)^2 area)) = 0.5
    assert find_correct(shifted(limit - 0.05), body).all()
    assert not find_correct(shifted(limit + 0.05), body).any()


def test_person_whose_torso_is_not_labeled_is_judged_by_similarity_and_others_by_the_torso():
    body = samples(count=2, skeleton=Skeleton(**{**vars(BODY), "sigmas": (0.05,) * 5}))
    body.visible[1, :2] = False  # no shoulders: the similarity's limit is 0.1 sqrt(0.53 x 30 x 40 x 2 ln 2) = 2.97
    found = find_correct(shifted(5.0, count=2), body)
    assert found[0].all()
    assert not found[1].any()


def test_prediction_that_is_no_number_is_not_correct():
    assert not find_correct(np.full((1, 5, 2), np.nan, dtype=np.float32), samples()).any()


def test_ece_is_the_mean_distance_of_bins_weighted_by_their_keypoints():
    scores = np.float32([[0.05, 0.05, 0.95, 0.95]])
    correct = np.array([[False, True, True, True]])
    found = measure_reliability(scores, correct, all_of(correct))
    assert found.ece == pytest.approx((2 * abs(0.05 - 0.5) + 2 * abs(0.95 - 1)) / 4)
    assert [entry.count for entry in found.bins] == [2, 0, 0, 0, 0, 0, 0, 0, 0, 2]
    assert (found.bins[0].share_correct, found.bins[9].mean_score) == (0.5, pytest.approx(0.95))
    assert math.isnan(found.bins[4].mean_score)
    assert (found.keypoint_count, found.share_correct) == (4, 0.75)


def test_keypoints_that_are_not_counted_change_nothing():
    scores, correct = np.float32([[0.5, 0.9], [0.5, 0.1]]), np.array([[True, False], [False, True]])
    found = measure_reliability(scores, correct, np.array([[True, False], [True, False]]))
    assert (found.ece, found.keypoint_count) == (0, 2)


def test_scores_of_known_probability_have_an_ece_near_0_and_overconfident_ones_do_not():
    random = np.random.default_rng(0)
    scores = random.uniform(size=(4000, 5)).astype(np.float32)
    correct = random.uniform(size=scores.shape) < scores
    assert measure_reliability(scores, correct, all_of(correct)).ece < 0.01
    boasting = np.sqrt(scores)
    assert measure_reliability(boasting, correct, all_of(correct)).ece == pytest.approx(2 / 3 - 1 / 2, abs=0.01)


@pytest.mark.parametrize("score", [-0.1, 1.1, math.nan])
def test_scores_that_are_no_probabilities_are_refused(score):
    scores, correct = np.float32([[score, 0.5]]), np.array([[True, True]])
    with pytest.raises(ValueError, match="scores must be probabilities, from 0 to 1; got"):
        measure_reliability(scores, correct, all_of(correct))


def test_no_labels_are_refused():
    with pytest.raises(ValueError, match="reliability needs labeled keypoints; got none"):
        measure_reliability(np.float32([[0.5]]), np.array([[True]]), np.array([[False]]))


def test_bodies_have_torsos_of_50_pixels():
    assert np.linalg.norm(PERSON[0] - PERSON[3]) == 50
