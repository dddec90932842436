"""The head: layers, their widths, and the order of the cells."""

import pytest
import torch
from torch import nn

from tokenpose.models.heads import HeatmapHead
from tokenpose.models.spec import ModelSpec

SPEC = ModelSpec(backbone="pixels", backbone_stride=1, image_size=(64, 48), patch_size=(16, 12), width=48, heads=4)


def linear_sizes(head: HeatmapHead) -> list[tuple[int, int]]:
    return [(layer.in_features, layer.out_features) for layer in head if isinstance(layer, nn.Linear)]


def test_two_layers_have_a_hidden_width_of_an_eighth_of_the_cells_and_one_layer_has_none():
    assert linear_sizes(HeatmapHead(SPEC)) == [(48, 24), (24, 192)]  # 16 x 12 = 192 cells, 192 / 8 = 24
    assert linear_sizes(HeatmapHead(SPEC.replace(head_hidden=100))) == [(48, 100), (100, 192)]
    assert linear_sizes(HeatmapHead(SPEC.replace(head_layers=1))) == [(48, 192)]


def test_groups_are_read_side_by_side():
    assert linear_sizes(HeatmapHead(SPEC.replace(groups=3, depth=2, head_layers=1))) == [(144, 192)]  # 3 x 48


@pytest.mark.parametrize("layers", [1, 2])
def test_cells_are_row_major(layers):
    head = HeatmapHead(SPEC.replace(head_layers=layers))
    last = [layer for layer in head if isinstance(layer, nn.Linear)][-1]
    nn.init.zeros_(last.weight)
    last.bias.data = torch.arange(192.0)
    heatmaps = head(torch.randn(2, 17, 48))
    assert heatmaps.shape == (2, 17, 16, 12)
    assert heatmaps[0, 0, 0, 1] == 1  # one column to the right
    assert heatmaps[0, 0, 1, 0] == 12  # one row down


def test_the_head_starts_with_a_norm_and_is_shared_by_all_keypoints(generator):
    head = HeatmapHead(SPEC)
    tokens = torch.randn(1, 17, 48, generator=generator)
    torch.testing.assert_close(head(5 * tokens + 3), head(tokens), rtol=1e-4, atol=1e-4)
    assert torch.equal(head(tokens.flip(1)), head(tokens).flip(1))
