"""The folder of a run: its settings, log, curve, checkpoint and weights."""

import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tokenpose.files import locked, named, shown, write_text, written_whole
from tokenpose.training.checkpoints import check_state, damaged, read_checkpoint, write_checkpoint
from tokenpose.training.curve import draw_curve
from tokenpose.training.progress import read_log
from tokenpose.training.settings import WITHOUT_EFFECT, TrainingSettings

logger = logging.getLogger(__name__)

GROWTH = "growth"
"""The folder, in that of a run, of the stage in which a grown model's trunk learns."""

_HASHED = {"spec", "data", "validation data", "teacher", "grown from"}
"""Entries of a run's identity that errors only name: their values are hashes or long JSON."""


class RunFolder:
    """The files of a run: settings.json, log.jsonl (a line per epoch), curve.png, checkpoint.pt, `weights` and `best`.

    ``identity``: plain values, besides the settings, that must be the same when the run is resumed. ``made_of``: other
    entries of settings.json. ``labels``: the scores of the log, and what the curve calls them. No file is written
    before `start`.
    """

    def __init__(
        self,
        path: Path,
        settings: TrainingSettings,
        identity: Mapping[str, Any] | None = None,
        made_of: Mapping[str, Any] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        self.path, self.settings = path, settings
        self.identity, self.made_of = dict(identity or {}), dict(made_of or {})
        self.labels = dict(labels or {})
        self.checkpoint = path / "checkpoint.pt"
        self.weights = path / "model.safetensors"
        self.best = path / "best.safetensors"
        self.log = path / "log.jsonl"
        self.curve = path / "curve.png"
        self.settings_file = path / "settings.json"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Create the folder if needed, and hold it for this run. Raises BlockingIOError if another run holds it."""
        is_new = not self.path.exists()
        self.path.mkdir(parents=True, exist_ok=True)
        refusal = f"another run uses {self.path}: wait until it ends, or give another output"
        try:
            with locked(self.path / ".lock", refusal):
                yield
        finally:
            if is_new:
                with suppress(OSError):  # it isn't empty
                    self.path.rmdir()

    def refuse_earlier(self) -> None:
        """Raise FileExistsError if a new run would overwrite the files of an earlier one.

        Identical settings alone don't count: a run that was killed before its first checkpoint leaves them behind.
        """
        if self.checkpoint.exists():
            raise FileExistsError(f"{self.checkpoint} belongs to an earlier run: resume it, or use another output")
        same = self.settings_file.exists() and self.settings_file.read_bytes() == self._settings_text.encode()
        for path in (self.weights, self.best, self.log, *(() if same else (self.settings_file,))):
            if path.exists():
                raise FileExistsError(
                    f"{path} belongs to an earlier run that has no checkpoint: use another output, or move it away"
                )

    def start(self, epochs_done: int) -> None:
        """Write settings.json, and drop the lines of log.jsonl after ``epochs_done``."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_text(self.settings_file, self._settings_text)
        if self.log.exists():
            kept = [line for line in read_log(self.log) if line["epoch"] <= epochs_done]
            write_text(self.log, "".join(json.dumps(line) + "\n" for line in kept))

    def read_state(self) -> dict[str, Any]:
        """The checkpoint's state.

        Raises FileNotFoundError, and ValueError for a damaged checkpoint or log and for a run with other settings or
        another identity.
        """
        state = read_checkpoint(self.checkpoint)
        check_state(state, self.checkpoint)
        saved, current = {**state["settings"], **state["identity"]}, {**self._settings, **self.identity}
        names = {**current, **saved}  # including those that only one of them has
        differing = [
            f"{key} {shown(saved.get(key))}, not {shown(current.get(key))}" if key not in _HASHED else key
            for key in names
            if key not in WITHOUT_EFFECT and saved.get(key) != current.get(key)
        ]
        if differing:
            raise ValueError(
                f"{self.checkpoint} belongs to a run with other settings ({'; '.join(differing)}): use another output"
            )
        if self.log.exists():
            read_log(self.log)
        return state

    def refuse_state(self, error: Exception) -> ValueError:
        """The error for a checkpoint that doesn't fit the run, from what PyTorch raised about it."""
        return ValueError(damaged(self.checkpoint, " ".join(str(error).split())))

    def write_state(self, state: Mapping[str, Any]) -> None:
        """Write the checkpoint whole or not at all. Raises OSError that names the file."""
        write_checkpoint(self.checkpoint, {**state, "settings": self._settings, "identity": self.identity})

    def keep_best(self) -> None:
        """Copy the weights of the latest validation to `best`, whole or not at all."""
        with written_whole(self.best) as partial:
            shutil.copyfile(self.weights, partial)

    def write_epoch(self, line: Mapping[str, Any]) -> None:
        """Append an epoch's figures to the log."""
        with named(self.log), self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def draw_curve(self) -> None:
        """Draw the curve of all epochs, or log why that can't be done."""
        try:
            draw_curve(read_log(self.log), self.curve, self.labels)
        except ModuleNotFoundError:
            logger.info('no curve.png: it needs matplotlib, pip install "tokenpose[plot]"')
        except ValueError as error:
            logger.warning("no curve.png: %s", error)

    def advise(self) -> str:
        """What to do about a loss that isn't finite. A run can't be resumed with another learning rate."""
        advice = "try a lower one" + (", or precision fp32" if self.settings.precision != "fp32" else "")
        if not self.weights.exists():
            return f"{advice}, in another output"
        return (
            f"{advice}: --weights {self.weights} --output ANOTHER, without --resume, continues from the last validation"
        )

    def flat_settings(self) -> dict[str, int | float | str]:
        """The settings as plain values, for trackers."""
        values = {**asdict(self.settings), **asdict(self.settings.augmentation)}
        return {name: value if isinstance(value, int | float) else str(value) for name, value in values.items()}

    @property
    def _settings_text(self) -> str:
        return json.dumps({**asdict(self.settings), **self.made_of}, indent=2)

    @property
    def _settings(self) -> dict[str, Any]:
        values: dict[str, Any] = json.loads(json.dumps(asdict(self.settings)))
        return values


def check_output(output: Path, resume: bool = False) -> None:
    """Raise NotADirectoryError if the output is a file, FileNotFoundError if there is no run to resume."""
    if output.exists() and not output.is_dir():
        raise NotADirectoryError(f"the output {output} is a file, but a run needs a folder: give another output")
    checkpoint = output / "checkpoint.pt"
    if resume and not checkpoint.exists() and not (output / GROWTH / "checkpoint.pt").exists():
        raise FileNotFoundError(f"there is no checkpoint {checkpoint} to resume from")
