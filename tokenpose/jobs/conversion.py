"""Conversion of published checkpoints to weights files."""

from pathlib import Path

from tokenpose.files import make_folder
from tokenpose.models.create import create_model
from tokenpose.models.weights import CHECKPOINT_SUFFIXES, write_weights


def convert_checkpoint(checkpoint: Path, name: str, output: Path) -> None:
    """Write a published PyTorch checkpoint of the named model as a weights file. Every parameter has to fit.

    Raises ValueError for a file with another suffix and for weights of another model, and what `create_model` raises.
    """
    if checkpoint.suffix not in CHECKPOINT_SUFFIXES:
        suffixes = ", ".join(CHECKPOINT_SUFFIXES)
        raise ValueError(f"{checkpoint} is not a PyTorch checkpoint: its name must end in one of {suffixes}")
    model = create_model(name, weights=checkpoint)
    make_folder(output.parent)
    write_weights(model, output, model.card)
