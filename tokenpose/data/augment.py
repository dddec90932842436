"""Augmentation: random crops and colors for a batch of people, on its device, from a generator that is passed in."""

from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from tokenpose.data.degrade import compress, reduce_resolution, turn_gray
from tokenpose.data.settings import Augmentation
from tokenpose.geometry.affine import crop_matrices, invert, resize_matrices, transform_points
from tokenpose.geometry.boxes import center_and_scale, grow_to_aspect
from tokenpose.geometry.crops import normalize
from tokenpose.geometry.encode import encode_gaussian
from tokenpose.geometry.flips import flip_order
from tokenpose.shapes import Boxes, CropFilter, Crops, Keypoints, Matrices, Scales, TargetWeights, Visible
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
    """1, or 0 if a keypoint is not labeled or lies far outside the heatmap; in between where its label has a score."""
    keypoints: Float[Tensor, "people keypoints 2"]
    """In heatmap cells."""


def check_skeleton(settings: Augmentation, skeleton: Skeleton) -> None:
    """Raise ValueError if mirroring or half bodies need something that the skeleton's names don't tell."""
    if settings.flip:
        flip_order(len(skeleton), skeleton.flip_pairs, skeleton.keypoints)
    if settings.half_body:
        skeleton.upper_body()


SIDES_CUT = torch.tensor([0.15, 0.25, 0.4])
"""Of people who are cut off, 15 % are on the left, 10 % at the top, 15 % on the right, and the others below."""
LEAST_KEPT, MOST_KEPT = 0.4, 0.9
"""Share of the box of a person who is cut off."""
FEWEST_LEFT = 3
"""People of whom fewer labeled keypoints would be left aren't cut off."""


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
    gray: Bool[Tensor, " people"]
    jpeg: Float[Tensor, " people"]
    """Quality; 0: none."""
    downscale: Float[Tensor, " people"]
    """Factor by which the resolution falls; 1: none."""
    shift: Float[Tensor, "people 2"]
    """Of the box's center, relative to the box's size."""
    resize: Float[Tensor, " people"]
    """Another factor of the box."""
    cut: Int[Tensor, " people"]
    """Side on which the photograph ends within the person: 0 left, 1 top, 2 right, 3 bottom; -1: none."""
    kept: Float[Tensor, " people"]
    """Share of the box that stays if it is cut."""

    def take(self, rows: slice) -> "Draws":
        """Some of the people."""
        return Draws(*(values[rows] for values in self))


def draw(settings: Augmentation, people: int, generator: torch.Generator) -> Draws:
    """Draw for each person, on the generator's device."""
    device = generator.device
    normal = torch.randn(3, people, generator=generator, device=device)
    uniform = torch.rand(8, people, generator=generator, device=device)
    more = torch.rand(11, people, generator=generator, device=device)
    rotation = (settings.rotation * normal[1]).clamp(-2 * settings.rotation, 2 * settings.rotation)
    return Draws(
        scale=(1 + settings.scale * normal[0]).clamp(1 - settings.scale, 1 + settings.scale),
        rotation=rotation * (uniform[0] < settings.rotation_probability),
        flip=uniform[1] < settings.flip,
        half_body=uniform[2] < settings.half_body,
        upper=normal[2] < 0.5,  # a normal draw, as published: 69 % prefer the upper half
        color=1 + settings.color * (2 * uniform[3:6].T - 1),
        blur=2 * uniform[6] * (uniform[7] < settings.blur),
        gray=more[0] < settings.gray,
        jpeg=(10 + 50 * more[1]) * (more[2] < settings.jpeg),
        downscale=1 + (0.5 + 2.5 * more[3]) * (more[4] < settings.downscale),
        shift=settings.box_jitter * (2 * more[5:7].T - 1),
        resize=1 + settings.box_jitter * (2 * more[7] - 1),
        cut=torch.where(more[8] < settings.cut_off, torch.bucketize(more[9], SIDES_CUT.to(device)), -1),
        kept=LEAST_KEPT + (MOST_KEPT - LEAST_KEPT) * more[10],
    )


class Placed(NamedTuple):
    """Where each person's crop lies, and what of the photograph and the labels it shows."""

    matrices: Matrices
    """Image -> crop."""
    visible: Visible
    """The labeled keypoints that are left."""
    edges: Float[Tensor, "people 4"] | None
    """x1, y1, x2, y2 in image pixels, beyond which the photograph ends; None: for nobody within the crop."""

    def to(self, device: torch.device) -> "Placed":
        """The same on a device, without waiting for it."""
        matrices, visible = (values.to(device, non_blocking=True) for values in (self.matrices, self.visible))
        edges = None if self.edges is None else self.edges.to(device, non_blocking=True)
        return Placed(matrices, visible, edges)


