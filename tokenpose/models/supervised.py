"""A TokenPose as training sees it: its outputs, and what helps it to learn."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from tokenpose.models.attention import Attention, Recording, record_attention
from tokenpose.models.tokenpose import TokenPose

Maps = Float[Tensor, "batch keypoints rows columns"]


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What one training pass gives: the model's heatmap logits, and what was asked for beside them."""

    logits: Maps
    patches: Float[Tensor, "read_blocks batch keypoints rows columns"] | None = None
    """Read off the visual tokens after some blocks."""
    attention: Float[Tensor, "guided_blocks batch keypoints visual"] | None = None
    """Each keypoint's attention over the visual tokens in some blocks, mean over heads, as a distribution."""


class Supervised(nn.Module):
    """Wraps a model for training: heads on the visual tokens and the attention of some blocks beside the outputs. Only
    the model itself is kept after training.

    ``patch_blocks``: after which blocks a linear layer reads heatmaps off the visual tokens; not the last, which has
    none. ``guided_blocks``: whose attention is given. Raises ValueError for blocks that aren't there.
    """

    def __init__(
        self,
        model: TokenPose,
        patch_blocks: Sequence[int] = (),
        guided_blocks: Sequence[int] = (),
    ) -> None:
        super().__init__()
        last = model.encoder.depth - 1
        if any(not 0 <= block < last for block in patch_blocks) or any(
            not 0 <= block <= last for block in guided_blocks
        ):
            raise ValueError(
                f"the model has blocks 0 to {last}, and the last gives no visual tokens; "
                f"got patch_blocks {tuple(patch_blocks)} and guided_blocks {tuple(guided_blocks)}"
            )
        self.model = model
        self.guided_blocks = tuple(guided_blocks)
        self.patch_heads = nn.ModuleDict({str(block): PatchHead(model) for block in patch_blocks})

    @property
    def backbone(self) -> nn.Module:
        """The model's."""
        return self.model.backbone

    def compilable(self) -> list[nn.Module]:
        """Everything that torch.compile can take on its own: all but the blocks whose attention is given."""
        blocks = [block for group in self.model.encoder.groups for block in group]
        free = [block for number, block in enumerate(blocks) if number not in self.guided_blocks]
        return [self.model.backbone, *free, self.model.head, *self.patch_heads.values()]

    def forward(self, crops: Float[Tensor, "batch 3 height width"]) -> Predictions:
        """Normalised crops -> what the losses need."""
        features = self.model.backbone(crops)
        patches = []

        def watch(block: int, tokens: Tensor) -> None:
            if str(block) in self.patch_heads:
                patches.append(self.patch_heads[str(block)](tokens))

        recorded = record_attention(self.model, self.guided_blocks) if self.guided_blocks else nullcontext()
        with recorded as recording:
            logits = self.model.read(features, watch)
        return Predictions(
            logits=logits,
            patches=torch.stack(patches) if patches else None,
            attention=_visual_attention(recording) if recording is not None else None,
        )


class PatchHead(nn.Module):
    """Heatmap logits from the visual tokens: each gives the cells that its patch covers."""

    def __init__(self, model: TokenPose) -> None:
        super().__init__()
        self.grid, output = model.spec.grid_size, model.spec.output_size
        self.keypoints = len(model.spec.skeleton)
        self.cells = output[0] // self.grid[0], output[1] // self.grid[1]
        if (self.cells[0] * self.grid[0], self.cells[1] * self.grid[1]) != output:
            raise ValueError(
                f"heatmaps of {output} cells can't be read off {self.grid} patches: not whole cells each; set patches=0"
            )
        self.norm = nn.LayerNorm(model.spec.width)
        self.linear = nn.Linear(model.spec.width, self.keypoints * self.cells[0] * self.cells[1])

    def forward(self, tokens: Float[Tensor, "batch tokens width"]) -> Maps:
        """(batch, keypoints + visual, width) -> (batch, keypoints, rows, columns)."""
        cells = self.linear(self.norm(tokens[:, self.keypoints :]))
        rows, columns = self.grid
        height, width = self.cells
        return rearrange(cells, "b (r c) (k h w) -> b k (r h) (c w)", r=rows, c=columns, h=height, w=width)


def _visual_attention(recording: Recording) -> Float[Tensor, "blocks batch keypoints visual"]:
    rows = torch.stack([block.mean(dim=1) for block in recording.rows])
    visual = rows[..., rows.shape[-2] :]  # keypoint tokens stand first
    return visual / visual.sum(dim=-1, keepdim=True)


def widen_start(model: TokenPose) -> None:
    """Make a new model's keypoint tokens differ (std 0.5) and its attention selective (queries, keys of unit scale).

    The published start has tokens of std 0.02, which the first blocks' common output drowns, and nearly uniform
    attention.
    """
    nn.init.trunc_normal_(model.tokenizer.keypoint_tokens, std=0.5)
    width = model.spec.width
    for module in model.encoder.modules():
        if isinstance(module, Attention):
            nn.init.trunc_normal_(module.qkv.weight[: 2 * width], std=width**-0.5)
