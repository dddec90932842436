import pytest
import torch
from torch import nn

from tokenpose.training.diagnosis import find_nonfinite


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        return self.last(self.norm(self.first(crops)))


@pytest.fixture
def network() -> Net:
    torch.manual_seed(0)
    return Net()


@pytest.fixture
def crops(generator) -> torch.Tensor:
    return torch.randn(2, 3, 5, 4, generator=generator)


def test_weights_that_are_not_finite_are_named(network, crops):
    with torch.no_grad():
        network.last.bias[1] = torch.nan
    assert find_nonfinite(network, crops) == "weights are not finite: last.bias"


def test_statistics_that_the_failing_pass_has_spoiled_are_not_blamed(network, crops):
    with torch.no_grad():
        network.norm.running_mean.fill_(torch.nan)
        network.first.weight.fill_(3e38)
    assert find_nonfinite(network, crops) == "the output of first is not finite"


def test_crops_that_are_not_finite_are_told(network, crops):
    crops[0, 0, 0, 0] = torch.nan
    assert find_nonfinite(network, crops) == "the crops are not finite"


def test_the_first_module_that_overflows_is_named(network, crops):
    with torch.no_grad():
        network.first.weight.fill_(3e38)
    assert find_nonfinite(network, crops) == "the output of first is not finite"


def test_where_all_is_finite_the_largest_output_is_named_and_statistics_stay(network, crops):
    with torch.no_grad():
        network.last.bias.fill_(1e6)
    before = network.norm.running_mean.clone()
    assert (
        find_nonfinite(network, crops) == "weights, crops and outputs are finite; the largest output is 1e+06, of last"
    )
    assert torch.equal(network.norm.running_mean, before)
    assert not network.last._forward_hooks
