"""The training loop: it is handed a network, batches and a validation callable, and makes none of them."""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from accelerate import Accelerator
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from tokenpose.data.augment import Batch
from tokenpose.data.batches import TrainingBatches
from tokenpose.training.checkpoints import read_checkpoint, write_checkpoint
from tokenpose.training.losses import LOSSES, attention_guidance
from tokenpose.training.optim import make_average, make_optimizer, make_schedule
from tokenpose.training.settings import TrainingSettings

logger = logging.getLogger(__name__)

Validate = Callable[[nn.Module], dict[str, float]]


@runtime_checkable
class Predictions(Protocol):
    """What the network gives for a batch of crops."""

    @property
    def logits(self) -> Tensor: ...
    @property
    def auxiliary(self) -> Tensor | None: ...
    @property
    def patches(self) -> Tensor | None: ...
    @property
    def attention(self) -> Tensor | None: ...


def total_loss(
    predictions: Predictions, batch: Batch, settings: TrainingSettings, grid: tuple[int, int]
) -> dict[str, Tensor]:
    """The parts of the loss, weighted, and their sum as "loss"."""
    measure = LOSSES[settings.loss]
    parts = {"heatmaps": measure(predictions.logits, batch.heatmaps, batch.weights)}
    if predictions.auxiliary is not None:
        parts["auxiliary"] = settings.auxiliary * measure(predictions.auxiliary, batch.heatmaps, batch.weights)
    if predictions.patches is not None:
        blocks = [measure(maps, batch.heatmaps, batch.weights) for maps in predictions.patches]
        parts["patches"] = settings.patches * torch.stack(blocks).mean()
    if predictions.attention is not None:
        guidance = attention_guidance(predictions.attention, batch.heatmaps, batch.weights, grid)
        parts["guidance"] = settings.guidance * guidance
    return {"loss": torch.stack(list(parts.values())).sum(), **parts}


