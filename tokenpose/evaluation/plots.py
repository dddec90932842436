"""A reliability plot: what scores promise, and what is so."""

from importlib.util import find_spec
from pathlib import Path

from tokenpose.evaluation.reliability import Reliability
from tokenpose.files import written_whole


def require_matplotlib() -> None:
    """Raise ModuleNotFoundError where there is no matplotlib."""
    if find_spec("matplotlib") is None:
        raise ModuleNotFoundError('a plot needs matplotlib: pip install "tokenpose[plot]"')


def plot_reliability(reliability: Reliability, path: Path) -> None:
    """Plot the share of correct keypoints against the mean score of each bin, and how many there are, as a PNG.

    Raises OSError where it can't write.
    """
    from matplotlib.figure import Figure

    filled = [entry for entry in reliability.bins if entry.count]
    figure = Figure(figsize=(4.5, 5.5), layout="constrained")
    shares, counts = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    shares.plot((0, 1), (0, 1), color="0.6", linestyle="--", label="as promised")
    shares.plot(
        [entry.mean_score for entry in filled], [entry.share_correct for entry in filled], marker="o", label="measured"
    )
    shares.set(xlim=(0, 1), ylim=(0, 1), ylabel="share of correct keypoints", aspect="equal")
    shares.set_title(f"ECE {reliability.ece:.3f}, {reliability.keypoint_count} keypoints", fontsize=10)
    shares.legend(loc="upper left", fontsize=8)
    bins = reliability.bins
    counts.bar([entry.lower for entry in bins], [entry.count for entry in bins], width=1 / len(bins), align="edge")
    counts.set(xlabel="score: predicted probability", ylabel="keypoints")
    for axes in (shares, counts):
        axes.grid(alpha=0.3)
    with written_whole(path) as partial:
        figure.savefig(partial, format="png", dpi=120)
