"""A run's log as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenpose.files import written_whole

_OTHERS = {"epoch", "step", "samples", "seconds", "waiting", "resumed_at", "rate"}
"""Figures of the log that are neither losses nor scores."""


def draw_curve(lines: Sequence[Mapping[str, Any]], path: Path, scores: Mapping[str, str]) -> None:
    """Plot losses, scores and learning rate by epoch, each apart, as a PNG.

    ``scores``: the scores of the log and what to call them, {"pck": "PCK@0.2 of the torso"}. Everything else that the
    log measures is a loss. Raises ModuleNotFoundError without matplotlib.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    measured = list(dict.fromkeys(name for line in lines for name in line if name not in _OTHERS))
    figure = Figure(figsize=(10, 3.2))
    # a computed layout takes twice the time
    margins = {"left": 0.06, "right": 0.98, "bottom": 0.16, "top": 0.9, "wspace": 0.25}
    for axes, (title, names) in zip(
        figure.subplots(1, 3, gridspec_kw=margins),
        {
            "loss, weighted parts": [name for name in measured if name not in scores],
            "validation": [name for name in scores if name in measured],
            "learning rate": ["rate"],
        }.items(),
        strict=True,
    ):
        for name in names:
            points = [(line["epoch"], line[name]) for line in lines if name in line]
            axes.plot(*zip(*points, strict=True), marker="." if len(points) < 30 else "", label=scores.get(name, name))
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.ticklabel_format(axis="y", scilimits=(-2, 4))
        axes.grid(alpha=0.3)
        if names and names != ["rate"]:
            axes.legend(fontsize=8)
    with written_whole(path) as partial:
        figure.savefig(partial, format="png", dpi=120)
