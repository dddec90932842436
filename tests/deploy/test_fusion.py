"""Fusion: a fused backbone gives the map, and the gradients, of the backbone that it was made from."""

import copy
import threading
from typing import Any

import pytest
import torch
from torch import nn

from tokenpose.deploy.fusion import FusedBackbone, FusedConvolution
from tokenpose.deploy.optimization import optimize

from .small_models import Own, difference, make, with_statistics

pytestmark = pytest.mark.usefixtures("unchecked")


class ByName(Own):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.second(input=self.first(input=images)))


class Expanded(Own):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.second(self.first(images))
        return maps.mean(dim=(2, 3), keepdim=True).expand_as(maps)


class InPlace(Own):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        first = self.first(images)
        first.add_(self.second(first))
        return first + torch.relu(first)


@pytest.mark.parametrize("kind", [ByName, Expanded, InPlace])
def test_backbones_of_ones_own_are_fused(kind, generator):
    torch.manual_seed(0)
    backbone, images = kind().eval(), torch.randn(2, 3, 16, 12, generator=generator)
    with torch.no_grad():
        fused = FusedBackbone(backbone, images)
        fused.pack(images)
        assert sum(isinstance(module, FusedConvolution) for module in fused.modules()) == 2
        assert difference(fused(images), backbone(images)) <= 1e-5
        images[1, 0, 0, 0] = float("nan")
        assert fused(images)[1, 0].isnan().any()
        assert not fused(images)[0].isnan().any()


class Toy(nn.Module):
    """What follows convolutions in all ways that fusion must tell apart."""

    channels, stride = 8, 1

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(c, 8, 3, padding=1, bias=False) for c in (3, 8))
        self.third, self.fourth = (nn.Conv2d(8, 8, 1) for _ in range(2))
        self.norm1, self.norm2, self.norm3 = (nn.BatchNorm2d(8) for _ in range(3))
        self.scale = nn.Parameter(torch.full((8, 1, 1), 0.5))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        first = torch.relu(self.norm1(self.first(images)))  # all three
        second = self.second(first)
        normed = self.norm2(second)  # and read again: the norm can't be folded
        third = self.third(normed) + second  # an addition without ReLU
        fourth = torch.relu(self.fourth(third) + third)  # its other side is read later: not to be overwritten
        shifted = self.fourth(fourth) + self.scale  # not a map of the same shape; a convolution used twice
        return self.norm3(shifted + third)


@torch.inference_mode()
def test_fusion_goes_as_far_as_nothing_else_reads_between(generator):
    torch.manual_seed(0)
    toy = with_statistics(Toy()).eval()
    images = torch.randn(2, 3, 16, 12, generator=generator)
    expected = toy(images)
    fused = FusedBackbone(toy, images)
    assert difference(fused(images), expected) <= 1e-5
    fused.pack(images)
    assert difference(fused(images), expected) <= 1e-5
    assert difference(toy(images), expected) <= 1e-6
    assert sum(isinstance(module, nn.BatchNorm2d) for module in fused.modules()) == 2
    convolutions = [module for module in fused.modules() if isinstance(module, FusedConvolution)]
    assert len(convolutions) == 5
    assert sum(module.relu for module in convolutions) == 2


class Residuals(nn.Module):
    """Additions whose other map can, or must not, be overwritten."""

    channels, stride = 64, 1

    def __init__(self, dropout: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 64, 3, padding=1)
        self.second, self.third, self.fourth, self.fifth = (nn.Conv2d(64, 64, 3, padding=1) for _ in range(4))
        self.between = nn.Dropout() if dropout else nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        first = self.first(images)
        second = self.second(first) + first  # into its own input: not to be overwritten
        kept = self.between(second)  # in eval mode the same map under another name
        third = self.third(torch.relu(self.fourth(second))) + second  # may be, unless `kept` is that map
        return self.fifth(third) + kept


@pytest.mark.parametrize("dropout", [False, True])
@torch.inference_mode()
def test_only_maps_that_nobody_reads_any_more_are_overwritten(dropout, generator):
    torch.manual_seed(0)
    backbone = Residuals(dropout).eval()
    images = torch.randn(2, 3, 32, 24, generator=generator)
    fused = FusedBackbone(backbone, images)
    fused.pack(images)
    convolutions = {
        name: module for name, module in fused.graph.named_modules() if isinstance(module, FusedConvolution)
    }
    assert all(module.packed is not None for module in convolutions.values())
    assert difference(fused(images), backbone(images)) <= 1e-5
    # without the dropout `second` is read last by `fifth`, and by FusedConvolutions only
    assert [name for name, module in convolutions.items() if module.may_overwrite] == (
        [] if dropout else ["fifth_fifth"]
    )


