"""Tokens: patches of the backbone's map and one learned token per keypoint, and their positions."""

import math

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tokenpose.models.spec import ModelSpec


def sine_positions(grid: tuple[int, int], width: int) -> Float[Tensor, "1 visual width"]:
    """The published sine table of a grid (rows, columns), row-major: y's channels, then x's; sine, cosine in turn."""
    axis_width = width // 2
    channel = torch.arange(axis_width, dtype=torch.float64, device="cpu")
    period = 10000 ** (2 * (channel // 2) / axis_width)

    def encode(count: int) -> Tensor:
        index = torch.arange(1, count + 1, dtype=torch.float64, device="cpu")
        angle = (index / (count + 1e-6) * 2 * math.pi).unsqueeze(-1) / period
        return torch.where(channel % 2 == 0, angle.sin(), angle.cos()).float()

    rows, columns = grid
    y = encode(rows).unsqueeze(1).expand(-1, columns, -1)
    x = encode(columns).unsqueeze(0).expand(rows, -1, -1)
    return torch.cat((y, x), dim=-1).reshape(1, rows * columns, -1)


def sine_table(spec: ModelSpec) -> Float[Tensor, "1 tokens width"]:
    """The sine positions of all tokens; keypoint tokens are nowhere in the image and get zeros."""
    return functional.pad(sine_positions(spec.grid_size, spec.width), (0, 0, len(spec.skeleton), 0))


class Tokenizer(nn.Module):
    """Backbone map -> tokens, keypoint tokens first, with their positions added once."""

    def __init__(self, spec: ModelSpec, channels: int) -> None:
        super().__init__()
        self.spec = spec
        keypoints, (rows, columns) = len(spec.skeleton), spec.grid_size
        patch_height, patch_width = spec.patch_size
        self.keypoint_tokens = nn.Parameter(torch.empty(1, keypoints, spec.width))
        self.patch_embedding = nn.Linear(patch_height * patch_width * channels, spec.width)
        if spec.positions == "learnable":
            self.positions = nn.Parameter(torch.empty(1, keypoints + rows * columns, spec.width))
        elif spec.positions in ("sine", "sine_every_block"):
            # not stored: it is computed from the sizes, and half-precision files would round it
            self.register_buffer("positions", sine_table(self.spec).to(self.keypoint_tokens.device), persistent=False)
            self.register_load_state_dict_post_hook(_restore_sine_table)  # of models made on the meta device

    def forward(
        self,
        features: Float[Tensor, "people channels rows columns"],
        positions: Float[Tensor, "1 tokens width"] | None = None,
    ) -> Float[Tensor, "people tokens width"]:
        """(batch, channels, rows, columns) -> (batch, keypoints + visual, width). ``positions``: in place of its own,
        for features of another size than the spec's."""
        visual = self.visual(features)
        batch = features.shape[0]  # len() would fix it in torch.export
        tokens = torch.cat((self.keypoint_tokens.expand(batch, -1, -1), visual), dim=1)
        if self.spec.positions == "none":
            return tokens
        return tokens + (self.positions if positions is None else positions)

    def visual(
        self, features: Float[Tensor, "people channels rows columns"]
    ) -> Float[Tensor, "people visual features"]:
        """The visual tokens, without positions."""
        height, width = self.spec.patch_size
        cells = features.permute(0, 2, 3, 1)  # channels last, so that their gradient is in that order too
        patches = rearrange(cells, "b (h ph) (w pw) c -> b (h w) (ph pw c)", ph=height, pw=width)
        return self.patch_embedding(patches)

    @property
    def block_positions(self) -> Float[Tensor, "1 tokens width"] | None:
        """What is added again before later blocks; None unless the spec says "sine_every_block"."""
        return self.positions if self.spec.positions == "sine_every_block" else None

    def reset_parameters(self) -> None:
        """Published initialization; also restores the sine table of a model that was made on the meta device."""
        nn.init.trunc_normal_(self.keypoint_tokens, std=0.02)
        nn.init.trunc_normal_(self.patch_embedding.weight, std=0.02)
        nn.init.zeros_(self.patch_embedding.bias)
        if self.spec.positions == "learnable":
            nn.init.trunc_normal_(self.positions, std=0.02)
        elif self.spec.positions != "none" and not self.positions.is_meta:
            self.positions.copy_(sine_table(self.spec))


def _restore_sine_table(tokenizer: Tokenizer, _keys: object) -> None:
    """Compute the table again: it is not in the state dict, and `to_empty` leaves arbitrary values in its place."""
    tokens = tokenizer.keypoint_tokens
    tokenizer.register_buffer("positions", sine_table(tokenizer.spec).to(tokens), persistent=False)
