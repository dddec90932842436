import pytest
import torch
from torch import nn
from torch.nn import functional

from tokenpose.models.attention import Attention
from tokenpose.models.blocks import GatedBlock, VitBlock, blocks, register_block
from tokenpose.models.create import create_model
from tokenpose.models.recording import record_attention
from tokenpose.models.spec import ModelSpec

SPEC = ModelSpec(backbone="stem", width=48, heads=4, depth=1)


@pytest.fixture
def registered():
    """Names that the test registers are forgotten after it."""
    before = dict(blocks._parts)
    yield
    blocks._parts.clear()
    blocks._parts.update(before)


@pytest.fixture
def tokens(generator) -> torch.Tensor:
    return torch.randn(2, 21, 48, generator=generator)


@torch.no_grad()
@pytest.mark.parametrize("name", list(blocks))
@pytest.mark.parametrize("queries", [1, 5, 20, 21])
def test_asking_for_the_first_rows_equals_the_first_rows_of_all(name, queries, tokens):
    torch.manual_seed(0)
    block = blocks.find(name)(SPEC)
    rows = block(tokens, queries=queries)
    assert rows.shape == (2, queries, 48)
    torch.testing.assert_close(rows, block(tokens)[:, :queries], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", list(blocks))
def test_the_rows_left_out_still_count_as_keys(name, tokens):
    torch.manual_seed(0)
    block = blocks.find(name)(SPEC)
    changed = torch.cat((tokens[:, :5], -tokens[:, 5:]), dim=1)
    assert (block(changed, queries=5) - block(tokens, queries=5)).abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("scale", [48**-0.5, 12**-0.5, 1.0])
@pytest.mark.parametrize("queries", [None, 3])
def test_fused_attention_equals_explicit_softmax(scale, queries, tokens):
    torch.manual_seed(0)
    attention = Attention(48, 4, scale)
    query, key, value = attention.qkv(tokens).split(48, dim=-1)
    heads = []
    for head in range(4):
        own = slice(12 * head, 12 * head + 12)
        rows = torch.softmax(query[:, :queries, own] @ key[..., own].transpose(1, 2) * scale, dim=-1)
        heads.append(rows @ value[..., own])
    expected = attention.output(torch.cat(heads, dim=-1))
    torch.testing.assert_close(attention(tokens, queries), expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_vit_block_is_pre_norm_attention_then_exact_gelu(tokens):
    torch.manual_seed(0)
    block = VitBlock(SPEC)
    rows = tokens + block.attention(functional.layer_norm(tokens, (48,), eps=1e-5))
    hidden = functional.gelu(block.mlp[0](functional.layer_norm(rows, (48,), eps=1e-5)), approximate="none")
    torch.testing.assert_close(block(tokens), rows + block.mlp[2](hidden), rtol=0, atol=1e-6)
    assert block.mlp[0].out_features == 3 * 48


@torch.no_grad()
def test_gated_block_is_rms_norm_and_swiglu(tokens):
    torch.manual_seed(0)
    block = GatedBlock(SPEC)

    def rms(values):
        return values / (values.square().mean(dim=-1, keepdim=True) + 1e-6).sqrt()

    rows = tokens + block.attention(rms(tokens))
    gate, value = block.gate_and_value(rms(rows)).chunk(2, dim=-1)
    expected = rows + block.output(gate * torch.sigmoid(gate) * value)
    torch.testing.assert_close(block(tokens), expected, rtol=0, atol=1e-6)


def test_gated_block_has_about_as_many_parameters_as_the_published_one():
    wide = SPEC.replace(width=192, heads=8)
    counts = [sum(p.numel() for p in make(wide).parameters()) for make in (VitBlock, GatedBlock)]
    assert abs(counts[1] / counts[0] - 1) < 0.01


@torch.no_grad()
@pytest.mark.usefixtures("registered")
def test_registered_block_is_found_by_its_name_and_recorded():
    @register_block("attention only")
    class AttentionOnly(nn.Module):
        def __init__(self, spec: ModelSpec) -> None:
            super().__init__()
            self.attention = Attention(spec.width, spec.heads, spec.softmax_scale)

        def forward(self, tokens: torch.Tensor, queries: int | None = None) -> torch.Tensor:
            return tokens[:, :queries] + self.attention(tokens, queries)

    model = create_model("tokenpose_t", block="attention only", depth=2, keypoints=3)
    with record_attention(model) as recording:
        assert model(torch.zeros(1, 3, 256, 192)).shape == (1, 3, 64, 48)
    assert [rows.shape for rows in recording.rows] == [(1, 16, 3, 259)] * 2
    with pytest.raises(ValueError, match="a block named 'vit' is registered already"):
        register_block("vit")(AttentionOnly)


def test_unknown_block_is_refused_with_the_closest():
    with pytest.raises(LookupError, match="no block named 'gatde'; did you mean gated"):
        create_model("tokenpose_t", block="gatde")
