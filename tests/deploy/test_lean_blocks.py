"""LeanVitBlock: it takes the place of plain blocks only."""

import pytest
import torch
from torch import nn

from tokenpose.deploy.optimization import optimize
from tokenpose.models.attention import Attention

from .small_models import difference, make

pytestmark = pytest.mark.usefixtures("unchecked")


def test_a_block_with_parts_of_ones_own_stays_as_it_is(generator):
    class Half(nn.Module):
        def __init__(self, attention: Attention) -> None:
            super().__init__()
            self.inner = attention

        def forward(self, tokens: torch.Tensor, queries: int | None = None) -> torch.Tensor:
            return 0.5 * self.inner(tokens, queries)

    model, crops = make(), torch.randn(1, 3, 64, 48, generator=generator)
    first, second = model.encoder.groups[0][:2]
    first.attention, second.mlp = Half(first.attention), nn.Linear(48, 48)
    with torch.no_grad():
        assert difference(optimize(model)(crops), model(crops)) <= 1e-5


@pytest.mark.parametrize(("name", "shape"), [("output", (48, 48)), ("qkv", (48, 144))])
def test_adapted_linear_layers_are_not_passed_by(name, shape):
    class Adapted(nn.Linear):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return super().forward(inputs) + 1

    model = make()
    attention = model.encoder.groups[0][0].attention
    adapted = Adapted(*shape, bias=getattr(attention, name).bias is not None)
    adapted.load_state_dict(getattr(attention, name).state_dict())
    setattr(attention, name, adapted)
    crops = torch.randn(1, 3, 64, 48)
    with torch.no_grad():
        assert difference(optimize(model)(crops), model(crops)) <= 1e-5
