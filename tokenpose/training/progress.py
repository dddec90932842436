"""Progress of a run: the lines of its log, means over an epoch's steps, waiting times, the progress bar."""

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from tokenpose.data.augment import Batch


def read_log(path: Path) -> list[dict[str, Any]]:
    """Read the lines of a run's log, without a last line that was cut off during writing.

    Raises ValueError that names a damaged line.
    """
    lines = enumerate(path.read_bytes().splitlines(keepends=True), 1)
    return [_read_line(line, f"{path}: line {number}") for number, line in lines if line.endswith(b"\n")]


def _read_line(text: bytes, place: str) -> dict[str, Any]:
    try:
        line = json.loads(text)
    except ValueError:
        line = None
    if not isinstance(line, dict) or not isinstance(line.get("epoch"), int):
        raise ValueError(f"{place} is damaged: expected an epoch's figures as JSON; fix or remove the line")
    return line


def timed(batches: Iterable[Batch]) -> Iterator[tuple[Batch, float]]:
    """Each batch, and the seconds spent waiting for it."""
    iterator, asked = iter(batches), time.monotonic()
    for batch in iterator:
        yield batch, time.monotonic() - asked
        asked = time.monotonic()


class Means:
    """Means over an epoch's steps, without waiting for the device at each of them."""

    def __init__(self, since: int = 0) -> None:
        self.sums: dict[str, Tensor] = {}
        self.count = 0
        self.waited = 0.0
        """Seconds spent waiting for batches."""
        self.since = since
        """The first step that counts: not the epoch's first if several processes resumed in the middle of the epoch."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"sums": dict(self.sums), "count": self.count, "waited": self.waited, "since": self.since}

    def load_state_dict(self, state: dict[str, Any], share: float, device: torch.device) -> None:
        """Continue from a saved state, with ``share`` of its sums."""
        self.sums = {name: share * value.to(device) for name, value in state["sums"].items()}
        self.count, self.waited, self.since = state["count"], state["waited"], state["since"]

    def add(self, values: dict[str, Tensor]) -> None:
        """Add a step's losses."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, torch.zeros_like(value)) + value
        self.count += 1

    def means(self, accelerator: Accelerator) -> dict[str, float]:
        """Means over the steps, summed over the processes, since each has a part of every step."""
        if not self.count:
            return {}
        sums = accelerator.reduce(torch.stack(list(self.sums.values())), "sum")
        return {name: value / self.count for name, value in zip(self.sums, sums.tolist(), strict=True)}


PICTURE_SECONDS = 20.0


class PictureClock:
    """Says when a picture is due: the first time, the last time, and every `PICTURE_SECONDS` in between.

    Drawing takes longer than an epoch of a few people.
    """

    def __init__(self) -> None:
        self._drawn_at = -math.inf

    def is_due(self, is_last: bool) -> bool:
        """Whether to draw now; if so, the next interval starts."""
        now = time.monotonic()
        if not is_last and now - self._drawn_at < PICTURE_SECONDS:
            return False
        self._drawn_at = now
        return True


class ProgressBar:
    """A progress bar on standard error if it is a terminal. Entering it gives a function to call after each step."""

    def __init__(self, total: int, done: int, shown: bool) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        console = Console(stderr=True)
        self.progress = Progress(*columns, console=console, disable=not (shown and console.is_terminal))
        self.task = self.progress.add_task("training", total=total, completed=done)

    def __enter__(self) -> Callable[[int], None]:
        self.progress.start()
        return lambda epoch: self.progress.update(self.task, advance=1, description=f"epoch {epoch + 1}")

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # the terminal was closed
            self.progress.stop()
