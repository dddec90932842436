"""Agreement between processes: they sum a few numbers at the start of each step, so they go on or stop together."""

import signal
from collections.abc import Iterator
from itertools import islice

import torch
from accelerate import Accelerator
from torch import Tensor

from tokenpose.data.augment import Batch
from tokenpose.training.interruptions import Interruptions
from tokenpose.training.objective import Totals


class Agreement:
    """Sums over all processes at the start of each step; a single process sends nothing.

    ``interruptions`` are the signals of this process. One of them sets ``is_stopping`` in all processes, which then
    stop after the same step.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.interruptions = Interruptions(patient=accelerator.num_processes > 1)
        self.is_stopping = False

    def totals(self, batch: Batch) -> Totals:
        """People and weights of the whole step. Raises OSError if another process can't go on."""
        if self.accelerator.num_processes == 1:
            return Totals(people=batch.weights.new_full((), len(batch.weights)), weights=batch.weights.sum())
        weights, people, failed = self._sum(batch.weights.sum().item(), len(batch.weights))
        if failed:
            raise OSError("another process can't go on: its message says why")
        return Totals(people=people, weights=weights)

    def share_errors(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield the batches. An OSError while reading them also stops the other processes, at their next step."""
        try:
            with self.interruptions.held():  # Python prints and ignores what is raised while it forks workers
                first = list(islice(batches, 1))
            yield from first
            yield from batches
        except OSError:
            if self.accelerator.num_processes > 1:
                self._sum(weights=0.0, people=0, has_failed=True)
            raise

    def is_any(self, mine: bool, beside: Tensor) -> bool:
        """Whether ``mine`` is true in any process; ``beside`` is a tensor on this process's device."""
        if self.accelerator.num_processes == 1:
            return mine
        return bool(self.accelerator.reduce(beside.new_full((), float(mine)), "sum"))

    def raise_if_stopping(self) -> None:
        """Raise the interruption on which all processes agreed."""
        if self.is_stopping:
            self.interruptions.raise_pending()

    def _sum(self, weights: float, people: int, has_failed: bool = False) -> tuple[Tensor, ...]:
        """Weights, people and failures of all processes; an interruption of one interrupts all."""
        interrupted = self.interruptions.pending is not None
        mine = torch.tensor([weights, people, has_failed, interrupted], device=self.accelerator.device)
        *sums, interruptions = self.accelerator.reduce(mine, "sum").unbind()
        self.is_stopping = bool(interruptions)
        if self.is_stopping and not interrupted:
            self.interruptions.pending = signal.SIGTERM
        return tuple(sums)
