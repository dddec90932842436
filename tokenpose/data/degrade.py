"""Degradation: crops as gray, compressed or small photographs would give them, in batches on their device."""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from tokenpose.shapes import Crops

LUMINANCE = (0.299, 0.587, 0.114)
"""Of red, green and blue (ITU-R BT.601), as JPEG and Pillow weigh them."""

# The example tables of the JPEG standard (ITU-T T.81, annex K), which encoders scale by their quality.
_LUMINANCE_STEPS = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55), (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62), (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip
_CHROMINANCE_STEPS = (
    (17, 18, 24, 47, 99, 99, 99, 99), (18, 21, 26, 66, 99, 99, 99, 99), (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99), *((99,) * 8,) * 4,
)  # fmt: skip


def turn_gray(crops: Crops, rows: Bool[Tensor, " people"]) -> Crops:
    """Give some of the crops three equal channels, their luminance."""
    gray = torch.einsum("c,pchw->phw", crops.new_tensor(LUMINANCE), crops).unsqueeze(1).expand_as(crops)
    return torch.where(rows.view(-1, 1, 1, 1), gray, crops)


def reduce_resolution(crops: Crops, factors: Float[Tensor, " people"]) -> Crops:
    """Reduce each crop by its factor, and enlarge it again; bilinear, with antialiasing. Factors up to 1 do nothing.

    Factors are rounded to quarters, and crops of one factor are resized together. ``factors`` are on the CPU.
    """
    crops = crops.clone()
    quarters: Int[Tensor, " people"] = (4 * factors).round().long()
    for quarter in quarters[quarters > 4].unique().tolist():
        rows = (quarters == quarter).nonzero().squeeze(1).to(crops.device, non_blocking=True)
        size = [max(1, round(4 * side / quarter)) for side in crops.shape[2:]]
        small = functional.interpolate(crops[rows], size=size, mode="bilinear", antialias=True)
        enlarged = functional.interpolate(small, size=crops.shape[2:], mode="bilinear")
        crops.index_copy_(0, rows, enlarged.to(crops.dtype))
    return crops


def compress(crops: Crops, qualities: Float[Tensor, " people"]) -> Crops:
    """Quantize crops (0..255) as a JPEG encoder of that quality (1 to 100) does; 0 leaves a crop unchanged.

    Chrominance has half the resolution (4:2:0). ``qualities`` are on the CPU.
    """
    chosen = qualities.nonzero().squeeze(1)
    if not len(chosen):
        return crops
    rows, qualities = chosen.to(crops.device, non_blocking=True), qualities[chosen].to(crops.device, non_blocking=True)
    height, width = crops.shape[2:]
    padding = (0, -width % 16, 0, -height % 16)
    luminance, blue, red = _to_ycc(functional.pad(crops[rows].float(), padding, mode="replicate")).unbind(dim=1)
    chrominance = functional.avg_pool2d(torch.stack((blue, red), dim=1), 2)
    luminance = _quantize(luminance.unsqueeze(1), _LUMINANCE_STEPS, qualities)
    chrominance = _quantize(chrominance, _CHROMINANCE_STEPS, qualities)
    chrominance = functional.interpolate(chrominance, scale_factor=2, mode="bilinear")
    decoded = _to_rgb(torch.cat((luminance, chrominance), dim=1)).round().clamp(0, 255)
    return crops.index_copy(0, rows, decoded[:, :, :height, :width].to(crops.dtype))


def _quantize(
    planes: Float[Tensor, "people planes height width"],
    steps: tuple[tuple[int, ...], ...],
    qualities: Float[Tensor, " people"],
) -> Float[Tensor, "people planes height width"]:
    """Round the cosine transforms of all blocks of 8 x 8 to the table's steps, scaled as libjpeg scales them."""
    scale = torch.where(qualities < 50, 5000 / qualities.clamp(min=1), 200 - 2 * qualities)
    table = ((planes.new_tensor(steps) * scale.view(-1, 1, 1) + 50) / 100).floor().clamp(1, 255)
    people, count, height, width = planes.shape
    blocks = (planes - 128).view(people, count, height // 8, 8, width // 8, 8).transpose(3, 4)
    waves = _cosines(planes)
    coefficients = waves @ blocks @ waves.T
    table = table.view(people, 1, 1, 1, 8, 8)
    rounded = (coefficients / table).round() * table
    return (waves.T @ rounded @ waves).transpose(3, 4).reshape(planes.shape) + 128


def _cosines(beside: Tensor) -> Float[Tensor, "8 8"]:
    """The orthonormal cosine transform of 8 values, a row for each frequency."""
    places = torch.arange(8, device=beside.device, dtype=beside.dtype)
    waves = torch.cos(math.pi / 8 * (places + 0.5) * places.unsqueeze(1)) / 2
    return torch.cat((waves[:1] / math.sqrt(2), waves[1:]))


def _to_ycc(pixels: Crops) -> Crops:
    """RGB (0..255) -> luminance, and blue and red differences around 128, as JFIF defines them."""
    luminance = torch.einsum("c,pchw->phw", pixels.new_tensor(LUMINANCE), pixels)
    blue = (pixels[:, 2] - luminance) / (2 * (1 - LUMINANCE[2])) + 128
    red = (pixels[:, 0] - luminance) / (2 * (1 - LUMINANCE[0])) + 128
    return torch.stack((luminance, blue, red), dim=1)


def _to_rgb(planes: Crops) -> Crops:
    """The inverse of `_to_ycc`."""
    luminance, blue, red = planes.unbind(dim=1)
    blue = luminance + 2 * (1 - LUMINANCE[2]) * (blue - 128)
    red = luminance + 2 * (1 - LUMINANCE[0]) * (red - 128)
    green = (luminance - LUMINANCE[0] * red - LUMINANCE[2] * blue) / LUMINANCE[1]
    return torch.stack((red, green, blue), dim=1)
