"""A share of the training files' images, held out to validate on."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from tokenpose.data.formats.split import choose_groups, group_by_image
from tokenpose.data.samples import Samples

logger = logging.getLogger(__name__)

SEED = 0
"""That of `tokenpose split`, so that both hold out the same images of a file."""


def read_validation(val: str | Path | Sequence[str | Path] | float | int) -> float | list[str | Path]:
    """The share that ``val`` says, as a number or as its text, "0.2"; or the files, also one called "0.2".

    Raises ValueError for a share together with files.
    """
    if isinstance(val, int | float):
        return float(val)
    texts: list[str | Path] = [val] if isinstance(val, str | Path) else list(val)
    shares = [_to_number(str(text)) for text in texts if not Path(text).exists()]
    if len(texts) == 1 and shares and shares[0] is not None:
        return shares[0]
    if any(share is not None for share in shares):
        raise ValueError(
            f"validate on files or on a share of the training images, not on both: {', '.join(map(str, texts))}"
        )
    return texts


def _to_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def choose_images(people: Samples, share: float) -> Bool[np.ndarray, " images"]:
    """Which images are held out, as `tokenpose split` chooses them. An image in two of the files is on one side.

    Raises ValueError for a share that isn't between 0 and 1, and where there is a single image.
    """
    return choose_groups(group_by_image(people.files), share, SEED, f"{people.origin} can't be split")


def take_images(people: Samples, chosen: Bool[np.ndarray, " images"]) -> Samples:
    """The people in the chosen images; the list of files stays whole."""
    return people.take(np.flatnonzero(chosen[people.image_index]))


def take_labeled(people: Samples, chosen: Bool[np.ndarray, " images"]) -> Samples:
    """The same, without people who have no labeled keypoint."""
    return people.take(np.flatnonzero(chosen[people.image_index] & people.visible.any(axis=1)))


def log_split(share: float, chosen: Bool[np.ndarray, " images"], people: Samples, held_out: Samples) -> None:
    """Say what is held out, and how to have it as a file."""
    logger.info(
        "holding out %d of %d images with %d of %d people to validate on, the same as `tokenpose split --val %g`",
        chosen.sum(), len(chosen), len(held_out), len(people) + len(held_out), share,
    )  # fmt: skip
