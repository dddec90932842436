import pytest
import torch
from torch import nn

from tokenpose.models.attention import record_attention
from tokenpose.models.blocks import blocks
from tokenpose.models.spec import ModelSpec
from tokenpose.models.tokenpose import TokenPose


@pytest.fixture
def images(generator) -> torch.Tensor:
    return torch.randn(2, 3, 64, 48, generator=generator)


@torch.no_grad()
def test_rows_are_distributions_over_keypoint_and_visual_tokens(tiny, build, images):
    model = build(tiny)
    with record_attention(model) as recording:
        model(images)
    assert [rows.shape for rows in recording.rows] == [(2, 4, 5, 5 + 16)] * 3
    for rows in recording.rows:
        assert rows.dtype == torch.float32
        assert (rows >= 0).all()
        torch.testing.assert_close(rows.sum(dim=-1), torch.ones(2, 4, 5), rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("block", ["vit", "gated"])
def test_recording_changes_no_output_to_the_bit(tiny, build, images, block):
    model = build(tiny.replace(block=block, groups=2))
    before = model(images)
    with record_attention(model) as recording:
        during = model(images)
    assert torch.equal(during, before)
    assert torch.equal(model(images), before)
    assert len(recording.rows) == 6


@torch.no_grad()
def test_a_second_pass_replaces_the_firsts_rows(tiny, build, images):
    model = build(tiny)
    with record_attention(model) as recording:
        model(images)
        first = list(recording.rows)
        model(-images)
    assert len(recording.rows) == 3
    assert not torch.allclose(recording.rows[0], first[0])


@torch.no_grad()
def test_recording_ends_with_its_context_even_after_an_error(tiny, build, images):
    model = build(tiny)
    with pytest.raises(RuntimeError, match="on purpose"), record_attention(model) as recording:
        raise RuntimeError("on purpose")
    model(images)
    assert recording.rows == []


@torch.no_grad()
def test_chosen_blocks_count_through_groups_and_from_the_end(tiny, build, images):
    model = build(tiny.replace(groups=2))
    with record_attention(model) as everything:
        model(images)
    with record_attention(model, blocks=[3, -1]) as chosen:
        model(images)
    assert len(chosen.rows) == 2
    assert torch.equal(chosen.rows[0], everything.rows[3])
    assert torch.equal(chosen.rows[1], everything.rows[5])


def test_rows_carry_gradients(tiny, build, images):
    model = build(tiny)
    with record_attention(model, blocks=[0]) as recording:
        model(images)
    recording.rows[0][..., 0].sum().backward()
    assert model.tokenizer.keypoint_tokens.grad.abs().max() > 0


@torch.no_grad()
def test_rows_are_float32_under_autocast(tiny, build, images):
    model = build(tiny)
    with record_attention(model) as exact:
        model(images)
    with record_attention(model) as recording, torch.autocast("cpu", dtype=torch.bfloat16):
        model(images)
    assert recording.rows[0].dtype == torch.float32
    torch.testing.assert_close(recording.rows[0], exact.rows[0], rtol=0, atol=0.1)


@pytest.mark.parametrize("chosen", [[3], [0, -4]])
def test_blocks_that_are_not_there_are_refused(tiny, build, chosen):
    with (
        pytest.raises(ValueError, match=r"the model has 3 blocks, 0 to 2; got \["),
        record_attention(build(tiny), chosen),
    ):
        pass


def test_compiled_model_is_refused(tiny, build):
    compiled = torch.compile(build(tiny))
    with pytest.raises(ValueError, match="a compiled model can't be recorded"), record_attention(compiled):
        pass


def test_model_without_the_librarys_attention_is_refused(tiny):
    class Still(nn.Module):
        def __init__(self, spec: ModelSpec) -> None:
            super().__init__()

        def forward(self, tokens: torch.Tensor, queries: int | None = None) -> torch.Tensor:
            return tokens[:, :queries]

    blocks.add("still", Still)
    try:
        model = TokenPose(tiny.replace(block="still"))
    finally:
        del blocks._parts["still"]
    with (
        pytest.raises(ValueError, match="no block of this TokenPose uses tokenpose's Attention"),
        record_attention(model),
    ):
        pass
