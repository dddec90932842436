"""Batches: decoded windows of people -> augmented crops and targets, batched on the device."""

import logging
import math
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Int, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from tokenpose.data.augment import (
    Batch,
    Draws,
    Framing,
    check_skeleton,
    draw,
    draw_frames,
    draw_matrices,
    make_batch,
    recolor,
)
from tokenpose.data.combine import read_image_of
from tokenpose.data.samples import Samples
from tokenpose.data.settings import Augmentation, Cache
from tokenpose.data.sources import Source
from tokenpose.geometry.affine import compose, crop_matrices, invert
from tokenpose.geometry.boxes import center_and_scale
from tokenpose.geometry.crops import crop_image, crop_images

logger = logging.getLogger(__name__)

Windows = UInt8[Tensor, "people 3 side side"]


class WindowDataset(Dataset[tuple[Tensor, int]]):
    """A decoded square window around each person, wide enough for every zoom and turn: (uint8 (3, side, side), index).

    A window has the crop's resolution, or a quarter more with half bodies, which are magnified. ``cache``: "ram" keeps
    the decoded windows of all people in memory, "device" on ``device`` (side x side x 3 bytes each), from `load` or the
    first access on; "none" decodes them each time, with the same result. Raises ValueError if they don't fit into
    memory.
    """

    def __init__(
        self,
        samples: Samples,
        source: Source,
        framing: Framing,
        augmentation: Augmentation,
        cache: Cache = "ram",
        device: torch.device | str = "cpu",
    ) -> None:
        self.samples, self.source, self.crop_filter = samples, source, framing.crop_filter
        self.center, self.scale = center_and_scale(
            torch.from_numpy(samples.boxes), framing.image_size, framing.box_padding
        )
        self.side, self.matrices = _frame_windows(self.center, self.scale, framing, augmentation)
        self.cache, self.device = cache, device
        self.bytes = len(samples) * 3 * self.side**2
        if cache != "none" and self.bytes > _memory():
            raise ValueError(
                f"the decoded windows of {len(samples)} people take {self.bytes / 1e9:.0f} GB, and this machine has "
                f'{_memory() / 1e9:.0f}: use cache "none", with workers that decode ahead'
            )

    @cached_property
    def windows(self) -> Windows | None:
        """The windows of all people; None if they aren't kept."""
        if self.cache == "none":
            return None
        return self._decode_all().to(self.device if self.cache == "device" else "cpu")

    def load(self) -> None:
        """Decode the windows of all people now, if they are kept. Raises what `decode` raises."""
        _ = self.windows

    def _decode_all(self) -> Windows:
        """The windows of all people, decoded by one thread per core."""
        logger.info("decoding %d people: %.2f GB", len(self), self.bytes / 1e9)
        windows = torch.empty(len(self), 3, self.side, self.side, dtype=torch.uint8)
        with ThreadPoolExecutor(_usable_cores()) as pool:
            try:
                for index, window in enumerate(pool.map(self.decode, range(len(self)))):
                    windows[index] = window
            finally:
                pool.shutdown(cancel_futures=True)
        return windows

    def decode(self, index: int) -> UInt8[Tensor, "3 side side"]:
        """Read and sample one person's window. Raises OSError that names the file and the annotation."""
        try:
            image = read_image_of(self.source, self.samples, int(self.samples.image_index[index]))
        except OSError as error:
            raise type(error)(f"{error} ({self.samples.name_of(index)})") from error
        window = crop_image(image, self.matrices[index : index + 1], (self.side, self.side), self.crop_filter)[0]
        return window.round().to(torch.uint8)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return (self.decode(index) if self.windows is None else self.windows[index]), index


class ShuffledBatches(Sampler[list[int]]):
    """Batches of a permutation that seed and epoch determine; ``start`` skips batches that are already done.

    With several processes, each gets a contiguous part of every batch, in order.
    """

    def __init__(
        self, count: int, batch_size: int, seed: int, epoch: int, start: int = 0, process: int = 0, processes: int = 1
    ) -> None:
        generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
        order = torch.randperm(count, generator=generator).tolist()
        whole = max(1, count // batch_size)
        batches = [order[index * batch_size : (index + 1) * batch_size] for index in range(start, whole)]
        self.batches = [batch[process_rows(len(batch), process, processes)] for batch in batches]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)


