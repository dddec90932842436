"""Chunks: how an optimized copy takes a batch through the model, on a CPU a few images at a time."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tokenpose.models.tokenpose import TokenPose


@dataclass(frozen=True)
class ChunkRunner:
    """Runs an optimized copy. Where memory is slow, a few images at a time are faster than all at once."""

    chunk: int | None = None
    """How many images go through at once on a CPU; None: all."""

    def __call__(self, model: TokenPose, images: Tensor) -> Tensor:
        """(batch, 3, height, width) -> the head's outputs, (batch, keypoints, rows, columns)."""
        if self.chunk is None or not images.is_cpu or images.shape[0] <= self.chunk:
            return model.run(images)
        return torch.cat([model.run(some) for some in images.split(self.chunk)])
