"""Checkpoints of a run: written whole or not at all, and read without executing code."""

import os
from pathlib import Path
from typing import Any

import torch

from tokenpose.pickles import check_pickles


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write to a temporary file, then rename it: an interruption or a full disk leaves the older checkpoint.

    Raises OSError that names the file if it can't be written.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, RuntimeError) as error:
        partial.unlink(missing_ok=True)
        reason = error if isinstance(error, OSError) else error.__context__  # torch's writer hides what stopped it
        kept = "the one before it is whole" if path.exists() else "there is none before it"
        raise OSError(f"the checkpoint {path} can't be written ({reason or error}); {kept}") from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint. Raises FileNotFoundError, and ValueError if the file is not a checkpoint."""
    if not path.exists():
        raise FileNotFoundError(f"there is no checkpoint {path} to resume from")
    try:
        check_pickles(path)
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # bytes that aren't a pickle can raise anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path} is not a checkpoint that can be read: {reason:.200}") from error
    if not isinstance(state, dict) or "step" not in state or "settings" not in state:
        raise ValueError(f"{path} is not a checkpoint of a run: it lacks step or settings")
    return state


_STATE = {
    "network": dict, "average": dict, "optimizer": dict, "step": int, "epochs_done": int, "extensions": list,
    "seconds": float, "settings": dict, "identity": dict,
}  # fmt: skip


def check_state(state: dict[str, Any], path: Path) -> None:
    """Raise ValueError if a checkpoint lacks something that a run needs to continue."""
    wrong = [name for name, kind in _STATE.items() if not isinstance(state.get(name), kind)]
    if wrong:
        raise ValueError(damaged(path, f"it lacks {', '.join(wrong)}"))


def damaged(checkpoint: Path, reason: str) -> str:
    """The error message for a damaged checkpoint."""
    return (
        f"{checkpoint} is damaged ({reason:.200}): start again in another output, with --weights and the "
        "model.safetensors of this one if it is intact"
    )
