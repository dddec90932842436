"""TokenPose: backbone, tokens, encoder, head."""

import math
from collections.abc import Callable
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from tokenpose.models.backbones import make_backbone
from tokenpose.models.blocks import Encoder
from tokenpose.models.calibration import Calibration, ScoreMap
from tokenpose.models.heads import HeatmapHead
from tokenpose.models.spec import ModelSpec
from tokenpose.models.tokens import Tokenizer
from tokenpose.shapes import Heatmaps


class TokenPose(nn.Module):
    """Keypoint tokens and image patches through one Transformer; each keypoint token becomes a heatmap (ICCV 2021)."""

    spec: ModelSpec
    newly_initialized: tuple[str, ...]
    """Names of the parameters that the loaded weights don't have; empty if they have all, or if none were loaded."""
    card: dict[str, Any]
    """Where the weights come from, as their file says; empty without a file."""
    calibration: Calibration | None
    """What makes scores probabilities (`tokenpose.calibrate`); None: scores are the peaks of heatmaps. Set it to None
    after you have trained the model in a loop of your own."""
    runner: Callable[["TokenPose", Tensor], Tensor] | None
    """Takes (model, images) to the head's outputs in place of `run`, which it calls once or more, each time with some
    of the images, in order. None, except in the copies that `tokenpose.optimize` makes."""

    def __init__(self, spec: ModelSpec, backbone_pretrained: bool = False) -> None:
        super().__init__()
        self.spec = spec
        self.newly_initialized = ()
        self.card = {}
        self.calibration = None
        self.runner = None
        backbone: Any = make_backbone(spec, backbone_pretrained)
        self.backbone = backbone
        self.tokenizer = Tokenizer(spec, backbone.channels)
        self.encoder = Encoder(spec)
        self.head = HeatmapHead(spec)
        self.tokenizer.reset_parameters()
        for part in (self.encoder, self.head):
            part.apply(_initialize_linear)

    def forward(self, images: Float[Tensor, "people 3 height width"]) -> Heatmaps:
        """Normalized crops (batch, 3, height, width) -> heatmaps (batch, keypoints, rows, columns)."""
        return activate(self.logits(images), self.spec)

    def logits(self, images: Float[Tensor, "people 3 height width"]) -> Heatmaps:
        """The head's outputs: the heatmaps themselves unless the spec has a heatmap activation."""
        if images.shape[-2:] != self.spec.image_size:
            raise ValueError(
                f"this model takes crops of (height, width) = {self.spec.image_size}; got {tuple(images.shape[-2:])}; "
                "crop with tokenpose.create_transform(model), or create the model with another image_size"
            )
        return self.run(images) if self.runner is None else self.runner(self, images)

    def run(self, images: Float[Tensor, "people 3 height width"]) -> Heatmaps:
        """One pass through the parts: the head's outputs for all images at once."""
        return self.read(self.backbone(images))

    def read(
        self,
        features: Float[Tensor, "people channels height width"],
        watch: Callable[[int, Float[Tensor, "people tokens width"]], None] | None = None,
    ) -> Heatmaps:
        """The head's outputs from the backbone's map: tokens, encoder, head. ``watch`` is called after
        each block, with its number and the tokens."""
        return self.head(self.encoder(self.tokenizer(features), self.tokenizer.block_positions, watch))


def find_score_map(model: TokenPose, flip_test: bool = False) -> ScoreMap | None:
    """What turns the peaks of this model's heatmaps into probabilities; None if it isn't calibrated for its size."""
    if model.calibration is None:
        return None
    return model.calibration.find(model.spec.image_size, flip_test)


def activate(logits: Heatmaps, spec: ModelSpec) -> Heatmaps:
    """The head's outputs as heatmaps. For "softmax": the distribution over cells times 2 pi sigma^2, so that the target
    Gaussian itself would have a peak of 1."""
    if spec.heatmap_activation == "identity":
        return logits
    return logits.flatten(2).softmax(dim=-1).view_as(logits) * (2 * math.pi * spec.sigma**2)


def _initialize_linear(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
