"""One step of training: gradients of a batch, an update of the weights and of their moving average."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from timm.layers import convert_sync_batchnorm
from torch import nn

from tokenpose.data.augment import Batch
from tokenpose.shapes import Crops
from tokenpose.training.agreement import Agreement
from tokenpose.training.diagnosis import find_nonfinite
from tokenpose.training.graphs import Losses, RecordedStep, ask_finite
from tokenpose.training.objective import Totals, total_loss
from tokenpose.training.optim import MovingAverage, make_optimizer, make_schedule
from tokenpose.training.settings import TrainingSettings


class TrainingStep:
    """A network with its optimizer, schedule and moving average; `take` learns from one batch.

    ``network`` needs an attribute ``backbone`` and a method ``compilable``, which returns its parts. ``steps``: the
    steps of the run, without extensions. ``advise`` says what to do about a loss that isn't finite. ``teach`` gives
    the targets of a teacher, under the network's precision and without gradients; ``objective`` gets them. With several
    processes, each takes its part of every batch.

    Raises ValueError for settings that don't work on this device or with this number of processes.
    """

    def __init__(
        self,
        network: Any,
        settings: TrainingSettings,
        accelerator: Accelerator,
        steps: int,
        advise: Callable[[], str],
        teach: Callable[[Crops, tuple[int, int]], Any] | None = None,
        objective: Callable[..., Losses] = total_loss,
    ) -> None:
        self.teach, self.objective = teach, objective
        self.settings, self.accelerator, self.advise = settings, accelerator, advise
        self.annealings = [steps]
        """Steps of the run, and of each extension."""
        self.agreement = Agreement(accelerator)
        if settings.channels_last:
            network = network.to(memory_format=torch.channels_last)
        if settings.sync_batch_norm:
            network = synchronize_batch_norms(network, accelerator.device)
        self.backbone: Any = network.backbone
        if settings.freeze_backbone:
            self.backbone.requires_grad_(False)
        network = network.to(accelerator.device)
        optimizer = make_optimizer(network, self.backbone, settings)
        self.average: Any = MovingAverage(network, settings.average).to(accelerator.device)
        if settings.compile:
            for module in network.compilable():
                module.compile(dynamic=False)  # once for all batches, once more for a smaller last one
        self.network, self.optimizer = accelerator.prepare(network, optimizer)
        self.schedule = make_schedule(self.optimizer, settings, self.annealings)
        self.recorded = self._record() if settings.graph else None
        self.number = 0
        """The number of steps taken."""
        self._check_latest: Callable[[], None] | None = None

    def take(self, batch: Batch) -> Losses:
        """Learn from a batch. Returns the weighted parts of its loss, and their sum as "loss".

        Raises FloatingPointError, with a diagnosis, if the loss is not finite, before the weights change. A CUDA graph
        skips the update by itself; there the next `take` or `settle` raises.
        """
        self.network.train()
        if self.settings.freeze_backbone:
            self.backbone.eval()
        self.settle()
        losses = self._learn(batch) if self.recorded is None else self._replay(self.recorded, batch)
        self.schedule.step()
        self.average.update(self.number)
        self.number += 1
        return losses

    def settle(self) -> None:
        """Raise FloatingPointError if the loss of the latest step was not finite and that hasn't been checked yet."""
        check, self._check_latest = self._check_latest, None
        if check is not None:
            check()

    def check_weights(self) -> None:
        """Raise FloatingPointError, with names, if weights aren't finite. All processes have the same weights."""
        values = self.accelerator.unwrap_model(self.network).state_dict()
        broken = [name for name, value in values.items() if not value.isfinite().all()]
        if broken:
            names = ", ".join(broken[:3]) + (", ..." if len(broken) > 3 else "")
            raise FloatingPointError(
                f"weights are not finite after step {self.number}: {names}; learning rate "
                f"{self.settings.learning_rate:.3g}: {self.advise()}"
            )

    @property
    def total(self) -> int:
        """The number of steps of the run with its extensions."""
        return sum(self.annealings)

    @property
    def rate(self) -> float:
        """The learning rate of the next step, for everything but the backbone and the keypoint tokens."""
        return float(self.schedule.get_last_lr()[0])

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        scaler = self.accelerator.scaler
        return {
            "network": self.accelerator.unwrap_model(self.network).state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
            "step": self.number,
        }

    def load_state_dict(self, state: dict[str, Any], extensions: Sequence[int] = ()) -> None:
        """Load a checkpoint's state. Raises what PyTorch raises for one that doesn't fit.

        ``extensions``: the steps of each extension of the run, the one that starts now included.
        """
        self.accelerator.unwrap_model(self.network).load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.accelerator.scaler is not None and state.get("scaler") is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.number = state["step"]
        self.annealings = [self.annealings[0], *extensions]
        self.schedule = make_schedule(self.optimizer, self.settings, self.annealings, done=self.number)

    def _learn(self, batch: Batch) -> Losses:
        losses, is_finite = self._gradients(batch)
        self._check_finite(batch, losses, is_finite(), self.number)
        self._update()
        return losses

    def _gradients(self, batch: Batch) -> tuple[Losses, Callable[[], bool]]:
        """Compute the step's gradients. Returns its losses, and a function that says whether they are finite."""
        totals = self.agreement.totals(batch)
        parts = _split(batch, self._count_parts(batch, totals))
        losses: Losses = {}
        are_finite = []
        for number, part in enumerate(parts, 1):
            is_last = number == len(parts)
            with nullcontext() if is_last else self.accelerator.no_sync(self.network):
                of_part, is_finite = self._backward(part, totals)
            are_finite.append(is_finite)
            losses = {name: losses[name] + value if losses else value for name, value in of_part.items()}
        return losses, lambda: all(is_finite() for is_finite in are_finite)

    def _count_parts(self, batch: Batch, totals: Totals) -> int:
        """Into how many parts each process splits this batch: a small last batch may fill fewer, and all agree."""
        processes = self.accelerator.num_processes
        fewest = len(batch.crops) if processes == 1 else int(totals.people) // processes
        return min(self.settings.accumulate, fewest)

    def _backward(self, part: Batch, totals: Totals) -> tuple[Losses, Callable[[], bool]]:
        """Add the gradients of a part of the step. Returns its losses, and a function: whether they are finite."""
        crops = part.crops
        if self.settings.channels_last:
            crops = crops.contiguous(memory_format=torch.channels_last)
        with self.accelerator.autocast():
            predictions = self.network(crops)
            taught = None if self.teach is None else self.teach(crops, (*part.heatmaps.shape[-2:],))
        losses = self.objective(predictions, part, self.settings, totals, taught)
        is_recording = losses["loss"].is_cuda and torch.cuda.is_current_stream_capturing()
        is_finite = (lambda: True) if is_recording else ask_finite(losses["loss"])  # the recording checks it
        # gradients are averaged over processes, and the losses of the processes add up
        self.accelerator.backward(losses["loss"] * self.accelerator.num_processes)
        return {name: value.detach() for name, value in losses.items()}, is_finite

    def _update(self) -> None:
        if self.settings.clip:
            self.accelerator.clip_grad_norm_(self.network.parameters(), self.settings.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _record(self) -> RecordedStep:
        reasons = {
            f"this run is on {self.accelerator.device.type}, and CUDA graphs are for GPUs": (
                self.accelerator.device.type != "cuda"
            ),
            "several processes have to agree on each step": self.accelerator.num_processes > 1,
            "the crops have several sizes": bool(self.settings.sizes),
        }
        for reason, holds in reasons.items():
            if holds:
                raise ValueError(f"a step can't be recorded as a graph: {reason}; turn graph off")
        return RecordedStep(lambda batch: self._gradients(batch)[0], self._update, self.optimizer.optimizer)

    def _replay(self, recorded: RecordedStep, batch: Batch) -> Losses:
        """The same as a CUDA graph. `settle` checks its loss once the next batch is ready."""
        if recorded.is_cold:
            return recorded.warm_up(batch, self._learn)
        if not recorded.fits(batch):
            return self._learn(batch)
        losses = recorded.step(batch)
        is_finite, number = ask_finite(losses["loss"]), self.number
        self._check_latest = lambda: self._check_finite(recorded.batch, losses, is_finite(), number)
        return losses

    def _check_finite(self, batch: Batch, losses: Losses, is_finite: bool, number: int) -> None:
        """Raise in every process if the loss of one is not finite: they share the gradient."""
        if not self.agreement.is_any(not is_finite, beside=losses["loss"]):
            return
        if is_finite:
            raise FloatingPointError(f"the loss of another process is not finite at step {number}")
        parts = ", ".join(f"{name} {value.item():.4g}" for name, value in losses.items())
        found = find_nonfinite(self.accelerator.unwrap_model(self.network), batch.crops)
        raise FloatingPointError(
            f"the loss is not finite at step {number} ({parts}); {found}; learning rate {self.rate:.3g}: "
            f"{self.advise()}"
        )


def _split(batch: Batch, parts: int) -> list[Batch]:
    """Split the people of a batch into parts of nearly equal size."""
    if parts == 1:
        return [batch]
    return [Batch(*values) for values in zip(*(values.tensor_split(parts) for values in batch), strict=True)]


def synchronize_batch_norms(network: nn.Module, device: torch.device) -> Any:
    """The network with batch norms over all processes. Raises ValueError if the device isn't a GPU."""
    if device.type != "cuda":
        raise ValueError(f"sync_batch_norm works on GPUs; this run is on {device.type}: turn it off")
    return convert_sync_batchnorm(network)  # timm's version: torch's would lose the activations inside timm's norms
