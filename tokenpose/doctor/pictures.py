"""Images as the data doctor looks at them: whether they can be read, how large they are, and which are there twice."""

import hashlib
import io
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, UInt8, UInt64
from PIL import ExifTags, Image

from tokenpose.data.sources import ImageSource
from tokenpose.doctor.findings import Finding, Place
from tokenpose.doctor.records import Records
from tokenpose.images import decode_image

SIDE = 16
ALIKE = 0.93
DIFFERENT_BITS = 45
"""Two images look alike if their thumbnails of 16 x 16 correlate by more than this, and of 256 bits that say whether a
cell is brighter than its left neighbour no more than that many differ. In LSPET's 9,500 images that finds 23 pairs: 20
of the same photograph, 3 of the same scene. Of copies that are smaller, grey, brighter or compressed it finds 96 in 100
or more, of those that are cropped by a twentieth 90."""

FLAT = 3.0
"""Thumbnails whose values spread less than this, of 255, show nothing to compare."""

BLOCK = 2_048
TURNED = (5, 6, 7, 8)
"""EXIF orientations that exchange width and height."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """What is kept of an image that was read."""

    size: tuple[int, int]
    """Width and height, as pixels lie in the file."""
    orientation: int
    """EXIF's, 1 where there is none."""
    digest: bytes
    thumbnail: UInt8[np.ndarray, "16 17"]


def look_at(records: Records, source: ImageSource, tick: Callable[[], None], readers: int) -> list[Picture | OSError]:
    """Each image decoded whole, in the order of the records, or why it couldn't be; files are read by threads."""

    def look(name: str | None) -> Picture | OSError:
        if not name:
            return FileNotFoundError("the record has no file_name")
        try:
            return examine(source.read_bytes(name), name)
        except OSError as error:
            return error

    pictures = []
    for picture in _ahead(look, records.files, readers):
        pictures.append(picture)
        tick()
    return pictures


def _ahead(
    look: Callable[[str | None], Picture | OSError], names: Sequence[str | None], readers: int
) -> Iterator[Picture | OSError]:
    if readers <= 1:
        yield from map(look, names)
        return
    waiting: deque[Future[Picture | OSError]] = deque()
    with ThreadPoolExecutor(readers, thread_name_prefix="tokenpose-doctor") as pool:
        for name in names:
            waiting.append(pool.submit(look, name))
            if len(waiting) > 2 * readers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def examine(content: bytes, name: str) -> Picture:
    """What an image file's bytes show. Raises OSError that names the file where they can't be decoded whole."""
    pixels = decode_image(content, name).permute(1, 2, 0).numpy()
    with Image.open(io.BytesIO(content)) as opened:
        orientation = int(opened.getexif().get(ExifTags.Base.Orientation, 1))
    grey = Image.fromarray(pixels).convert("L").resize((SIDE + 1, SIDE), Image.Resampling.BILINEAR)
    return Picture(
        size=(pixels.shape[1], pixels.shape[0]),
        orientation=orientation,
        digest=hashlib.sha256(content).digest(),
        thumbnail=np.asarray(grey).copy(),
    )


def check_images(records: Records, pictures: Sequence[Picture | OSError]) -> list[Finding]:
    """Images that are missing, can't be read, or have another size than the file says; and those without people."""
    findings = []
    for image, picture in enumerate(pictures):
        if not records.files[image]:
            continue  # said by the reader of records
        if isinstance(picture, FileNotFoundError):
            message, advice = str(picture), "put it there, or leave its record out"
            findings.append(records.about_image(image, "missing images", "error", message, advice=advice))
        elif isinstance(picture, OSError):
            message, advice = str(picture), "get the file again: it is broken, or cut short"
            findings.append(records.about_image(image, "unreadable images", "error", message, advice=advice))
        else:
            findings += _check_size(records, image, picture)
    return findings


def check_empty(records: Records) -> list[Finding]:
    """Images that nobody is annotated in: one note with their number."""
    empty = np.flatnonzero(records.annotated == 0)
    if not len(empty) or not len(records):
        return []
    names = [records.files[image] or f"image {records.image_ids[image]}" for image in empty]
    listed = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    message = f"nobody is annotated in {len(names)} of {len(records.files)} images: {listed}"
    advice = "training passes them over; see whether annotations were lost"
    return [records.about_file("images without people", "note", message, advice=advice, images=tuple(names))]


def _check_size(records: Records, image: int, picture: Picture) -> list[Finding]:
    said = tuple(records.sizes[image])
    turned = picture.orientation in TURNED
    if np.isnan(said).any() or (said == picture.size and picture.orientation == 1):
        return []
    by, real = f"{said[0]:g} x {said[1]:g}", f"{picture.size[0]} x {picture.size[1]}"
    if turned and said == picture.size[::-1] and said != picture.size:
        message = f"EXIF turns it: its pixels are {real}, and the file says {by}, as if labelled on the turned picture"
        advice = "save the picture turned, without EXIF orientation: pixels are taken as they lie in the file"
        return [records.about_image(image, "image sizes", "error", message, advice=advice)]
    if said != picture.size:
        scale = picture.size[0] / said[0]
        same_shape = abs(said[1] * scale - picture.size[1]) <= 1
        message = f"it is {real}, and the file says {by}" + (f", {scale:.3g} times smaller" if same_shape else "")
        if same_shape and scale < 1:
            message = f"it is {real}, and the file says {by}, {1 / scale:.3g} times larger"
        advice = "correct the size; if the labels were made at that size, scale them too"
        return [records.about_image(image, "image sizes", "error", message, advice=advice)]
    message = f"EXIF orientation {picture.orientation} would turn or mirror it, yet the size {by} is that of its pixels"
    advice = "see whether the keypoints lie on the people: pixels are taken as they lie in the file"
    return [records.about_image(image, "image sizes", "note", message, advice=advice)]


