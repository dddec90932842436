import pytest
import torch

from tokenpose.models.spec import ModelSpec
from tokenpose.models.tokenpose import TokenPose
from tokenpose.skeletons import Skeleton

TINY = ModelSpec(
    backbone="pixels", backbone_stride=1, image_size=(64, 48), patch_size=(16, 12), skeleton=Skeleton.from_count(5),
    width=48, heads=4, depth=3,
)  # fmt: skip


@pytest.fixture
def tiny() -> ModelSpec:
    """A model of milliseconds: 5 keypoints, 4 x 4 visual tokens, heatmaps of 16 x 12."""
    return TINY


@pytest.fixture
def build():
    """Make a model of a spec whose outputs are far from constant: seeded, in eval mode."""

    def make(spec: ModelSpec, seed: int = 0) -> TokenPose:
        torch.manual_seed(seed)
        model = TokenPose(spec).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if not name.startswith("backbone"):  # as published, 0.02 would leave heatmaps near 0
                    spread = 0.3 if parameter.ndim == 1 else parameter.shape[-1] ** -0.5
                    parameter.add_(torch.randn_like(parameter), alpha=spread)
        return model

    return make
