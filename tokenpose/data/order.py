"""The order in which people are trained: which of them are in which batch of an epoch."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Int
from torch.utils.data import Sampler

from tokenpose.data.shares import Mixture


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


class MixedBatches(Sampler[list[int]]):
    """Batches in which each group of people has its share; otherwise like `ShuffledBatches`, and as many.

    Each group is a stream: permutations of its people one after another, through all epochs, from which every batch
    takes the next ones. So its people are shown equally often, however large the group is.
    """

    def __init__(
        self, mixture: Mixture, batch_size: int, seed: int, epoch: int, start: int = 0, process: int = 0,
        processes: int = 1,
    ) -> None:  # fmt: skip
        groups = _assign_places(sum(map(len, mixture.groups)), mixture.shares)
        shown = [groups.count(group) for group in range(len(mixture.groups))]
        people = [
            iter(_stream(members, range(epoch * count, (epoch + 1) * count), seed, group))
            for group, (members, count) in enumerate(zip(mixture.groups, shown, strict=True))
        ]
        epochs_people = [next(people[group]) for group in groups]
        generator = torch.Generator()
        self.batches = []
        for number in range(start, math.ceil(len(groups) / batch_size)):
            batch = epochs_people[number * batch_size : (number + 1) * batch_size]
            generator.manual_seed(((seed * 1_000_003 + epoch) * 1_000_003 + number) % 2**63)
            rows = torch.randperm(len(batch), generator=generator)[process_rows(len(batch), process, processes)]
            self.batches.append([batch[row] for row in rows.tolist()])

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)


def _assign_places(places: int, shares: Sequence[float]) -> list[int]:
    """The group of each place of an epoch: the one that is farthest behind its share."""
    given = [0] * len(shares)
    groups = []
    for place in range(1, places + 1):
        behind = [share * place - count for share, count in zip(shares, given, strict=True)]
        groups.append(behind.index(max(behind)))
        given[groups[-1]] += 1
    return groups


def _stream(people: Int[np.ndarray, " people"], places: range, seed: int, group: int) -> Iterator[int]:
    """Who stands at these places of a group's permutations one after another."""
    count, generator = len(people), torch.Generator()
    for number in range(places.start // count, -(-places.stop // count)):
        generator.manual_seed(((seed * 1_000_003 + number) * 1_000_003 + group) % 2**63)
        order = torch.randperm(count, generator=generator).numpy()
        yield from people[order[max(places.start - number * count, 0) : places.stop - number * count]].tolist()
