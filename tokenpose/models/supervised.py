"""Supervised: a TokenPose for training, with the extra outputs that extra losses need."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from tokenpose.models.attention import Attention, softmax_rows
from tokenpose.models.backbones import StemBackbone
from tokenpose.models.recording import attentions_of
from tokenpose.models.sizes import positions_of, read_at_size, spec_of_size
from tokenpose.models.spec import ModelSpec, Size
from tokenpose.models.tokenpose import TokenPose
from tokenpose.shapes import Heatmaps


@dataclass(frozen=True, kw_only=True)
class SupervisedOutputs:
    """What `Supervised` returns: the model's heatmap logits, and the extra outputs that were asked for."""

    logits: Heatmaps
    grid: Size
    """Rows and columns of the visual tokens."""
    patches: Float[Tensor, "read_blocks people keypoints rows columns"] | None = None
    """Heatmap logits read off the visual tokens after some blocks."""
    attention: Float[Tensor, "guided_blocks people keypoints visual"] | None = None
    """Each keypoint's attention over the visual tokens in some blocks, mean over heads, as a distribution."""
    tokens: Float[Tensor, "people keypoints features"] | None = None
    """The keypoint tokens that enter the head."""


class Supervised(nn.Module):
    """Wraps a model for training: besides the heatmap logits it returns heatmaps read off the visual tokens and the
    attention of some blocks. After training, only the model itself is kept.

    ``patch_blocks``: the blocks after which a linear layer reads heatmaps off the visual tokens; not the last, which
    gives none. ``guided_blocks``: the blocks whose attention is returned. ``sizes``: other sizes of crops that it
    takes too (`tokenpose.models.sizes`). ``keeps_tokens``: the keypoint tokens that enter the
    head are returned. Raises ValueError for blocks that don't exist, and for sizes that don't fit.
    """

    def __init__(
        self,
        model: TokenPose,
        patch_blocks: Sequence[int] = (),
        guided_blocks: Sequence[int] = (),
        sizes: Sequence[Size] = (),
        keeps_tokens: bool = False,
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
        self.model, self.keeps_tokens = model, keeps_tokens
        of_blocks = attentions_of(model)
        self.guided = [attention for block in sorted(set(guided_blocks)) for attention in of_blocks[block]]
        if guided_blocks and not self.guided:
            raise ValueError(
                f"no guided block of this {type(model).__name__} uses tokenpose's Attention: its attention can't be "
                "guided; set guidance to 0"
            )
        self.patch_heads = nn.ModuleDict({str(block): PatchHead(model) for block in patch_blocks})
        self.specs = {size: spec_of_size(model.spec, size) for size in (model.spec.image_size, *sizes)}
        for spec in self.specs.values():
            if spec.positions.startswith("sine"):  # computed from the size; learnable ones change
                self.register_buffer(_table_name(spec.image_size), positions_of(model, spec), persistent=False)

    @property
    def backbone(self) -> nn.Module:
        """The model's backbone."""
        return self.model.backbone

    def compilable(self) -> list[nn.Module]:
        """The modules that torch.compile can take one by one."""
        blocks = [block for group in self.model.encoder.groups for block in group]
        return [self.model.backbone, *blocks, self.model.head, *self.patch_heads.values()]

    def forward(self, crops: Float[Tensor, "people 3 height width"]) -> SupervisedOutputs:
        """Normalized crops (batch, 3, height, width) -> what the losses need."""
        size = crops.shape[2], crops.shape[3]
        if size not in self.specs:
            raise ValueError(f"this network takes crops of {', '.join(map(str, self.specs))}; got {size}")
        features, spec = self.model.backbone(crops), self.specs[size]
        patches = []
        exits = TokenExits(self.model.spec)

        def watch(block: int, tokens: Tensor) -> None:
            if self.keeps_tokens:
                exits(block, tokens)
            if str(block) in self.patch_heads:
                patches.append(self.patch_heads[str(block)](tokens, spec.grid_size))

        keepers = [_Keeper(attention.scale, len(self.model.spec.skeleton)) for attention in self.guided]
        try:
            for attention, keeper in zip(self.guided, keepers, strict=True):
                attention.observer = keeper
            logits = self._read(features, spec, watch)
        finally:
            for attention in self.guided:
                attention.observer = None
        return SupervisedOutputs(
            logits=logits,
            grid=spec.grid_size,
            patches=torch.stack(patches) if patches else None,
            attention=_visual_attention(keepers) if keepers else None,
            tokens=exits.tokens if self.keeps_tokens else None,
        )

    def _read(self, features: Tensor, spec: ModelSpec, watch: Callable[[int, Tensor], None]) -> Heatmaps:
        if spec is self.model.spec:
            return self.model.read(features, watch)
        table = getattr(self, _table_name(spec.image_size), None)
        return read_at_size(
            self.model, features, spec, positions_of(self.model, spec) if table is None else table, watch
        )


class TokenExits:
    """Watches an encoder's blocks, and keeps the keypoint tokens that leave each group, which enter the head."""

    def __init__(self, spec: ModelSpec) -> None:
        self.depth, self.keypoints = spec.depth, len(spec.skeleton)
        self._exits: list[Tensor] = []

    def __call__(self, block: int, tokens: Tensor) -> None:
        """Take the tokens that leave a block, counted from 0 through all groups."""
        if (block + 1) % self.depth == 0:
            self._exits.append(tokens[:, : self.keypoints])

    @property
    def tokens(self) -> Float[Tensor, "people keypoints features"]:
        """Of all groups, concatenated as the head gets them."""
        return torch.cat(self._exits, dim=-1)


def _table_name(size: Size) -> str:
    return f"positions_{size[0]}x{size[1]}"


class _Keeper:
    """Keeps the softmax rows of an attention's keypoint queries. A closure that appends to a list would be recompiled
    for each length of the list."""

    def __init__(self, scale: float, keypoints: int) -> None:
        self.scale, self.keypoints = scale, keypoints
        self.rows: Tensor | None = None

    def __call__(self, query: Tensor, key: Tensor) -> None:
        self.rows = softmax_rows(query[:, :, : self.keypoints], key, self.scale)


class PatchHead(nn.Module):
    """Heatmap logits from the visual tokens: each gives the cells that its patch covers."""

    def __init__(self, model: TokenPose) -> None:
        super().__init__()
        grid, output = model.spec.grid_size, model.spec.output_size
        self.keypoints = len(model.spec.skeleton)
        self.cells = output[0] // grid[0], output[1] // grid[1]
        if (self.cells[0] * grid[0], self.cells[1] * grid[1]) != output:
            raise ValueError(
                f"heatmaps of {output} cells can't be read off {grid} patches, which would cover parts of cells; "
                "set patches=0"
            )
        self.norm = nn.LayerNorm(model.spec.width)
        self.linear = nn.Linear(model.spec.width, self.keypoints * self.cells[0] * self.cells[1])

    def forward(self, tokens: Float[Tensor, "people tokens width"], grid: Size) -> Heatmaps:
        """(batch, keypoints + visual, width) of a grid of visual tokens -> (batch, keypoints, rows, columns)."""
        cells = self.linear(self.norm(tokens[:, self.keypoints :]))
        rows, columns = grid
        height, width = self.cells
        return rearrange(cells, "b (r c) (k h w) -> b k (r h) (c w)", r=rows, c=columns, h=height, w=width)


def _visual_attention(keepers: Sequence[_Keeper]) -> Float[Tensor, "blocks people keypoints visual"]:
    rows = torch.stack([keeper.rows.mean(dim=1) for keeper in keepers if keeper.rows is not None])
    visual = rows[..., rows.shape[-2] :]  # keypoint tokens come first
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


def start_as_published(model: TokenPose) -> None:
    """Give a new model the published start: the convolutions of TokenPose-S's stem get weights of std 0.001.

    Everything else of a new model already starts as published (HRNet backbones from ImageNet weights).
    """
    if isinstance(model.backbone, StemBackbone):
        for module in model.backbone.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.001)
