import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tokenpose.geometry.encode import encode_gaussian
from tokenpose.training.losses import (
    attention_guidance,
    cross_entropy,
    hard_keypoint_error,
    squared_error,
)


@pytest.fixture(scope="module")
def ops(golden: Path) -> dict[str, Tensor]:
    return load_file(golden / "ops.safetensors")


@pytest.fixture(scope="module")
def numbers(golden: Path) -> dict[str, float]:
    return json.loads((golden / "ops.json").read_text())


@pytest.fixture(scope="module")
def published(ops):
    """(output, target, weights) of the published losses."""
    return ops["heatmaps"], ops["target_heatmaps"].expand(8, -1, -1, -1), ops["loss_target_weight"][..., 0]


def test_squared_error_is_the_published_one(published, numbers):
    output, target, weights = published
    assert squared_error(output, target, weights).item() == pytest.approx(numbers["joints_mse"], rel=1e-6)
    unweighted = squared_error(output, target, torch.ones(8, 17))
    assert unweighted.item() == pytest.approx(numbers["joints_mse_unweighted"], rel=1e-6)


def test_hard_keypoint_error_is_the_published_one(published, numbers):
    assert hard_keypoint_error(*published).item() == pytest.approx(numbers["ohkm_mse_top8"], rel=1e-6)


def test_weights_enter_the_squared_error_squared():
    predicted, target = torch.zeros(1, 2, 4, 4), torch.ones(1, 2, 4, 4)
    # 0.5 x mean over keypoints of (0.5^2 x 1, 0 x 1)
    assert squared_error(predicted, target, torch.tensor([[0.5, 0.0]])).item() == 0.5 * (0.25 + 0) / 2


def test_hard_keypoints_are_each_persons_own():
    target = torch.zeros(2, 3, 4, 4)
    predicted = torch.tensor([[3.0, 2.0, 1.0], [0.0, 4.0, 0.0]]).view(2, 3, 1, 1).expand(-1, -1, 4, 4)
    # the two hardest: (9, 4) and (16, 0), halved
    found = hard_keypoint_error(predicted, target, torch.ones(2, 3), hardest=2)
    assert found.item() == pytest.approx(0.5 * (9 + 4 + 16 + 0) / 4)


@pytest.fixture
def gaussians() -> Tensor:
    keypoints = torch.tensor([[[5.0, 6.0], [2.3, 9.1]]])
    return encode_gaussian(keypoints, torch.ones(1, 2, dtype=torch.bool), (16, 12), sigma=1.0)[0]


def test_cross_entropy_of_no_opinion_is_the_logarithm_of_the_cells(gaussians):
    assert cross_entropy(torch.zeros(1, 2, 16, 12), gaussians, torch.ones(1, 2)).item() == pytest.approx(math.log(192))


def test_cross_entropy_by_hand():
    logits, target = torch.tensor([[[[math.log(3), 0.0]]]]), torch.tensor([[[[1.0, 1.0]]]])
    # softmax (3/4, 1/4), wanted (1/2, 1/2)
    expected = -0.5 * math.log(3 / 4) - 0.5 * math.log(1 / 4)
    assert cross_entropy(logits, target, torch.ones(1, 1)).item() == pytest.approx(expected)


def test_cross_entropy_is_least_at_the_targets_logarithm(gaussians, generator):
    best = cross_entropy(gaussians.clamp(min=1e-12).log(), gaussians, torch.ones(1, 2))
    distribution = (gaussians / gaussians.sum(dim=(-2, -1), keepdim=True)).double()
    entropy = -(distribution * distribution.clamp(min=1e-30).log()).sum(dim=(-2, -1)).mean()
    assert best.item() == pytest.approx(entropy.item(), abs=1e-4)
    for _ in range(5):
        other = gaussians.clamp(min=1e-12).log() + 0.3 * torch.randn(1, 2, 16, 12, generator=generator)
        assert cross_entropy(other, gaussians, torch.ones(1, 2)) > best


def test_keypoints_that_do_not_count_leave_the_cross_entropy_alone(gaussians, generator):
    logits = torch.randn(1, 2, 16, 12, generator=generator)
    first = cross_entropy(logits[:, :1], gaussians[:, :1], torch.ones(1, 1))
    empty = gaussians.clone()
    empty[:, 1] = 0
    assert cross_entropy(logits, empty, torch.tensor([[1.0, 0.0]])).item() == pytest.approx(first.item())
    nobody = cross_entropy(logits.requires_grad_(), torch.zeros_like(gaussians), torch.zeros(1, 2))
    assert nobody.item() == 0
    nobody.backward()
    assert torch.isfinite(logits.grad).all()


def test_guidance_of_attention_to_everything_is_the_logarithm_of_the_patches(gaussians):
    attention = torch.full((3, 1, 2, 16), 1 / 16)
    assert attention_guidance(attention, gaussians, torch.ones(1, 2), (4, 4)).item() == pytest.approx(math.log(16))


def test_guidance_by_hand():
    target = torch.zeros(1, 1, 4, 4)
    target[0, 0, 0, 0], target[0, 0, 3, 3] = 1.0, 3.0  # patches of 2 x 2: a quarter in the first, the rest in the last
    attention = torch.tensor([0.5, 0.1, 0.1, 0.3]).view(1, 1, 1, 4)
    expected = -0.25 * math.log(0.5) - 0.75 * math.log(0.3)
    assert attention_guidance(attention, target, torch.ones(1, 1), (2, 2)).item() == pytest.approx(expected)


def test_guidance_is_the_mean_over_blocks_and_keypoints_that_count():
    target = torch.ones(1, 2, 2, 2)
    attention = torch.tensor([[0.25] * 4, [0.7, 0.1, 0.1, 0.1]]).view(2, 1, 1, 4).expand(-1, -1, 2, -1).clone()
    attention[:, :, 1] = 1e-3  # the second keypoint does not count
    expected = (math.log(4) - 0.25 * (math.log(0.7) + 3 * math.log(0.1))) / 2
    found = attention_guidance(attention, target, torch.tensor([[1.0, 0.0]]), (2, 2))
    assert found.item() == pytest.approx(expected)


def peaks(*cells: tuple[int, int]) -> Tensor:
    """A map of 20 x 20 per (x, y), one cell of it 1."""
    maps = torch.zeros(1, len(cells), 20, 20)
    for index, (x, y) in enumerate(cells):
        maps[0, index, y, x] = 1.0
    return maps


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("loss", [squared_error, cross_entropy])
def test_losses_of_half_precision_outputs_are_summed_in_float32(gaussians, generator, loss, dtype):
    logits = torch.randn(1, 2, 16, 12, generator=generator).to(dtype)
    found = loss(logits, gaussians, torch.ones(1, 2))
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(loss(logits.float(), gaussians, torch.ones(1, 2)).item(), rel=1e-6)
