"""Chunks: a batch that is split gives the heatmaps and the attention of the whole batch, in order."""

import pytest
import torch

from tokenpose.deploy.chunks import ChunkRunner
from tokenpose.deploy.optimization import optimize
from tokenpose.models.recording import record_attention

from .small_models import difference, make

pytestmark = pytest.mark.usefixtures("unchecked")


@torch.inference_mode()
def test_recording_holds_everybody_when_a_batch_goes_through_in_chunks(generator):
    model = make()
    fast, crops = optimize(model), torch.randn(8, 3, 64, 48, generator=generator)
    with record_attention(model) as expected:
        model(crops)
    for chunk in (None, 1, 3, 4, 7):  # with and without a rest
        fast.runner = ChunkRunner(chunk)
        with record_attention(fast) as recording:
            fast(crops[:5])
            heatmaps = fast(crops)
        assert heatmaps.shape[0] == 8
        assert [rows.shape for rows in recording.rows] == [(8, 4, 5, 5 + 16)] * 3, chunk
        for found, rows in zip(recording.rows, expected.rows, strict=True):
            assert (found - rows).abs().max() <= 1e-5, chunk


@torch.no_grad()
def test_recording_goes_on_after_an_error_between_chunks(generator):
    model, crops = make(), torch.randn(3, 3, 64, 48, generator=generator)
    model.runner = ChunkRunner(1)
    calls: list[int] = []

    def fail_once(*_: object) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("on purpose")

    handle = model.encoder.groups[0][1].register_forward_hook(fail_once)
    with record_attention(model) as recording:
        with pytest.raises(RuntimeError, match="on purpose"):
            model(crops)
        model(crops)
        assert [rows.shape[0] for rows in recording.rows] == [3, 3, 3]
        model.read(model.backbone(crops[:2]))  # a pass of its own
        assert [rows.shape[0] for rows in recording.rows] == [2, 2, 2]
    handle.remove()


def test_batches_are_split_and_joined_in_order():
    fast = optimize(make())
    crops = torch.randn(7, 3, 64, 48)
    together = {}
    for chunk in (None, 1, 2, 7):
        fast.runner = ChunkRunner(chunk)
        together[chunk] = fast(crops)
    for chunk, heatmaps in together.items():
        assert difference(heatmaps, together[None]) <= 1e-5, chunk
    assert fast(crops[:0]).shape == (0, 5, 16, 12)
