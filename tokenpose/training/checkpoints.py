"""Checkpoints of a run: written whole or not at all, read back with nothing executed."""

import os
import pickle
from pathlib import Path
from typing import Any

import torch


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write beside the place first, then rename: an interruption leaves the older checkpoint."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Raises FileNotFoundError, or ValueError where the file is not a checkpoint."""
    if not path.exists():
        raise FileNotFoundError(f"there is no checkpoint {path} to resume from")
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, OSError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} is not a checkpoint that can be read: {error}") from error
    return state
