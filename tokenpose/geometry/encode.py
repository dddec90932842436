"""Encoding: keypoints become the heatmaps that a network learns to predict."""

import torch

from tokenpose.shapes import Heatmaps, Keypoints, TargetWeights, Visible


def encode_gaussian(
    keypoints: Keypoints,
    visible: Visible,
    heatmap_size: tuple[int, int],
    sigma: float,
) -> tuple[Heatmaps, TargetWeights]:
    """Gaussians with peak 1, not cut off, at real-valued positions in heatmap cells; and weights, 0 or 1.

    A keypoint that isn't visible, or whose 3-sigma box misses the map, has weight 0 and an empty map.
    """
    height, width = heatmap_size
    x, y = keypoints.unbind(dim=-1)
    reach = 3 * sigma
    inside = (x - reach < width) & (x + reach + 1 > -1) & (y - reach < height) & (y + reach + 1 > -1)
    weights = (visible & inside).to(keypoints.dtype)
    columns = torch.arange(width, dtype=keypoints.dtype, device=keypoints.device)
    rows = torch.arange(height, dtype=keypoints.dtype, device=keypoints.device)
    across = torch.exp(-((columns - x.unsqueeze(-1)) ** 2) / (2 * sigma**2))
    down = torch.exp(-((rows - y.unsqueeze(-1)) ** 2) / (2 * sigma**2))
    heatmaps = down.unsqueeze(-1) * across.unsqueeze(-2)
    return torch.where(weights[..., None, None] > 0, heatmaps, 0.0), weights
