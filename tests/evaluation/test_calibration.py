"""Curves that are fitted to people whose probabilities are known."""

from itertools import pairwise

import numpy as np
import pytest

from tokenpose.evaluation.calibration import FOLDS, fit_curves, measure_held_out
from tokenpose.evaluation.reliability import measure_reliability
from tokenpose.models.calibration import Curves, apply_curves

KNOTS = ((0.0, -4.0), (1.0, 4.0))
LINES = ((1.0, 0.0), (0.8, 0.7), (1.2, -1.0))


def draw(count: int, seed: int = 0, lines=LINES) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Peaks, what is correct by the true curves, and that everything is labeled."""
    random = np.random.default_rng(seed)
    peaks = random.uniform(0, 1.2, (count, len(lines))).astype(np.float32)
    correct = random.uniform(size=peaks.shape) < apply_curves(peaks, Curves(KNOTS, lines))
    return peaks, correct, np.ones_like(correct)


def test_known_curves_are_found_again():
    peaks, correct, counted = draw(20_000)
    grid = np.linspace(0, 1.2, 50, dtype=np.float32)[:, None].repeat(3, axis=1)
    found = apply_curves(grid, fit_curves(peaks, correct, counted))
    np.testing.assert_allclose(found, apply_curves(grid, Curves(KNOTS, LINES)), atol=0.05)


def test_people_who_were_not_used_for_the_fit_have_an_ece_near_0():
    curves = fit_curves(*draw(2_000))
    peaks, correct, counted = draw(10_000, seed=1)
    assert measure_reliability(apply_curves(peaks, curves), correct, counted).ece < 0.02
    halved = apply_curves(peaks / 2, curves)  # as another image size gives other peaks
    assert measure_reliability(halved, correct, counted).ece > 0.2


def test_unlabeled_keypoints_do_not_count():
    peaks, correct, counted = draw(300)
    expected = fit_curves(peaks[:200], correct[:200], counted[:200])
    counted[200:] = False
    found = fit_curves(peaks, correct, counted)
    assert found.knots == expected.knots
    np.testing.assert_allclose(found.lines, expected.lines)


def test_curve_never_falls_even_where_higher_peaks_are_wrong_more_often():
    peaks, correct, counted = draw(2_000, lines=((1.0, 0.0),) * 3)
    correct[:, 1] = ~correct[:, 1]
    (rising, _), (slope, offset), _ = fit_curves(peaks, correct, counted).lines
    assert rising > 1
    assert slope == 0
    assert 1 / (1 + np.exp(-offset)) == pytest.approx(correct[:, 1].mean(), abs=0.02)


@pytest.mark.parametrize("value", [True, False])
def test_keypoint_that_is_always_the_same_has_a_finite_curve(value):
    peaks, correct, counted = draw(200)
    correct[:] = value
    found = apply_curves(peaks, fit_curves(peaks, correct, counted))
    assert (abs(found - value) < 0.05).all()
    same = fit_curves(np.full_like(peaks, 0.5), correct, counted)
    assert same.knots[0][0] == 0.5
    assert len(same.knots) == 1
    assert (abs(apply_curves(peaks, same) - value) < 0.05).all()


def test_rarely_labeled_keypoint_has_nearly_the_curve_of_all():
    peaks, correct, counted = draw(2_000, lines=((1.0, 0.0),) * 3)
    counted[2:, 2] = False
    peaks[:2, 2], correct[:2, 2] = 0.6, False
    curves = fit_curves(peaks, correct, counted)
    common, _, rare = apply_curves(np.full((1, 3), 0.6, dtype=np.float32), curves)[0]
    assert 0.02 < common - rare < 0.15  # two labels, both wrong, lower it a little


def test_held_out_people_are_judged_by_curves_of_the_other_images():
    peaks, correct, counted = draw(400)
    images = np.arange(400) // 2  # two people an image
    fold = images % FOLDS
    expected = np.zeros_like(peaks)
    for number in range(FOLDS):
        expected[fold == number] = apply_curves(
            peaks[fold == number],
            fit_curves(peaks[fold != number], correct[fold != number], counted[fold != number]),
        )
    assert measure_held_out(peaks, correct, counted, images) == measure_reliability(expected, correct, counted)


def test_labels_in_one_image_can_not_be_held_out():
    peaks, correct, counted = draw(5)
    with pytest.raises(ValueError, match="labeled keypoints in at least 2 images"):
        measure_held_out(peaks, correct, counted, np.zeros(5, dtype=np.int64))
    with pytest.raises(ValueError, match="curves need labeled keypoints; got none"):
        fit_curves(peaks, correct, np.zeros_like(counted))


def test_there_are_8_knots_at_most_and_they_rise():
    for count in (1, 10, 100, 1000):
        peaks, correct, counted = draw(count)
        knots = fit_curves(peaks, correct, counted).knots
        assert 1 <= len(knots) <= 8
        assert all(first < second and low <= high for (first, low), (second, high) in pairwise(knots))