def place_people(
    boxes: Boxes,
    keypoints: Keypoints,
    visible: Visible,
    drawn: Draws,
    framing: Framing,
) -> Placed:
    """Place the crops of people with ``boxes`` (x, y, width, height): jittered, cut off, half bodies, scaled, rotated,
    mirrored. Image pixels."""
    edges = None
    if (drawn.cut >= 0).any():
        boxes, visible, edges = cut_off(boxes, keypoints, visible, drawn)
    center, scale = center_and_scale(boxes, framing.image_size, framing.box_padding)
    if (drawn.resize != 1).any():
        center = center + _beside(center, drawn.shift) * scale / framing.box_padding
        scale = scale * _beside(center, drawn.resize).unsqueeze(-1)
    if drawn.half_body.any():
        half_center, half_scale, enough = half_bodies(keypoints, visible, _beside(center, drawn.upper), framing)
        taken = (_beside(center, drawn.half_body & (drawn.cut < 0)) & enough).unsqueeze(-1)
        center, scale = torch.where(taken, half_center, center), torch.where(taken, half_scale, scale)
    return Placed(draw_matrices(center, scale, drawn, framing.image_size), visible, edges)


def cut_off(
    boxes: Boxes, keypoints: Keypoints, visible: Visible, drawn: Draws
) -> tuple[Boxes, Visible, Float[Tensor, "people 4"]]:
    """Boxes, labels and edges as if the photograph ended within the people who are cut off."""
    first, extent = boxes[:, :2], boxes[:, 2:]
    side, kept = _beside(boxes, drawn.cut), _beside(boxes, drawn.kept).unsqueeze(-1)
    inner = torch.cat((first + (1 - kept) * extent, first + kept * extent), dim=1)  # x1, y1, x2, y2, where it would end
    is_cut = side.unsqueeze(-1) == torch.arange(4, device=boxes.device)
    whole = boxes.new_tensor([-torch.inf, -torch.inf, torch.inf, torch.inf])
    edges = torch.where(is_cut, inner, whole)
    stays = ((keypoints >= edges[:, None, :2]) & (keypoints <= edges[:, None, 2:])).all(dim=-1) & visible
    enough = (stays.sum(dim=1) >= FEWEST_LEFT).unsqueeze(-1)
    edges = torch.where(enough, edges, whole)
    corner = torch.maximum(first, edges[:, :2])
    extent = torch.minimum(first + extent, edges[:, 2:]) - corner
    return torch.cat((corner, extent), dim=1), torch.where(enough, stays, visible), edges


def blacken(crops: Crops, placed: Placed) -> Crops:
    """Crops that are black beyond the edges of the photograph."""
    if placed.edges is None:
        return crops
    rows, columns = (torch.arange(side, device=crops.device, dtype=torch.float32) for side in crops.shape[2:])
    to_image = invert(placed.matrices)[..., None, None]  # people, 2, 3, 1, 1
    places = to_image[:, :, 0] * columns + to_image[:, :, 1] * rows.unsqueeze(1) + to_image[:, :, 2]
    first, last = placed.edges[:, :2, None, None], placed.edges[:, 2:, None, None]
    return crops * ((places >= first) & (places <= last)).all(dim=1, keepdim=True)


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


def weigh_keypoints(
    batch: Batch, weights: TargetWeights, mirrored: Bool[Tensor, " people"], skeleton: Skeleton
) -> Batch:
    """The batch with the weights of its labels, which change sides with the keypoints of mirrored people."""
    if mirrored.any():
        order = flip_order(len(skeleton), skeleton.flip_pairs, skeleton.keypoints)
        exchanged = weights[:, _beside(weights, torch.tensor(order))]
        weights = torch.where(_beside(weights, mirrored).view(-1, 1), exchanged, weights)
    return batch._replace(weights=batch.weights * weights)


def recolor(crops: Crops, drawn: Draws) -> Crops:
    """Crops (0..255) with the drawn colors, blur and degradations."""
    if (drawn.color != 1).any():
        crops = jitter_color(crops, _beside(crops, drawn.color))
    if drawn.blur.any():
        crops = blur(crops, drawn.blur)
    if (drawn.downscale > 1).any():
        crops = reduce_resolution(crops, drawn.downscale)
    if drawn.gray.any():
        crops = turn_gray(crops, _beside(crops, drawn.gray))
    return compress(crops, drawn.jpeg)


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
