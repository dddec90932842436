"""A step of training as a CUDA graph: recorded once, then replayed, so that Python doesn't keep a GPU waiting."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from tokenpose.data.augment import Batch

Losses = dict[str, Tensor]


class RecordedStep:
    """What a step computes, for batches of one size: gradients of ``losses_of`` a batch, then ``update``.

    ``optimizer``: Adam or AdamW of PyTorch, fused. The first steps run as they are, which is what decides how memory is
    laid out and which kernels are taken; `step` records the next one. A replay whose loss isn't finite leaves the
    weights as they are, and `is_finite` tells; it waits for the replay, nothing else does.
    """

    WARM_UP = 3

    def __init__(self, losses_of: Callable[[Batch], Losses], update: Callable[[], None], optimizer: Any) -> None:
        self.losses_of, self.update, self.optimizer = losses_of, update, optimizer
        self.graph: Any = None
        self.batch: Any = None
        """The memory that a replay reads its batch from; None before the recording, as the graph is."""
        self.losses: Losses = {}
        self.rates: list[Tensor] = []
        self.broken: Tensor | None = None
        self.stream = torch.cuda.Stream()
        self.warmed_up = 0

    @property
    def is_cold(self) -> bool:
        """Whether the next step is one that runs as it is."""
        return self.warmed_up < self.WARM_UP

    def warm_up(self, step: Callable[[], Losses]) -> Losses:
        """A step as it is, on the stream of a recording's kind."""
        self.warmed_up += 1
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            losses = step()
        torch.cuda.current_stream().wait_stream(self.stream)
        return losses

    def step(self, batch: Batch) -> Losses:
        """Take a step; the losses are there until the next one."""
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
            self.optimizer.found_inf = self.broken  # which the fused optimizers look at
            self.update()

    @contextmanager
    def _capturable(self) -> Iterator[None]:
        """Rates that a replay reads from the device, while the recording lasts."""
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
    """Whether a value is finite. The answer of a GPU waits for the value alone, not for what is launched after it."""
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
