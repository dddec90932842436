"""A training step as a CUDA graph: recorded once, then replayed, so that the GPU doesn't wait for Python."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from tokenpose.data.augment import Batch

Losses = dict[str, Tensor]


class RecordedStep:
    """A step for batches of one size, the largest of the first steps: ``losses_of`` computes losses and gradients, then
    ``update`` changes the weights. Batches of another size, such as the last of an epoch, run eagerly.

    ``optimizer``: PyTorch's Adam or AdamW, fused. The first steps run eagerly, which fixes the memory layout and the
    choice of kernels; `step` then records one. If the loss of a replay isn't finite, the replay leaves the weights
    unchanged; `ask_finite` of the loss reports it, and is the only call that waits for the replay.
    """

    WARM_UP = 3

    def __init__(self, losses_of: Callable[[Batch], Losses], update: Callable[[], None], optimizer: Any) -> None:
        self.losses_of, self.update, self.optimizer = losses_of, update, optimizer
        self.graph: Any = None
        self.batch: Any = None
        """The memory from which a replay reads its batch; like the graph, None before the recording."""
        self.losses: Losses = {}
        self.rates: list[Tensor] = []
        self.broken: Tensor | None = None
        self.stream = torch.cuda.Stream()
        self.warmed_up = 0
        self.people = 0
        """People of a batch that the recording takes."""

    @property
    def is_cold(self) -> bool:
        """Whether the next step still runs eagerly."""
        return self.warmed_up < self.WARM_UP

    def fits(self, batch: Batch) -> bool:
        """Whether `step` can take this batch."""
        return len(batch.crops) == self.people

    def warm_up(self, batch: Batch, step: Callable[[Batch], Losses]) -> Losses:
        """Run a step eagerly, on a side stream, as PyTorch requires before a recording."""
        self.warmed_up += 1
        self.people = max(self.people, len(batch.crops))
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            losses = step(batch)
        torch.cuda.current_stream().wait_stream(self.stream)
        return losses

    def step(self, batch: Batch) -> Losses:
        """Take a step. The next one overwrites the losses."""
        if self.batch is None:
            self._record(batch)
        for recorded, values in zip(self.batch, batch, strict=True):
            recorded.copy_(values)
        for rate, group in zip(self.rates, self.optimizer.param_groups, strict=True):
            rate.fill_(group["lr"])
        self.graph.replay()
        return self.losses

    def _record(self, batch: Batch) -> None:
        self.batch = Batch(*(values.clone() for values in batch))
        device = batch.crops.device
        self.rates = [torch.empty((), device=device) for _ in self.optimizer.param_groups]
        self.optimizer.zero_grad(set_to_none=True)
        self.graph = torch.cuda.CUDAGraph()
        with self._capturable(), torch.cuda.graph(self.graph):
            self.losses = self.losses_of(self.batch)
            self.broken = (~torch.isfinite(self.losses["loss"])).float()
            self.optimizer.found_inf = self.broken  # the fused optimizers skip the update if this is 1
            self.update()

    @contextmanager
    def _capturable(self) -> Iterator[None]:
        """During the recording, keep learning rates on the device, where replays read them."""
        groups = self.optimizer.param_groups
        kept = [(group["lr"], group["capturable"]) for group in groups]
        try:
            for group, rate in zip(groups, self.rates, strict=True):
                group["lr"], group["capturable"] = rate.fill_(group["lr"]), True
            yield
        finally:
            for group, (rate, capturable) in zip(groups, kept, strict=True):
                group["lr"], group["capturable"] = rate, capturable


def ask_finite(value: Tensor) -> Callable[[], bool]:
    """A function that says whether a value is finite. On a GPU it waits for the value alone, not for later kernels."""
    finite = torch.isfinite(value.detach())
    if not finite.is_cuda:
        return lambda: bool(finite)
    answer = torch.empty((), dtype=torch.bool, pin_memory=True)
    answer.copy_(finite, non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record()

    def ask() -> bool:
        arrived.synchronize()
        return bool(answer)

    return ask