def process_rows(count: int, process: int, processes: int) -> slice:
    """The rows of a batch that one process gets: the batch is split into ``processes`` parts of nearly equal size."""
    return slice(count * process // processes, count * (process + 1) // processes)


class TrainingBatches:
    """Epochs of augmented batches on a device; the seed determines them for any number of workers and processes.

    An epoch has ``batch_count`` whole batches; the rest of the permutation is dropped. ``batch_size`` people are split
    over ``processes``, of which this is number ``process``. ``workers`` processes read images, at most one per core.
    Raises ValueError if a batch has fewer people than there are processes, and if the augmentation needs something that
    the skeleton's names don't tell.
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
        process: int = 0,
        processes: int = 1,
    ) -> None:
        check_skeleton(augmentation, framing.skeleton)
        if min(batch_size, len(dataset)) < processes:
            raise ValueError(
                f"each of {processes} processes needs at least one person in a batch; got batch_size {batch_size} and "
                f"{len(dataset)} people"
            )
        self.dataset, self.framing, self.augmentation = dataset, framing, augmentation
        self.batch_size, self.seed, self.device = batch_size, seed, torch.device(device)
        self.workers = min(workers, _usable_cores())
        self.process, self.processes = process, processes
        self.batch_count = max(1, len(dataset) // batch_size)
        self.people_a_step = min(batch_size, len(dataset))
        if self.people_a_step < batch_size:
            logger.warning("there are only %d people for batches of %d", self.people_a_step, batch_size)
        elif len(dataset) % batch_size:
            steps = f"{self.batch_count} step{'s' if self.batch_count > 1 else ''}"
            logger.info("an epoch is %s of %d of the %d people, drawn anew", steps, batch_size, len(dataset))
        self.people = {
            "center": dataset.center,
            "scale": dataset.scale,
            "windows": dataset.matrices,
            "keypoints": torch.from_numpy(dataset.samples.keypoints),
            "visible": torch.from_numpy(dataset.samples.visible),
        }
        self.people = {name: values.to(self.device) for name, values in self.people.items()}

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The epoch's batches from ``start`` on."""
        order = ShuffledBatches(
            len(self.dataset), self.batch_size, self.seed, epoch, start, self.process, self.processes
        )
        generator = torch.Generator()
        whole = self.people_a_step
        rows = process_rows(whole, self.process, self.processes)
        for number, (windows, index) in enumerate(self._windows(order), start):
            generator.manual_seed(((self.seed * 1_000_003 + epoch) * 1_000_003 + number) % 2**63)
            drawn = draw(self.augmentation, whole, generator).take(rows)
            yield self._make(windows, index, drawn)

    def _windows(self, order: ShuffledBatches) -> Iterator[tuple[Windows, Int[Tensor, " people"]]]:
        """Windows and the indices of their people, on the device."""
        cached = self.dataset.windows
        if cached is None:
            loader: Any = DataLoader(
                self.dataset, batch_sampler=order, num_workers=self.workers, pin_memory=self.device.type == "cuda"
            )
            try:
                for windows, index in _iterate(loader):
                    yield windows.to(self.device, non_blocking=True), index.to(self.device, non_blocking=True)
            except OSError as error:
                raise _plain_error(error) from error
            except RuntimeError as error:
                if "DataLoader worker" not in str(error):
                    raise
                raise ChildProcessError(
                    "a process that reads images was killed, perhaps for lack of memory (then use fewer workers): "
                    f"{' '.join(str(error).split())}"
                ) from error
            return
        for batch in order:
            index = torch.tensor(batch)
            on_device = index.to(self.device, non_blocking=True)
            if cached.device.type == self.device.type:
                yield cached[on_device], on_device
            else:
                yield cached[index].to(self.device, non_blocking=True), on_device

    def _make(self, windows: Windows, index: Int[Tensor, " people"], drawn: Draws) -> Batch:
        center, scale, to_windows, keypoints, visible = (values[index] for values in self.people.values())
        frames = draw_frames(center, scale, keypoints, visible, drawn, self.framing)
        to_crop = draw_matrices(*frames, drawn, self.framing.image_size)
        crops = crop_images(windows, compose(to_crop, invert(to_windows)), self.framing.image_size)
        return make_batch(recolor(crops, drawn), to_crop, keypoints, visible, drawn.flip, self.framing)


HALF_BODY_RESOLUTION = 1.25
"""Pixels of a window per crop pixel with half bodies, which are magnified (by 1.7 in the median)."""
HALF_BODY_REACH = 1.25
"""How much farther half bodies reach than whole ones, since their frames lie off the box's center. On LSPET one in 800
reaches farther, at most 1.29; what lies beyond is black."""


def _frame_windows(center: Tensor, scale: Tensor, framing: Framing, augmentation: Augmentation) -> tuple[int, Tensor]:
    """The side of the windows, and the matrices from each image to its person's window."""
    height, width = framing.image_size
    reach = math.hypot(height, width) if augmentation.rotation else max(height, width)
    resolution = HALF_BODY_RESOLUTION if augmentation.half_body else 1.0
    reach *= (1 + augmentation.scale) * resolution * (HALF_BODY_REACH if augmentation.half_body else 1.0)
    side = math.ceil(reach) + 2
    to_crop = crop_matrices(center, scale, framing.image_size)
    middle = to_crop.new_tensor([(width - 1) / 2, (height - 1) / 2])
    linear = to_crop[..., :2] * resolution
    shift = (to_crop[..., 2] - middle) * resolution + (side - 1) / 2  # the same center, in the window's pixels
    return side, torch.cat((linear, shift.unsqueeze(-1)), dim=-1)


def _usable_cores() -> int:
    affinity: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _memory() -> float:
    """Bytes of memory of the whole machine; infinite if the system doesn't say."""
    names = getattr(os, "sysconf_names", {})
    if not {"SC_PAGE_SIZE", "SC_PHYS_PAGES"} <= set(names):
        return math.inf
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def _iterate(loader: Any) -> Iterator[Any]:
    """The loader's batches, without torch's SIGCHLD handler, which raises wherever the main thread is when a worker
    dies, even while a checkpoint is written. The loader itself checks its workers every 5 seconds."""
    if not hasattr(signal, "SIGCHLD") or threading.current_thread() is not threading.main_thread():
        return iter(loader)
    before: Any = signal.getsignal(signal.SIGCHLD)
    iterator = iter(loader)
    is_torchs = before is None or str(getattr(before, "__module__", "")).startswith("torch.")
    signal.signal(signal.SIGCHLD, signal.SIG_DFL if is_torchs else before)
    return iterator


def _plain_error(error: OSError) -> OSError:
    """The error of a worker process, without the traceback that the DataLoader puts around it: its last line."""
    last = str(error).strip().splitlines()[-1] if str(error).strip() else str(error)
    kind, colon, message = last.partition(": ")
    return OSError(message) if colon and kind.endswith("Error") else error
