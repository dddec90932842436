"""What tests of figures share: a small model, and what a figure shows."""

import io

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tokenpose.models.create import create_model
from tokenpose.models.tokenpose import TokenPose

GRAY = np.full((128, 96, 3), 128, dtype=np.uint8)


def make_model(keypoints: int = 5, depth: int = 2) -> TokenPose:
    torch.manual_seed(0)
    changes = {"image_size": (64, 48), "depth": depth, "width": 32, "heads": 4, "head_hidden": 24}
    return create_model("tokenpose_t", keypoints=keypoints, **changes)


def panels(figure: Figure) -> list[Axes]:
    """The axes that show a picture or a matrix: color bars don't."""
    return [axes for axes in figure.axes if axes.images]


def titles(figure: Figure) -> list[str]:
    return [axes.get_title() for axes in panels(figure) if axes.get_title()]


def arrows(figure: Figure) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """(from, to), strongest last."""
    found = [text for axes in figure.axes for text in axes.texts if getattr(text, "arrow_patch", None)]
    return [(tuple(text.xyann), tuple(text.xy)) for text in found]


def render(figure: Figure) -> bytes:
    """A PNG; warnings are errors here: layouts that don't fit, letters that aren't there."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
