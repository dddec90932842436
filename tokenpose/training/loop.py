"""The training loop: epochs of steps, validation, and ending a run early."""

import logging
import time
from collections.abc import Callable
from typing import Any

from torch import nn

from tokenpose.data.batches import TrainingBatches
from tokenpose.training.advice import Validated, advise_next
from tokenpose.training.folder import RunFolder
from tokenpose.training.progress import Means, PictureClock, ProgressBar, timed
from tokenpose.training.step import TrainingStep

logger = logging.getLogger(__name__)

Validate = Callable[[nn.Module], dict[str, float]]
"""The averaged network -> its scores in percent, first the one that says which validation is best."""


class Trainer:
    """One run: `train` continues from the current state, `resume` loads the state of the checkpoint.

    ``step`` learns, ``folder`` holds the run's files, ``batches`` are those of this process. ``validate`` is called
    with the averaged network in every process, and returns its scores; ``draw`` is called with it in the main process
    after each epoch. ``advises``: the last line says what to do next. Only the main process writes files.

    Raises ValueError if ``accumulate`` splits a step into more parts than a process has people.
    """

    def __init__(
        self,
        step: TrainingStep,
        folder: RunFolder,
        batches: TrainingBatches,
        validate: Validate,
        draw: Callable[[nn.Module], None] | None = None,
        advises: bool = True,
    ) -> None:
        _check_parts(batches, step.settings.accumulate)
        self.step, self.folder, self.batches, self.validate, self.draw = step, folder, batches, validate, draw
        self.advises = advises
        self.settings, self.accelerator = step.settings, step.accelerator
        self.interruptions = step.agreement.interruptions
        self.epochs_done = 0
        """Epochs that are trained, validated if that was due, and logged."""
        self.seconds = 0.0
        """Seconds spent on training, without validation."""
        self.losses = Means()
        """Mean losses of the current epoch."""
        self.validated: list[Validated] = []
        """The run's validations."""
        self.extensions: list[int] = []
        """Epochs of each extension of the run."""
        self.saved_step, self.saved_at = 0, 0.0
        self.predictions_clock, self.curve_clock = PictureClock(), PictureClock()

    @property
    def epochs(self) -> int:
        """The number of epochs of the run with its extensions."""
        return self.settings.epochs + sum(self.extensions)

    def resume(self, extend: int = 0) -> None:
        """Continue where the checkpoint was written, or ``extend`` a finished run by so many epochs.

        An extension starts again from the full learning rate. Raises what `RunFolder.read_state` raises, and ValueError
        for an extension of a run that isn't finished.
        """
        state = self.folder.read_state()
        try:
            extensions = list(state["extensions"])
            epochs = self.settings.epochs + sum(extensions)
            if extend and state["epochs_done"] < epochs:
                raise ValueError(
                    f"{self.folder.path} has {state['epochs_done']} of {epochs} epochs: it can be extended when it is "
                    "finished; resume it without an extension first"
                )
            self.extensions = [*extensions, extend] if extend else extensions
        except TypeError as error:
            raise self.folder.refuse_state(error) from error
        try:
            self.step.load_state_dict(state, [epochs * self.batches.batch_count for epochs in self.extensions])
            self._load_progress(state)
        except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise self.folder.refuse_state(error) from error
        logger.info("resumed at step %d of %d", self.step.number, self.step.total)

    def train(self) -> dict[str, float]:
        """Train to the last epoch, and return the scores of the last validation.

        Ctrl-C, SIGTERM, SIGHUP, an unreadable image and a killed reading process end the run after the current step;
        its state is saved and a log line says so. Raises FloatingPointError, with a diagnosis, if the loss or the
        weights are not finite (such weights are neither validated nor written), and what `RunFolder.refuse_earlier`
        raises.
        """
        if self.step.number == 0:
            self.folder.refuse_earlier()
        if self.accelerator.is_main_process:
            self._start_files()
        with self.interruptions, self._progress() as advance:
            try:
                figures = self._train_epochs(advance)
                for tracker in self.accelerator.trackers:  # end_training would also end the process group
                    tracker.finish()
                return figures
            except (KeyboardInterrupt, SystemExit) as error:
                self._leave(error)
                raise
            except OSError as error:
                try:  # a signal to the process group may have killed the reading processes first
                    self.interruptions.raise_pending()
                except (KeyboardInterrupt, SystemExit) as ending:
                    self._leave(ending)
                    raise
                self._leave(error)
                raise

    def _train_epochs(self, advance: Callable[[int], None]) -> dict[str, float]:
        figures: dict[str, float] = {}
        self.saved_at = time.monotonic()
        for epoch in range(self.epochs_done, self.epochs):
            self._train_epoch(epoch, advance)
            is_last = epoch + 1 == self.epochs
            is_validated = (epoch + 1) % self.settings.validate_every == 0 or is_last
            self.step.check_weights()
            is_drawn = self.accelerator.is_main_process and self.predictions_clock.is_due(is_last)
            if self.draw is not None and is_drawn:
                self.draw(self.step.average.module)
            if is_validated:
                figures = self.validate(self.step.average.module)
            with self.interruptions.held():
                if is_validated:
                    self._note(epoch, figures)
                self._log(epoch, figures if is_validated else {})
                self.epochs_done, self.losses = epoch + 1, Means(since=self.step.number)
                if is_validated or self._save_is_due():
                    self._save()
        if figures and self.advises and self.accelerator.is_main_process:
            latest = [self.settings.epochs, *self.extensions][-1]
            logger.info("%s", advise_next(self.validated, tuple(figures), latest))
        return figures

    def _note(self, epoch: int, figures: dict[str, float]) -> None:
        """Remember a validation, and keep its weights if it is the best one and the settings ask for that."""
        latest = Validated(epoch + 1, tuple(figures.values()))
        is_best = all(latest.rank > validated.rank for validated in self.validated)
        self.validated.append(latest)
        if is_best and self.settings.keep == "best" and self.accelerator.is_main_process:
            self.folder.keep_best()

    def _train_epoch(self, epoch: int, advance: Callable[[int], None]) -> None:
        started = time.monotonic()
        batches = self.batches.epoch(epoch, start=self.step.number - epoch * self.batches.batch_count)
        for batch, waiting in timed(self.step.agreement.share_errors(batches)):
            with self.interruptions.held():
                self.losses.add(self.step.take(batch))
                self.losses.waited += waiting
                advance(epoch)
                is_last = self.step.number % self.batches.batch_count == 0  # saved after its validation
                if self._save_is_due() and not is_last:
                    self.seconds += time.monotonic() - started
                    self._save()
                    started = time.monotonic()
            self.step.agreement.raise_if_stopping()
        self.step.settle()
        self.seconds += time.monotonic() - started

    def _start_files(self) -> None:
        self.folder.start(self.epochs_done)
        for tracker in self.settings.trackers:
            logger.info("%s: in %s", tracker, self.folder.path)
        if self.settings.trackers:
            self.accelerator.init_trackers("trackers", self.folder.flat_settings())

    def _log(self, epoch: int, figures: dict[str, float]) -> None:
        losses = self.losses
        means = losses.means(self.accelerator)
        if not self.accelerator.is_main_process:
            return
        line: dict[str, Any] = {
            "epoch": epoch + 1,
            "step": self.step.number,
            "samples": self.batches.people_until(self.step.number),
            "seconds": round(self.seconds, 1),
            "waiting": round(losses.waited, 1),
            **({"resumed_at": losses.since} if losses.since % self.batches.batch_count or not means else {}),
            "rate": self.step.rate,
            **{name: float(f"{value:.8g}") for name, value in (means | figures).items()},
        }
        self.folder.write_epoch(line)
        if figures and self.curve_clock.is_due(is_last=epoch + 1 == self.epochs):
            self.folder.draw_curve()
        self.accelerator.log({name: value for name, value in line.items() if name != "step"}, step=self.step.number)
        logger.info("%s", ", ".join(f"{name} {value:.5g}" for name, value in line.items()))

    def _save_is_due(self) -> bool:
        return time.monotonic() - self.saved_at > self.settings.checkpoint_seconds

    def _save(self) -> None:
        self.step.settle()
        self.step.check_weights()
        if self.accelerator.is_main_process:
            self.folder.write_state({**self.step.state_dict(), **self._progress_state()})
        self.saved_step, self.saved_at = self.step.number, time.monotonic()

    def _progress_state(self) -> dict[str, Any]:
        # with several processes each has its own sums, and can't reduce them here: they don't save at the same time
        losses = self.losses.state_dict() if self.accelerator.num_processes == 1 else None
        return {
            "epochs_done": self.epochs_done,
            "extensions": self.extensions,
            "validated": [tuple(validated) for validated in self.validated],
            "seconds": self.seconds,
            "losses": losses,
        }

    def _load_progress(self, state: dict[str, Any]) -> None:
        self.epochs_done, self.seconds = state["epochs_done"], state["seconds"]
        self.validated = [Validated(*validated) for validated in state["validated"]]
        self.saved_step = self.step.number
        self.losses = Means(since=self.step.number)
        if state.get("losses") is not None:
            share = 1.0 if self.accelerator.is_main_process else 0.0  # saved sums count once
            self.losses.load_state_dict(state["losses"], share, self.accelerator.device)

    def _leave(self, error: BaseException) -> None:
        """Save the state, and log what happened and how to continue."""
        reason = {KeyboardInterrupt: "Ctrl-C", SystemExit: "a signal"}.get(type(error), "an error")
        lasts = isinstance(error, OSError) and not isinstance(error, ChildProcessError)  # a broken image, a full disk
        first = "once it is fixed, " if lasts else ""
        reached = f"stopped by {reason} at step {self.step.number} of {self.step.total}"
        try:
            if self.step.number > self.saved_step:
                self._save()
        except (OSError, FloatingPointError) as failure:
            logger.warning("%s; %s", reached, failure)
            return
        if self.accelerator.is_main_process and self.folder.checkpoint.exists():
            logger.warning(
                "%s; the checkpoint has step %d: %sthe same command with --resume continues",
                reached, self.saved_step, first,
            )  # fmt: skip

    def _progress(self) -> ProgressBar:
        return ProgressBar(self.step.total, self.step.number, shown=self.accelerator.is_main_process)


def _check_parts(batches: TrainingBatches, parts: int) -> None:
    """Check that each process can fill all parts: batch norms over all processes synchronize in each part."""
    fewest = batches.people_a_step // batches.processes
    if parts > fewest:
        raise ValueError(f"accumulate {parts} needs at least {parts} people in each process; one has {fewest}")
