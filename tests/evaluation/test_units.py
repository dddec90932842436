import math

import numpy as np
import pytest

from tokenpose.evaluation.pck import pck
from tokenpose.evaluation.units import choose_unit, has_head, torso_lengths
from tokenpose.skeletons import COCO, LSP, MPII, Skeleton

from .bodies import BODY, HEADED, people, samples


def test_torso_is_the_longer_of_the_two_diagonals_whose_ends_are_visible():
    keypoints, visible = people(4)
    keypoints[:, 3] = [60, 80]  # left hip moved: 100 from the right shoulder
    visible[1, 0] = False  # without the right shoulder only left shoulder - right hip is left
    visible[2, 3] = False  # likewise without the left hip
    visible[3, [0, 1]] = False
    assert torso_lengths(keypoints, visible, BODY)[:3].tolist() == [100, 50, 50]
    assert math.isnan(torso_lengths(keypoints, visible, BODY)[3])


def test_torso_without_length_is_none():
    keypoints, visible = people(1)
    keypoints[:] = 7
    assert math.isnan(torso_lengths(keypoints, visible, BODY)[0])
    assert math.isnan(pck(keypoints, keypoints, visible, BODY).mean)


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


def test_torso_and_head_are_told_in_any_spelling():
    names = ("Right Shoulder", "L_Shoulder", "rightHip", "hip.L", "top of head", "Neck")
    points = np.array([[[0, 0], [9, 0], [0, 40], [30, 40], [5, -30], [5, 0]]], dtype=np.float32)
    people = samples(skeleton=Skeleton.from_names(names), keypoints=points, visible=np.ones((1, 6), dtype=bool))
    assert choose_unit(people).lengths.tolist() == [50]
    head = choose_unit(people, "head")
    assert (head.name, head.lengths.tolist()) == ("top of head to Neck", [30])


def test_unit_is_the_torso_where_there_is_one_else_the_boxes_longer_side():
    assert choose_unit(samples()).lengths.tolist() == [50]
    assert choose_unit(samples()).name == "torso"
    assert choose_unit(samples(), "box").name == "box side"
    assert choose_unit(samples(skeleton=HEADED)).name == "box side"
    assert choose_unit(samples(skeleton=HEADED)).lengths.tolist() == [40]


def test_head_is_mpiis_size_where_it_is_known():
    known = samples(3, HEADED, head_sizes=np.array([25.0, np.nan, 0.0]))
    unit = choose_unit(known, "head")
    assert (unit.name, unit.lengths[0]) == ("head size", 25)
    assert np.isnan(unit.lengths[1:]).all()


def test_head_is_else_from_its_top_to_the_neck_where_both_are_labeled():
    # head_top (30, 40), upper_neck (15, -20): 61.8 apart
    one = samples(3, HEADED, head_sizes=np.full(3, np.nan))
    one.visible[1, 4] = False
    one.keypoints[2, 3] = one.keypoints[2, 4]
    unit = choose_unit(one, "head")
    assert unit.name == "head_top to upper_neck"
    assert unit.lengths[0] == pytest.approx(math.hypot(15, 60))
    assert np.isnan(unit.lengths[1:]).all()
    lsp = samples(skeleton=LSP, keypoints=np.zeros((1, 14, 2), np.float32), visible=np.ones((1, 14), bool))
    assert choose_unit(lsp, "head").name == "head_top to neck"


def test_unit_that_the_data_has_not_is_refused():
    message = "the data: a head needs MPII's head sizes, or .* or neck; skeleton 'body' has"
    with pytest.raises(ValueError, match=message):
        choose_unit(samples(), "head")
    with pytest.raises(ValueError, match="the data: a torso needs shoulders and hips; skeleton 'headed' has a, b"):
        choose_unit(samples(skeleton=HEADED), "torso")
    with pytest.raises(ValueError, match="a unit is one of torso, head, box; got 'arm'"):
        choose_unit(samples(), "arm")
    assert not has_head(samples())
    assert has_head(samples(skeleton=HEADED))
