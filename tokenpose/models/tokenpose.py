"""TokenPose: backbone, tokens, encoder, head."""

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tokenpose.models.backbones import make_backbone
from tokenpose.models.blocks import Encoder
from tokenpose.models.heads import HeatmapHead
from tokenpose.models.spec import ModelSpec
from tokenpose.models.tokens import Tokenizer

Heatmaps = Float[Tensor, "batch keypoints rows columns"]


class TokenPose(nn.Module):
    """Keypoint tokens and image patches through one Transformer; each keypoint token becomes a heatmap (ICCV 2021)."""

    spec: ModelSpec
    newly_initialised: tuple[str, ...]
    """Names of parameters that the weights did not bring; empty where all came from the file or none was read."""
    card: dict[str, Any]
    """Where the weights come from, by the file that they were read from; empty without one."""
    is_optimized: bool
    """Whether its parts were exchanged for inference, by `tokenpose.optimize`."""
    chunk: int | None
    """How many images of a batch go through at once on a CPU, None: all. Where memory is slow, few are faster."""

    def __init__(self, spec: ModelSpec, backbone_pretrained: bool = False) -> None:
        super().__init__()
        self.spec = spec
        self.newly_initialised = ()
        self.card = {}
        self.is_optimized = False
        self.chunk = None
        backbone: Any = make_backbone(spec, backbone_pretrained)
        self.backbone = backbone
        self.tokenizer = Tokenizer(spec, backbone.channels)
        self.encoder = Encoder(spec)
        self.head = HeatmapHead(spec)
        self.tokenizer.reset_parameters()
        for part in (self.encoder, self.head):
            part.apply(_initialise_linear)

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Heatmaps:
        """Normalised crops (batch, 3, height, width) -> heatmaps (batch, keypoints, rows, columns)."""
        return activate(self.logits(images), self.spec)

    def logits(self, images: Float[Tensor, "batch 3 height width"]) -> Heatmaps:
        """What the head puts out; the heatmaps themselves unless the spec has a heatmap activation."""
        if images.shape[-2:] != self.spec.image_size:
            raise ValueError(
                f"this model takes crops of (height, width) = {self.spec.image_size}; got {tuple(images.shape[-2:])}; "
                "crop with tokenpose.create_transform(model), or create the model with another image_size"
            )
        if self.chunk is not None and images.is_cpu and images.shape[0] > self.chunk:
            return torch.cat([self.read(self.backbone(some)) for some in images.split(self.chunk)])
        return self.read(self.backbone(images))

    def read(
        self,
        features: Float[Tensor, "batch channels height width"],
        watch: Callable[[int, Float[Tensor, "batch tokens width"]], None] | None = None,
    ) -> Heatmaps:
        """The head's outputs from the backbone's map: tokens, encoder, head. ``watch`` sees the tokens after blocks."""
        return self.head(self.encoder(self.tokenizer(features), self.tokenizer.block_positions, watch))


def activate(logits: Heatmaps, spec: ModelSpec) -> Heatmaps:
    """The head's outputs as heatmaps. For "softmax": the distribution over cells times 2 pi sigma^2, so that the target
    Gaussian itself would have a peak of 1."""
    if spec.heatmap_activation == "identity":
        return logits
    return logits.flatten(2).softmax(dim=-1).view_as(logits) * (2 * math.pi * spec.sigma**2)


def _initialise_linear(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
