"""Batches: decoded windows of people -> augmented crops and targets, batched on the device."""

import logging
import math
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Int, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from tokenpose.data.augment import Augmentation, Batch, Framing, draw, draw_matrices, jitter_color, make_batch
from tokenpose.data.samples import Samples
from tokenpose.data.sources import Source
from tokenpose.geometry.affine import compose, crop_matrices, invert
from tokenpose.geometry.boxes import center_and_scale
from tokenpose.geometry.crops import crop_image, crop_images
from tokenpose.geometry.flips import flip_order

logger = logging.getLogger(__name__)


class WindowDataset(Dataset[tuple[Tensor, int]]):
    """A decoded square window around each person, wide enough for every zoom and turn: (uint8 (3, side, side), index).

    ``cache``: keep the windows of all people in memory once decoded (side x side x 3 bytes each).
    """

    def __init__(
        self, samples: Samples, source: Source, framing: Framing, augmentation: Augmentation, cache: bool = True
    ) -> None:
        self.samples, self.source = samples, source
        reach = (
            math.hypot(*framing.image_size) * (1 + augmentation.scale)
            if augmentation.rotation
            else (max(framing.image_size) * (1 + augmentation.scale))
        )
        self.side = math.ceil(reach) + 2
        center, scale = center_and_scale(torch.from_numpy(samples.boxes), framing.image_size, framing.box_padding)
        to_crop = crop_matrices(center, scale, framing.image_size)
        self.center, self.scale = center, scale
        self.matrices = _shift_center(to_crop, framing.image_size, self.side)
        self._cache: UInt8[Tensor, "people 3 side side"] | None = None
        if cache:
            logger.info("decoding %d people: %.2f GB", len(samples), len(samples) * 3 * self.side**2 / 1e9)
            self._cache = torch.empty(len(samples), 3, self.side, self.side, dtype=torch.uint8)
            for index in range(len(samples)):
                self._cache[index] = self.decode(index)

    def decode(self, index: int) -> UInt8[Tensor, "3 side side"]:
        """Read and sample one person's window. Raises OSError that names the file."""
        image = self.source.read(self.samples.file_of(index))
        window = crop_image(image, self.matrices[index : index + 1], (self.side, self.side))[0]
        return window.round().to(torch.uint8)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return (self.decode(index) if self._cache is None else self._cache[index]), index


class ShuffledBatches(Sampler[list[int]]):
    """Batches of a permutation that follows from seed and epoch; ``start`` leaves out batches that were done before."""

    def __init__(self, count: int, batch_size: int, seed: int, epoch: int, start: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        order = torch.randperm(count, generator=generator).tolist()
        whole = max(1, count // batch_size)
        self.batches = [order[index * batch_size : (index + 1) * batch_size] for index in range(start, whole)]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)


class TrainingBatches:
    """Epochs of augmented batches on a device; the same for a seed whatever the number of workers.

    ``batch_count`` batches an epoch: whole ones only, the rest of a permutation waits for another epoch.
    """

    def __init__(
        self,
        dataset: WindowDataset,
        framing: Framing,
        augmentation: Augmentation,
        *,
        batch_size: int,
        seed: int,
        device: torch.device | str = "cpu",
        workers: int = 0,
    ) -> None:
        if augmentation.flip:
            flip_order(
                len(framing.skeleton), framing.skeleton.flip_pairs
            )  # refuses unknown pairs before the first epoch
        self.dataset, self.framing, self.augmentation = dataset, framing, augmentation
        self.batch_size, self.seed, self.device, self.workers = batch_size, seed, torch.device(device), workers
        self.batch_count = max(1, len(dataset) // batch_size)
        self.keypoints = torch.from_numpy(dataset.samples.keypoints)
        self.visible = torch.from_numpy(dataset.samples.visible)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The epoch's batches from ``start`` on."""
        order = ShuffledBatches(len(self.dataset), self.batch_size, self.seed, epoch, start)
        loader: Any = DataLoader(self.dataset, batch_sampler=order, num_workers=self.workers)
        generator = torch.Generator(self.device)
        for number, (windows, index) in enumerate(loader, start):
            generator.manual_seed((self.seed * 1_000_003 + epoch) * 1_000_003 + number)
            yield self._make(windows.to(self.device), index, generator)

    def _make(
        self, windows: UInt8[Tensor, "people 3 side side"], index: Int[Tensor, " people"], generator: torch.Generator
    ) -> Batch:
        drawn = draw(self.augmentation, len(index), generator)
        center, scale = self.dataset.center[index].to(self.device), self.dataset.scale[index].to(self.device)
        to_crop = draw_matrices(center, scale, drawn, self.framing.image_size)
        from_window = compose(to_crop, invert(self.dataset.matrices[index].to(self.device)))
        crops = crop_images(windows, from_window, self.framing.image_size)
        if self.augmentation.color:
            crops = jitter_color(crops, self.augmentation.color, generator)
        keypoints, visible = self.keypoints[index].to(self.device), self.visible[index].to(self.device)
        return make_batch(crops, to_crop, keypoints, visible, drawn.flip, self.framing)


def _shift_center(matrices: Tensor, crop_size: tuple[int, int], side: int) -> Tensor:
    """Image -> crop becomes image -> square window of the same resolution around the same center."""
    shift = matrices.new_tensor([(side - crop_size[1]) / 2, (side - crop_size[0]) / 2])
    return torch.cat((matrices[..., :2], (matrices[..., 2] + shift).unsqueeze(-1)), dim=-1)
