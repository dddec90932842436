"""Augmentation: random maps and colours for a batch of people, on its device, from a generator that is passed in."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor


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


def jitter_color(
    crops: Float[Tensor, "people 3 height width"], strength: float, generator: torch.Generator
) -> Float[Tensor, "people 3 height width"]:
    """Brightness, contrast and saturation of crops (0..255), each by a factor within ``strength`` of 1."""
    factors = 1 + strength * (2 * torch.rand(3, len(crops), 1, 1, 1, generator=generator, device=crops.device) - 1)
    grey = crops.mean(dim=1, keepdim=True)
    crops = grey + (crops - grey) * factors[0]
    mean = crops.mean(dim=(1, 2, 3), keepdim=True)
    return ((mean + (crops - mean) * factors[1]) * factors[2]).clamp(0, 255)
