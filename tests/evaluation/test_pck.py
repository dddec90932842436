import math

import numpy as np
import pytest

from tokenpose.evaluation.pck import group_keypoints, measure_errors, pck, pckh, person_errors
from tokenpose.evaluation.units import Unit, choose_unit, torso_lengths
from tokenpose.skeletons import MPII, Skeleton

from .bodies import BODY, people, samples

# right shoulder to left hip: (30, 40), 50 long; left shoulder to right hip: (-30, 40), 50 long


def test_either_diagonal_of_the_torso_may_be_the_longer_one():
    keypoints, visible = people(2)
    keypoints[0, 3] = [60, 80]  # left hip: 100 from the right shoulder, and the other diagonal stays at 50
    keypoints[1, 2] = [-30, 80]  # right hip: 100 from the left shoulder
    assert torso_lengths(keypoints, visible, BODY).tolist() == [100, 100]


def test_keypoint_is_right_up_to_a_fifth_of_the_torso():
    keypoints, visible = people(1)
    predicted = keypoints.copy()
    predicted[0, 0] += [10, 0]  # 0.2 x 50: just right
    predicted[0, 1] += [6, 8]  # 10 away, aslant
    predicted[0, 2] += [0, 10.01]
    predicted[0, 4] += [-300, 0]
    result = pck(predicted, keypoints, visible, BODY)
    assert result.per_keypoint == {
        "right_shoulder": 100, "left_shoulder": 100, "right_hip": 0, "left_hip": 100, "head": 0,
    }  # fmt: skip
    assert result.mean == 60
    assert pck(predicted, keypoints, visible, BODY, threshold=0.1).mean == 20
    assert pck(predicted, keypoints, visible, BODY, threshold=100.0).mean == 100


def test_mean_pools_keypoints_rather_than_averaging_averages():
    keypoints, visible = people(4)
    visible[1:, 4] = False  # one head, and it is wrong; 16 others, all right
    predicted = keypoints.copy()
    predicted[:, 4] += 100
    result = pck(predicted, keypoints, visible, BODY)
    assert result.keypoint_count == 17
    assert result.mean == pytest.approx(100 * 16 / 17)  # not (4 x 100 + 0) / 5 = 80
    assert result.per_keypoint["head"] == 0


def test_person_without_a_torso_is_left_out_with_all_keypoints():
    keypoints, visible = people(2)
    visible[1, [0, 1]] = False  # no shoulders: no torso
    predicted = keypoints.copy()
    predicted[1] += 100
    result = pck(predicted, keypoints, visible, BODY)
    assert (result.people, result.people_left_out, result.keypoint_count) == (1, 1, 5)
    assert result.mean == 100


def test_unlabeled_keypoints_do_not_count():
    keypoints, visible = people(2)
    visible[:, 4] = False
    predicted = keypoints.copy()
    predicted[:, 4] += 1000
    result = pck(predicted, keypoints, visible, BODY)
    assert (result.mean, result.keypoint_count) == (100, 8)
    assert math.isnan(result.per_keypoint["head"])


def test_nobody_has_no_mean():
    keypoints, visible = people(0)
    result = pck(keypoints, keypoints, visible, BODY)
    assert math.isnan(result.mean)
    assert (result.people, result.keypoint_count) == (0, 0)


def test_result_prints_as_a_table():
    keypoints, visible = people(3)
    visible[2, :2] = False
    predicted = keypoints.copy()
    predicted[0, 4] += 100
    assert str(pck(predicted, keypoints, visible, BODY)).splitlines() == [
        "PCK@0.2 (torso), 2 people, 10 keypoints, 1 people without a torso left out",
        "right_shoulder   100.00",
        "left_shoulder    100.00",
        "right_hip        100.00",
        "left_hip         100.00",
        "head              50.00",
        "mean              90.00",
    ]


def test_predictions_of_another_number_are_refused(run_python):
    code = (
        "import numpy as np\nfrom tokenpose.evaluation.pck import pck\nfrom tokenpose.skeletons import LSP\n"
        "try: pck(np.zeros((2, 14, 2)), np.zeros((3, 14, 2)), np.ones((3, 14), bool), LSP)\n"
        "except ValueError as error: print(error)"
    )
    said = run_python(code).stdout
    assert "must have one shape; got (2, 14, 2) and (3, 14, 2)" in said


# Units


def test_pck_by_the_box_names_its_unit():
    given = samples()
    result = pck(given.keypoints, given.keypoints, given.visible, BODY, 0.5, choose_unit(given, "box"))
    assert str(result).startswith("PCK@0.5 (box side), 1 people, 5 keypoints")


# PCKh


def mpii(shift: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, Unit]:
    """One person of MPII's sixteen keypoints, all found ``shift`` pixels away, with a head of 10 pixels."""
    keypoints = np.zeros((1, 16, 2), dtype=np.float32)
    predicted = keypoints + np.float32([shift, 0])
    return predicted, keypoints, np.ones((1, 16), bool), Unit(name="head size", part="head", lengths=np.array([10.0]))


def test_pckh_counts_up_to_half_a_head_and_auc_is_the_mean_of_51_thresholds():
    predicted, keypoints, visible, head = mpii(3)  # right from 0.30 to 0.50: 21 of 51 thresholds
    result = pckh(predicted, keypoints, visible, MPII, head)
    assert result.at_half.mean == 100
    assert result.auc == pytest.approx(100 * 21 / 51)
    assert result.auc_per_keypoint["head_top"] == pytest.approx(100 * 21 / 51)
    predicted, *rest = mpii(5.01)
    assert pckh(predicted, *rest[:2], MPII, head).at_half.mean == 0
    predicted, *rest = mpii(0)
    assert pckh(predicted, *rest[:2], MPII, head).auc == 100


