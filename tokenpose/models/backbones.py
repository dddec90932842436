"""Backbones: an image becomes a map of features. Each has ``channels`` and ``stride``."""

import copy
from collections.abc import Callable
from typing import Any

import timm
import torch
from jaxtyping import Float
from timm.models.resnet import Bottleneck
from torch import Tensor, nn

from tokenpose.models.registry import Registry
from tokenpose.models.spec import ModelSpec

Images = Float[Tensor, "batch 3 height width"]
Features = Float[Tensor, "batch channels rows columns"]

backbones: Registry[Callable[[ModelSpec], nn.Module]] = Registry("backbone")


def register_backbone(name: str) -> Callable[[Callable[[ModelSpec], nn.Module]], Callable[[ModelSpec], nn.Module]]:
    """Decorate a function or class that takes a ModelSpec and gives a backbone, so that ``backbone=name`` finds it.

    A backbone maps (batch, 3, height, width) to (batch, ``channels``, height / ``stride``, width / ``stride``) and has
    both as attributes. Raises ValueError where the name is taken.
    """
    return backbones.register(name)


def make_backbone(spec: ModelSpec, pretrained: bool = False) -> nn.Module:
    """The spec's backbone; ``pretrained`` starts it from timm's weights, where it is one of timm's.

    Raises LookupError for an unknown name, ValueError where its stride is not the spec's or it has no timm weights.
    """
    if spec.backbone.startswith("timm/"):
        backbone: Any = TimmBackbone(spec, pretrained)
    elif pretrained and spec.backbone.startswith("hrnet"):
        backbone = HighResolutionBackbone(spec, pretrained=True)
    elif pretrained:
        raise ValueError(f"backbone {spec.backbone!r} has no pretrained weights; timm/... and hrnet_... may have")
    else:
        backbone = backbones.find(spec.backbone)(spec)
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

    def forward(self, images: Images) -> Images:
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
            if isinstance(module, nn.Conv2d):  # as timm starts HRNet
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Images) -> Features:
        """(batch, 3, height, width) -> (batch, 256, height / 4, width / 4)."""
        features = torch.relu(self.bn1(self.conv1(images)))
        features = torch.relu(self.bn2(self.conv2(features)))
        return self.layer1(features)


class HighResolutionBackbone(nn.Module):
    """timm's HRNet up to the end of stage 3, its finest branch only; parameters keep timm's names."""

    stride, multiple = 4, 16  # its coarsest branch is added to the finest, four times as large

    def __init__(self, spec: ModelSpec, pretrained: bool = False) -> None:
        super().__init__()
        if pretrained:
            network: Any = timm.create_model(spec.backbone, pretrained=True)
        else:
            network = timm.create_model(spec.backbone, head="none")
        self.channels = network.stage3_cfg["num_channels"][0]
        self.conv1, self.bn1, self.conv2, self.bn2 = network.conv1, network.bn1, network.conv2, network.bn2
        self.layer1, self.transition1, self.stage2 = network.layer1, network.transition1, network.stage2
        self.transition2, self.stage3 = network.transition2, network.stage3
        self.stage3[-1].fuse_layers = self.stage3[-1].fuse_layers[:1]  # only the finest branch leaves

    def forward(self, images: Images) -> Features:
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
    """Any timm model that gives features: its last map at the spec's stride."""

    def __init__(self, spec: ModelSpec, pretrained: bool = False) -> None:
        super().__init__()
        name = spec.backbone.removeprefix("timm/")
        if name not in timm.list_models(name) and name.split(".")[0] not in timm.list_models(name.split(".")[0]):
            closest = ", ".join(timm.list_models(f"*{name.split('_')[0]}*")[:3]) or "timm.list_models() lists all"
            raise LookupError(f"timm has no model {name!r}; close: {closest}")
        try:
            network: Any = timm.create_model(name, features_only=True)
            info = network.feature_info.get_dicts(keys=["num_chs", "reduction"])
        except (RuntimeError, AttributeError, TypeError, AssertionError) as error:
            raise ValueError(f"timm's {name!r} can't give feature maps: {error}") from error
        fitting = [index for index, entry in enumerate(info) if entry["reduction"] == spec.backbone_stride]
        if not fitting:
            strides = sorted({entry["reduction"] for entry in info})
            raise ValueError(
                f"timm's {name!r} has no map at stride {spec.backbone_stride}; backbone_stride may be one of {strides}"
            )
        self.stride, self.channels = spec.backbone_stride, info[fitting[-1]]["num_chs"]
        self.network = timm.create_model(name, features_only=True, out_indices=(fitting[-1],), pretrained=pretrained)
        self._check_map(spec)

    def _check_map(self, spec: ModelSpec) -> None:
        """Run a copy without data: some models take one image size only, some give maps with channels last."""
        expected = (1, self.channels, spec.image_size[0] // self.stride, spec.image_size[1] // self.stride)
        try:
            probe = copy.deepcopy(self).to("meta")
            found = tuple(probe(torch.empty(1, 3, *spec.image_size, device="meta")).shape)
        except (AssertionError, RuntimeError) as error:
            raise ValueError(f"{spec.backbone} can't read images of {spec.image_size}: {error}") from error
        if found != expected:
            raise ValueError(
                f"{spec.backbone} gives maps of {found} for images of {spec.image_size}; expected {expected}"
            )

    def forward(self, images: Images) -> Features:
        """(batch, 3, height, width) -> (batch, channels, height / stride, width / stride)."""
        return self.network(images)[0]
