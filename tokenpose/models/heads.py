"""The head: each keypoint token becomes one heatmap. Shared by all keypoints."""

from jaxtyping import Float
from torch import Tensor, nn

from tokenpose.models.spec import ModelSpec


class HeatmapHead(nn.Sequential):
    """LayerNorm and one linear layer, or two with a LayerNorm between and no activation; cells row-major."""

    def __init__(self, spec: ModelSpec) -> None:
        features, cells = spec.groups * spec.width, spec.output_size[0] * spec.output_size[1]
        layers: list[nn.Module] = [nn.LayerNorm(features, eps=1e-5)]
        if spec.head_layers == 2:
            layers += [nn.Linear(features, spec.hidden_width), nn.LayerNorm(spec.hidden_width, eps=1e-5)]
            features = spec.hidden_width
        layers += [nn.Linear(features, cells), nn.Unflatten(-1, spec.output_size)]
        super().__init__(*layers)

    def forward(
        self, tokens: Float[Tensor, "people keypoints features"]
    ) -> Float[Tensor, "people keypoints height width"]:
        """(batch, keypoints, groups x width) -> (batch, keypoints, height, width)."""
        return super().forward(tokens)
