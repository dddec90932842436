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
    """An image that can't be read is replaced by its error."""
    boxes: Any
    name: str


@dataclass(frozen=True, kw_only=True)
class Found:
    """The people of one image: their boxes and matrices, and their decoded keypoints, part by part."""

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
    """Yield what ``find`` decodes in each image, in order. It gets at most ``batch_size`` people at once.

    With ``skip_errors`` an image that can't be read or has invalid boxes is logged and gives None. Otherwise its error
    is raised after the results of the images before it.
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
    """Crops of several images that wait until they fill a batch."""

    def __init__(self, find: Callable[[Crops], Decoded], batch_size: int) -> None:
        self.find, self.batch_size = find, batch_size
        self.waiting: list[tuple[Found, Crops]] = []

    def add(self, found: Found, crops: Crops) -> None:
        """Append the crops of an image's people, and decode all if they fill a batch."""
        self.waiting.append((found, crops))
        if sum(len(crops) for _, crops in self.waiting) >= self.batch_size:
            self.empty()

    def empty(self) -> None:
        """Decode all waiting crops, and give each image the keypoints of its people."""
        if not self.waiting:
            return
        parts = [crops for _, crops in self.waiting]
        whole = torch.cat(parts) if len(parts) > 1 else parts[0]  # cat would copy a single part
        batches = whole.split(self.batch_size)
        decoded = [self.find(batch) for batch in batches]
        counts = [len(crops) for crops in parts]
        keypoints, scores = (torch.cat(parts).split(counts) for parts in zip(*decoded, strict=True))
        for (found, _), *own in zip(self.waiting, keypoints, scores, strict=True):
            found.decoded.append(Decoded(*own))
        self.waiting = []


def pair(images: Iterable[Any], boxes: Iterable[Any] | None, readers: int) -> Iterator[Item]:
    """Read images ahead in ``readers`` threads, and pair each with its boxes (None: no image has boxes).

    Raises ValueError if there are fewer or more boxes than images.
    """
    names: deque[str] = deque()  # of images being read ahead

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
    """Yield what `read_image` returns for each image, in order, or the error that it raises.

    ``readers`` threads read files ahead and keep as many images in memory; 0: each image is read when it is requested.
    Anything but a path is read immediately, since its owner may close or change it before the next one is requested.
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
    """Read an image in this thread. Tensors are copied, which reading doesn't do, since they may wait for a while."""
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
