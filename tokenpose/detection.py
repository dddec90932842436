"""People's boxes from torchvision's detectors: TokenPose needs boxes and does not find them itself."""

import logging
import pickle
import re
import sys
from difflib import get_close_matches
from functools import lru_cache
from http.client import HTTPException
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from tokenpose.files import shown
from tokenpose.images import read_image
from tokenpose.pickles import check_pickles

logger = logging.getLogger(__name__)

COCO_PERSON = 1
"""The label of persons in COCO, where 0 is the background."""


class Detector(NamedTuple):
    """A network in eval mode, and its label for persons."""

    module: nn.Module
    person: int


def detect(
    image: Any,
    detector: str | nn.Module = "fasterrcnn_mobilenet_v3_large_fpn",
    *,
    threshold: float = 0.5,
    device: torch.device | str | None = None,
) -> Float[np.ndarray, "people 4"]:
    """Find the people in an image: float32 boxes, xyxy in image pixels, most confident first, ready for `predict`.

    ``image``: a path, a PIL image, a uint8 RGB array (H, W, 3) or an RGB tensor (3, H, W), uint8 or float in 0..1.
    ``detector``: the name of one of torchvision's detection models, which stays in memory; its weights, trained on
    COCO, are downloaded into torch.hub's folder on first use, and their hash is checked. Or a module with the same
    interface, which is put into eval mode: it maps a list of (3, H, W) float tensors in 0..1 to a list of dicts of
    "boxes" (xyxy, in pixels), "labels" (1: person) and "scores". ``threshold``: the minimum score, 0..1; detectors have
    a minimum of their own, often 0.05. ``device``: where a named detector runs; None: torch's default. A module stays
    on its device. Boxes with a side under one pixel are left out.

    Raises what `predict` raises for an image, LookupError with the closest names for an unknown name, ValueError for a
    threshold outside 0..1, for a device together with a module and for output of another form, TypeError for anything
    but a name or a module, and OSError if weights can't be downloaded or read.
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold must be in 0..1, as scores are; got {threshold}")
    pixels = read_image(image)
    module, person = _as_detector(detector, device)
    place = next((tensor.device for tensor in chain(module.parameters(), module.buffers())), torch.device("cpu"))
    with torch.inference_mode():
        boxes, labels, scores = _read_answer(module([pixels.to(place) / 255]))
        wide = (boxes[:, 2:] - boxes[:, :2] >= 1).all(dim=1)
        kept = wide & (labels == person) & (scores >= threshold)
        order = scores[kept].argsort(descending=True, stable=True)
        return boxes[kept][order].cpu().numpy()


def load_detector(name: str, device: torch.device | str | None = None) -> Detector:
    """One of torchvision's detection models by name, loaded once. Raises LookupError and OSError as `detect` does."""
    return _load(name, str(torch.device(device) if device is not None else torch.get_default_device()))


def _as_detector(detector: str | nn.Module, device: torch.device | str | None) -> Detector:
    if isinstance(detector, str):
        return load_detector(detector, device)
    if not isinstance(detector, nn.Module):
        raise TypeError(f"a detector is a name or a torch.nn.Module; got {type(detector).__name__}")
    if device is not None:
        raise ValueError(
            f"device={shown(str(device))} is for a detector's name; move the module itself: detector.to(...)"
        )
    return Detector(detector.eval(), COCO_PERSON)


def _read_answer(
    answer: Any,
) -> tuple[Float[Tensor, "found 4"], Shaped[Tensor, " found"], Float[Tensor, " found"]]:
    """Check a detector's output for one image. Returns boxes, labels and scores."""
    match answer:
        case [{"boxes": Tensor() as boxes, "labels": Tensor() as labels, "scores": Tensor() as scores}] if (
            boxes.ndim == 2 and boxes.shape == (len(boxes), 4) and labels.shape == scores.shape == (len(boxes),)
        ):
            if not (boxes.isfinite().all() and scores.isfinite().all()):
                raise ValueError("the detector's boxes and scores are not all finite: check its weights and precision")
            return boxes.float(), labels, scores.float()
    raise ValueError(
        "for a list of one image a detector answers with a list of one dict, of the tensors boxes (found, 4), labels "
        f"(found,) and scores (found,); got {shown(answer)}"
    )


@lru_cache(maxsize=2)
def _load(name: str, device: str) -> Detector:
    from torchvision.models import detection, get_model, get_model_weights, list_models

    names = list_models(module=detection)
    if name not in names:
        longer = [known for known in names if name and known.startswith(name)]
        closest = longer or get_close_matches(name, names, n=3, cutoff=0.4) or names
        raise LookupError(f"torchvision has no detector named {shown(name)}; did you mean {', '.join(closest)}?")
    weights = get_model_weights(name).DEFAULT
    path = Path(torch.hub.get_dir(), "checkpoints", weights.url.rpartition("/")[2])
    if not path.exists():
        _download(weights.url, path)
    try:
        check_pickles(path)
        torch.load(path, map_location="cpu", weights_only=True)  # torchvision would execute code in the file
        module = get_model(name, weights=weights)
    except (RuntimeError, ValueError, pickle.UnpicklingError, EOFError) as error:
        raise OSError(
            f"{path} does not hold the weights of {name}; delete it to download it again: {_shorten(error)}"
        ) from error
    logger.info("read %s", path)
    return Detector(module.to(device).eval(), weights.meta["categories"].index("person"))


def _download(url: str, path: Path) -> None:
    """Download a file whose name ends in the start of its SHA-256. torch.hub's other function prints to stdout."""
    digest = re.fullmatch(r".*-([0-9a-f]{8,})\.pth", path.name)
    if digest is None:
        raise OSError(f"{url} does not name its hash, so what comes from there can't be checked; download it yourself")
    logger.info("downloading %s to %s", url, path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        progress = sys.stderr is not None and sys.stderr.isatty()
        torch.hub.download_url_to_file(url, str(path), digest[1], progress=progress)
    except (OSError, HTTPException, RuntimeError) as error:  # RuntimeError: another hash
        raise OSError(
            f"{path.name} can't be downloaded from {url} into {path.parent}: {_shorten(error)}; put the file there "
            "yourself, or give boxes instead of detecting people"
        ) from error


def _shorten(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
