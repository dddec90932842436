"""Augmentation: random crops and colors for a batch of people, on its device, from a generator that is passed in."""

from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from tokenpose.data.settings import Augmentation
from tokenpose.geometry.affine import crop_matrices, resize_matrices, transform_points
from tokenpose.geometry.boxes import grow_to_aspect
from tokenpose.geometry.crops import normalize
from tokenpose.geometry.encode import encode_gaussian
from tokenpose.geometry.flips import flip_order
from tokenpose.shapes import CropFilter, Crops, Keypoints, Matrices, Scales, Visible
from tokenpose.skeletons import Skeleton


@runtime_checkable
class Framing(Protocol):
    """The part of a model's spec that the data needs."""

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
    @property
    def crop_filter(self) -> CropFilter: ...


class Batch(NamedTuple):
    """The input of the network and its targets."""

    crops: Float[Tensor, "people 3 height width"]
    """Normalized."""
    heatmaps: Float[Tensor, "people keypoints rows columns"]
    weights: Float[Tensor, "people keypoints"]
    """1, or 0 if a keypoint is not labeled or lies far outside the heatmap."""
    keypoints: Float[Tensor, "people keypoints 2"]
    """In heatmap cells."""


def check_skeleton(settings: Augmentation, skeleton: Skeleton) -> None:
    """Raise ValueError if mirroring or half bodies need something that the skeleton's names don't tell."""
    if settings.flip:
        flip_order(len(skeleton), skeleton.flip_pairs, skeleton.keypoints)
    if settings.half_body:
        skeleton.upper_body()


class Draws(NamedTuple):
    """The random draws for each person. All are always made, so that turning one on doesn't change the others.

    The draws stay on the generator's device until they are needed on the people's: checking whether there is anything
    to do then doesn't wait for a GPU.
    """

    scale: Float[Tensor, " people"]
    """Factor of the box."""
    rotation: Float[Tensor, " people"]
    """Degrees."""
    flip: Bool[Tensor, " people"]
    half_body: Bool[Tensor, " people"]
    """Whether only half of the person is shown, if enough keypoints are labeled."""
    upper: Bool[Tensor, " people"]
    """Whether the upper half is preferred."""
    color: Float[Tensor, "people 3"]
    """Factors of saturation, contrast and brightness."""
    blur: Float[Tensor, " people"]
    """Standard deviation in crop pixels; 0: none."""

    def take(self, rows: slice) -> "Draws":
        """Some of the people."""
        return Draws(*(values[rows] for values in self))


def draw(settings: Augmentation, people: int, generator: torch.Generator) -> Draws:
    """Draw for each person, on the generator's device."""
    device = generator.device
    normal = torch.randn(3, people, generator=generator, device=device)
    uniform = torch.rand(8, people, generator=generator, device=device)
    rotation = (settings.rotation * normal[1]).clamp(-2 * settings.rotation, 2 * settings.rotation)
    return Draws(
        scale=(1 + settings.scale * normal[0]).clamp(1 - settings.scale, 1 + settings.scale),
        rotation=rotation * (uniform[0] < settings.rotation_probability),
        flip=uniform[1] < settings.flip,
        half_body=uniform[2] < settings.half_body,
        upper=normal[2] < 0.5,  # a normal draw, as published: 69 % prefer the upper half
        color=1 + settings.color * (2 * uniform[3:6].T - 1),
        blur=2 * uniform[6] * (uniform[7] < settings.blur),
    )


def draw_frames(
    center: Scales, scale: Scales, keypoints: Keypoints, visible: Visible, drawn: Draws, framing: Framing
) -> tuple[Scales, Scales]:
    """Center and scale of each crop before scaling and rotation, from the padded box or a half body. Image pixels."""
    if not drawn.half_body.any():
        return center, scale
    half_center, half_scale, enough = half_bodies(keypoints, visible, _beside(center, drawn.upper), framing)
    taken = (_beside(center, drawn.half_body) & enough).unsqueeze(-1)
    return torch.where(taken, half_center, center), torch.where(taken, half_scale, scale)


def half_bodies(
    keypoints: Keypoints, visible: Visible, prefers_upper: Bool[Tensor, " people"], framing: Framing
) -> tuple[Scales, Scales, Bool[Tensor, " people"]]:
    """Center and scale of each person's upper or lower half, as published, and whether enough keypoints are labeled.

    The preferred half is used if more than 2 of its keypoints are labeled, otherwise the other half. More than 8
    keypoints of the person must be labeled. Center: the mean of the half's keypoints. Scale: their extent + 1, grown to
    the crop's aspect, times 1.5.
    """
    upper_body = _beside(keypoints, torch.tensor(framing.skeleton.upper_body()))
    upper, lower = visible & upper_body, visible & ~upper_body
    takes_upper = torch.where(prefers_upper & (upper.sum(dim=1) > 2), True, lower.sum(dim=1) <= 2)
    half = torch.where(takes_upper.unsqueeze(-1), upper, lower)
    count = half.sum(dim=1)
    shown = half.unsqueeze(-1)
    center = (keypoints * shown).sum(dim=1) / count.clamp(min=1).unsqueeze(-1)
    extent = torch.where(shown, keypoints, -torch.inf).amax(dim=1) - torch.where(shown, keypoints, torch.inf).amin(
        dim=1
    )
    enough = (visible.sum(dim=1) > 8) & (count >= 2)
    extent = torch.where(enough.unsqueeze(-1), extent, 1.0)
    return center, grow_to_aspect(extent + 1, framing.image_size) * 1.5, enough


