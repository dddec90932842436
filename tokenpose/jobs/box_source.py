"""Where people's boxes come from: given, in a file, found by a detector, or the whole image."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float

from tokenpose.boxes import Box
from tokenpose.data.box_files import ImageBoxes, read_boxes_file
from tokenpose.detection import detect, load_detector
from tokenpose.shapes import RgbImage

logger = logging.getLogger(__name__)

FindBoxes = Callable[[RgbImage], Float[np.ndarray, "people 4"]]


def whole_image(pixels: RgbImage) -> Float[np.ndarray, "1 4"]:
    """The whole image as one person's box."""
    return np.array([[0, 0, pixels.shape[2], pixels.shape[1]]], dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class BoxSource:
    """Where people's boxes come from: a ``file``, boxes ``given`` for all images, or ``find``, which looks for them."""

    given: Sequence[Box] = ()
    file: Path | None = None
    find: FindBoxes = whole_image

    def of_images(self, paths: Sequence[Path]) -> list[ImageBoxes | None]:
        """Each image's boxes, or None where ``find`` has to look for them. Raises what `read_boxes_file` raises."""
        if self.file is not None:
            return list(read_boxes_file(self.file).of_images(paths))
        return [ImageBoxes(boxes=list(self.given)) if self.given else None for _ in paths]


def choose_box_source(
    boxes: Sequence[Box] = (),
    file: Path | None = None,
    detector: str | None = None,
    threshold: float | None = None,
    device: str | None = None,
) -> BoxSource:
    """Take people's boxes as given, from a file, or from a detector; without any of them each image is one person.

    ``threshold``: the detector's minimum score; None: the default of `detect`. The detector is loaded immediately, so
    that a problem with it shows before any work is done.

    Raises ValueError for more than one source, and what `detect` raises for a detector.
    """
    if sum((bool(boxes), file is not None, detector is not None)) > 1:
        raise ValueError("give only one of boxes, a boxes file and a detector")
    if detector is not None:
        load_detector(detector, device)
        options = {} if threshold is None else {"threshold": threshold}
        return BoxSource(find=partial(detect, detector=detector, device=device, **options))
    if not boxes and file is None:
        logger.warning("no boxes given: the whole image is taken as one person; give --detect, --box or --boxes")
    return BoxSource(given=boxes, file=file)
