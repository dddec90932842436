"""Recording: what keypoint tokens attend to, computed beside the fused attention while a context lasts."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock, get_ident
from typing import Any, cast

import torch
from torch import Tensor, nn

from tokenpose.files import shown
from tokenpose.models.attention import Attention, softmax_rows
from tokenpose.shapes import AttentionRows

_one_at_a_time = Lock()  # while observers are set: two threads could both find that there are none


@dataclass
class Recording:
    """What `record_attention` saw in the latest forward pass."""

    rows: list[AttentionRows] = field(default_factory=list)
    """A tensor per recorded block: softmax rows of the keypoint queries, (batch, heads, keypoints, tokens), keypoint
    tokens first; float32."""


@contextmanager
def record_attention(
    model: Any, blocks: Sequence[int] | None = None, heads: Sequence[int] | None = None
) -> Iterator[Recording]:
    """Record what the keypoint tokens attend to while the context lasts; the model's outputs stay the same to the bit.

    ``blocks`` (None: all) counts through all groups from 0, or from the end if negative; so does ``heads`` (None: all)
    within a block. AttentionRows come in the order in which the network works, whatever the order of ``blocks``.

    The rows are computed beside the fused path, for the keypoint queries only (keypoints x tokens, not tokens x
    tokens), and carry gradients where autograd is on. Each call of the model replaces the rows of the one before: after
    a flip test or several batches, those of the last call remain. An optimized copy that splits a batch gives the rows
    of the whole batch. Calls in other threads are not recorded, and stay as fast as they are.

    Raises ValueError where no block uses the library's Attention, a block or head isn't there, the model is compiled,
    or it is being recorded already, in this or another thread; TypeError if ``model`` isn't a module or ``blocks`` and
    ``heads`` aren't lists.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"a model is needed, as tokenpose.create_model makes; got {shown(model)}")
    keypoints = len(cast(Any, model).spec.skeleton)
    with observe_attention(model, keypoints, blocks, heads) as recording:
        yield recording


def attentions_of(model: Any) -> list[list[Attention]]:
    """The library's Attention modules in each block, through all groups."""
    blocks = [block for group in model.encoder.groups for block in group]
    return [[module for module in block.modules() if isinstance(module, Attention)] for block in blocks]


@contextmanager
def observe_attention(
    model: Any, queries: int | None, blocks: Sequence[int] | None = None, heads: Sequence[int] | None = None
) -> Iterator[Recording]:
    """As `record_attention`, for the first ``queries`` tokens (None: for all). A call of the model's `read` alone
    replaces the rows as well."""
    recorded = _choose_attentions(model, blocks, heads)
    recorder, observed = _Recorder(queries, heads), list[Attention]()
    handles = [
        model.register_forward_pre_hook(recorder.begin_call),
        model.tokenizer.register_forward_pre_hook(recorder.begin_pass),  # runs once a pass, before every block
        model.register_forward_hook(recorder.end_call, always_call=True),
    ]
    try:
        with _one_at_a_time:
            _refuse_recorded(recorded)
            for attention in recorded:
                attention.observer = recorder.observer(attention)
                observed.append(attention)
        yield recorder.recording
    finally:
        for handle in handles:
            handle.remove()
        for attention in observed:
            attention.observer = None


def _choose_attentions(model: Any, blocks: Sequence[int] | None, heads: Sequence[int] | None) -> list[Attention]:
    """The Attention modules to record, in the network's order. Raises TypeError and ValueError where they can't be."""
    for name, chosen in (("blocks", blocks), ("heads", heads)):
        if chosen is not None and not isinstance(chosen, Sequence):
            raise TypeError(f"{name} is a list of numbers; got {shown(chosen)}")
    if isinstance(model, torch._dynamo.eval_frame.OptimizedModule) or model._compiled_call_impl is not None:
        raise ValueError("a compiled model can't be recorded: record the model that was given to torch.compile")
    of_blocks = attentions_of(model)
    if not any(of_blocks):
        raise ValueError(
            f"no block of this {type(model).__name__} uses tokenpose's Attention, so nothing can be recorded"
        )
    count = len(of_blocks)
    if not all(-count <= block < count for block in blocks or ()):
        raise ValueError(f"the model has {count} blocks, 0 to {count - 1}; got {list(blocks or ())}")
    wanted = range(count) if blocks is None else sorted({block % count for block in blocks})
    recorded = [attention for block in wanted for attention in of_blocks[block]]
    _refuse_recorded(recorded)
    fewest = min((attention.heads for attention in recorded), default=0)
    if not all(-fewest <= head < fewest for head in heads or ()):
        raise ValueError(f"the model has {fewest} heads, 0 to {fewest - 1}; got {list(heads or ())}")
    return recorded


def _refuse_recorded(attentions: Sequence[Attention]) -> None:
    if any(attention.observer is not None for attention in attentions):
        raise ValueError("this model is being recorded already; recordings don't nest, and threads take turns")


class _Recorder:
    """Keeps the rows of the latest call in a recording, made in the thread that records. A model's runner may make a
    call of several passes, each with some of the images: when the call ends, their rows are joined."""

    def __init__(self, queries: int | None, heads: Sequence[int] | None) -> None:
        self.recording = Recording()
        self.queries, self.heads = queries, heads
        self.thread, self.is_called = get_ident(), False
        self.finished: list[list[AttentionRows]] = []  # the earlier passes of this call

    def observer(self, attention: Attention) -> Callable[[Tensor, Tensor], None]:
        """What an Attention module calls with its queries and keys."""

        def observe(query: Tensor, key: Tensor) -> None:
            if get_ident() != self.thread:
                return
            if self.heads is not None:
                query, key = query[:, list(self.heads)], key[:, list(self.heads)]
            self.recording.rows.append(softmax_rows(query[:, :, : self.queries], key, attention.scale))

        return observe

    def begin_call(self, *_: object) -> None:
        if get_ident() == self.thread:
            self.is_called, self.recording.rows = True, []

    def begin_pass(self, *_: object) -> None:
        if get_ident() != self.thread:
            return
        if self.is_called and self.recording.rows:
            self.finished.append(self.recording.rows)
        self.recording.rows = []

    def end_call(self, *_: object) -> None:
        """Also runs after an error; the rows are then those of the pass in which it happened."""
        if get_ident() != self.thread:
            return
        passes, self.finished, self.is_called = [*self.finished, self.recording.rows], [], False
        if len(passes) > 1 and len(passes[0]) == len(passes[-1]):
            self.recording.rows = [torch.cat(parts) for parts in zip(*passes, strict=True)]
