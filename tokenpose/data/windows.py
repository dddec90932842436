"""Windows: of each person, the part of the photograph that training crops can show."""

import logging
import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import Dataset

from tokenpose.data.augment import LEAST_KEPT, MOST_KEPT, Framing, half_bodies
from tokenpose.data.combine import read_image_of
from tokenpose.data.samples import Samples
from tokenpose.data.settings import Augmentation, Cache
from tokenpose.data.sources import Source
from tokenpose.geometry.averaging import crop_images_averaged
from tokenpose.geometry.boxes import center_and_scale
from tokenpose.geometry.crops import crop_images
from tokenpose.geometry.reduction import align, crop_levels, from_reduced, reduce_image
from tokenpose.shapes import CropFilter, Crops, Matrices

logger = logging.getLogger(__name__)

Window = UInt8[Tensor, "3 _ _"]

LARGE = 1024
"""Padded boxes longer than this many pixels are reduced to it, as far as no crop needs their pixels."""

_PEOPLE_TO_MEASURE = 64
_PIXELS_AT_ONCE = {"cpu": 1_000_000, "other": 16_000_000}
"""Of padded windows, which need 12 bytes a pixel: what a CPU's caches hold, and few calls for a GPU."""


class WindowDataset(Dataset[tuple[Tensor, int]]):
    """A window around each person, wide enough for every zoom, turn and half body: (uint8 (3, height, width), index).

    A window is cut out of the photograph and not resampled, so that a crop is sampled once. Only where even the most
    magnified crop reduces the photograph to half or less, the window is averaged in squares of 2, 4, ... pixels a side:
    for the crop filter "area", which does the same, and for padded boxes longer than `LARGE`.

    ``framing``: of the crops, or several that differ in the size of crops alone, the first of them for whatever else.
    ``cache``: "ram" keeps the windows of all people in memory, "device" on ``device``, from `load` or the first access
    on; "none" decodes them each time, with the same result.
    """

    def __init__(
        self,
        samples: Samples,
        source: Source,
        framing: Framing | Sequence[Framing],
        augmentation: Augmentation,
        cache: Cache = "ram",
        device: torch.device | str = "cpu",
    ) -> None:
        self.samples, self.source = samples, source
        self.framings = (framing,) if isinstance(framing, Framing) else tuple(framing)
        self.first, self.last, self.factors = self._frame(augmentation)
        self.cache, self.device = cache, device

    def _frame(self, augmentation: Augmentation) -> tuple[Tensor, Tensor, list[int]]:
        """First and last + 1 column and row (people, 2) of each window in its photograph, and how far it is reduced."""
        framing = self.framings[0]
        center, scale = _frames(self.samples, framing, augmentation)
        shift = augmentation.box_jitter * scale / framing.box_padding
        grown, shrunk = ((1 + sign * augmentation.scale) * (1 + sign * augmentation.box_jitter) for sign in (1, -1))
        height, width = framing.image_size
        covered = (scale[..., 0] - 1) / (width - 1)  # image pixels a crop pixel: (people, frames)
        sides = (math.hypot(width, height),) * 2 if augmentation.rotation else (width, height)
        reach = covered.unsqueeze(-1) * grown * torch.tensor(sides) / 2 + shift
        widths = [framing.image_size[1] for framing in self.framings]
        least = covered.amin(dim=1) * shrunk * (width - 1) / (max(widths) - 1)
        most = covered.amax(dim=1) * grown * (width - 1) / (min(widths) - 1)
        factors = 2 ** least.clamp(min=1).log2().floor()
        if framing.crop_filter == "area":  # which averages squares that begin at the photograph's first pixel
            multiples = 2 ** most.clamp(min=1).log2().ceil()
        else:
            needed = 2 ** (scale[:, 0].amax(dim=1) / LARGE).clamp(min=1).log2().ceil()
            multiples = factors = torch.minimum(factors, needed)
        first, last = align((center - reach).amin(dim=1), (center + reach).amax(dim=1), multiples.unsqueeze(-1))
        return first, last, [int(factor) for factor in factors]

    @property
    def matrices(self) -> Matrices:
        """Window -> photograph."""
        matrix = torch.zeros(1, 2, 3)
        corners = zip(self.factors, self.first.tolist(), strict=True)
        return torch.cat([from_reduced(factor, matrix, left, top) for factor, (left, top) in corners])

    @cached_property
    def windows(self) -> list[Tensor] | None:
        """The windows of all people; None if they aren't kept. Raises ValueError if they don't fit into memory."""
        if self.cache == "none":
            return None
        self._check_memory()
        return self._decode_all()

    def load(self) -> None:
        """Decode the windows of all people now, if they are kept. Raises what `decode` and `windows` raise."""
        _ = self.windows

    def _check_memory(self) -> None:
        """Raise ValueError if the windows, by the size of a few, are larger than the machine's memory."""
        some = range(0, len(self), max(1, len(self) // _PEOPLE_TO_MEASURE))
        needed = len(self) * sum(self.decode(index).numel() for index in some) / max(1, len(some))
        logger.info("decoding %d people: about %.2f GB", len(self), needed / 1e9)
        if needed > _memory():
            raise ValueError(
                f"the decoded windows of {len(self)} people take {needed / 1e9:.0f} GB, and this machine has "
                f'{_memory() / 1e9:.0f}: use cache "none", with workers that decode ahead'
            )

    def _decode_all(self) -> list[Tensor]:
        """The windows of all people, decoded by one thread per core."""
        device = self.device if self.cache == "device" else "cpu"
        with ThreadPoolExecutor(usable_cores()) as pool:
            try:
                return [window.to(device) for window in pool.map(self.decode, range(len(self)))]
            finally:
                pool.shutdown(cancel_futures=True)

    def decode(self, index: int) -> Window:
        """Read a photograph and cut out one person's window. Raises OSError that names the file and the annotation."""
        try:
            image = read_image_of(self.source, self.samples, int(self.samples.image_index[index]))
        except OSError as error:
            raise type(error)(f"{error} ({self.samples.name_of(index)})") from error
        (left, top), (right, bottom) = self.first[index].tolist(), self.last[index].tolist()
        part, factor = image[:, top:bottom, left:right], self.factors[index]
        if factor > 1:
            part = reduce_image(part, factor).round().to(torch.uint8)
        return part.clone(memory_format=torch.contiguous_format)  # not a view, which would keep the photograph

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return (self.decode(index) if self.windows is None else self.windows[index]), index


def _frames(samples: Samples, framing: Framing, augmentation: Augmentation) -> tuple[Tensor, Tensor]:
    """Centers and scales (people, frames, 2) of the outermost frames that a person's crop can have, before it is scaled
    and shifted: the box, both halves of the body, and the most and the least that is cut off on each side."""
    boxes = torch.from_numpy(samples.boxes)
    centers, scales = ([values] for values in center_and_scale(boxes, framing.image_size, framing.box_padding))
    keypoints, visible = torch.from_numpy(samples.keypoints), torch.from_numpy(samples.visible)
    for upper in (True, False) if augmentation.half_body else ():
        half_center, half_scale, enough = half_bodies(keypoints, visible, torch.full((len(samples),), upper), framing)
        centers.append(torch.where(enough.unsqueeze(-1), half_center, centers[0]))
        scales.append(torch.where(enough.unsqueeze(-1), half_scale, scales[0]))
    for kept in (LEAST_KEPT, MOST_KEPT) if augmentation.cut_off else ():
        for side in range(4):
            cut = boxes.clone()
            cut[:, 2 + side % 2] *= kept
            if side < 2:  # on the left and at the top the far edge stays
                cut[:, side] += (1 - kept) * boxes[:, 2 + side]
            center, scale = center_and_scale(cut, framing.image_size, framing.box_padding)
            centers.append(center)
            scales.append(scale)
    return torch.stack(centers, dim=1), torch.stack(scales, dim=1)


def crop_windows(
    windows: Sequence[Tensor],
    matrices: Matrices,
    crop_size: tuple[int, int],
    crop_filter: CropFilter,
    device: torch.device,
) -> Crops:
    """A crop of each window, on the device. ``matrices``: window -> crop, on the CPU."""
    crops = torch.empty(len(windows), 3, *crop_size, device=device)
    for rows in _parts(windows, _PIXELS_AT_ONCE["cpu" if device.type == "cpu" else "other"]):
        padded = _pad([windows[row].to(device, non_blocking=True) for row in rows])
        to_crop = matrices[rows].to(device, non_blocking=True)
        if crop_filter == "area":
            cropped = crop_images_averaged(padded, to_crop, crop_size, crop_levels(matrices[rows]))
        else:
            cropped = crop_images(padded, to_crop, crop_size)
        crops.index_copy_(0, torch.tensor(rows).to(device, non_blocking=True), cropped)
    return crops


def _parts(windows: Sequence[Tensor], most_pixels: int) -> Iterator[list[int]]:
    """Rows of windows of similar size that have at most so many pixels once they are padded, or of a single one."""
    part: list[int] = []
    height = width = 0
    for row in sorted(range(len(windows)), key=lambda row: windows[row].numel()):
        height, width = max(height, windows[row].shape[1]), max(width, windows[row].shape[2])
        if part and (len(part) + 1) * height * width > most_pixels:
            yield part
            part, (height, width) = [], windows[row].shape[1:]
        part.append(row)
    yield part


def _pad(windows: Sequence[Tensor]) -> UInt8[Tensor, "people 3 height width"]:
    """Windows as one tensor, black to the right and below, as beyond the photograph."""
    height, width = (max(1, *(window.shape[axis] for window in windows)) for axis in (1, 2))
    padded = windows[0].new_zeros(len(windows), 3, height, width)
    for row, window in zip(padded, windows, strict=True):
        row[:, : window.shape[1], : window.shape[2]] = window
    return padded


def usable_cores() -> int:
    """Cores that this process may use."""
    affinity: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _memory() -> float:
    """Bytes of memory of the whole machine; infinite if the system doesn't say."""
    names = getattr(os, "sysconf_names", {})
    if not {"SC_PAGE_SIZE", "SC_PHYS_PAGES"} <= set(names):
        return math.inf
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
