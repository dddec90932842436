import math

import pytest
import torch

from tokenpose.geometry.encode import encode_gaussian

SEEN = torch.tensor([[True]])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_targets_are_the_published_ones(ops, dtype):
    keypoints, visible = ops["target_joints_heatmap_xy"][None].to(dtype), ops["target_visible"][None] > 0
    heatmaps, weights = encode_gaussian(keypoints, visible, (64, 48), sigma=2.0)
    assert heatmaps.dtype == weights.dtype == dtype
    torch.testing.assert_close(heatmaps[0].float(), ops["target_heatmaps"], rtol=0, atol=1e-6)
    assert torch.equal(weights[0].float(), ops["target_weight"][:, 0])
    assert 0 < weights.sum() < 17  # the file holds both kinds


def test_gaussian_is_one_at_the_keypoint_and_known_beside_it():
    heatmaps, weights = encode_gaussian(torch.tensor([[[10.0, 20.0]]]), SEEN, (64, 48), sigma=2.0)
    assert weights.item() == heatmaps[0, 0, 20, 10] == 1
    torch.testing.assert_close(heatmaps[0, 0, 20, 12].item(), math.exp(-0.5))  # one sigma beside
    torch.testing.assert_close(heatmaps[0, 0, 23, 14].item(), math.exp(-(16 + 9) / 8))


def test_gaussian_is_not_cut_off_far_from_its_peak():
    heatmaps, _ = encode_gaussian(torch.tensor([[[10.0, 20.0]]]), SEEN, (64, 48), sigma=2.0)
    torch.testing.assert_close(heatmaps[0, 0, 20, 20].item(), math.exp(-100 / 8))  # 5 sigma
    assert (heatmaps[0, 0, 10:30, 0:25] > 0).all()


@pytest.mark.parametrize(
    ("x", "weight"),
    [(-8.0, 0), (-7.99, 1), (47 + 6.99, 1), (48 + 6.0, 0)],  # x + 6 + 1 > -1 and x - 6 < 48
)
def test_keypoint_counts_while_its_three_sigma_box_touches_the_map(x, weight):
    heatmaps, weights = encode_gaussian(torch.tensor([[[x, 30.0]]]), SEEN, (64, 48), sigma=2.0)
    assert weights.item() == weight
    assert (heatmaps.max() > 0).item() == bool(weight)


@pytest.mark.parametrize(("y", "weight"), [(-8.0, 0), (-7.99, 1), (64 + 5.99, 1), (64 + 6.0, 0)])
def test_the_same_holds_down_the_map(y, weight):
    assert encode_gaussian(torch.tensor([[[20.0, y]]]), SEEN, (64, 48), sigma=2.0)[1].item() == weight


@pytest.mark.parametrize("where", [20.0, float("nan")])
def test_invisible_keypoint_has_weight_zero_and_an_empty_map(where):
    heatmaps, weights = encode_gaussian(torch.full((1, 1, 2), where), ~SEEN, (64, 48), sigma=2.0)
    assert weights.item() == 0
    assert heatmaps.abs().max() == 0


def test_nobody_gives_no_maps():
    heatmaps, weights = encode_gaussian(
        torch.zeros(0, 17, 2), torch.zeros(0, 17, dtype=torch.bool), (64, 48), sigma=2.0
    )
    assert (heatmaps.shape, weights.shape) == ((0, 17, 64, 48), (0, 17))


def test_maps_have_shape_on_the_meta_device():
    heatmaps, weights = encode_gaussian(
        torch.empty(2, 5, 2, device="meta"), torch.empty(2, 5, dtype=torch.bool, device="meta"), (64, 48), sigma=2.0
    )
    assert (heatmaps.shape, weights.shape) == ((2, 5, 64, 48), (2, 5))
    assert heatmaps.is_meta
