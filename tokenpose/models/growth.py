"""Growth: a model with another trunk starts from a smaller trained one, whose visual tokens the new trunk learns."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tokenpose.files import shown
from tokenpose.models.attention import Attention
from tokenpose.models.carry_over import load_weights
from tokenpose.models.spec import ModelSpec
from tokenpose.models.tokenpose import TokenPose
from tokenpose.models.weights import KEYPOINT_TOKENS, Weights

logger = logging.getLogger(__name__)

_ENCODER = ("width", "heads", "mlp_ratio", "block")
"""Fields of the spec that say what a block's weights mean."""


def fit_smaller(smaller: TokenPose, spec: ModelSpec) -> TokenPose:
    """The smaller model with the keypoints and the sizes of a larger one's spec, in eval mode.

    Raises ValueError, with the field, if the larger model can't grow from it.
    """
    fitted = smaller.spec.replace(
        skeleton=spec.skeleton, image_size=spec.image_size, heatmap_size=spec.heatmap_size,
        head_hidden=smaller.spec.hidden_width if smaller.spec.head_layers == 2 else None,
    )  # fmt: skip
    differing = [
        f"{name} {shown(getattr(smaller.spec, name))} and not {shown(getattr(spec, name))}"
        for name in _ENCODER
        if getattr(smaller.spec, name) != getattr(spec, name)
    ]
    if differing:
        raise ValueError(f"the model can't grow from one with {', '.join(differing)}: their blocks don't fit")
    if fitted.grid_size != spec.grid_size:
        raise ValueError(
            f"the model has {spec.grid_size} visual tokens, down and across, and the one to grow from "
            f"{fitted.grid_size}: they must be the same; change patch_size"
        )
    model = TokenPose(fitted)
    load_weights(model, Weights(spec=smaller.spec, tensors=smaller.state_dict(), card=smaller.card))
    model.newly_initialized = tuple(name for name in model.newly_initialized if name.startswith(KEYPOINT_TOKENS))
    return model.eval()


def grow_from(model: TokenPose, smaller: TokenPose) -> None:
    """Copy into a new model what fits of a smaller one: encoder, tokens, head, and the part of the backbone that both
    have. ``model.newly_initialized`` then lists the rest.

    A model of more or fewer blocks gets the smaller one's at even distances, the first and the last among them. Query
    rows are rescaled where the two scale attention differently, so that the products agree.
    """
    fitted = fit_smaller(smaller, model.spec)
    given, expected = fitted.state_dict(), model.state_dict()
    sources = _match_blocks(fitted.spec, model.spec)
    found = {name: given.get(_rename(name, sources)) for name in expected}
    copied = {
        name: values for name, values in found.items() if values is not None and values.shape == expected[name].shape
    }
    with torch.no_grad():
        model.load_state_dict({**expected, **copied})
        for module in model.encoder.modules():
            if isinstance(module, Attention):
                module.qkv.weight[: model.spec.width] *= fitted.spec.softmax_scale / model.spec.softmax_scale
    new = [name for name in expected if name not in copied and not name.endswith("num_batches_tracked")]
    model.newly_initialized = (*fitted.newly_initialized, *new)
    model.card = smaller.card
    logger.info("grown: %d of %d tensors are copied; new: %s", len(copied), len(expected), ", ".join(_shorten(new)))


def shared_with(model: TokenPose, smaller: TokenPose) -> list[nn.Parameter]:
    """The parameters of the model's backbone that the smaller one's has, too."""
    known = {name: values.shape for name, values in smaller.backbone.named_parameters()}
    return [values for name, values in model.backbone.named_parameters() if known.get(name) == values.shape]


def has_new_trunk(model: TokenPose, smaller: TokenPose) -> bool:
    """Whether anything in the model's backbone or patch embedding doesn't come from the smaller one."""
    of_both = [each.tokenizer.patch_embedding.weight.shape for each in (model, smaller)]
    return len(shared_with(model, smaller)) < len(list(model.backbone.parameters())) or of_both[0] != of_both[1]


@dataclass(frozen=True, kw_only=True)
class GrowthOutputs:
    """What `Growing` returns."""

    visual: Float[Tensor, "people visual features"]


class Growing(nn.Module):
    """Wraps a model to train its trunk alone: it returns the visual tokens, without positions.

    Parameters that the ``smaller`` model's backbone has too, and all but the backbone and the patch embedding, don't
    learn. `release` lets everything learn again.
    """

    def __init__(self, model: TokenPose, smaller: TokenPose) -> None:
        super().__init__()
        self.model = model
        model.requires_grad_(False)
        model.backbone.requires_grad_(True)
        model.tokenizer.patch_embedding.requires_grad_(True)
        for values in shared_with(model, smaller):
            values.requires_grad_(False)

    @property
    def backbone(self) -> nn.Module:
        """The model's backbone."""
        return self.model.backbone

    def compilable(self) -> list[nn.Module]:
        """The modules that torch.compile can take one by one."""
        return [self.model.backbone]

    def release(self) -> None:
        """Let all parameters learn again."""
        self.model.requires_grad_(True)

    def forward(self, crops: Float[Tensor, "people 3 height width"]) -> GrowthOutputs:
        """Normalized crops of any size -> visual tokens."""
        return GrowthOutputs(visual=self.model.tokenizer.visual(self.model.backbone(crops)))


def _match_blocks(smaller: ModelSpec, larger: ModelSpec) -> dict[tuple[int, int], tuple[int, int]]:
    """For each block of the larger model, by group and place, the block of the smaller one that it starts from."""
    count, own = larger.groups * larger.depth, smaller.groups * smaller.depth
    chosen = [round(block * (own - 1) / max(1, count - 1)) for block in range(count)]
    return {divmod(block, larger.depth): divmod(source, smaller.depth) for block, source in enumerate(chosen)}


def _rename(name: str, sources: dict[tuple[int, int], tuple[int, int]]) -> str:
    """The name in the smaller model of a tensor of the larger one."""
    match = re.match(r"encoder\.groups\.(\d+)\.(\d+)\.", name)
    if match is None:
        return name
    group, block = sources[int(match[1]), int(match[2])]
    return f"encoder.groups.{group}.{block}.{name[match.end() :]}"


def _shorten(names: Sequence[str]) -> list[str]:
    """The modules of the names, two levels deep."""
    return list(dict.fromkeys(".".join(name.split(".")[:2]) for name in names)) or ["none"]