def test_a_module_that_is_called_relu_is_none_unless_it_is_one(generator):
    class Named(nn.Module):
        channels, stride = 4, 1

        def __init__(self) -> None:
            super().__init__()
            self.convolution, self.relu, self.add = nn.Conv2d(3, 4, 1), nn.ReLU6(), nn.Bilinear(6, 6, 6)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            maps = self.relu(self.convolution(images))
            return self.add(maps, maps)

    named, images = Named(), 30 * torch.randn(1, 3, 6, 6, generator=generator)
    with torch.no_grad():
        assert difference(FusedBackbone(named, images)(images), named(images)) <= 1e-5


class Spread(nn.Module):
    """Adds what a convolution makes of a map's mean, a single cell, to the whole map."""

    channels, stride = 4, 1

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.first(images)
        return maps + self.second(maps.mean((2, 3), keepdim=True))


@pytest.mark.parametrize("packed", [False, True])
def test_a_cell_that_is_added_to_a_whole_map_is_no_residual(packed, generator):
    torch.manual_seed(0)
    backbone, images = Spread().eval(), torch.randn(2, 3, 8, 6, generator=generator)
    with torch.no_grad():
        fused = FusedBackbone(backbone, images)
        if packed:
            fused.pack(images)
        assert difference(fused(images), backbone(images)) <= 1e-5


def test_weights_of_other_than_four_dimensions_stay_as_they_lie(generator):
    class Volumes(nn.Module):
        channels, stride = 4, 1

        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(3, 4, 1)
            self.shift = nn.Parameter(torch.ones(1, 1, 4, 1, 1))
            self.register_buffer("scale", torch.full((1, 1, 4, 1, 1), 2.0))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return (self.convolution(images).unsqueeze(0) * self.scale + self.shift)[0]

    volumes, images = Volumes().eval(), torch.randn(1, 3, 8, 6, generator=generator)
    with torch.no_grad():
        assert difference(FusedBackbone(volumes, images)(images), volumes(images)) <= 1e-5


def test_models_in_other_threads_work_while_one_is_traced(generator):
    serving, images = nn.Conv2d(3, 4, 1), torch.randn(1, 3, 8, 6, generator=generator)
    results: list[Any] = []

    def serve() -> None:
        try:
            results.append(serving(images))
        except Exception as error:
            results.append(error)

    class Served(nn.Module):
        channels, stride = 4, 1

        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(3, 4, 1)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            thread = threading.Thread(target=serve)  # while the trace lasts
            thread.start()
            thread.join()
            return self.convolution(images)

    with torch.no_grad():
        FusedBackbone(Served().eval(), images)
    assert len(results) == 1
    assert torch.equal(results[0], serving(images))


def test_weights_that_a_copy_reads_are_those_that_it_uses():
    first, second = optimize(make()), optimize(make())
    for parameter in second.parameters():
        parameter.data.mul_(1.1)
    crops = torch.randn(1, 3, 64, 48)
    first.load_state_dict(second.state_dict())
    assert difference(first(crops), copy.deepcopy(second)(crops)) <= 1e-5


def test_changed_weights_of_a_copy_are_those_that_it_uses(generator):
    fast, crops = optimize(make()), torch.randn(1, 3, 64, 48, generator=generator)
    before = fast(crops)
    larger = {name: 3 * parameter for name, parameter in fast.named_parameters() if "convolution" in name}
    assert difference(torch.func.functional_call(fast, larger, (crops,)), before) > 0.01
    assert difference(fast(crops), before) <= 1e-6
    with torch.no_grad():
        for name in larger:
            fast.get_parameter(name).mul_(3)
    expected = copy.deepcopy(fast)(crops)
    assert difference(expected, before) > 0.01
    assert difference(fast(crops), expected) <= 1e-5


def test_weights_of_a_copy_may_ask_for_gradients(generator):
    fast, crops = optimize(make()).requires_grad_(), torch.randn(1, 3, 64, 48, generator=generator)
    fast(crops).square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in fast.backbone.named_parameters()}
    assert all(gradient is not None and gradient.abs().max() > 0 for gradient in gradients.values())


def test_gradients_of_the_crops_are_the_models():
    model, crops = make(), torch.randn(1, 3, 64, 48)
    gradients = []
    for one in (model, optimize(model)):
        asked = crops.clone().requires_grad_()
        one(asked).square().sum().backward()
        gradients.append(asked.grad)
    assert difference(gradients[1], gradients[0]) <= 1e-4
