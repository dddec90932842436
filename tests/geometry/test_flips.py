import pytest
import torch

from tokenpose.geometry.flips import flip_heatmaps, flip_order
from tokenpose.skeletons import COCO, LSP, MPII


def test_heatmaps_flip_as_published(ops):
    assert torch.equal(flip_heatmaps(ops["heatmaps"][:2], COCO.flip_pairs), ops["flip_back"])


@pytest.mark.parametrize("skeleton", [COCO, MPII, LSP], ids=lambda skeleton: skeleton.name)
def test_flipping_twice_restores_heatmaps(skeleton, generator):
    heatmaps = torch.rand(2, len(skeleton), 8, 6, generator=generator)
    once = flip_heatmaps(heatmaps, skeleton.flip_pairs)
    assert not torch.equal(once, heatmaps)
    assert torch.equal(flip_heatmaps(once, skeleton.flip_pairs), heatmaps)


def test_left_column_of_the_left_eye_becomes_the_right_column_of_the_right_eye():
    heatmaps = torch.zeros(1, 3, 1, 4)
    heatmaps[0, 1, 0, 0] = 1.0  # keypoint 1, column 0
    flipped = flip_heatmaps(heatmaps, ((1, 2),))
    assert flipped[0, 2, 0].tolist() == [0.0, 0.0, 0.0, 1.0]
    assert flipped.sum() == 1


def test_order_exchanges_pairs_and_leaves_the_rest():
    assert flip_order(5, ((1, 2), (3, 4))) == [0, 2, 1, 4, 3]
    assert flip_order(3, ()) == [0, 1, 2]


def test_unknown_pairs_are_refused():
    with pytest.raises(ValueError, match=r"which keypoints change sides: .* give flip_pairs .* if none does"):
        flip_order(5, None)
    with pytest.raises(ValueError, match=r"their names don't tell \('left_wing' has no partner 'right_wing'\); give"):
        flip_order(2, None, ["head", "left_wing"])
    with pytest.raises(ValueError, match="which keypoints change sides"):
        flip_heatmaps(torch.zeros(1, 5, 4, 4), None)


def test_nobody_flips():
    assert flip_heatmaps(torch.zeros(0, 17, 8, 6), COCO.flip_pairs).shape == (0, 17, 8, 6)
