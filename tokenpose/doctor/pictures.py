"""Checks of image files: whether they can be read, and whether their size is the file's."""

import hashlib
import io
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image

from tokenpose.data.sources import ImageSource
from tokenpose.doctor.findings import Finding
from tokenpose.doctor.records import Records
from tokenpose.images import decode_image

SIDE = 16
TURNED = (5, 6, 7, 8)
"""EXIF orientations that exchange width and height."""


@dataclass(frozen=True, kw_only=True)
class DecodedPicture:
    """What is kept of an image."""

    size: tuple[int, int]
    """Width and height, as pixels lie in the file."""
    orientation: int
    """EXIF's, 1 where there is none."""
    digest: bytes
    thumbnail: UInt8[np.ndarray, "16 17"]


def read_pictures(
    records: Records, source: ImageSource, tick: Callable[[], None], readers: int
) -> list[DecodedPicture | OSError]:
    """Each image, decoded completely, or why it can't be, in the order of the records; threads read ahead."""

    def read(name: str | None) -> DecodedPicture | OSError:
        if not name:
            return FileNotFoundError("the record has no file_name")
        try:
            return read_picture(source.read_bytes(name), name)
        except OSError as error:
            return error

    pictures = []
    for picture in _ahead(read, records.files, readers):
        pictures.append(picture)
        tick()
    return pictures


def _ahead(
    read: Callable[[str | None], DecodedPicture | OSError], names: Sequence[str | None], readers: int
) -> Iterator[DecodedPicture | OSError]:
    if readers <= 1:
        yield from map(read, names)
        return
    waiting: deque[Future[DecodedPicture | OSError]] = deque()
    with ThreadPoolExecutor(readers, thread_name_prefix="tokenpose-doctor") as pool:
        for name in names:
            waiting.append(pool.submit(read, name))
            if len(waiting) > 2 * readers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def read_picture(content: bytes, name: str) -> DecodedPicture:
    """A decoded image file. Raises OSError that names the file where it can't be decoded completely."""
    pixels = decode_image(content, name).permute(1, 2, 0).numpy()
    with Image.open(io.BytesIO(content)) as opened:
        orientation = int(opened.getexif().get(ExifTags.Base.Orientation, 1))
    gray = Image.fromarray(pixels).convert("L").resize((SIDE + 1, SIDE), Image.Resampling.BILINEAR)
    return DecodedPicture(
        size=(pixels.shape[1], pixels.shape[0]),
        orientation=orientation,
        digest=hashlib.sha256(content).digest(),
        thumbnail=np.asarray(gray).copy(),
    )


def check_images(records: Records, pictures: Sequence[DecodedPicture | OSError]) -> list[Finding]:
    """Images that are missing, can't be read, or have another size than the file says."""
    findings = []
    for image, picture in enumerate(pictures):
        if not records.files[image]:
            continue  # a finding about the record says so
        if isinstance(picture, FileNotFoundError):
            message, advice = str(picture), "add the file, or remove the image from the annotation file"
            findings.append(records.about_image(image, "missing images", "error", message, advice=advice))
        elif isinstance(picture, OSError):
            message, advice = str(picture), "get the file again: it is broken or incomplete"
            findings.append(records.about_image(image, "unreadable images", "error", message, advice=advice))
        else:
            findings += _check_size(records, image, picture)
    return findings


def check_unannotated(records: Records) -> list[Finding]:
    """Images without annotations: one note with their number."""
    empty = np.flatnonzero(records.annotated == 0)
    if not len(empty) or not len(records):
        return []
    names = [records.files[image] or f"image {records.image_ids[image]}" for image in empty]
    listed = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    message = f"{len(names)} of {len(records.files)} images have no annotations: {listed}"
    advice = "training ignores them; check that no annotations were lost"
    return [records.about_file("images without people", "note", message, advice=advice, images=tuple(names))]


def _check_size(records: Records, image: int, picture: DecodedPicture) -> list[Finding]:
    stated = tuple(records.sizes[image])
    turned = picture.orientation in TURNED
    if np.isnan(stated).any() or (stated == picture.size and picture.orientation == 1):
        return []
    by, real = f"{stated[0]:g} x {stated[1]:g}", f"{picture.size[0]} x {picture.size[1]}"
    if turned and stated == picture.size[::-1] and stated != picture.size:
        message = f"EXIF turns it: its pixels are {real} and the file says {by}, the size of the turned picture"
        advice = "save the turned picture without EXIF orientation: training reads pixels as they lie in the file"
        return [records.about_image(image, "image sizes", "error", message, advice=advice)]
    if stated != picture.size:
        scale = picture.size[0] / stated[0]
        same_shape = abs(stated[1] * scale - picture.size[1]) <= 1
        message = f"it is {real}, and the file says {by}" + (f", {scale:.3g} times smaller" if same_shape else "")
        if same_shape and scale < 1:
            message = f"it is {real}, and the file says {by}, {1 / scale:.3g} times larger"
        advice = "correct the size; if the labels were made at that size, scale them too"
        return [records.about_image(image, "image sizes", "error", message, advice=advice)]
    message = (
        f"it has EXIF orientation {picture.orientation}, which is ignored; the file's size {by} is that of its pixels"
    )
    advice = "check that the keypoints lie on the people: training reads pixels as they lie in the file"
    return [records.about_image(image, "image sizes", "note", message, advice=advice)]
