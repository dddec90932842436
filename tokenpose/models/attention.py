"""The library's attention: its paths, the limit to the first queries, and the observer that recordings use."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tokenpose.shapes import Keys, Queries


def attend_fused(query: Queries, key: Keys, value: Keys, scale: float) -> Queries:
    """PyTorch's scaled_dot_product_attention: no matrix of tokens by tokens is kept."""
    return functional.scaled_dot_product_attention(query, key, value, scale=scale)


def attend_padded(query: Queries, key: Keys, value: Keys, scale: float) -> Queries:
    """The same, with zeros that fill each head's width up to a multiple of 8, which half-precision kernels need."""
    width = query.shape[-1]
    missing = -width % 8
    query, key, value = (functional.pad(part, (0, missing)) for part in (query, key, value))
    return functional.scaled_dot_product_attention(query, key, value, scale=scale)[..., :width]


def attend_explicit(query: Queries, key: Keys, value: Keys, scale: float) -> Queries:
    """Two matrix products, the second transposed: narrow heads are then its rows, which suits a CPU's registers."""
    rows = (query * scale) @ key.transpose(-2, -1)
    rows = torch.softmax(rows, dim=-1)
    return (value.transpose(-2, -1).contiguous() @ rows.transpose(-2, -1)).transpose(-2, -1)


PATHS = {"fused": attend_fused, "padded": attend_padded, "explicit": attend_explicit}
"""Ways to compute the same attention; `tokenpose.optimize` measures which is fastest on the machine."""


def softmax_rows(query: Queries, key: Keys, scale: float) -> Float[Tensor, "people heads rows tokens"]:
    """What each query attends to, in float32 even under autocast."""
    with torch.autocast(query.device.type, enabled=False):
        return (query.float() @ key.float().transpose(-2, -1) * scale).softmax(dim=-1)


class Attention(nn.Module):
    """Multi-head self-attention with a given softmax scale; one bias-free projection makes query, key and value."""

    def __init__(self, width: int, heads: int, scale: float) -> None:
        super().__init__()
        self.heads = heads
        self.scale = scale
        self.qkv: Any = nn.Linear(width, 3 * width, bias=False)
        self.output = nn.Linear(width, width)
        self.path = "fused"
        self.observer: Callable[[Tensor, Tensor], None] | None = None  # sees (query, key) while a recording lasts

    def forward(
        self, tokens: Float[Tensor, "people tokens width"], queries: int | None = None
    ) -> Float[Tensor, "people rows width"]:
        """Attend from the first ``queries`` tokens (None: from all) to all tokens."""
        return self.output(self.gather(tokens, queries))

    def gather(
        self, tokens: Float[Tensor, "people tokens width"], queries: int | None = None
    ) -> Float[Tensor, "people rows width"]:
        """What `forward` projects: the values that the first ``queries`` tokens attend to, heads concatenated."""
        query, key, value = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        observer = self.observer  # once: another thread may end its recording meanwhile
        if observer is not None:
            observer(query, key)
        attended = PATHS[self.path](query[:, :, :queries], key, value, self.scale)
        return attended.transpose(1, 2).flatten(2)
