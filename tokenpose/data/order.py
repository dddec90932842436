"""The order in which people are trained: which of them are in which batch of an epoch."""

import math
from collections.abc import Iterator

import torch
from torch.utils.data import Sampler


class ShuffledBatches(Sampler[list[int]]):
    """Batches of a permutation that seed and epoch determine; ``start`` skips batches that are already done.

    The last batch has the people who are left. With several processes, each gets a contiguous part of every batch, in
    order.
    """

    def __init__(
        self, count: int, batch_size: int, seed: int, epoch: int, start: int = 0, process: int = 0, processes: int = 1
    ) -> None:
        generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
        order = torch.randperm(count, generator=generator).tolist()
        numbers = range(start, math.ceil(count / batch_size))
        batches = [order[number * batch_size : (number + 1) * batch_size] for number in numbers]
        self.batches = [batch[process_rows(len(batch), process, processes)] for batch in batches]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)


def process_rows(count: int, process: int, processes: int) -> slice:
    """The rows of a batch that one process gets: the batch is split into ``processes`` parts of nearly equal size.

    Each process gets all rows of a batch with fewer people than processes, since no process can go without a step: the
    mean over the processes is then that of the batch.
    """
    if count < processes:
        return slice(0, count)
    return slice(count * process // processes, count * (process + 1) // processes)