class Trainer:
    """One run: `train` goes on from wherever its state is, `resume` puts it where a checkpoint was written.

    In ``output``: checkpoint.pt, log.jsonl (a line per epoch), settings.json. ``identity``: plain values, besides the
    settings, that must be the same when a run is resumed.
    """

    def __init__(
        self,
        network: nn.Module,
        batches: TrainingBatches,
        validate: Validate,
        settings: TrainingSettings,
        output: Path,
        accelerator: Accelerator,
        grid: tuple[int, int],
        identity: dict[str, Any] | None = None,
    ) -> None:
        self.settings, self.batches, self.validate, self.output, self.grid = settings, batches, validate, output, grid
        self.accelerator, self.identity = accelerator, identity or {}
        if settings.channels_last:
            network = network.to(memory_format=torch.channels_last)
        optimizer = make_optimizer(network, settings)
        self.network, self.optimizer = accelerator.prepare(network, optimizer)
        self.steps = settings.epochs * batches.batch_count
        self.schedule = make_schedule(self.optimizer, settings, self.steps)
        self.average: Any = make_average(accelerator.unwrap_model(self.network), settings.average)
        self.step = 0
        self.seconds = 0.0
        output.mkdir(parents=True, exist_ok=True)

    @property
    def checkpoint(self) -> Path:
        """Where the run's state lies."""
        return self.output / "checkpoint.pt"

    @property
    def _settings(self) -> dict[str, Any]:
        values: dict[str, Any] = json.loads(json.dumps(asdict(self.settings)))
        return values

    def resume(self) -> None:
        """Continue where the checkpoint was written. Raises FileNotFoundError, or ValueError for other settings."""
        state = read_checkpoint(self.checkpoint)
        saved, current = {**state["settings"], **state["identity"]}, {**self._settings, **self.identity}
        if saved != current:
            differing = ", ".join(key for key in current if saved.get(key) != current[key])
            raise ValueError(
                f"{self.checkpoint} belongs to a run with other settings ({differing}); use another output"
            )
        self.accelerator.unwrap_model(self.network).load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.step, self.seconds = state["step"], state["seconds"]
        logger.info("resumed at step %d of %d", self.step, self.steps)

    def train(self) -> dict[str, float]:
        """Train to the last epoch; the last validation's figures. Raises FloatingPointError for a loss gone astray."""
        figures: dict[str, float] = {}
        if self.step == 0 and self.checkpoint.exists():
            raise FileExistsError(f"{self.checkpoint} is of an earlier run: resume it, or use another output")
        self._start_files()
        saved_at = time.monotonic()
        with self._progress() as advance:
            for epoch in range(self.step // self.batches.batch_count, self.settings.epochs):
                losses, started = _Means(), time.monotonic()
                for batch in self.batches.epoch(epoch, start=self.step - epoch * self.batches.batch_count):
                    losses.add(self._train_step(batch), len(batch.crops))
                    advance(epoch)
                    due = time.monotonic() - saved_at > self.settings.checkpoint_seconds
                    if due and self.step % self.batches.batch_count:  # the last step is saved with its validation
                        self.seconds += time.monotonic() - started
                        self._save()
                        saved_at = started = time.monotonic()
                self.seconds += time.monotonic() - started
                validated = (epoch + 1) % self.settings.validate_every == 0 or epoch + 1 == self.settings.epochs
                if validated:
                    figures = self.validate(self.average.module)
                self._log(epoch, losses, figures if validated else {})
                if validated or time.monotonic() - saved_at > self.settings.checkpoint_seconds:
                    self._save()
                    saved_at = time.monotonic()
        return figures

    def _train_step(self, batch: Batch) -> dict[str, Tensor]:
        self.network.train()
        crops = batch.crops
        if self.settings.channels_last:
            crops = crops.contiguous(memory_format=torch.channels_last)
        with self.accelerator.autocast():
            predictions = self.network(crops)
        losses = total_loss(predictions, batch, self.settings, self.grid)
        if not torch.isfinite(losses["loss"]):
            parts = ", ".join(f"{name} {value.item():.4g}" for name, value in losses.items())
            raise FloatingPointError(f"the loss is not finite at step {self.step} ({parts}); try a lower learning_rate")
        self.accelerator.backward(losses["loss"])
        self.accelerator.clip_grad_norm_(self.network.parameters(), self.settings.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.schedule.step()
        self.average.update_parameters(self.accelerator.unwrap_model(self.network))
        self.step += 1
        return {name: value.detach() for name, value in losses.items()}

    def _start_files(self) -> None:
        """settings.json, and log.jsonl without what a run that went further, or an earlier one, has left in it."""
        if not self.accelerator.is_main_process:
            return
        (self.output / "settings.json").write_text(json.dumps(asdict(self.settings), indent=2))
        log = self.output / "log.jsonl"
        if log.exists():
            lines = log.read_text().splitlines(keepends=True)
            log.write_text("".join(line for line in lines if json.loads(line)["step"] <= self.step))

    def _save(self) -> None:
        if not self.accelerator.is_main_process:
            return
        state = {
            "network": self.accelerator.unwrap_model(self.network).state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "settings": self._settings,
            "identity": self.identity,
        }
        write_checkpoint(self.checkpoint, state)

    def _log(self, epoch: int, losses: "_Means", figures: dict[str, float]) -> None:
        if not self.accelerator.is_main_process:
            return
        line: dict[str, Any] = {
            "epoch": epoch + 1,
            "step": self.step,
            "samples": self.step * self.settings.batch_size,
            "seconds": round(self.seconds, 1),
            "rate": self.schedule.get_last_lr()[0],
            **{name: round(value, 5) for name, value in losses.means().items()},
            **{name: round(value, 5) for name, value in figures.items()},
        }
        with (self.output / "log.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        logger.info("%s", ", ".join(f"{name} {value:.5g}" for name, value in line.items()))

    def _progress(self) -> "_ProgressBar":
        return _ProgressBar(self.steps, self.step, shown=self.accelerator.is_main_process)


class _Means:
    """Means over an epoch, weighted by batch size, without waiting for the device at each step."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.count = 0

    def add(self, values: dict[str, Tensor], count: int) -> None:
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, torch.zeros_like(value)) + value * count
        self.count += count

    def means(self) -> dict[str, float]:
        return {name: value.item() / max(1, self.count) for name, value in self.sums.items()}


class _ProgressBar:
    def __init__(self, total: int, done: int, shown: bool) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        console = Console(stderr=True)
        self.progress = Progress(*columns, console=console, disable=not (shown and console.is_terminal))
        self.task = self.progress.add_task("training", total=total, completed=done)

    def __enter__(self) -> Callable[[int], None]:
        self.progress.start()
        return lambda epoch: self.progress.update(self.task, advance=1, description=f"epoch {epoch + 1}")

    def __exit__(self, *_: object) -> None:
        self.progress.stop()
