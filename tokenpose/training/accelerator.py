"""Set up accelerate for a training run."""

import atexit
import os
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import distributed

from tokenpose.training.settings import TrainingSettings

if TYPE_CHECKING:
    from accelerate import Accelerator


def make_accelerator(settings: TrainingSettings, output: Path) -> "Accelerator":
    """Make the Accelerator that gives this process its device, precision, trackers and links to other processes.

    Raises ModuleNotFoundError without the `train` extra, and ValueError if the precision isn't available here or a
    tracker isn't installed.
    """
    try:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
        from accelerate.tracking import get_available_trackers
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('training needs accelerate: pip install "tokenpose[train]"') from error
    available = sorted(str(tracker) for tracker in get_available_trackers())
    if missing := sorted(set(settings.trackers) - set(available)):
        raise ValueError(
            f"trackers that aren't installed, or that accelerate doesn't know: {', '.join(missing)}; "
            f"available are {', '.join(available) or 'none'}"
        )
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    precision = "no" if settings.precision == "fp32" else settings.precision
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if launched not in ("no", precision):
        raise ValueError(
            f"accelerate was launched with mixed precision {launched}, but the settings say {settings.precision}: "
            f"set precision {launched}, or launch accelerate without mixed precision"
        )
    was_joined = distributed.is_available() and distributed.is_initialized()
    AcceleratorState._reset_state()  # an earlier run in this process may have used another precision
    try:
        accelerator = Accelerator(
            cpu=several and not torch.cuda.is_available(),
            mixed_precision=precision,
            log_with=list(settings.trackers) or None,
            project_dir=output,
        )
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"training in precision {settings.precision} can't start here: {error}") from error
    if several and not was_joined:  # a group that is still there at exit may abort its process
        atexit.register(accelerator.state.destroy_process_group)
    if settings.precision == "fp16" and accelerator.device.type == "cpu":  # accelerate would train in float32
        raise ValueError("precision fp16 needs a GPU, and this run is on a CPU: use fp32 or bf16")
    return accelerator
