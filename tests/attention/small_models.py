"""A small model, the image and the box that its attention is shown for."""

import torch

from tokenpose.models.create import create_model
from tokenpose.models.tokenpose import TokenPose

BOX = [5.0, 10.0, 65.0, 90.0]
HEIGHT, WIDTH = 100, 80
GRID = (4, 4)


def make(name: str = "tokenpose_t.lsp_256x192", **changes) -> TokenPose:
    """A small model from random weights whose outputs are far from constant."""
    torch.manual_seed(0)
    model = create_model(name, **{"image_size": (64, 48), "depth": 2, "heads": 4, "head_hidden": 24, **changes})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model
