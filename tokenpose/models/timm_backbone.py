"""timm's models as backbones: which feature map is taken, and which layers that map doesn't need."""

from dataclasses import dataclass, replace
from typing import Any

import timm
import torch
from torch import nn

from tokenpose.files import shown
from tokenpose.models.spec import ModelSpec
from tokenpose.shapes import Crops, Features


class TimmBackbone(nn.Module):
    """Any timm model that gives feature maps: its last map at the spec's stride.

    Layers that the map doesn't need are left out, or frozen where timm keeps them.
    """

    def __init__(self, spec: ModelSpec, pretrained: bool = False) -> None:
        super().__init__()
        found = _find_map(_timm_name(spec.backbone), spec.backbone_stride)
        try:
            found, unused = _leave_out_unused(found, spec.image_size)
        except Exception as error:  # timm raises many kinds, and asserts
            raise ValueError(
                f"{spec.backbone} can't read images of {spec.image_size} at stride {found.stride}: {_reason(error)}; "
                f"{_advice(found, spec.image_size)}"
            ) from error
        self.stride, self.channels = found.stride, found.channels
        self.network = from_timm(found.name, pretrained, **found.options(spec.image_size))
        for name, parameter in self.network.named_parameters():
            if name in unused:
                parameter.requires_grad_(False)  # distributed training would wait for its gradient

    def forward(self, images: Crops) -> Features:
        """(batch, 3, height, width) -> (batch, channels, height / stride, width / stride)."""
        return self.network(images)[0]


@dataclass(frozen=True, kw_only=True)
class _TimmMap:
    """The last map at a stride of a timm model, and how to get it from timm."""

    name: str
    stride: int
    strides: tuple[int, ...]  # of all maps that the model states
    channels: int
    index: int
    own_size: tuple[int, int]
    fixed_size: bool  # the model is built for one image size, and timm can build it for another
    getter: bool  # timm's other way to a map: it prunes and gives channels first, but renames parameters

    def options(self, image_size: tuple[int, int]) -> dict[str, Any]:
        """Arguments of `timm.create_model`."""
        size = {"img_size": image_size} if self.fixed_size else {}
        getter = {"feature_cls": "getter"} if self.getter else {}
        return {"features_only": True, "out_indices": (self.index,), **size, **getter}


def _find_map(name: str, stride: int) -> _TimmMap:
    """Raises ValueError where the model gives no feature maps, or none at the stride."""
    try:
        network = _without_data(name, features_only=True)
        info, config = network.feature_info, network.pretrained_cfg
        strides = tuple(info.reduction())
    except Exception as error:  # timm raises many kinds, and asserts
        raise ValueError(f"timm's {shown(name)} can't give feature maps: {_reason(error)}") from error
    if stride not in strides:
        raise ValueError(
            f"timm's {shown(name)} has no map at stride {stride}; backbone_stride may be one of {sorted(set(strides))}"
        )
    last = max(index for index, found in enumerate(strides) if found == stride)
    return _TimmMap(
        name=name,
        stride=stride,
        strides=strides,
        channels=info.channels()[last],
        index=info.out_indices[last],
        own_size=tuple(config["input_size"][1:]),
        fixed_size=config.get("fixed_input_size", False),
        getter=getattr(network, "output_fmt", "NCHW") != "NCHW",  # a few have none: EfficientNet, HRNet
    )


def _leave_out_unused(found: _TimmMap, image_size: tuple[int, int]) -> tuple[_TimmMap, set[str]]:
    """The way to the map that keeps the fewest unused parameters, and the names of these."""
    unused = _unused(found, image_size)
    if not unused:
        return found, unused
    pruned = replace(found, getter=True)
    try:
        still_unused = _unused(pruned, image_size)
    except Exception:  # timm's getter fails for some models, in many ways; the other way works
        return found, unused
    return (pruned, still_unused) if len(still_unused) < len(unused) else (found, unused)


def _unused(found: _TimmMap, image_size: tuple[int, int]) -> set[str]:
    """Names of parameters that don't change the map. Raises ValueError where the map isn't as timm states."""
    network = _without_data(found.name, **found.options(image_size))
    with torch.inference_mode(False), torch.enable_grad():
        features = network(torch.empty(1, 3, *image_size, device="meta"))[0]
        expected = (1, found.channels, image_size[0] // found.stride, image_size[1] // found.stride)
        if features.shape != expected:
            raise ValueError(f"its map is {tuple(features.shape[1:])} instead of {expected[1:]}")
        parameters = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
        gradients = torch.autograd.grad(features.sum(), list(parameters.values()), allow_unused=True)
    return {name for name, gradient in zip(parameters, gradients, strict=True) if gradient is None}


def _advice(found: _TimmMap, image_size: tuple[int, int]) -> str:
    """What size to use instead, if the model can read one of a few that are tried."""
    height, width = (-(-side // 32) * 32 for side in image_size)
    largest = -(-max(image_size) // 256) * 256
    for size in ((height, width), (max(image_size),) * 2, (largest, largest), found.own_size):
        if size == image_size or any(side % found.stride for side in size):
            continue
        try:
            _unused(found, size)
        except Exception:  # the model can't read this size either; timm raises many kinds
            continue
        return f"image_size={size} would do, with a patch_size that fits"
    return f"no other size that was tried would do; its strides are {sorted(set(found.strides))}"


def _timm_name(backbone: str) -> str:
    """The name without "timm/". Raises LookupError where timm's code has no such model or tag.

    A spec may come with a file from anywhere, so no name in it may make timm download or read a folder.
    """
    name = backbone.removeprefix("timm/")
    if ":" in name or "/" in name:
        raise LookupError(
            f"timm/ takes names that timm.list_models() lists, not locations to load from; got {shown(name)}"
        )
    architecture, _, tag = name.partition(".")
    if architecture not in timm.list_models():
        closest = ", ".join(timm.list_models(f"*{name.split('_')[0]}*")[:3]) or "timm.list_models() lists all"
        raise LookupError(f"timm has no model {shown(name)}; close: {closest}")
    tags = [full.partition(".")[2] for full in timm.list_models(f"{architecture}.*", include_tags=True)]
    if tag and tag not in tags:
        raise LookupError(
            f"timm's {shown(architecture)} has no weights {shown(tag)}; there are {', '.join(tags) or 'none'}"
        )
    return name


def _without_data(name: str, **options: Any) -> Any:
    """timm's model on the meta device, which takes little time and no memory."""
    with torch.inference_mode(False):
        try:
            with torch.device("meta"):
                network = timm.create_model(name, **options)
        except RuntimeError:  # before 1.0.31 many models read tensors while they are built
            with torch.device("cpu"):
                network = timm.create_model(name, **options).to("meta")
    return network.eval()


def from_timm(name: str, pretrained: bool, **options: Any) -> Any:
    """timm's model. Raises ValueError where timm has no weights for it, OSError where they can't be downloaded."""
    if not pretrained:
        return timm.create_model(name, **options)
    if not timm.is_model_pretrained(name):
        raise ValueError(f"timm has no weights for {shown(name)}; create the model without backbone_pretrained")
    try:
        return timm.create_model(name, pretrained=True, **options)
    except OSError as error:
        raise OSError(
            f"timm's weights for {shown(name)} are not in its cache and can't be downloaded: {_reason(error)}; "
            "connect to the network, or create the model without backbone_pretrained"
        ) from error


def _reason(error: BaseException) -> str:
    """An error's first sentence; some of timm's assertions have no message."""
    lines = str(error).strip().split(". ")[0].splitlines()
    return lines[0].rstrip(".") if lines else f"{type(error).__name__} without a message"
