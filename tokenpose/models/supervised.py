"""A TokenPose as training sees it: its outputs, and what helps it to learn."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tokenpose.models.attention import record_attention
from tokenpose.models.tokenpose import TokenPose

Maps = Float[Tensor, "batch keypoints rows columns"]


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What one training pass gives; ``auxiliary`` and ``attention`` where asked for."""

    logits: Maps
    auxiliary: Maps | None = None
    attention: Float[Tensor, "blocks batch keypoints visual"] | None = None
    """Each keypoint's attention over the visual tokens, mean over heads, as a distribution."""


class Supervised(nn.Module):
    """Wraps a model for training: a convolutional head on the backbone's map and the attention of some blocks beside
    the outputs. Only the model itself is kept after training."""

    def __init__(self, model: TokenPose, auxiliary: bool = False, guided_blocks: Sequence[int] = ()) -> None:
        super().__init__()
        self.model = model
        self.guided_blocks = tuple(guided_blocks)
        self.auxiliary = AuxiliaryHead(model) if auxiliary else None

    def forward(self, crops: Float[Tensor, "batch 3 height width"]) -> Predictions:
        """Normalised crops -> what the losses need."""
        features = self.model.backbone(crops)
        auxiliary = self.auxiliary(features) if self.auxiliary is not None else None
        if not self.guided_blocks:
            return Predictions(logits=self.model.read(features), auxiliary=auxiliary)
        with record_attention(self.model, self.guided_blocks) as recording:
            logits = self.model.read(features)
        keypoints = logits.shape[1]
        visual = [rows.mean(dim=1)[..., keypoints:] for rows in recording.rows]
        attention = torch.stack([rows / rows.sum(dim=-1, keepdim=True) for rows in visual])
        return Predictions(logits=logits, auxiliary=auxiliary, attention=attention)


class AuxiliaryHead(nn.Sequential):
    """Heatmap logits straight from the backbone's map, resampled to the heatmap's size."""

    def __init__(self, model: TokenPose, hidden: int = 64) -> None:
        channels: int = model.backbone.channels
        super().__init__(
            nn.Conv2d(channels, hidden, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, len(model.spec.skeleton), kernel_size=1),
            nn.Upsample(size=model.spec.output_size, mode="bilinear", align_corners=True),
        )
