"""A plain rewrite of the published computation, as a baseline for the library's speed.

Batch norms are not fused, attention computes the whole matrix of tokens by tokens, every row in every block, and numpy
decodes heatmaps person by person and keypoint by keypoint. It uses a model's weights, so that outputs are comparable.
"""

import math
from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn


class Published(nn.Module):
    """Compute a TokenPose model's heatmaps from its weights as the published code does."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model, self.spec = model, model.spec

    def forward(self, images: Tensor) -> Tensor:
        """Normalized crops (batch, 3, height, width) -> heatmaps (batch, keypoints, rows, columns)."""
        spec, tokenizer = self.spec, self.model.tokenizer
        height, width = spec.patch_size
        features = self.model.backbone(images)
        patches = rearrange(features, "b c (h p1) (w p2) -> b (h w) (p1 p2 c)", p1=height, p2=width)
        keypoints = len(spec.skeleton)
        positions = tokenizer.positions[:, keypoints:]
        tokens = torch.cat(
            (tokenizer.keypoint_tokens.repeat(len(images), 1, 1), tokenizer.patch_embedding(patches) + positions), dim=1
        )
        exits = []
        for group in self.model.encoder.groups:
            for index, block in enumerate(group):
                if index:
                    tokens[:, keypoints:] += positions
                tokens = tokens + self.attend(block.attention, block.attention_norm(tokens))
                tokens = tokens + block.mlp(block.mlp_norm(tokens))
            exits.append(tokens[:, :keypoints].clone())
        return self.model.head(torch.cat(exits, dim=2))

    def attend(self, attention: Any, tokens: Tensor) -> Tensor:
        query, key, value = (
            rearrange(part, "b n (h d) -> b h n d", h=attention.heads)
            for part in attention.qkv(tokens).chunk(3, dim=-1)
        )
        products = torch.einsum("bhid,bhjd->bhij", query, key) * attention.scale
        attended = torch.einsum("bhij,bhjd->bhid", products.softmax(dim=-1), value)
        return attention.output(rearrange(attended, "b h n d -> b n (h d)"))


def decode_dark(heatmaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(people, keypoints, rows, columns) -> (people, keypoints, 2) in heatmap cells, and the peaks."""
    people, keypoints, rows, columns = heatmaps.shape
    flat = heatmaps.reshape(people, keypoints, -1)
    place, scores = flat.argmax(axis=2), flat.max(axis=2)
    found = np.stack((place % columns, place // columns), axis=-1).astype(np.float32)
    found[scores <= 0] = 0
    down, across = _blur_matrix(rows), _blur_matrix(columns)
    for person in range(people):
        for keypoint in range(keypoints):
            heatmap = heatmaps[person, keypoint]
            peak = heatmap.max()
            blurred = down @ heatmap @ across.T
            blurred *= peak / blurred.max() if blurred.max() > 0 else 1.0
            logarithm = np.log(np.maximum(blurred, 1e-10))
            if scores[person, keypoint] > 0:
                found[person, keypoint] = _newton_step(logarithm, found[person, keypoint])
    return found, scores


def _newton_step(h: np.ndarray, point: np.ndarray) -> np.ndarray:
    x, y = int(point[0]), int(point[1])
    rows, columns = h.shape
    if not (1 < x < columns - 2 and 1 < y < rows - 2):
        return point
    gradient = np.array([(h[y, x + 1] - h[y, x - 1]) / 2, (h[y + 1, x] - h[y - 1, x]) / 2])
    dxx = (h[y, x + 2] - 2 * h[y, x] + h[y, x - 2]) / 4
    dyy = (h[y + 2, x] - 2 * h[y, x] + h[y - 2, x]) / 4
    dxy = (h[y + 1, x + 1] - h[y - 1, x + 1] - h[y + 1, x - 1] + h[y - 1, x - 1]) / 4
    if dxx * dyy - dxy**2 == 0:
        return point
    return point - np.linalg.inv(np.array([[dxx, dxy], [dxy, dyy]])) @ gradient


def _blur_matrix(size: int) -> np.ndarray:
    kernel = [math.exp(-((cell - 5) ** 2) / 8) for cell in range(11)]
    matrix = np.zeros((size, size), dtype=np.float32)
    for row in range(size):
        for cell, weight in enumerate(kernel):
            if 0 <= row + cell - 5 < size:
                matrix[row, row + cell - 5] = weight / sum(kernel)
    return matrix


def count_operations(model: Any, crop: Tensor) -> int:
    """Floating-point operations of a pass; a multiplication and an addition are two."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(crop)
    return counter.get_total_flops()
