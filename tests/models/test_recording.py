import threading
import time

import pytest
import torch
from torch import nn

from tokenpose.models.blocks import blocks
from tokenpose.models.create import create_model
from tokenpose.models.recording import record_attention
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
@pytest.mark.parametrize("block", list(blocks))
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


@torch.no_grad()
@pytest.mark.parametrize(("heads", "counted"), [([2, 0], [2, 0]), ([3, 1, 2], [3, 1, 2]), ([-1, 0], [3, 0])])
def test_chosen_heads_come_in_the_order_in_which_they_are_asked_for(tiny, build, images, heads, counted):
    model = build(tiny)
    with record_attention(model) as everything:
        model(images)
    with record_attention(model, heads=heads) as chosen:
        model(images)
    for rows, every in zip(chosen.rows, everything.rows, strict=True):
        torch.testing.assert_close(rows, every[:, counted], rtol=0, atol=1e-6)
        assert (rows[:, 0] - rows[:, 1]).abs().max() > 1e-3  # or their order would not show


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


@torch.no_grad()
@pytest.mark.parametrize("block", list(blocks))
@pytest.mark.parametrize("positions", ["sine_every_block", "sine", "learnable", "none"])
@pytest.mark.parametrize("backbone", ["pixels", "stem", "timm/resnet18", "timm/convnext_atto"])
@pytest.mark.parametrize("groups", [1, 3])
def test_every_part_can_be_recorded_without_a_change_of_output(tiny, build, images, block, positions, backbone, groups):
    strides = {} if backbone == "pixels" else {"backbone_stride": 4, "patch_size": (4, 3)}
    spec = tiny.replace(block=block, positions=positions, backbone=backbone, groups=groups, depth=2, **strides)
    model = build(spec)
    before = model(images)
    with record_attention(model) as recording:
        assert torch.equal(model(images), before)
    assert [rows.shape for rows in recording.rows] == [(2, 4, 5, 5 + 16)] * (2 * groups)
    torch.testing.assert_close(recording.rows[-1].sum(dim=-1), torch.ones(2, 4, 5), rtol=0, atol=1e-5)
    assert torch.equal(model(images), before)


@torch.no_grad()
@pytest.mark.parametrize("name", ["tokenpose_b", "tokenpose_l_d6"])
def test_hrnet_models_can_be_recorded_without_a_change_of_output(name):
    model = create_model(f"{name}.coco_256x192", image_size=(128, 96), depth=1)
    crops = torch.randn(1, 3, 128, 96)
    before = model(crops)
    with record_attention(model, blocks=[-1]) as recording:
        assert torch.equal(model(crops), before)
    assert recording.rows[0].shape == (1, 8, 17, 17 + 64)


@torch.no_grad()
def test_recording_ends_after_an_error_within_the_pass(tiny, build, images):
    model = build(tiny)
    hook = model.encoder.groups[0][1].register_forward_hook(lambda *_: [].pop())
    with pytest.raises(IndexError), record_attention(model):
        model(images)
    hook.remove()
    assert all(module.observer is None for module in model.modules() if hasattr(module, "observer"))
    with record_attention(model) as recording:
        model(images)
    assert len(recording.rows) == 3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@torch.no_grad()
def test_recording_on_a_gpu_changes_no_output(tiny, build, images):
    model, images = build(tiny).cuda(), images.cuda()
    before = model(images)
    with record_attention(model) as recording:
        assert torch.equal(model(images), before)
    assert recording.rows[0].is_cuda


@torch.no_grad()
def test_a_recording_has_the_rows_of_its_own_thread_while_others_predict(tiny, build, images):
    model, others, stop, calls, failures = build(tiny), -images, threading.Event(), [], []
    with record_attention(model) as alone:
        expected = model(images)
    of_others = model(others)

    def predict() -> None:
        with torch.no_grad():
            while not stop.is_set():
                calls.append(1)
                if not torch.equal(model(others), of_others):
                    failures.append("another prediction")

    threads = [threading.Thread(target=predict) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(50):
            before = len(calls)
            with record_attention(model) as recording:
                assert torch.equal(model(images), expected)
                while len(calls) < before + 2:  # the others call the model while it is recorded
                    time.sleep(0)
            assert len(recording.rows) == len(alone.rows)
            assert all(torch.equal(one, other) for one, other in zip(recording.rows, alone.rows, strict=True))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures


def test_a_model_is_recorded_by_one_thread_at_a_time(tiny, build):
    model, refusals = build(tiny), []

    def record() -> None:
        try:
            with record_attention(model):
                pass
        except ValueError as error:
            refusals.append(str(error))

    with record_attention(model):
        thread = threading.Thread(target=record)
        thread.start()
        thread.join()
        assert model.encoder.groups[0][0].attention.observer is not None  # the refusal ended nothing
    assert refusals == ["this model is being recorded already; recordings don't nest, and threads take turns"]
    record()
    assert len(refusals) == 1