@dataclass(frozen=True, kw_only=True)
class Twin:
    """Two images that are the same, or look it; rows of the pictures."""

    first: int
    second: int
    same_bytes: bool
    correlation: float


def find_twins(pictures: Sequence[Picture | OSError]) -> list[Twin]:
    """Images that are there twice: the same bytes, or a thumbnail that looks alike. Each with the first that fits."""
    readable = [(row, picture) for row, picture in enumerate(pictures) if isinstance(picture, Picture)]
    first_of: dict[bytes, int] = {}
    twins, different = [], []
    for row, picture in readable:
        if picture.digest in first_of:
            twins.append(Twin(first=first_of[picture.digest], second=row, same_bytes=True, correlation=1.0))
        else:
            first_of[picture.digest] = row
            different.append((row, picture.thumbnail))
    rows = np.array([row for row, _ in different], dtype=np.int64)
    thumbnails = np.array([thumbnail for _, thumbnail in different], dtype=np.uint8).reshape(-1, SIDE, SIDE + 1)
    seen = {twin.second for twin in twins}
    for one, other, correlation in _alike(thumbnails):
        first, second = int(rows[one]), int(rows[other])
        if second not in seen:
            seen.add(second)
            twins.append(Twin(first=first, second=second, same_bytes=False, correlation=correlation))
    return twins


def _alike(thumbnails: UInt8[np.ndarray, "images 16 17"]) -> Iterator[tuple[int, int, float]]:
    """Pairs of rows that look alike, and how much their thumbnails correlate."""
    bits = np.packbits((thumbnails[..., 1:] > thumbnails[..., :-1]).reshape(-1, SIDE * SIDE), axis=1).view(np.uint64)
    values = thumbnails[..., 1:].reshape(-1, SIDE * SIDE).astype(np.float32)
    values -= values.mean(axis=1, keepdims=True)
    length = np.linalg.norm(values, axis=1, keepdims=True)
    values = np.where(length > FLAT * SIDE, values / np.maximum(length, 1e-6), 0)
    for start in range(0, len(values), BLOCK):
        for below in range(start, len(values), BLOCK):
            ones, others = slice(start, start + BLOCK), slice(below, below + BLOCK)
            yield from _alike_in(values[ones], values[others], bits[ones], bits[others], (start, below))


def _alike_in(
    ones: Float[np.ndarray, "ones 256"],
    others: Float[np.ndarray, "others 256"],
    bits: UInt64[np.ndarray, "ones 4"],
    other_bits: UInt64[np.ndarray, "others 4"],
    starts: tuple[int, int],
) -> Iterator[tuple[int, int, float]]:
    correlation = ones @ others.T
    rows, columns = np.nonzero(correlation > ALIKE)
    later = columns + starts[1] > rows + starts[0]
    rows, columns = rows[later], columns[later]
    differing = np.bitwise_count(bits[rows] ^ other_bits[columns]).sum(axis=1)
    for row, column in zip(rows[differing <= DIFFERENT_BITS], columns[differing <= DIFFERENT_BITS], strict=True):
        yield int(row) + starts[0], int(column) + starts[1], float(correlation[row, column])


def check_twins(files: Sequence[Records], pictures: Sequence[Sequence[Picture | OSError]]) -> list[Finding]:
    """Images that are there twice, in one file or in two of them, such as train and validation."""
    places = [(file, image) for file, seen in enumerate(pictures) for image in range(len(seen))]
    findings = []
    for twin in find_twins([picture for seen in pictures for picture in seen]):
        (first_file, first), (second_file, second) = places[twin.first], places[twin.second]
        one, other = files[first_file], files[second_file]
        if first_file == second_file and one.files[first] == other.files[second]:
            continue  # one file that is listed twice: `check_listed` says so
        where = "" if first_file == second_file else f" of {one.path}"
        name = f"{one.files[first]}{where}"
        message = (
            f"it is {name}, byte by byte"
            if twin.same_bytes
            else f"it looks like {name} (correlation {twin.correlation:.3f})"
        )
        across = first_file != second_file
        advice = (
            "leave it out of one of the two files: who was trained on proves nothing"
            if across
            else "leave one of them out, or make sure that they don't part between training and validation"
        )
        finding = other.about_image(
            second,
            "train and validation" if across else "duplicate images",
            "error" if across and twin.same_bytes else "warning",
            message,
            advice=advice,
            doubt=1.0 + twin.same_bytes if twin.same_bytes else twin.correlation,
        )
        partner = Place(one.path, first)
        names = (*finding.images, one.files[first] or "")
        findings.append(replace(finding, images=names, places=(*finding.places, partner)))
    return findings


def check_listed(records: Records) -> list[Finding]:
    """Images that are listed more than once by the same file name."""
    first: dict[str, int] = {}
    findings = []
    for row, name in enumerate(records.files):
        if name and first.setdefault(name, row) != row:
            message = f"its file is listed before, as image {records.image_ids[first[name]]}"
            advice = "list each image once, and move its annotations there"
            findings.append(records.about_image(row, "duplicate images", "error", message, advice=advice))
    return findings
