import math

import numpy as np
import pytest

from tokenpose.evaluation.pck import pck, torso_lengths
from tokenpose.skeletons import COCO, LSP, MPII, Skeleton

BODY = Skeleton(
    name="body",
    keypoints=("right_shoulder", "left_shoulder", "right_hip", "left_hip", "head"),
    flip_pairs=((0, 1), (2, 3)),
)
# right shoulder to left hip: (30, 40), 50 long; left shoulder to right hip: (-30, 40), 50 long
PERSON = np.array([[0, 0], [30, 0], [0, 40], [30, 40], [15, -20]], dtype=np.float32)


def people(count: int) -> tuple[np.ndarray, np.ndarray]:
    return np.repeat(PERSON[None], count, axis=0), np.ones((count, 5), dtype=bool)


def test_torso_is_the_longer_of_the_two_diagonals_whose_ends_are_visible():
    keypoints, visible = people(4)
    keypoints[:, 3] = [60, 80]  # left hip moved: 100 from the right shoulder
    visible[1, 0] = False  # without the right shoulder only left shoulder - right hip is left
    visible[2, 3] = False  # likewise without the left hip
    visible[3, [0, 1]] = False
    assert torso_lengths(keypoints, visible, BODY)[:3].tolist() == [100, 50, 50]
    assert math.isnan(torso_lengths(keypoints, visible, BODY)[3])


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
    assert (result.people, result.people_without_torso, result.keypoint_count) == (1, 1, 5)
    assert result.mean == 100


def test_torso_without_length_is_none():
    keypoints, visible = people(1)
    keypoints[:] = 7
    assert math.isnan(torso_lengths(keypoints, visible, BODY)[0])
    assert math.isnan(pck(keypoints, keypoints, visible, BODY).mean)


def test_unlabelled_keypoints_do_not_count():
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


@pytest.mark.parametrize("skeleton", [COCO, MPII, LSP], ids=lambda skeleton: skeleton.name)
def test_known_skeletons_have_a_torso(skeleton):
    keypoints = np.arange(2 * len(skeleton), dtype=np.float32).reshape(1, -1, 2)
    assert torso_lengths(keypoints, np.ones((1, len(skeleton)), dtype=bool), skeleton)[0] > 0


def test_skeleton_without_a_torso_is_refused():
    hand = Skeleton.from_names(["left_hip", "right_shoulder", "thumb"])
    with pytest.raises(
        ValueError, match="a torso needs shoulders and hips; skeleton 'custom' has no left_shoulder, right_hip"
    ):
        pck(np.zeros((1, 3, 2), np.float32), np.zeros((1, 3, 2), np.float32), np.ones((1, 3), bool), hand)


def test_predictions_of_another_number_are_refused(run_python):
    code = (
        "import numpy as np\nfrom tokenpose.evaluation.pck import pck\nfrom tokenpose.skeletons import LSP\n"
        "try: pck(np.zeros((2, 14, 2)), np.zeros((3, 14, 2)), np.ones((3, 14), bool), LSP)\n"
        "except ValueError as error: print(error)"
    )
    said = run_python(code).stdout
    assert "must have one shape; got (2, 14, 2) and (3, 14, 2)" in said
