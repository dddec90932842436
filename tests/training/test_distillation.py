import math

import pytest
import torch

from tokenpose.geometry.encode import encode_gaussian
from tokenpose.training.distillation import Taught, heatmap_distillation, token_distillation, visual_distillation
from tokenpose.training.settings import TrainingSettings

ENTROPY, SQUARES = TrainingSettings(loss="cross_entropy"), TrainingSettings(loss="squared_error")


def taught_by(heatmaps, known=(True, True), mass=1.0) -> Taught:
    known = torch.tensor(known)
    return Taught(heatmaps=heatmaps, mass=mass * known.expand(len(heatmaps), -1).float(), known=known)


@pytest.fixture
def gaussians() -> torch.Tensor:
    keypoints = torch.tensor([[[5.0, 6.0], [2.3, 9.1]]])
    return encode_gaussian(keypoints, torch.ones(1, 2, dtype=torch.bool), (16, 12), sigma=1.0)[0]


def test_student_without_an_opinion_pays_the_logarithm_of_the_cells(gaussians):
    loss = heatmap_distillation(torch.zeros(1, 2, 16, 12), taught_by(gaussians), ENTROPY)
    assert loss.item() == pytest.approx(math.log(192))


def test_keypoint_that_the_teacher_does_not_know_is_not_taught(gaussians, generator):
    logits = torch.randn(1, 2, 16, 12, generator=generator)
    for settings in (ENTROPY, SQUARES):
        both = heatmap_distillation(logits[:, :1], taught_by(gaussians[:, :1], (True,)), settings)
        one = heatmap_distillation(
            logits, taught_by(gaussians * torch.tensor([1.0, 0]).view(1, 2, 1, 1), (True, False)), settings
        )
        assert one.item() == pytest.approx(both.item())


def test_keypoint_that_the_teacher_half_sees_counts_half_as_a_distribution_and_is_a_flat_target_else(gaussians):
    logits = torch.zeros(1, 2, 16, 12)
    half = heatmap_distillation(logits, taught_by(0.5 * gaussians, mass=0.5), ENTROPY)
    assert half.item() == pytest.approx(0.5 * math.log(192))
    squares = heatmap_distillation(logits, taught_by(0.5 * gaussians, mass=0.5), SQUARES)
    assert squares.item() == pytest.approx(0.5 * (0.25 * gaussians.square()).mean().item())


def test_token_loss_is_1_for_the_mean_token_and_0_for_the_right_ones(generator):
    taught = 3 + 5 * torch.randn(4, 3, 8, generator=generator)
    known = torch.tensor([True, True, False])
    assert token_distillation(taught, taught, known).item() == 0
    mean = taught[:, :2].mean(dim=(0, 1)).expand(4, 3, 8)
    assert token_distillation(mean, taught, known).item() == pytest.approx(1, rel=1e-5)
    other = taught.clone()
    other[:, 2] = 100  # not known
    assert token_distillation(other, taught, known).item() == 0


def test_visual_loss_is_the_unexplained_share_of_the_variance(generator):
    taught = 3 + 5 * torch.randn(4, 6, 8, generator=generator)
    mean = taught.mean(dim=(0, 1))
    assert visual_distillation(mean.expand(4, 6, 8), taught).item() == pytest.approx(1, rel=1e-5)
    assert visual_distillation(0.5 * (mean + taught), taught).item() == pytest.approx(0.25, rel=1e-5)
