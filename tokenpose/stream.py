"""Many images: read ahead, batch people across images, keep the order."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice, repeat
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from tokenpose.boxes import BoxFormat
from tokenpose.geometry.decode import Decoded
from tokenpose.images import read_image
from tokenpose.shapes import Crops, RgbImage
from tokenpose.transforms import Transform

logger = logging.getLogger(__name__)


class Item(NamedTuple):
    """One image of a stream with its boxes, and its name in messages."""

    pixels: RgbImage | Exception
    """The error takes the place of an image that can't be read."""
    boxes: Any
    name: str


@dataclass(frozen=True, kw_only=True)
class Found:
    """The people of one image: where they are, and part by part what was decoded of them."""

    boxes: Float[Tensor, "people 4"]
    matrices: Float[Tensor, "people 2 3"]
    decoded: list[Decoded] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Whether everybody's keypoints are there."""
        return sum(len(part.scores) for part in self.decoded) == len(self.boxes)


def find_in_order(
    items: Iterable[Item],
    transform: Transform,
    find: Callable[[Crops], Decoded],
    box_format: BoxFormat,
    batch_size: int,
    skip_errors: bool,
) -> Iterator[Found | None]:
    """What ``find`` decodes in each image, in order; at most ``batch_size`` people, of any images, go into it at once.

    An image that can't be read or has wrong boxes is logged and gives None, if ``skip_errors``; otherwise its error is
    raised after the results of the images before it.
    """
    waiting: deque[Found | None] = deque()
    queue = _Queue(find, batch_size)
    failure = None
    for pixels, boxes, name in items:
        try:
            pixels, xyxy, matrices = transform.frame(_raise_error(pixels), boxes, box_format)
        except (OSError, ValueError, TypeError) as error:
            if not skip_errors:
                failure = error
                break
            logger.warning("%s is skipped: %s", name, error)
            waiting.append(None)
            continue
        found = Found(boxes=xyxy, matrices=matrices)
        waiting.append(found)
        for some in matrices.split(batch_size) if len(matrices) else ():
            queue.add(found, transform.crop(pixels, some))
        while waiting and (waiting[0] is None or waiting[0].is_complete):
            yield waiting.popleft()
    queue.empty()
    yield from waiting
    if failure is not None:
        raise failure


class _Queue:
    """Crops of several images, which wait until they fill a batch."""

    def __init__(self, find: Callable[[Crops], Decoded], batch_size: int) -> None:
        self.find, self.batch_size = find, batch_size
        self.waiting: list[tuple[Found, Crops]] = []

    def add(self, found: Found, crops: Crops) -> None:
        """Put the crops of an image's people behind the others."""
        self.waiting.append((found, crops))
        if sum(len(crops) for _, crops in self.waiting) >= self.batch_size:
            self.empty()

    def empty(self) -> None:
        """Decode everybody who waits, and hand each image its people's keypoints."""
        if not self.waiting:
            return
        parts = [crops for _, crops in self.waiting]
        batches = (torch.cat(parts) if len(parts) > 1 else parts[0]).split(self.batch_size)  # cat would copy one alone
        decoded = [self.find(batch) for batch in batches]
        counts = [len(crops) for crops in parts]
        keypoints, scores = (torch.cat(parts).split(counts) for parts in zip(*decoded, strict=True))
        for (found, _), *own in zip(self.waiting, keypoints, scores, strict=True):
            found.decoded.append(Decoded(*own))
        self.waiting = []


def pair(images: Iterable[Any], boxes: Iterable[Any] | None, readers: int) -> Iterator[Item]:
    """Read the images, ``readers`` threads ahead, and put each together with its boxes (None: no image has any).

    Raises ValueError where there are fewer or more boxes than images.
    """
    names: deque[str] = deque()  # of the images that are read ahead

    def noted() -> Iterator[Any]:
        for image in images:
            names.append(f" ({image})" if isinstance(image, str | Path) else "")
            yield image

    remaining = iter(repeat(None) if boxes is None else boxes)
    for index, pixels in enumerate(read_images(noted(), readers)):
        own = list(islice(remaining, 1))
        if not own:
            raise ValueError(f"boxes must be given for each image; there are none for image {index}")
        yield Item(pixels, own[0], f"image {index}{names.popleft()}")
    if boxes is not None and list(islice(remaining, 1)):
        raise ValueError("there are more boxes than images")


def read_images(images: Iterable[Any], readers: int = 0) -> "Iterator[RgbImage | Exception]":
    """What `read_image` returns for each image, in order, or the error that it raised, for the caller to judge.

    ``readers`` threads read files ahead, with as many images in memory; 0: each is read when it is asked for. Anything
    but a path is read at once: its owner may close or change it as soon as the next is asked for.
    """
    if readers == 0:
        yield from map(_try_to_read, images)
        return
    waiting: deque[Future[RgbImage | Exception]] = deque()
    with ThreadPoolExecutor(readers, thread_name_prefix="tokenpose-reader") as pool:
        try:
            for image in images:
                is_file = isinstance(image, str | Path)
                if not (is_file or waiting):
                    yield _try_to_read(image)
                    continue
                waiting.append(pool.submit(_try_to_read, image) if is_file else _read_at_once(image))
                if len(waiting) > readers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # the caller may stop early
            for future in waiting:
                future.cancel()


def _read_at_once(image: Any) -> "Future[RgbImage | Exception]":
    """Copies a tensor, which reading doesn't: it may have to wait."""
    future: Future[RgbImage | Exception] = Future()
    read = _try_to_read(image)
    future.set_result(read.clone() if read is image else read)
    return future


def _try_to_read(image: Any) -> "RgbImage | Exception":
    try:
        return read_image(image)
    except (OSError, ValueError, TypeError) as error:
        return error


def _raise_error(pixels: RgbImage | Exception) -> RgbImage:
    if isinstance(pixels, Exception):
        raise pixels
    return pixels
