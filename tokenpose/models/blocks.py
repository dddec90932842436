"""Transformer blocks: `forward(tokens, queries=None)`; ``queries=K`` asks for the first K rows only."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tokenpose.models.attention import Attention
from tokenpose.models.registry import Registry
from tokenpose.models.spec import ModelSpec
from tokenpose.shapes import Tokens

blocks: Registry[Callable[[ModelSpec], nn.Module]] = Registry("block")


def register_block(name: str) -> Callable[[Callable[[ModelSpec], nn.Module]], Callable[[ModelSpec], nn.Module]]:
    """Decorate a function or class that takes a ModelSpec and gives a block, so that ``block=name`` finds it.

    A block maps (batch, tokens, width) to the same shape, or to its first K rows when called with ``queries=K``, and
    attends through `tokenpose.Attention`, which has the fused path and can be recorded.
    Raises ValueError where the name is taken.
    """
    return blocks.register(name)


@register_block("vit")
class VitBlock(nn.Module):
    """The published block: pre-norm attention, then an MLP with exact GELU."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        hidden = round(spec.width * spec.mlp_ratio)
        self.attention_norm = nn.LayerNorm(spec.width, eps=1e-5)
        self.attention = Attention(spec.width, spec.heads, spec.softmax_scale)
        self.mlp_norm = nn.LayerNorm(spec.width, eps=1e-5)
        self.mlp = nn.Sequential(nn.Linear(spec.width, hidden), nn.GELU(), nn.Linear(hidden, spec.width))

    def forward(self, tokens: Tokens, queries: int | None = None) -> Float[Tensor, "people rows width"]:
        """(batch, tokens, width) -> the same, or its first ``queries`` rows."""
        rows = tokens[:, :queries] + self.attention(self.attention_norm(tokens), queries)
        return rows + self.mlp(self.mlp_norm(rows))


@register_block("gated")
class GatedBlock(nn.Module):
    """RMS norm and SwiGLU in place of LayerNorm and GELU; two thirds of the hidden width, so as many parameters."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        hidden = 8 * max(1, round(spec.width * spec.mlp_ratio / 12))
        self.attention_norm = nn.RMSNorm(spec.width, eps=1e-6)
        self.attention = Attention(spec.width, spec.heads, spec.softmax_scale)
        self.mlp_norm = nn.RMSNorm(spec.width, eps=1e-6)
        self.gate_and_value = nn.Linear(spec.width, 2 * hidden)
        self.output = nn.Linear(hidden, spec.width)

    def forward(self, tokens: Tokens, queries: int | None = None) -> Float[Tensor, "people rows width"]:
        """(batch, tokens, width) -> the same, or its first ``queries`` rows."""
        rows = tokens[:, :queries] + self.attention(self.attention_norm(tokens), queries)
        gate, value = self.gate_and_value(self.mlp_norm(rows)).chunk(2, dim=-1)
        return rows + self.output(functional.silu(gate) * value)


class Encoder(nn.Module):
    """Groups of blocks one after another; the keypoint tokens that leave each group are concatenated."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        make_block = blocks.find(spec.block)
        self.keypoints, self.depth = len(spec.skeleton), spec.groups * spec.depth
        self.groups: Any = nn.ModuleList(
            nn.ModuleList(make_block(spec) for _ in range(spec.depth)) for _ in range(spec.groups)
        )

    def forward(
        self,
        tokens: Tokens,
        block_positions: Float[Tensor, "1 tokens width"] | None = None,
        watch: Callable[[int, Tokens], None] | None = None,
    ) -> Float[Tensor, "people keypoints features"]:
        """(batch, keypoints + visual, width) -> (batch, keypoints, groups x width).

        ``block_positions`` are added before every block but the first of each group; they are 0 for keypoint tokens.
        ``watch`` is called with each block's number, from 0 through all groups, and the tokens that leave it.
        """
        exits, number = [], 0
        for group in self.groups:
            for index, block in enumerate(group):
                if index and block_positions is not None:
                    tokens = tokens + block_positions
                last = number == self.depth - 1  # its keypoint rows alone are read
                tokens = block(tokens, queries=self.keypoints) if last else block(tokens)
                if watch is not None:
                    watch(number, tokens)
                number += 1
            exits.append(tokens[:, : self.keypoints])
        return torch.cat(exits, dim=-1)
