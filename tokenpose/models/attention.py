"""The library's one attention: the fused path, the limit to the first rows, and the recording."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

Rows = Float[Tensor, "batch heads keypoints tokens"]


class Attention(nn.Module):
    """Multi-head self-attention with a given softmax scale; one bias-free projection makes query, key and value."""

    def __init__(self, width: int, heads: int, scale: float) -> None:
        super().__init__()
        self.heads = heads
        self.scale = scale
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.output = nn.Linear(width, width)
        self.observer: Callable[[Tensor, Tensor], None] | None = None  # sees (query, key) while a recording lasts

    def forward(
        self, tokens: Float[Tensor, "batch tokens width"], queries: int | None = None
    ) -> Float[Tensor, "batch rows width"]:
        """Attend from the first ``queries`` tokens (None: from all) to all tokens."""
        query, key, value = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if self.observer is not None:
            self.observer(query, key)
        attended = functional.scaled_dot_product_attention(query[:, :, :queries], key, value, scale=self.scale)
        return self.output(attended.transpose(1, 2).flatten(2))


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
    likewise.

    The rows are computed beside the fused path, for the keypoint queries only (keypoints x tokens, not tokens x
    tokens), and carry gradients where autograd is on. Each pass of the network replaces the rows of
    the one before: with a flip test or several batches those of the last one stay.

    Raises ValueError where no block uses the library's Attention, a block or head isn't there, the model is compiled,
    or it is being recorded already.
    """
    keypoints = len(model.spec.skeleton)
    recording = Recording()
    with observe_attention(model, blocks, recording.rows, keypoints, heads):
        yield recording


@contextmanager
def observe_attention(
    model: Any, blocks: Sequence[int] | None, rows: list[Rows], queries: int | None, heads: Sequence[int] | None = None
) -> Iterator[None]:
    """Put softmax rows of the first ``queries`` tokens (None: of all) into a list, which each pass clears first."""
    if isinstance(model, torch._dynamo.eval_frame.OptimizedModule) or model._compiled_call_impl is not None:
        raise ValueError("a compiled model can't be recorded: record the model that was given to torch.compile")
    attentions = [module for module in model.modules() if isinstance(module, Attention)]
    if not attentions:
        raise ValueError(
            f"no block of this {type(model).__name__} uses tokenpose's Attention, so nothing can be recorded"
        )
    try:
        recorded = attentions if blocks is None else [attentions[block] for block in blocks]
    except IndexError as error:
        raise ValueError(
            f"the model has {len(attentions)} blocks, 0 to {len(attentions) - 1}; got {list(blocks or ())}"
        ) from error
    if any(attention.observer is not None for attention in recorded):
        raise ValueError("this model is being recorded already; recordings don't nest")
    for head in heads or ():
        count = min(attention.heads for attention in recorded)
        if not -count <= head < count:
            raise ValueError(f"the model has {count} heads, 0 to {count - 1}; got {list(heads or ())}")

    def clear(_module: nn.Module, _inputs: tuple[Tensor, ...]) -> None:
        rows.clear()

    def observer(attention: Attention) -> Callable[[Tensor, Tensor], None]:
        def observe(query: Tensor, key: Tensor) -> None:
            if heads is not None:
                query, key = query[:, list(heads)], key[:, list(heads)]
            with torch.autocast(query.device.type, enabled=False):
                products = query[:, :, :queries].float() @ key.float().transpose(-2, -1)
                rows.append((products * attention.scale).softmax(dim=-1))

        return observe

    handle = model.tokenizer.register_forward_pre_hook(clear)  # runs once a pass, before every block
    try:
        for attention in recorded:
            attention.observer = observer(attention)
        yield
    finally:
        handle.remove()
        for attention in recorded:
            attention.observer = None
