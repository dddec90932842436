"""Batches: windows of people -> augmented crops and targets, batched on the device."""

import logging
import math
import signal
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import DataLoader

from tokenpose.data.augment import (
    Batch,
    Draws,
    Framing,
    blacken,
    check_skeleton,
    draw,
    make_batch,
    place_people,
    recolor,
    weigh_keypoints,
)
from tokenpose.data.order import MixedBatches, ShuffledBatches, process_rows
from tokenpose.data.settings import Augmentation
from tokenpose.data.shares import Mixture
from tokenpose.data.windows import WindowDataset, crop_windows, usable_cores
from tokenpose.geometry.affine import compose

logger = logging.getLogger(__name__)


class TrainingBatches:
    """Epochs of augmented batches on a device; the seed determines them for any number of workers and processes.

    An epoch has ``batch_count`` batches, and shows each person once: the last batch has the people who are left.
    ``batch_size`` people are split over ``processes``, of which this is number ``process``. ``workers`` processes read
    images, at most one per core. Each batch has the crop size of one of the dataset's framings, drawn with equal
    chances. ``mixture``: each of its groups of people has a share of every batch; an epoch then has as many people and
    batches as without it, some of them perhaps several times and others not at all.
    Raises ValueError if a batch has fewer people than there are processes, and if the augmentation needs something that
    the skeleton's names don't tell.
    """

    def __init__(
        self,
        dataset: WindowDataset,
        augmentation: Augmentation,
        *,
        batch_size: int,
        seed: int,
        device: torch.device | str = "cpu",
        workers: int = 0,
        process: int = 0,
        processes: int = 1,
        mixture: Mixture | None = None,
    ) -> None:
        self.framings = dataset.framings
        check_skeleton(augmentation, self.framings[0].skeleton)
        if min(batch_size, len(dataset)) < processes:
            raise ValueError(
                f"each of {processes} processes needs at least one person in a batch; got batch_size {batch_size} and "
                f"{len(dataset)} people"
            )
        self.dataset, self.augmentation = dataset, augmentation
        self.batch_size, self.seed, self.device = batch_size, seed, torch.device(device)
        self.workers = min(workers, usable_cores())
        self.process, self.processes = process, processes
        self.mixture = mixture
        self.batch_count = math.ceil(len(dataset) / batch_size)
        self.people_a_step = min(batch_size, len(dataset))
        """People of each batch but the last, which may have fewer."""
        self.people_at_last = len(dataset) - (self.batch_count - 1) * self.people_a_step
        if self.people_a_step < batch_size:
            logger.warning("there are only %d people for batches of %d", self.people_a_step, batch_size)
        elif self.people_at_last < batch_size:
            counts = self.batch_count, batch_size, self.people_at_last
            logger.info("an epoch is %d steps of %d people, the last of %d", *counts)
        self.people = {
            "boxes": torch.from_numpy(dataset.samples.boxes),
            "to_image": dataset.matrices,
            "keypoints": torch.from_numpy(dataset.samples.keypoints),
            "visible": torch.from_numpy(dataset.samples.visible),
        }  # on the CPU, where what there is to do is known without waiting for a GPU
        weights = dataset.samples.weights
        self.label_weights = None if weights is None else torch.from_numpy(weights)

    def people_until(self, step: int) -> int:
        """How many people the first ``step`` steps of a run show, over all processes."""
        epochs, steps = divmod(step, self.batch_count)
        return epochs * len(self.dataset) + steps * self.people_a_step

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The epoch's batches from ``start`` on."""
        place = self.batch_size, self.seed, epoch, start, self.process, self.processes
        order = (
            ShuffledBatches(len(self.dataset), *place) if self.mixture is None else MixedBatches(self.mixture, *place)
        )
        generator = torch.Generator()
        for number, (windows, index) in enumerate(self._windows(order), start):
            people = self.people_a_step if number < self.batch_count - 1 else self.people_at_last
            generator.manual_seed(((self.seed * 1_000_003 + epoch) * 1_000_003 + number) % 2**63)
            drawn = draw(self.augmentation, people, generator).take(process_rows(people, self.process, self.processes))
            size = int(torch.randint(len(self.framings), (), generator=generator))
            yield self._make(windows, index, drawn, self.framings[size])

    def _windows(
        self, order: ShuffledBatches | MixedBatches
    ) -> Iterator[tuple[Sequence[Tensor], Int[Tensor, " people"]]]:
        """The windows of each batch, where they are kept, and the indices of their people, on the CPU."""
        cached = self.dataset.windows
        if cached is not None:
            for batch in order:
                yield [cached[index] for index in batch], torch.tensor(batch)
            return
        loader: Any = DataLoader(
            self.dataset, batch_sampler=order, num_workers=self.workers, collate_fn=_collate,
            pin_memory=self.device.type == "cuda",
        )  # fmt: skip
        try:
            yield from _iterate(loader)
        except OSError as error:
            raise _plain_error(error) from error
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise ChildProcessError(
                "a process that reads images was killed, perhaps for lack of memory (then use fewer workers): "
                f"{' '.join(str(error).split())}"
            ) from error

    def _make(self, windows: Sequence[Tensor], index: Int[Tensor, " people"], drawn: Draws, framing: Framing) -> Batch:
        boxes, to_image, keypoints, visible = (values[index] for values in self.people.values())
        placed = place_people(boxes, keypoints, visible, drawn, framing)
        to_crop = compose(placed.matrices, to_image)
        crops = crop_windows(windows, to_crop, framing.image_size, framing.crop_filter, self.device)
        placed, keypoints = placed.to(self.device), keypoints.to(self.device, non_blocking=True)
        crops = recolor(blacken(crops, placed), drawn)
        batch = make_batch(crops, placed.matrices, keypoints, placed.visible, drawn.flip, framing)
        if self.label_weights is None:
            return batch
        weights = self.label_weights[index].to(self.device, non_blocking=True)
        return weigh_keypoints(batch, weights, drawn.flip, framing.skeleton)


def _collate(people: list[tuple[Tensor, int]]) -> tuple[list[Tensor], Int[Tensor, " people"]]:
    """Windows have different sizes: they stay apart."""
    windows, index = zip(*people, strict=True)
    return list(windows), torch.tensor(index)


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
