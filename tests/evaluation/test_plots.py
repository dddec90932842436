"""The reliability plot."""

import numpy as np
import pytest
from PIL import Image

from tokenpose.evaluation import plots
from tokenpose.evaluation.reliability import Reliability, measure_reliability


@pytest.fixture
def reliability() -> Reliability:
    scores = np.float32([[0.05, 0.15, 0.95, 1.0]])
    correct = np.array([[False, True, True, True]])
    return measure_reliability(scores, correct, np.ones_like(correct))


def test_plot_is_a_picture_of_scores_and_shares(reliability, tmp_path):
    plots.plot_reliability(reliability, tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as picture:
        assert picture.size == (540, 660)
        assert len(picture.getcolors(1 << 20)) > 10
    assert [path.name for path in tmp_path.iterdir()] == ["plot.png"]


def test_place_that_can_not_be_written_is_named(reliability, tmp_path):
    with pytest.raises(OSError, match=r"nowhere/plot\.png can't be written"):
        plots.plot_reliability(reliability, tmp_path / "nowhere" / "plot.png")


def test_missing_matplotlib_is_said_with_what_to_install(monkeypatch):
    plots.require_matplotlib()
    monkeypatch.setattr(plots, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r'a plot needs matplotlib: pip install "tokenpose\[plot\]"'):
        plots.require_matplotlib()
