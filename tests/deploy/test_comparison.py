"""What a model must be before it is optimized, and what the copy must give."""

import pytest
import torch
from torch import nn

from tokenpose.deploy.comparison import largest_difference, require_same_heatmaps
from tokenpose.deploy.optimization import optimize

from .small_models import make

pytestmark = pytest.mark.usefixtures("unchecked")


def test_heatmaps_of_zeros_are_equal():
    model, crops = make(), torch.randn(1, 3, 64, 48)
    last = next(module for module in reversed(list(model.head.modules())) if isinstance(module, nn.Linear))
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    assert not optimize(model)(crops).any()


def test_weights_that_are_not_finite_are_named():
    model = make()
    model.backbone.conv2.weight.data[0, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"weights aren't finite: 'backbone\.conv2\.weight' holds NaN"):
        optimize(model)
    model = make()
    model.backbone.bn1.running_var[3] = float("nan")
    with pytest.raises(ValueError, match=r"weights aren't finite: 'backbone\.bn1\.running_var' holds NaN"):
        optimize(model)
    model = make()
    model.backbone.bn1.running_var[3] = -1
    with pytest.raises(ValueError, match="heatmaps aren't finite, though its weights are"):
        optimize(model)
    model = make()
    model.head.register_buffer("mask", torch.full((1,), float("-inf")))
    assert optimize(model).runner is not None


@torch.no_grad()
def test_a_candidate_is_compared_in_every_batch_size_and_the_largest_difference_is_given():
    model, sizes = make(), []

    def candidate(crops: torch.Tensor) -> torch.Tensor:
        sizes.append(len(crops))
        return (1 + 1e-5 * len(crops)) * model(crops)

    found = require_same_heatmaps(model, candidate, "the candidate", "use another", batches=(1, 3))
    assert sizes == [1, 3]
    assert found == pytest.approx(3e-5, rel=0.1)


@torch.no_grad()
@pytest.mark.parametrize("wrong", [1.001, float("nan")])
def test_a_candidate_that_differs_in_one_batch_size_is_refused(wrong):
    model = make()
    with pytest.raises(ValueError, match=r"heatmaps of the candidate differ from the model's by .*: use another"):
        require_same_heatmaps(
            model,
            lambda crops: (1 if len(crops) == 1 else wrong) * model(crops),
            "the candidate",
            "use another",
            batches=(1, 3),
        )


@pytest.mark.parametrize(("found", "expected", "share"), [(0.0, 0.0, 0.0), (3.0, 2.0, 0.5), (0.0, -4.0, 1.0)])
def test_a_difference_is_a_share_of_the_largest_expected_value(found, expected, share):
    assert largest_difference(torch.tensor([found]), torch.tensor([expected])) == share
