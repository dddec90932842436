"""Images that occur twice: in one file, or in two files such as train and validation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, UInt8, UInt64

from tokenpose.doctor.findings import Finding, Place
from tokenpose.doctor.pictures import SIDE, Picture
from tokenpose.doctor.records import Records

ALIKE = 0.93
DIFFERENT_BITS = 45
"""Two images look alike if their thumbnails of 16 x 16 cells correlate by more than `ALIKE`, and at most
`DIFFERENT_BITS` of the 256 cells differ in whether they are brighter than their left neighbor. In LSPET's 9,500 images
this finds 23 pairs: 20 of the same photograph, 3 of the same scene. It finds at least 96 of 100 copies that are
smaller, gray, brighter or compressed, and 90 of 100 that are cropped by a twentieth."""

FLAT = 3.0
"""Thumbnails whose values spread less than this, of 255, show nothing to compare."""

BLOCK = 2_048


@dataclass(frozen=True, kw_only=True)
class Duplicate:
    """Two images that are the same or look the same, as rows of the pictures."""

    first: int
    second: int
    same_bytes: bool
    correlation: float


def find_duplicates(pictures: Sequence[Picture | OSError]) -> list[Duplicate]:
    """Images with the same bytes as an earlier one, or with a thumbnail that looks alike."""
    readable = [(row, picture) for row, picture in enumerate(pictures) if isinstance(picture, Picture)]
    first_of: dict[bytes, int] = {}
    duplicates, different = [], []
    for row, picture in readable:
        if picture.digest in first_of:
            duplicates.append(Duplicate(first=first_of[picture.digest], second=row, same_bytes=True, correlation=1.0))
        else:
            first_of[picture.digest] = row
            different.append((row, picture.thumbnail))
    rows = np.array([row for row, _ in different], dtype=np.int64)
    thumbnails = np.array([thumbnail for _, thumbnail in different], dtype=np.uint8).reshape(-1, SIDE, SIDE + 1)
    seen = {duplicate.second for duplicate in duplicates}
    for one, other, correlation in _alike(thumbnails):
        first, second = int(rows[one]), int(rows[other])
        if second not in seen:
            seen.add(second)
            duplicates.append(Duplicate(first=first, second=second, same_bytes=False, correlation=correlation))
    return duplicates


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


def check_duplicates(files: Sequence[Records], pictures: Sequence[Sequence[Picture | OSError]]) -> list[Finding]:
    """Images that occur twice, in one file or in two."""
    places = [(file, image) for file, seen in enumerate(pictures) for image in range(len(seen))]
    findings = []
    for duplicate in find_duplicates([picture for seen in pictures for picture in seen]):
        (first_file, first), (second_file, second) = places[duplicate.first], places[duplicate.second]
        one, other = files[first_file], files[second_file]
        if first_file == second_file and one.files[first] == other.files[second]:
            continue  # one image file that is listed twice, see `check_repeated_files`
        where = "" if first_file == second_file else f" of {one.path}"
        name = f"{one.files[first]}{where}"
        message = (
            f"it is the same as {name}, byte for byte"
            if duplicate.same_bytes
            else f"it looks like {name} (correlation {duplicate.correlation:.3f})"
        )
        across = first_file != second_file
        advice = (
            "remove it from one of the two files: a model is not tested by images that it was trained on"
            if across
            else "remove one of them, or keep both in the same of training and validation"
        )
        finding = other.about_image(
            second,
            "train and validation" if across else "duplicate images",
            "error" if across and duplicate.same_bytes else "warning",
            message,
            advice=advice,
            priority=1.0 + duplicate.same_bytes if duplicate.same_bytes else duplicate.correlation,
        )
        partner = Place(one.path, first)
        names = (*finding.images, one.files[first] or "")
        findings.append(replace(finding, images=names, places=(*finding.places, partner)))
    return findings


def check_repeated_files(records: Records) -> list[Finding]:
    """Images whose file name is listed more than once."""
    first: dict[str, int] = {}
    findings = []
    for row, name in enumerate(records.files):
        if name and first.setdefault(name, row) != row:
            message = f"its file is listed already, as image {records.image_ids[first[name]]}"
            advice = "list each image once, and move its annotations to that record"
            findings.append(records.about_image(row, "duplicate images", "error", message, advice=advice))
    return findings
