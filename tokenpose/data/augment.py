"""Augmentation: random maps and colours for a batch of people, on its device, from a generator that is passed in."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tokenpose.geometry.affine import crop_matrices, resize_matrices, transform_points
from tokenpose.geometry.crops import normalise
from tokenpose.geometry.encode import encode_gaussian
from tokenpose.geometry.flips import flip_order
from tokenpose.skeletons import Skeleton

Points = Float[Tensor, "people 2"]
Matrices = Float[Tensor, "people 2 3"]
Keypoints = Float[Tensor, "people keypoints 2"]
Visible = Bool[Tensor, "people keypoints"]


@runtime_checkable
class Framing(Protocol):
    """What of a model's spec the data needs."""

    @property
    def image_size(self) -> tuple[int, int]: ...
    @property
    def output_size(self) -> tuple[int, int]: ...
    @property
    def skeleton(self) -> Skeleton: ...
    @property
    def sigma(self) -> float: ...
    @property
    def box_padding(self) -> float: ...
    @property
    def mean(self) -> tuple[float, float, float]: ...
    @property
    def std(self) -> tuple[float, float, float]: ...


class Batch(NamedTuple):
    """What the network sees and should say."""

    crops: Float[Tensor, "people 3 height width"]
    """Normalised."""
    heatmaps: Float[Tensor, "people keypoints rows columns"]
    weights: Float[Tensor, "people keypoints"]
    """1, or 0 where a keypoint is not labelled or lies far outside the heatmap."""
    keypoints: Float[Tensor, "people keypoints 2"]
    """Heatmap cells."""


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How far a person is turned, zoomed and recoloured; the published values for COCO (MPII: scale 0.25, rotation 30),
    whose half-body crops are not made here.

    ``scale``: the box is multiplied by 1 + scale x n, clipped to [1 - scale, 1 + scale], n a standard normal draw.
    ``rotation``: n times that many degrees, clipped to twice as many, with ``rotation_probability``.
    ``flip``: probability of mirroring. ``color``: brightness, contrast and saturation are each multiplied by a uniform
    draw from [1 - color, 1 + color] (0 as published).
    """

    scale: float = 0.35
    rotation: float = 45.0
    rotation_probability: float = 0.6
    flip: float = 0.5
    color: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.scale < 1 or not 0 <= self.color < 1:
            raise ValueError(f"scale and color must be in [0, 1); got {self.scale} and {self.color}")
        if not 0 <= self.rotation <= 180:
            raise ValueError(f"rotation must be in 0..180 degrees; got {self.rotation}")
        if not (0 <= self.rotation_probability <= 1 and 0 <= self.flip <= 1):
            raise ValueError(f"probabilities must be in 0..1; got {self.rotation_probability} and {self.flip}")


class Draws(NamedTuple):
    """What was drawn for each person: box factor, degrees, whether mirrored."""

    scale: Float[Tensor, " people"]
    rotation: Float[Tensor, " people"]
    flip: Bool[Tensor, " people"]


def draw(settings: Augmentation, people: int, generator: torch.Generator) -> Draws:
    """Draw for each person."""
    device = generator.device
    normal = torch.randn(2, people, generator=generator, device=device)
    uniform = torch.rand(2, people, generator=generator, device=device)
    scale = (1 + settings.scale * normal[0]).clamp(1 - settings.scale, 1 + settings.scale)
    rotation = (settings.rotation * normal[1]).clamp(-2 * settings.rotation, 2 * settings.rotation)
    return Draws(scale, rotation * (uniform[0] < settings.rotation_probability), uniform[1] < settings.flip)


def draw_matrices(center: Points, scale: Points, drawn: Draws, crop_size: tuple[int, int]) -> Matrices:
    """Image -> crop, zoomed, turned and mirrored as drawn."""
    matrices = crop_matrices(center, scale * drawn.scale.unsqueeze(-1), crop_size, drawn.rotation)
    mirrored = matrices.clone()
    mirrored[:, 0] = -mirrored[:, 0]  # x becomes width - 1 - x
    mirrored[:, 0, 2] += crop_size[1] - 1
    return torch.where(drawn.flip.view(-1, 1, 1), mirrored, matrices)


def make_batch(
    crops: Float[Tensor, "people 3 height width"],
    matrices: Matrices,
    keypoints: Keypoints,
    visible: Visible,
    mirrored: Bool[Tensor, " people"],
    framing: Framing,
) -> Batch:
    """Normalised crops and their targets. ``keypoints`` in image pixels, ``matrices`` image -> crop."""
    to_heatmap = resize_matrices(matrices, framing.image_size, framing.output_size)
    keypoints = transform_points(keypoints, to_heatmap)
    keypoints, visible = _exchange(keypoints, visible, mirrored, framing.skeleton)
    heatmaps, weights = encode_gaussian(keypoints, visible, framing.output_size, framing.sigma)
    return Batch(normalise(crops, framing.mean, framing.std), heatmaps, weights, keypoints)


def jitter_color(
    crops: Float[Tensor, "people 3 height width"], strength: float, generator: torch.Generator
) -> Float[Tensor, "people 3 height width"]:
    """Brightness, contrast and saturation of crops (0..255), each by a factor within ``strength`` of 1."""
    factors = 1 + strength * (2 * torch.rand(3, len(crops), 1, 1, 1, generator=generator, device=crops.device) - 1)
    grey = crops.mean(dim=1, keepdim=True)
    crops = grey + (crops - grey) * factors[0]
    mean = crops.mean(dim=(1, 2, 3), keepdim=True)
    return ((mean + (crops - mean) * factors[1]) * factors[2]).clamp(0, 255)


def _exchange(
    keypoints: Keypoints, visible: Visible, mirrored: Bool[Tensor, " people"], skeleton: Skeleton
) -> tuple[Keypoints, Visible]:
    """Exchange left and right of those who were mirrored."""
    if not mirrored.any():
        return keypoints, visible
    order = flip_order(len(skeleton), skeleton.flip_pairs)
    exchanged = torch.where(mirrored.view(-1, 1, 1), keypoints[:, order], keypoints)
    return exchanged, torch.where(mirrored.view(-1, 1), visible[:, order], visible)
