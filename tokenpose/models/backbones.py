"""Backbones turn an image into a feature map. Each has ``channels`` and ``stride``."""

from collections.abc import Callable
from typing import Any

import torch
from timm.models.resnet import Bottleneck
from torch import nn

from tokenpose.files import shown
from tokenpose.models.registry import Registry
from tokenpose.models.spec import ModelSpec
from tokenpose.models.timm_backbone import TimmBackbone, from_timm
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
        raise ValueError(f"backbone {shown(spec.backbone)} has no pretrained weights; timm/... and hrnet_... may have")
    else:
        backbone = backbones.find(spec.backbone)(spec)
    if not isinstance(backbone, nn.Module) or not all(
        isinstance(getattr(backbone, name, None), int) for name in ("channels", "stride")
    ):
        raise TypeError(f"backbone {shown(spec.backbone)} must be a module with whole numbers as channels and stride")
    if backbone.stride != spec.backbone_stride:
        raise ValueError(
            f"backbone {shown(spec.backbone)} has stride {backbone.stride}, the spec says {spec.backbone_stride}; "
            f"set backbone_stride={backbone.stride} and a patch_size that fits"
        )
    multiple = max(backbone.stride, getattr(backbone, "multiple", 1))
    for side, pixels in zip(("height", "width"), spec.image_size, strict=True):
        if pixels % multiple:
            below = pixels - pixels % multiple
            raise ValueError(
                f"backbone {shown(spec.backbone)} needs an image {side} that is a multiple of {multiple}; got "
                f"{pixels}: use {below or multiple} or {below + multiple}, with a patch_size that fits"
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
        network = from_timm(spec.backbone, pretrained, **({} if pretrained else {"head": "none"}))
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
