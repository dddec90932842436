"""The training loop: it is handed a network, batches and a validation callable, and makes none of them."""

import json
import logging
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn

from tokenpose.data.augment import Batch
from tokenpose.data.batches import TrainingBatches
from tokenpose.files import named, write_text
from tokenpose.training.checkpoints import check_state, damaged, read_checkpoint, write_checkpoint
from tokenpose.training.curve import draw_curve
from tokenpose.training.diagnosis import diagnose
from tokenpose.training.graphs import RecordedStep, ask_finite
from tokenpose.training.interruptions import Interruptions
from tokenpose.training.objective import Totals, total_loss
from tokenpose.training.optim import MovingAverage, make_optimizer, make_schedule
from tokenpose.training.progress import Means, ProgressBar, read_log, timed
from tokenpose.training.settings import WITHOUT_EFFECT, TrainingSettings

logger = logging.getLogger(__name__)

Validate = Callable[[nn.Module], dict[str, float]]

_HASHED = {"spec", "data", "validation data"}
"""Of a run's identity: what says nothing to a reader."""


class Trainer:
    """One run: `train` goes on from wherever its state is, `resume` puts it where a checkpoint was written.

    In ``output``, which is made when training starts: checkpoint.pt, log.jsonl (a line per epoch), curve.png,
    settings.json, and model.safetensors, if ``validate`` writes it. ``network`` has its
    ``backbone`` and what can be compiled as attributes. ``validate`` is called in every process, ``draw`` in the main
    one after each epoch. ``identity``: plain values, besides the settings, that must be the same when a run is resumed.
    ``made_of``: what else settings.json says.

    With several processes each goes through its part of every batch; only the main one writes.
    """

    def __init__(
        self,
        network: Any,
        batches: TrainingBatches,
        validate: Validate,
        settings: TrainingSettings,
        output: Path,
        accelerator: Accelerator,
        grid: tuple[int, int],
        identity: dict[str, Any] | None = None,
        made_of: dict[str, Any] | None = None,
        draw: Callable[[nn.Module], None] | None = None,
    ) -> None:
        self.settings, self.batches, self.validate, self.output, self.grid = settings, batches, validate, output, grid
        self.accelerator, self.identity, self.made_of, self.draw = accelerator, identity or {}, made_of or {}, draw
        _check_parts(batches, settings)
        if settings.channels_last:
            network = network.to(memory_format=torch.channels_last)
        if settings.sync_batch_norm:
            network = _synchronise_batch_norms(network, accelerator.device)
        self.backbone: Any = network.backbone
        if settings.freeze_backbone:
            self.backbone.requires_grad_(False)
        network = network.to(accelerator.device)
        optimizer = make_optimizer(network, self.backbone, settings)
        self.average: Any = MovingAverage(network, settings.average).to(accelerator.device)
        if settings.compile:
            for module in network.compilable():
                module.compile(dynamic=False)  # batches are of one size
        self.network, self.optimizer = accelerator.prepare(network, optimizer)
        self.recorded = _record_steps(self, settings)
        self.warm_ups = 0
        self.unsettled: Callable[[], bool] | None = None
        """Whether the loss of the latest step is finite, where that wasn't asked yet."""
        self.steps = settings.epochs * batches.batch_count
        self.schedule = make_schedule(self.optimizer, settings, self.steps)
        self.interruptions = Interruptions(patient=accelerator.num_processes > 1)
        self.stop_is_agreed = False
        self.step = self.saved_step = 0
        self.epochs_done = 0
        """Trained, validated where that was due, and logged."""
        self.saved_at = 0.0
        self.seconds = 0.0
        self.losses = Means()
        """Of the epoch at hand."""

    @property
    def checkpoint(self) -> Path:
        """Where the run's state lies."""
        return self.output / "checkpoint.pt"

    @property
    def _settings_text(self) -> str:
        return json.dumps({**asdict(self.settings), **self.made_of}, indent=2)

    @property
    def _settings(self) -> dict[str, Any]:
        values: dict[str, Any] = json.loads(json.dumps(asdict(self.settings)))
        return values

    @property
    def weights(self) -> Path:
        """Where `validate` may write the averaged weights."""
        return self.output / "model.safetensors"

    def refuse_earlier(self) -> None:
        """Raise FileExistsError where a new run would overwrite what an earlier one has left.

        The same settings alone don't count: a run leaves them that is killed before its first checkpoint.
        """
        if self.checkpoint.exists():
            raise FileExistsError(f"{self.checkpoint} is of an earlier run: resume it, or use another output")
        settings = self.output / "settings.json"
        same = settings.exists() and settings.read_bytes() == self._settings_text.encode()
        for path in (self.weights, self.log, *(() if same else (settings,))):
            if path.exists():
                raise FileExistsError(
                    f"{path} is of an earlier run, whose checkpoint is not there: use another output, or move it away"
                )

    def resume(self) -> None:
        """Continue where the checkpoint was written.

        Raises FileNotFoundError, and ValueError for other settings, damaged checkpoints and damaged logs.
        """
        state = read_checkpoint(self.checkpoint)
        check_state(state, self.checkpoint)
        saved, current = {**state["settings"], **state["identity"]}, {**self._settings, **self.identity}
        names = {**current, **saved}  # those that only one of them knows, too
        differing = [
            f"{key} {saved.get(key)!r:.200}, not {current.get(key)!r:.200}" if key not in _HASHED else key
            for key in names
            if key not in WITHOUT_EFFECT and saved.get(key) != current.get(key)
        ]
        if differing:
            raise ValueError(
                f"{self.checkpoint} belongs to a run with other settings ({'; '.join(differing)}): use another output"
            )
        try:
            self._load(state)
        except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise ValueError(damaged(self.checkpoint, " ".join(str(error).split()))) from error
        if self.log.exists():
            read_log(self.log)
        logger.info("resumed at step %d of %d", self.step, self.steps)

    def _load(self, state: dict[str, Any]) -> None:
        self.accelerator.unwrap_model(self.network).load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if self.accelerator.scaler is not None and state.get("scaler") is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.step, self.epochs_done, self.seconds = state["step"], state["epochs_done"], state["seconds"]
        self.saved_step = self.step
        self.losses = Means(since=self.step)
        if state.get("losses") is not None:
            share = 1.0 if self.accelerator.is_main_process else 0.0  # the others add nothing to what was summed up
            self.losses.load_state_dict(state["losses"], share, self.accelerator.device)

    def train(self) -> dict[str, float]:
        """Train to the last epoch; the last validation's figures.

        Ctrl-C, SIGTERM, an image that can't be read and a reading process that was killed end the run after the step at
        hand, which is saved, with a line that says so. Raises FloatingPointError, with a diagnosis, for a loss that
        isn't finite, and before weights that aren't are validated or written; and what `refuse_earlier` raises.
        """
        if self.step == 0:
            self.refuse_earlier()
        self._start_files()
        with self.interruptions, self._progress() as advance:
            try:
                figures = self._train_epochs(advance)
                for tracker in self.accelerator.trackers:  # end_training would part the processes as well
                    tracker.finish()
                return figures
            except (KeyboardInterrupt, SystemExit) as error:
                self._leave(error)
                raise
            except OSError as error:
                try:  # a signal to all of our processes may have killed those that read images first
                    self.interruptions.raise_pending()
                except (KeyboardInterrupt, SystemExit) as ending:
                    self._leave(ending)
                    raise
                self._leave(error)
                raise

    def _train_epochs(self, advance: Callable[[int], None]) -> dict[str, float]:
        figures: dict[str, float] = {}
        self.saved_at = time.monotonic()
        for epoch in range(self.epochs_done, self.settings.epochs):
            self._train_epoch(epoch, advance)
            validated = (epoch + 1) % self.settings.validate_every == 0 or epoch + 1 == self.settings.epochs
            self._check_weights()
            if self.draw is not None and self.accelerator.is_main_process:
                self.draw(self.average.module)
            if validated:
                figures = self.validate(self.average.module)
            with self.interruptions.held():
                self._log(epoch, self.losses, figures if validated else {})
                self.epochs_done, self.losses = epoch + 1, Means(since=self.step)
                if validated or self._save_is_due():
                    self._save()
        return figures

    def _train_epoch(self, epoch: int, advance: Callable[[int], None]) -> None:
        started = time.monotonic()
        batches = self.batches.epoch(epoch, start=self.step - epoch * self.batches.batch_count)
        for batch, waiting in timed(self._or_tell(batches)):
            with self.interruptions.held():
                self.losses.add(self._train_step(batch))
                self.losses.waited += waiting
                advance(epoch)
                if self._save_is_due() and self.step % self.batches.batch_count:  # the last is saved once validated
                    self.seconds += time.monotonic() - started
                    self._save()
                    started = time.monotonic()
            if self.stop_is_agreed:
                self.interruptions.raise_pending()
        self._settle()
        self.seconds += time.monotonic() - started

    def _train_step(self, batch: Batch) -> dict[str, Tensor]:
        self.network.train()
        if self.settings.freeze_backbone:
            self.backbone.eval()
        self._settle()
        losses = self._learn(batch) if self.recorded is None else self._replay(self.recorded, batch)
        self.schedule.step()
        self.average.update(self.step)
        self.step += 1
        return losses

    def _learn(self, batch: Batch) -> dict[str, Tensor]:
        """A step of the weights; none where the loss is not finite."""
        losses, is_finite = self._gradients(batch)
        self._check_finite(batch, losses, is_finite(), self.step)
        self._update()
        return losses

    def _replay(self, recorded: RecordedStep, batch: Batch) -> dict[str, Tensor]:
        """The same as a CUDA graph. Whether its loss was finite is asked when the next batch is there: `_settle`."""
        if self.warm_ups < recorded.WARM_UP:
            self.warm_ups += 1
            return recorded.warm_up(lambda: self._learn(batch))
        losses = recorded.step(batch)
        self.unsettled = ask_finite(losses["loss"])
        return losses

    def _settle(self) -> None:
        """Raise FloatingPointError if the loss of the step before was not finite."""
        if self.unsettled is not None:
            assert self.recorded is not None
            assert self.recorded.batch is not None
            is_finite, self.unsettled = self.unsettled(), None
            self._check_finite(self.recorded.batch, self.recorded.losses, is_finite, self.step - 1)

    def _gradients(self, batch: Batch) -> tuple[dict[str, Tensor], Callable[[], bool]]:
        """The step's losses, whose gradients are there then, and whether they are finite."""
        totals = self._totals(batch)
        parts = _split(batch, self.settings.accumulate)
        losses: dict[str, Tensor] = {}
        are_finite = []
        for number, part in enumerate(parts, 1):
            is_last = number == len(parts)
            with nullcontext() if is_last else self.accelerator.no_sync(self.network):
                of_part, is_finite = self._backward(part, totals)
            are_finite.append(is_finite)
            losses = {name: losses[name] + value if losses else value for name, value in of_part.items()}
        return losses, lambda: all(is_finite() for is_finite in are_finite)

    def _update(self) -> None:
        if self.settings.clip:
            self.accelerator.clip_grad_norm_(self.network.parameters(), self.settings.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _backward(self, part: Batch, totals: Totals) -> tuple[dict[str, Tensor], Callable[[], bool]]:
        """The losses of a part of the step, and whether they are finite; their gradients are added to those there."""
        crops = part.crops
        if self.settings.channels_last:
            crops = crops.contiguous(memory_format=torch.channels_last)
        with self.accelerator.autocast():
            predictions = self.network(crops)
        losses = total_loss(predictions, part, self.settings, self.grid, totals)
        is_recording = losses["loss"].is_cuda and torch.cuda.is_current_stream_capturing()
        is_finite = (lambda: True) if is_recording else ask_finite(losses["loss"])  # a recording asks by itself
        # gradients are averaged over processes, and the losses of the processes add up
        self.accelerator.backward(losses["loss"] * self.accelerator.num_processes)
        return {name: value.detach() for name, value in losses.items()}, is_finite

    def _or_tell(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches; what goes wrong with them is told to the other processes, which wait at their next step."""
        try:
            with self.interruptions.held():  # Python swallows, with a traceback, what is raised while it forks workers
                first = list(islice(batches, 1))
            yield from first
            yield from batches
        except OSError:
            if self.accelerator.num_processes > 1:
                self._agree(weights=0.0, people=0, has_failed=True)
            raise

    def _totals(self, batch: Batch) -> Totals:
        """Over all processes; an interruption of one of them is told to all on the way, so that they stop together."""
        if self.accelerator.num_processes == 1:
            return Totals(people=batch.weights.new_full((), len(batch.weights)), weights=batch.weights.sum())
        weights, people, _, failed = self._agree(batch.weights.sum().item(), len(batch.weights))
        if failed:
            raise OSError("another process can't go on: its message says why")
        return Totals(people=people, weights=weights)

    def _agree(self, weights: float, people: int, has_failed: bool = False) -> tuple[Tensor, ...]:
        """Sums over all processes of what each has to say at the start of a step."""
        interrupted = self.interruptions.pending is not None
        mine = torch.tensor([weights, people, interrupted, has_failed], device=self.accelerator.device)
        sums: tuple[Tensor, ...] = self.accelerator.reduce(mine, "sum").unbind()
        self.stop_is_agreed = bool(sums[2])
        if self.stop_is_agreed and not interrupted:
            self.interruptions.pending = signal.SIGTERM
        return sums

    def _check_finite(self, batch: Batch, losses: dict[str, Tensor], is_finite: bool, step: int) -> None:
        """Every process raises where the loss of one is not finite: they share the gradient."""
        broken = not is_finite
        if self.accelerator.num_processes > 1:
            broken = bool(self.accelerator.reduce(losses["loss"].new_full((), float(broken)), "sum"))
        if not broken:
            return
        if is_finite:
            raise FloatingPointError(f"the loss of another process is not finite at step {step}")
        parts = ", ".join(f"{name} {value.item():.4g}" for name, value in losses.items())
        found = diagnose(self.accelerator.unwrap_model(self.network), batch.crops)
        raise FloatingPointError(
            f"the loss is not finite at step {step} ({parts}); {found}; learning rate "
            f"{self.schedule.get_last_lr()[0]:.3g}: {self._advice()}"
        )

    def _advice(self) -> str:
        """What to do about a loss that isn't finite. Another rate is another run, which can't be resumed."""
        advice = "try a lower one" + (", or precision fp32" if self.settings.precision != "fp32" else "")
        if not self.weights.exists():
            return f"{advice}, in another output"
        return (
            f"{advice}: --weights {self.weights} --output ANOTHER, without --resume, goes on from the last validation"
        )

    def _check_weights(self) -> None:
        """Before they are written, over what an earlier step left: they are the same in every process."""
        values = self.accelerator.unwrap_model(self.network).state_dict()
        broken = [name for name, value in values.items() if not value.isfinite().all()]
        if broken:
            names = ", ".join(broken[:3]) + (", ..." if len(broken) > 3 else "")
            raise FloatingPointError(
                f"weights are not finite after step {self.step}: {names}; learning rate "
                f"{self.settings.learning_rate:.3g}: {self._advice()}"
            )

    def _start_files(self) -> None:
        """settings.json, and log.jsonl without what a run that went further, or an earlier one, has left in it."""
        if not self.accelerator.is_main_process:
            return
        self.output.mkdir(parents=True, exist_ok=True)
        write_text(self.output / "settings.json", self._settings_text)
        if self.log.exists():
            kept = [line for line in read_log(self.log) if line["epoch"] <= self.epochs_done]
            write_text(self.log, "".join(json.dumps(line) + "\n" for line in kept))
        for tracker in self.settings.trackers:
            logger.info("%s: in %s", tracker, self.output)
        if self.settings.trackers:
            self.accelerator.init_trackers("trackers", json.loads(json.dumps(self._flat_settings())))

    def _flat_settings(self) -> dict[str, Any]:
        """Plain values, which is what trackers take."""
        values = {**asdict(self.settings), **asdict(self.settings.augmentation)}
        return {name: value if isinstance(value, int | float) else str(value) for name, value in values.items()}

    @property
    def log(self) -> Path:
        """A line of JSON per epoch."""
        return self.output / "log.jsonl"

    def _save_is_due(self) -> bool:
        return time.monotonic() - self.saved_at > self.settings.checkpoint_seconds

    def _save(self) -> None:
        self._settle()
        self._check_weights()
        if self.accelerator.is_main_process:
            scaler = self.accelerator.scaler
            state = {
                "network": self.accelerator.unwrap_model(self.network).state_dict(),
                "average": self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
                "scaler": None if scaler is None else scaler.state_dict(),
                "step": self.step,
                "epochs_done": self.epochs_done,
                "seconds": self.seconds,
                "settings": self._settings,
                "identity": self.identity,
                # with several processes each has its own sums, and they don't save at the same time
                "losses": self.losses.state_dict() if self.accelerator.num_processes == 1 else None,
            }
            write_checkpoint(self.checkpoint, state)
        self.saved_step, self.saved_at = self.step, time.monotonic()

    def _leave(self, error: BaseException) -> None:
        """Save what is there, and say what happened and how to go on."""
        reason = {KeyboardInterrupt: "Ctrl-C", SystemExit: "a signal"}.get(type(error), "an error")
        lasts = isinstance(error, OSError) and not isinstance(error, ChildProcessError)  # a broken image, a full disk
        first = "once it is mended, " if lasts else ""
        try:
            if self.step > self.saved_step:
                self._save()
        except (OSError, FloatingPointError) as failure:
            logger.warning("stopped by %s at step %d of %d; %s", reason, self.step, self.steps, failure)
            return
        if self.accelerator.is_main_process and self.checkpoint.exists():
            logger.warning(
                "stopped by %s at step %d of %d; the checkpoint has step %d: %sthe same command with --resume goes on",
                reason, self.step, self.steps, self.saved_step, first,
            )  # fmt: skip

    def _log(self, epoch: int, losses: Means, figures: dict[str, float]) -> None:
        means = losses.means(self.accelerator)
        if not self.accelerator.is_main_process:
            return
        line: dict[str, Any] = {
            "epoch": epoch + 1,
            "step": self.step,
            "samples": self.step * self.batches.people_a_step,
            "seconds": round(self.seconds, 1),
            "waiting": round(losses.waited, 1),
            **({"resumed_at": losses.since} if losses.since % self.batches.batch_count or not means else {}),
            "rate": self.schedule.get_last_lr()[0],  # not the backbone's
            **{name: float(f"{value:.8g}") for name, value in (means | figures).items()},
        }
        with named(self.log), self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self.accelerator.log({name: value for name, value in line.items() if name != "step"}, step=self.step)
        if figures:
            try:
                draw_curve(read_log(self.log), self.output / "curve.png")
            except ModuleNotFoundError:
                logger.info('no curve.png: it needs matplotlib, pip install "tokenpose[plot]"')
            except ValueError as error:
                logger.warning("no curve.png: %s", error)
        logger.info("%s", ", ".join(f"{name} {value:.5g}" for name, value in line.items()))

    def _progress(self) -> ProgressBar:
        return ProgressBar(self.steps, self.step, shown=self.accelerator.is_main_process)


def _split(batch: Batch, parts: int) -> list[Batch]:
    """The people of a batch in so many parts, as equal as can be; empty ones are left out."""
    if parts == 1:
        return [batch]
    split = zip(*(values.tensor_split(parts) for values in batch), strict=True)
    return [Batch(*values) for values in split if len(values[0])]


def _check_parts(batches: TrainingBatches, settings: TrainingSettings) -> None:
    """Every process has to have as many parts: batch norms over all processes wait for each other in each."""
    fewest = batches.people_a_step // batches.processes
    if settings.accumulate > fewest:
        raise ValueError(
            f"accumulate {settings.accumulate} needs as many people in each process; a step has {fewest} at least"
        )


def _record_steps(trainer: Trainer, settings: TrainingSettings) -> RecordedStep | None:
    if not settings.graph:
        return None
    accelerator = trainer.accelerator
    reasons = {
        f"this run is on {accelerator.device.type}, and CUDA graphs are for GPUs": accelerator.device.type != "cuda",
        "several processes have to agree on each step": accelerator.num_processes > 1,
    }
    for reason, holds in reasons.items():
        if holds:
            raise ValueError(f"a step can't be recorded as a graph: {reason}; leave graph out")
    return RecordedStep(lambda batch: trainer._gradients(batch)[0], trainer._update, trainer.optimizer.optimizer)


def _synchronise_batch_norms(network: nn.Module, device: torch.device) -> Any:
    if device.type != "cuda":
        raise ValueError(f"sync_batch_norm works on GPUs; this run is on {device.type}: leave it out")
    return convert_sync_batchnorm(network)  # timm's: torch's would lose the activations inside its norms
