"""The device and the model that options name."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from tokenpose.commands.options import DEFAULT_MODEL

if TYPE_CHECKING:
    from tokenpose.models.tokenpose import TokenPose


def choose_device(name: str | None) -> str:
    """Check that the named device is there; None chooses cuda if it is there, or cpu."""
    import torch

    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(name).type
    except RuntimeError as error:
        message = f"unknown device {name!r}; give cpu, cuda, cuda:1 or mps"
        raise typer.BadParameter(message, param_hint="--device") from error
    missing = {"cuda": not torch.cuda.is_available(), "mps": not torch.backends.mps.is_available()}
    if missing.get(kind):
        raise typer.BadParameter(f"there is no {kind} device on this machine; use cpu", param_hint="--device")
    return name


def choose_model(name: str | None, weights: Path | None, device: str, optimized: bool = False) -> "TokenPose":
    """Make the named model with its bundled weights, or the model in a weights file, which has to be the named one."""
    from tokenpose.deploy.optimization import optimize
    from tokenpose.models.create import create_model, read_model

    if weights is None:
        model = create_model(name or DEFAULT_MODEL, pretrained=True, device=device)
    else:
        model = read_model(weights, device) if name is None else create_model(name, weights=weights, device=device)
    return optimize(model) if optimized else model


def choose_named_model(name: str | None, weights: Path | None, device: str) -> "tuple[str, TokenPose]":
    """Make a model, with a title that tells it from another: its weights file or its name."""
    model = choose_model(name, weights, device)
    return str(weights or model.card.get("name") or name or DEFAULT_MODEL), model
