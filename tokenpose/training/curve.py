"""A run's log as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenpose.files import written_whole

_LOSSES = ("loss", "heatmaps", "patches", "guidance")


def draw_curve(lines: Sequence[Mapping[str, Any]], path: Path, labels: Mapping[str, str] | None = None) -> None:
    """Plot losses, scores and learning rate by epoch, each apart, as a PNG.

    ``labels``: what to call the scores, {"pck": "PCK@0.2 of the torso"}. Raises ModuleNotFoundError without matplotlib.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    labels = labels or {}
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    losses, figures, rate = figure.subplots(1, 3)
    known = {name for line in lines for name in line} - {*_LOSSES, *_LOG_ONLY}
    for axes, title, names in (
        (losses, "loss, weighted parts", [name for name in _LOSSES if any(name in line for line in lines)]),
        (figures, "validation", sorted(known)),
        (rate, "learning rate", ["rate"]),
    ):
        for name in names:
            points = [(line["epoch"], line[name]) for line in lines if name in line]
            axes.plot(*zip(*points, strict=True), marker="." if len(points) < 30 else "", label=labels.get(name, name))
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        if names and names != ["rate"]:
            axes.legend(fontsize=8)
    with written_whole(path) as partial:
        figure.savefig(partial, format="png", dpi=120)


_LOG_ONLY = ("epoch", "step", "samples", "seconds", "waiting", "resumed_at", "rate")