def test_pckh_leaves_out_pelvis_and_thorax_of_mpii_as_published():
    predicted, keypoints, visible, head = mpii(0)
    predicted[:, [MPII.index("pelvis"), MPII.index("thorax")]] += 1000
    result = pckh(predicted, keypoints, visible, MPII, head)
    assert result.at_half.mean == 100
    assert result.at_half.keypoint_count == 14
    assert result.keypoints_left_out == ("pelvis", "thorax")
    assert math.isnan(result.at_half.per_keypoint["pelvis"])
    other = Skeleton(name="other", keypoints=(*MPII.keypoints[:-1], "left_hand"), flip_pairs=())
    assert pckh(predicted, keypoints, visible, other, head).at_half.keypoint_count == 16


def test_groups_are_means_of_left_and_right_and_the_mean_is_over_all_keypoints():
    keypoints = np.zeros((4, 16, 2), dtype=np.float32)
    predicted, visible = keypoints.copy(), np.ones((4, 16), bool)
    head = Unit(name="head size", part="head", lengths=np.full(4, 10.0))
    predicted[:1, MPII.index("head_top"), 0] = 6  # 0.6 of the head: wrong
    visible[1:, MPII.index("left_wrist")] = False
    predicted[:1, MPII.index("left_wrist"), 0] = 6  # the only left one: 0 %
    predicted[:1, MPII.index("right_wrist"), 0] = 6  # one of four right ones: 75 %
    predicted[:2, MPII.index("right_ankle"), 0] = 6  # 50 %, and 100 % of the left ones
    result = pckh(predicted, keypoints, visible, MPII, head)
    assert result.groups == {
        "Head": 75, "Shoulder": 100, "Elbow": 100, "Wrist": 37.5, "Hip": 100, "Knee": 100, "Ankle": 75,
    }  # fmt: skip
    assert result.at_half.mean == pytest.approx(100 * (53 - 5) / 53)  # 14 x 4 - 3 labeled, 5 of them wrong


def test_mean_at_a_tenth_of_the_head_is_not_what_published_code_calls_so():
    predicted, keypoints, visible, head = mpii(1.05)  # 0.105 of the head
    result = pckh(predicted, keypoints, visible, MPII, head)
    assert (result.mean_at_0_1, result.mean_at_0_11) == (0, 100)
    predicted, *rest = mpii(1)
    assert pckh(predicted, *rest[:2], MPII, head).mean_at_0_1 == 100


def test_groups_are_told_from_names_in_any_spelling():
    figures = {"LHip": 10.0, "RHip": 20.0, "left knee": 1.0, "head_top": 5.0, "head": 7.0, "neck": 8.0, "wrist": 9.0}
    assert group_keypoints(figures) == {"Head": 5, "Wrist": 9, "Hip": 15, "Knee": 1}
    assert math.isnan(group_keypoints({"left_hip": 10.0, "right_hip": math.nan})["Hip"])
    assert group_keypoints({"tail": 3.0}) == {}


# End-point error


def test_errors_are_means_and_medians_in_pixels_and_units():
    given = samples(2)
    given.visible[1, [0, 1]] = False  # the second person has no torso
    predicted = given.keypoints.copy()
    predicted[0, :, 0] += [0, 5, 10, 15, 70]
    predicted[1, :, 0] += [999, 999, 4, 4, 4]
    result = measure_errors(predicted, given.keypoints, given.visible, BODY, choose_unit(given))
    pooled = result.pooled
    assert (pooled.mean, pooled.median) == (112 / 8, 4.5)  # 0 4 4 4 5 10 15 70
    assert (pooled.unit_mean, pooled.unit_median) == (pytest.approx(20 / 50), pytest.approx(10 / 50))  # the first one's
    assert (pooled.keypoint_count, result.people, result.unit) == (8, 2, "torso")
    assert result.per_keypoint["head"].mean == 37
    assert result.per_keypoint["head"].unit_mean == pytest.approx(70 / 50)
    assert result.per_keypoint["head"].keypoint_count == 2


def test_perfect_predictions_have_no_error_and_unlabeled_keypoints_none_at_all():
    given = samples()
    given.visible[0, 4] = False
    result = measure_errors(given.keypoints, given.keypoints, given.visible, BODY, choose_unit(given))
    assert (result.pooled.mean, result.pooled.median, result.pooled.unit_mean) == (0, 0, 0)
    assert math.isnan(result.per_keypoint["head"].mean)


def test_error_counts_people_with_a_labeled_keypoint():
    given = samples(3)
    given.visible[1, 1:] = False
    given.visible[2] = False
    result = measure_errors(given.keypoints, given.keypoints, given.visible, BODY, choose_unit(given))
    assert (result.people, result.pooled.keypoint_count) == (2, 5 + 1)


def test_prediction_that_is_no_number_is_wrong_and_shows_in_the_error():
    given = samples()
    predicted = given.keypoints.copy()
    predicted[0, 0] = np.nan
    assert pck(predicted, given.keypoints, given.visible, BODY).mean == 80
    assert math.isnan(measure_errors(predicted, given.keypoints, given.visible, BODY, choose_unit(given)).pooled.mean)


def test_errors_of_people_are_in_longer_sides_of_their_boxes():
    given = samples(3)
    given.visible[2] = False
    predicted = given.keypoints.copy()
    predicted[1, :, 0] += [5, 5, 5, 5, 30]
    errors = person_errors(predicted, given.keypoints, given.visible, given.boxes)
    assert errors[:2].tolist() == [0, 10 / 40]
    assert math.isnan(errors[2])
