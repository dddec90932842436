from pathlib import Path

import pytest
from PIL import Image

from tokenpose.training.curve import draw_curve

LINES = [
    {"epoch": 1, "step": 3, "samples": 12, "seconds": 1.0, "waiting": 0.1, "rate": 0.1, "loss": 3.0, "heatmaps": 3.0},
    {"epoch": 2, "step": 6, "samples": 24, "seconds": 2.0, "waiting": 0.2, "rate": 0.05, "loss": 2.0, "heatmaps": 2.0,
     "pck": 40.0},
]  # fmt: skip


def labels_of(lines, path: Path, monkeypatch, **scores) -> list[list[str]]:
    """The names of what each of the three axes shows."""
    from matplotlib.figure import Figure

    figures: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda figure, *a, **options: figures.append(figure) or save(figure, *a, **options)
    )
    draw_curve(lines, path, scores)
    return [[line.get_label() for line in axes.lines] for axes in figures[0].axes]


def test_losses_figures_and_rate_have_an_axis_each(tmp_path, monkeypatch):
    lines = [{**line, "distillation": 0.5} for line in LINES]
    expected = [["loss", "heatmaps", "distillation"], ["pck"], ["rate"]]
    assert labels_of(lines, tmp_path / "curve.png", monkeypatch, pck="pck") == expected
    with Image.open(tmp_path / "curve.png") as picture:
        assert picture.width == 1200


def test_scores_have_the_names_that_say_their_threshold_and_unit(tmp_path, monkeypatch):
    lines = [*LINES, {**LINES[1], "epoch": 3, "ap": 12.0}]
    names = {"ap": "AP, %", "pck": "PCK@0.2 of the torso, %"}
    losses, scores, _ = labels_of(lines, tmp_path / "curve.png", monkeypatch, **names)
    assert losses == ["loss", "heatmaps"]
    assert scores == ["AP, %", "PCK@0.2 of the torso, %"]


@pytest.mark.parametrize("lines", [LINES[:1], []])
def test_what_is_not_in_the_log_is_not_drawn(tmp_path, monkeypatch, lines):
    expected = [["loss", "heatmaps"] if lines else [], [], ["rate"] if lines else []]
    assert labels_of(lines, tmp_path / "curve.png", monkeypatch, pck="pck") == expected
