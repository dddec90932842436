import numpy as np

from tokenpose.doctor.swap_scores import measure_sides, scale_to_unit_spread, score_swaps

# left shoulder, right shoulder, left hip, right hip: a rectangle twice as high as wide
BODY = np.array([[0, 0], [1, 0], [0, 2], [1, 2]], dtype=np.float64)
SHOULDERS, HIPS = np.array([0, 1]), np.array([2, 3])


def test_keypoints_are_in_units_of_each_persons_spread_around_the_middle():
    labeled = np.array([[True, True, True, True], [True, True, False, False]])
    scaled = scale_to_unit_spread(np.stack((10 * BODY, BODY)), labeled)
    np.testing.assert_allclose((scaled**2).sum(axis=(1, 2)), [4, 2])  # a mean square of 1 for each labeled keypoint
    assert scaled[1, 2:].tolist() == [[0, 0], [0, 0]]
    np.testing.assert_allclose(scaled[0].mean(axis=0), 0, atol=1e-12)


def test_measures_speak_for_right_labels_and_change_their_signs_with_one_swapped_pair():
    labeled = np.ones((1, 4), dtype=bool)
    right = measure_sides(BODY[None], labeled, SHOULDERS, HIPS)
    swapped = measure_sides(BODY[None, [1, 0, 2, 3]], labeled, SHOULDERS, HIPS)
    assert (right[0, :4] > 0).all()
    np.testing.assert_allclose(swapped, -right)
    np.testing.assert_allclose(right[0, 0], 2 * 5**0.5 - 4)  # across minus along the sides


def test_three_labeled_keypoints_have_a_measure_of_their_own():
    three = measure_sides(BODY[None], np.array([[True, True, True, False]]), SHOULDERS, HIPS)
    np.testing.assert_allclose(three, [[0, 0, 0, 0, 5**0.5 - 2]])


def test_the_one_swapped_person_of_sixty_has_the_highest_score():
    people = BODY + np.random.default_rng(0).normal(0, 0.1, (60, 4, 2))
    people[7] = people[7, [1, 0, 2, 3]]
    labeled = np.ones((60, 4), dtype=bool)
    measures = {(0, 1): measure_sides(scale_to_unit_spread(people, labeled), labeled, SHOULDERS, HIPS)}
    scores = score_swaps(measures, [[(0, 1)]], [(0, 1)])
    assert scores.argmax() == 7
    assert scores[7, 0] > 0 > np.delete(scores[:, 0], 7).max()