def draw_matrices(center: Scales, scale: Scales, drawn: Draws, crop_size: tuple[int, int]) -> Matrices:
    """Matrices from image to crop, scaled, rotated and mirrored as drawn."""
    zoom, rotation, flip = (_beside(center, values) for values in (drawn.scale, drawn.rotation, drawn.flip))
    matrices = crop_matrices(center, scale * zoom.unsqueeze(-1), crop_size, rotation)
    mirrored = matrices.clone()
    mirrored[:, 0] = -mirrored[:, 0]  # x becomes width - 1 - x
    mirrored[:, 0, 2] += crop_size[1] - 1
    return torch.where(flip.view(-1, 1, 1), mirrored, matrices)


def make_batch(
    crops: Float[Tensor, "people 3 height width"],
    matrices: Matrices,
    keypoints: Keypoints,
    visible: Visible,
    mirrored: Bool[Tensor, " people"],
    framing: Framing,
) -> Batch:
    """Normalized crops and their targets. ``keypoints`` in image pixels, ``matrices`` from image to crop."""
    to_heatmap = resize_matrices(matrices, framing.image_size, framing.output_size)
    keypoints = transform_points(keypoints, to_heatmap)
    keypoints, visible = _exchange(keypoints, visible, mirrored, framing.skeleton)
    heatmaps, weights = encode_gaussian(keypoints, visible, framing.output_size, framing.sigma)
    return Batch(normalize(crops, framing.mean, framing.std), heatmaps, weights, keypoints)


def recolor(crops: Crops, drawn: Draws) -> Crops:
    """Crops (0..255) with the drawn colors and blur."""
    if (drawn.color != 1).any():
        crops = jitter_color(crops, _beside(crops, drawn.color))
    if drawn.blur.any():
        crops = blur(crops, drawn.blur)
    return crops


def jitter_color(crops: Crops, factors: Float[Tensor, "people 3"]) -> Crops:
    """Multiply saturation, contrast and brightness of crops (0..255) by their factors."""
    saturation, contrast, brightness = factors.view(-1, 3, 1, 1, 1).unbind(dim=1)
    gray = crops.mean(dim=1, keepdim=True)
    crops = gray + (crops - gray) * saturation
    mean = crops.mean(dim=(1, 2, 3), keepdim=True)
    return ((mean + (crops - mean) * contrast) * brightness).clamp(0, 255)


def blur(crops: Crops, deviations: Float[Tensor, " people"], reach: int = 5) -> Crops:
    """Blur each crop with its own Gaussian, cut off at ``reach`` pixels. Deviation 0 leaves the crop unchanged."""
    rows = deviations.nonzero().squeeze(1)
    rows, deviations = _beside(crops, rows), _beside(crops, deviations[rows])
    offsets = torch.arange(-reach, reach + 1, device=crops.device, dtype=crops.dtype)
    kernels = torch.exp(-(offsets**2) / (2 * deviations.clamp(min=0.1).unsqueeze(-1) ** 2))
    kernels = (kernels / kernels.sum(dim=1, keepdim=True)).repeat_interleave(3, dim=0)
    planes = functional.pad(crops[rows].flatten(0, 1), (reach,) * 4, mode="replicate").unsqueeze(0)
    for shape in ((-1, 1, 1, 2 * reach + 1), (-1, 1, 2 * reach + 1, 1)):
        planes = functional.conv2d(planes, kernels.view(shape), groups=len(kernels))
    return crops.index_copy(0, rows, planes.view(len(rows), 3, *crops.shape[2:]).to(crops.dtype))


def _exchange(
    keypoints: Keypoints, visible: Visible, mirrored: Bool[Tensor, " people"], skeleton: Skeleton
) -> tuple[Keypoints, Visible]:
    """Exchange left and right keypoints of mirrored people."""
    if not mirrored.any():
        return keypoints, visible
    order = _beside(keypoints, torch.tensor(flip_order(len(skeleton), skeleton.flip_pairs, skeleton.keypoints)))
    mirrored = _beside(keypoints, mirrored)
    exchanged = torch.where(mirrored.view(-1, 1, 1), keypoints[:, order], keypoints)
    return exchanged, torch.where(mirrored.view(-1, 1), visible[:, order], visible)


def _beside(other: Tensor, values: Tensor) -> Tensor:
    """Values on the device of another tensor, without waiting for a GPU."""
    return values.to(other.device, non_blocking=True)
