"""Small models with weights that do something, and how far their outputs differ."""

import torch
from torch import nn

from tokenpose.models.spec import ModelSpec
from tokenpose.models.tokenpose import TokenPose
from tokenpose.skeletons import Skeleton

SMALL = ModelSpec(
    backbone="stem", image_size=(64, 48), skeleton=Skeleton.from_count(5), width=48, heads=4, depth=3
)  # fmt: skip


def with_statistics(model: TokenPose) -> TokenPose:
    """Batch norms that do something, as if they had been trained; biases too."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2, generator=generator)
            module.running_var.uniform_(0.5, 2.0, generator=generator)
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0, 0.2, generator=generator)
        elif isinstance(module, nn.Linear) and module.bias is not None:
            module.bias.data.normal_(0, 0.2, generator=generator)
    return model


def make(spec: ModelSpec = SMALL) -> TokenPose:
    torch.manual_seed(0)
    return with_statistics(TokenPose(spec)).eval()


def difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """As a share of the largest value."""
    return ((found - expected).abs().max() / expected.abs().max()).item()


class Own(nn.Module):
    """A user's backbone; what it does with its convolutions is up to the kinds that tests derive from it."""

    channels, stride = 4, 1

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
