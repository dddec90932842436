"""Backbones turn an image into a feature map. Each has ``channels`` and ``stride``."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import timm
import torch
from timm.models.resnet import Bottleneck
from torch import nn

from tokenpose.models.registry import Registry
from tokenpose.models.spec import ModelSpec
from tokenpose.shapes import Crops, Features

backbones: Registry[Callable[[ModelSpec], nn.Module]] = Registry("backbone")


def register_backbone(name: str) -> Callable[[Callable[[ModelSpec], nn.Module]], Callable[[ModelSpec], nn.Module]]:
    """Decorate a function or class that takes a ModelSpec and gives a backbone, so that ``backbone=name`` finds it.

    A backbone maps (batch, 3, height, width) to (batch, ``channels``, height / ``stride``, width / ``stride``) and has
    both as attributes. Raises ValueError where the name is taken.
    """
    return backbones.register(name)


def make_backbone(spec: ModelSpec, pretrained: bool = False) -> nn.Module:
    """The spec's backbone; ``pretrained`` loads timm's weights, if it is one of timm's.

    Raises LookupError for an unknown name, ValueError where its stride is not the spec's, it can't read images of the
    spec's size or it has no timm weights, OSError where these can't be downloaded.
    """
    if spec.backbone.startswith("timm/"):
        backbone: Any = TimmBackbone(spec, pretrained)
    elif pretrained and spec.backbone.startswith("hrnet"):
        backbone = HighResolutionBackbone(spec, pretrained=True)
    elif pretrained:
        raise ValueError(f"backbone {spec.backbone!r} has no pretrained weights; timm/... and hrnet_... may have")
    else:
        backbone = backbones.find(spec.backbone)(spec)
    if not isinstance(backbone, nn.Module) or not all(
        isinstance(getattr(backbone, name, None), int) for name in ("channels", "stride")
    ):
        raise TypeError(f"backbone {spec.backbone!r} must be a module with whole numbers as channels and stride")
    if backbone.stride != spec.backbone_stride:
        raise ValueError(
            f"backbone {spec.backbone!r} has stride {backbone.stride}, the spec says {spec.backbone_stride}; "
            f"set backbone_stride={backbone.stride} and a patch_size that fits"
        )
    multiple = max(backbone.stride, getattr(backbone, "multiple", 1))
    for side, pixels in zip(("height", "width"), spec.image_size, strict=True):
        if pixels % multiple:
            below = pixels - pixels % multiple
            raise ValueError(
                f"backbone {spec.backbone!r} needs an image {side} that is a multiple of {multiple}; got {pixels}: "
                f"use {below or multiple} or {below + multiple}, with a patch_size that fits"
            )
    return backbone


@register_backbone("pixels")
class PixelBackbone(nn.Module):
    """No backbone: the image itself, as in TokenPose-T."""

    channels, stride = 3, 1

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()

    def forward(self, images: Crops) -> Crops:
        """(batch, 3, height, width) -> the same."""
        return images


@register_backbone("stem")
class StemBackbone(nn.Module):
    """HRNet's stem, as in TokenPose-S: two convolutions of stride 2 and four bottlenecks; 256 channels at stride 4."""

    channels, stride = 256, 4

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.conv2 = nn.Conv2d(64, 64, kernel_size=3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        projection = nn.Sequential(nn.Conv2d(64, 256, kernel_size=1, bias=False), nn.BatchNorm2d(256))
        self.layer1 = nn.Sequential(Bottleneck(64, 64, downsample=projection), *(Bottleneck(256, 64) for _ in range(3)))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # as timm initializes HRNet
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Crops) -> Features:
        """(batch, 3, height, width) -> (batch, 256, height / 4, width / 4)."""
        features = torch.relu(self.bn1(self.conv1(images)))
        features = torch.relu(self.bn2(self.conv2(features)))
        return self.layer1(features)


class HighResolutionBackbone(nn.Module):
    """timm's HRNet up to the end of stage 3, its finest branch only; parameters keep timm's names."""

    stride, multiple = 4, 16  # its coarsest branch is added to the finest, four times as large

    def __init__(self, spec: ModelSpec, pretrained: bool = False) -> None:
        super().__init__()
        network = _from_timm(spec.backbone, pretrained, **({} if pretrained else {"head": "none"}))
        self.channels = network.stage3_cfg["num_channels"][0]
        self.conv1, self.bn1, self.conv2, self.bn2 = network.conv1, network.bn1, network.conv2, network.bn2
        self.layer1, self.transition1, self.stage2 = network.layer1, network.transition1, network.stage2
        self.transition2, self.stage3 = network.transition2, network.stage3
        self.stage3[-1].fuse_layers = self.stage3[-1].fuse_layers[:1]  # only the finest branch leaves

    def forward(self, images: Crops) -> Features:
        """(batch, 3, height, width) -> (batch, channels, height / 4, width / 4)."""
        features = torch.relu(self.bn1(self.conv1(images)))
        features = torch.relu(self.bn2(self.conv2(features)))
        features = self.layer1(features)
        branches = self.stage2([transition(features) for transition in self.transition1])
        finest, coarser, coarsest = self.transition2
        return self.stage3([finest(branches[0]), coarser(branches[1]), coarsest(branches[1])])[0]


backbones.add("hrnet_w32", HighResolutionBackbone)
backbones.add("hrnet_w48", HighResolutionBackbone)


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
        self.network = _from_timm(found.name, pretrained, **found.options(spec.image_size))
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
        raise ValueError(f"timm's {name!r} can't give feature maps: {_reason(error)}") from error
    if stride not in strides:
        raise ValueError(
            f"timm's {name!r} has no map at stride {stride}; backbone_stride may be one of {sorted(set(strides))}"
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
        raise LookupError(f"timm/ takes names that timm.list_models() lists, not locations to load from; got {name!r}")
    architecture, _, tag = name.partition(".")
    if architecture not in timm.list_models():
        closest = ", ".join(timm.list_models(f"*{name.split('_')[0]}*")[:3]) or "timm.list_models() lists all"
        raise LookupError(f"timm has no model {name!r}; close: {closest}")
    tags = [full.partition(".")[2] for full in timm.list_models(f"{architecture}.*", include_tags=True)]
    if tag and tag not in tags:
        raise LookupError(f"timm's {architecture!r} has no weights {tag!r}; there are {', '.join(tags) or 'none'}")
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


def _from_timm(name: str, pretrained: bool, **options: Any) -> Any:
    """timm's model. Raises ValueError where timm has no weights for it, OSError where they can't be downloaded."""
    if not pretrained:
        return timm.create_model(name, **options)
    if not timm.is_model_pretrained(name):
        raise ValueError(f"timm has no weights for {name!r}; create the model without backbone_pretrained")
    try:
        return timm.create_model(name, pretrained=True, **options)
    except OSError as error:
        raise OSError(
            f"timm's weights for {name!r} are not in its cache and can't be downloaded: {_reason(error)}; "
            "connect to the network, or create the model without backbone_pretrained"
        ) from error


def _reason(error: BaseException) -> str:
    """An error's first sentence; some of timm's assertions have no message."""
    lines = str(error).strip().split(". ")[0].splitlines()
    return lines[0].rstrip(".") if lines else f"{type(error).__name__} without a message"
