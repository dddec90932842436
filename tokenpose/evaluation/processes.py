"""Processes that share an evaluation, under `torchrun` or `accelerate launch`."""

import atexit
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import cuda, distributed

Result = TypeVar("Result")

ERRORS = (OSError, ValueError, TypeError, LookupError, RuntimeError)
"""What reading images and prediction raise; torch's errors are RuntimeErrors."""


@dataclass(frozen=True, kw_only=True)
class Processes:
    """This process's number, and how many there are."""

    rank: int = 0
    count: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that prints and writes."""
        return self.rank == 0

    def gather(self, work: Callable[[], Result]) -> list[Result]:
        """The result of each process's work, by rank, in every process. An error in one of them is raised in all.

        A bug, which raises something else than `ERRORS`, ends its process at once, and the launcher ends the others.
        """
        if self.count == 1:
            return [work()]
        done: Any
        try:
            done = work(), None
        except ERRORS as error:  # raised below, in all: the others must not wait for this one's part forever
            done = None, error
        everybody: list[Any] = [None] * self.count
        distributed.all_gather_object(everybody, done)
        for _, failure in everybody:
            if failure is not None:
                raise failure
        return [result for result, _ in everybody]


def join_processes() -> Processes:
    """This process among those that were launched together, or alone.

    Where a launcher set WORLD_SIZE and RANK and there is no process group yet, accelerate makes one. Raises
    ModuleNotFoundError without it.
    """
    if not distributed.is_available():
        return Processes()
    if not distributed.is_initialized():
        if int(os.environ.get("WORLD_SIZE", "1")) < 2 or "RANK" not in os.environ:
            return Processes()
        _make_group()
    return Processes(rank=distributed.get_rank(), count=distributed.get_world_size())


def _make_group() -> None:
    try:
        from accelerate import PartialState
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'evaluation in several processes needs accelerate: pip install "tokenpose[train]"'
        ) from error
    PartialState(cpu=not cuda.is_available())
    atexit.register(_leave_group)


def _leave_group() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()
