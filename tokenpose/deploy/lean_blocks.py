"""Blocks with fewer passes over memory, for inference on a CPU in float32."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tokenpose.models.attention import Attention
from tokenpose.models.blocks import Tokens, VitBlock


class LeanVitBlock(nn.Module):
    """A `VitBlock` for inference on a CPU: the same computation, with the residuals added inside the matrix products
    and a bias of zeros in the projection that has none."""

    @staticmethod
    def suits(block: nn.Module) -> bool:
        """Whether it is a VitBlock of plain linear layers. Adapters and hooks would be bypassed."""
        if type(block) is not VitBlock or type(block.attention) is not Attention:
            return False
        if type(block.mlp) is not nn.Sequential or len(block.mlp) != 3:
            return False
        linears = (block.attention.output, block.mlp[2])
        return all(_is_plain(linear, bias=True) for linear in linears) and type(block.mlp[1]) is nn.GELU

    def __init__(self, block: VitBlock) -> None:
        super().__init__()
        self.attention_norm, self.attention = block.attention_norm, block.attention
        self.mlp_norm, self.mlp = block.mlp_norm, block.mlp
        if _is_plain(self.attention.qkv, bias=False):
            self.attention.qkv = ZeroBiasLinear(self.attention.qkv)

    def forward(self, tokens: Tokens, queries: int | None = None) -> Float[Tensor, "people rows width"]:
        """(batch, tokens, width) -> the same, or its first ``queries`` rows."""
        gathered = self.attention.gather(self.attention_norm(tokens), queries)
        rows = _add_product(tokens[:, :queries].flatten(0, 1), gathered.flatten(0, 1), self.attention.output)
        hidden = functional.gelu(self.mlp[0](self.mlp_norm(rows)))
        return _add_product(rows, hidden, self.mlp[2]).view(gathered.shape)


class ZeroBiasLinear(nn.Module):
    """A linear layer with zeros for its missing bias: for a few hundred rows PyTorch's product is then faster."""

    bias: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight = linear.weight
        self.register_buffer("bias", linear.weight.new_zeros(linear.out_features), persistent=False)

    def forward(self, rows: Tokens) -> Float[Tensor, "people tokens outputs"]:
        """(batch, tokens, width) -> (batch, tokens, outputs)."""
        return functional.linear(rows, self.weight, self.bias)


def _is_plain(linear: Any, bias: bool) -> bool:
    """Whether it is a linear layer without adapter or hook."""
    hooked = type(linear) is nn.Linear and (linear._forward_hooks or linear._forward_pre_hooks)
    return type(linear) is nn.Linear and (linear.bias is not None) is bias and not hooked


def _add_product(rows: Tensor, inputs: Tensor, linear: Any) -> Tensor:
    """rows + linear(inputs), in one pass over memory less, except under autocast, which would round the rows."""
    if torch.is_autocast_enabled(rows.device.type):
        return rows + linear(inputs)
    return torch.addmm(rows, inputs, linear.weight.t()).add_(linear.bias)
