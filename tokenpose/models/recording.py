"""Recording: what keypoint tokens attend to, computed beside the fused attention for as long as it lasts."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tokenpose.models.attention import Attention, softmax_rows

Rows = Float[Tensor, "batch heads keypoints tokens"]


@dataclass
class Recording:
    """What `record_attention` saw in the latest forward pass."""

    rows: list[Rows] = field(default_factory=list)
    """A tensor per recorded block: softmax rows of the keypoint queries, (batch, heads, keypoints, tokens), keypoint
    tokens first; float32."""


@contextmanager
def record_attention(
    model: Any, blocks: Sequence[int] | None = None, heads: Sequence[int] | None = None
) -> Iterator[Recording]:
    """Record what the keypoint tokens attend to while the context lasts; the model's outputs stay the same to the bit.

    ``blocks`` (None: all) counts through all groups from 0, or from the end if negative; ``heads`` (None: all)
    likewise. Rows come in the order in which the network works, whatever the order of ``blocks``.

    The rows are computed beside the fused path, for the keypoint queries only (keypoints x tokens, not tokens x
    tokens), and carry gradients where autograd is on. Each call of the model replaces the rows of the one before: with
    a flip test or several batches those of the last one stay. A batch that goes through in chunks is one call.

    Raises ValueError where no block uses the library's Attention, a block or head isn't there, the model is compiled,
    or it is being recorded already; TypeError for what is no model and no list of numbers.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"a model is needed, as tokenpose.create_model makes; got {model!r:.80}")
    keypoints = len(cast(Any, model).spec.skeleton)
    recording = Recording()
    with observe_attention(model, blocks, recording.rows, keypoints, heads):
        yield recording


def attentions_of(model: Any) -> list[list[Attention]]:
    """The library's Attention modules in each block, through all groups."""
    blocks = [block for group in model.encoder.groups for block in group]
    return [[module for module in block.modules() if isinstance(module, Attention)] for block in blocks]


@contextmanager
def observe_attention(
    model: Any, blocks: Sequence[int] | None, rows: list[Rows], queries: int | None, heads: Sequence[int] | None = None
) -> Iterator[None]:
    """Put softmax rows of the first ``queries`` tokens (None: of all) into a list, which holds those of one pass: a
    call of the model, in chunks or not, or of its `read` alone."""
    for name, chosen in (("blocks", blocks), ("heads", heads)):
        if chosen is not None and not isinstance(chosen, Sequence):
            raise TypeError(f"{name} is a list of numbers; got {chosen!r:.80}")
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
    if any(attention.observer is not None for attention in recorded):
        raise ValueError("this model is being recorded already; recordings don't nest")
    fewest = min((attention.heads for attention in recorded), default=0)
    if not all(-fewest <= head < fewest for head in heads or ()):
        raise ValueError(f"the model has {fewest} heads, 0 to {fewest - 1}; got {list(heads or ())}")

    def observer(attention: Attention) -> Callable[[Tensor, Tensor], None]:
        def observe(query: Tensor, key: Tensor) -> None:
            if heads is not None:
                query, key = query[:, list(heads)], key[:, list(heads)]
            rows.append(softmax_rows(query[:, :, :queries], key, attention.scale))

        return observe

    passes = _Passes(rows)
    handles = [
        model.register_forward_pre_hook(passes.begin_call),
        model.tokenizer.register_forward_pre_hook(passes.begin_chunk),  # runs once a chunk, before every block
        model.register_forward_hook(passes.end_call, always_call=True),
    ]
    try:
        for attention in recorded:
            attention.observer = observer(attention)
        yield
    finally:
        for handle in handles:
            handle.remove()
        for attention in recorded:
            attention.observer = None


class _Passes:
    """Keeps a list of rows to those of the latest pass. A model that splits its batch reads chunk by chunk in one call:
    their rows are put together when it ends."""

    def __init__(self, rows: list[Rows]) -> None:
        self.rows, self.is_called = rows, False
        self.chunks: list[list[Rows]] = []  # of this call, without the one that is being read

    def begin_call(self, *_: object) -> None:
        self.is_called = True
        self.rows.clear()

    def begin_chunk(self, *_: object) -> None:
        if self.is_called and self.rows:
            self.chunks.append(list(self.rows))
        self.rows.clear()

    def end_call(self, *_: object) -> None:
        """Also after an error, when the rows are those of the chunk that it was in."""
        chunks, self.chunks, self.is_called = [*self.chunks, list(self.rows)], [], False
        if len(chunks) > 1 and len(chunks[0]) == len(self.rows):
            self.rows[:] = [torch.cat(parts) for parts in zip(*chunks, strict=True)]
