"""Where image files come from: folders, tar and zip files, unopened until needed."""

import glob
import os
import tarfile
import unicodedata
import zipfile
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Protocol, runtime_checkable

from jaxtyping import UInt8
from torch import Tensor

from tokenpose.files import FOREIGN_ERRORS, cut, explain, foreign, read_bytes, read_pieces
from tokenpose.images import decode_image

_COMPRESSED = {b"\x1f\x8b": "gunzip", b"BZh": "bunzip2", b"\xfd7zXZ": "unxz", b"\x28\xb5\x2f\xfd": "unzstd"}
MOST_BYTES, MOST_UNPACKED = 2_000_000_000, 500_000_000
"""How large an image file can be as it is, and in a zip that compresses it."""
MOST_HEADERS = 1_000
"""How many pax headers a file in a tar can have."""
_PIECE, _SMALL_PIECE = 1 << 20, 1 << 12  # bytes to ask zipfile for; it unpacks bz2 and LZMA without a bound of its own
_BOUNDED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED, _UTF8 = 0x1, 0x800  # flags of a zip's members

Member = tuple[int, int] | str
"""Where a tar's member begins and how long it is; what a zip calls it."""
FoundFile = Path | Member
"""A file of a folder, or an archive's member."""


@runtime_checkable
class Source(Protocol):
    """Gives images by the names that samples have for them."""

    def read(self, name: str) -> UInt8[Tensor, "3 height width"]:
        """The image of that name; raises OSError if there is none, or it can't be decoded."""
        ...


@runtime_checkable
class CheckedSource(Source, Protocol):
    """Knows which images there are without opening them."""

    def check(self, name: str) -> None:
        """Raises OSError where there is no image of that name."""
        ...


class ImageSource:
    """Images by file name, from folders, tar files (uncompressed) and zip files, which are not unpacked.

    ``places``: a path, several, or patterns such as "data/train-*.tar". A name is looked up as given, then under
    images/, then by its last part. Each of these is tried in all places in turn, and the first one that has it counts.
    In a tar or zip a name is also found under folders ("a.jpg" as train2017/a.jpg) if only one fits. A leading "./" or
    "/", backslashes and the encoding of accents make no difference. Raises FileNotFoundError for a place that doesn't
    exist and, when read, for a missing name; ValueError for files that are neither tar nor zip, broken or encrypted.
    """

    def __init__(self, places: str | Path | Iterable[str | Path]) -> None:
        self._places: list[_Folder | _Archive] = []
        for place in [places] if isinstance(places, str | Path) else places:
            if not str(place):
                raise ValueError("a place of images is a folder, a tar or zip file, or a pattern; got an empty text")
            found = [Path(place)] if Path(place).exists() else [Path(path) for path in sorted(glob.glob(str(place)))]
            if not found:
                raise FileNotFoundError(f"there is no folder, tar or zip of images {place}")
            self._places += [_Folder(path) if path.is_dir() else _Archive(path) for path in found]

    @property
    def folders(self) -> list[Path]:
        """The places that are folders."""
        return [place.path for place in self._places if isinstance(place, _Folder)]

    def read(self, name: str) -> UInt8[Tensor, "3 height width"]:
        """The image of that name. Raises FileNotFoundError, or OSError where it can't be decoded."""
        return decode_image(self.read_bytes(name), name)

    def read_bytes(self, name: str) -> bytes:
        """The bytes of the image file. Raises FileNotFoundError, and what reading raises."""
        place, member = self._find(name)
        return _read_file(place.path, member)

    def check(self, name: str) -> None:
        """Raise what reading raises if there is no image of that name; opens nothing."""
        self._find(name)

    def _find(self, name: str) -> "tuple[_Folder | _Archive, FoundFile]":
        """The first place that has it, and where in that place it is."""
        cleaned = _clean(name)
        last = PurePosixPath(cleaned).name
        for candidate in dict.fromkeys((cleaned, f"images/{cleaned}", last)):
            for place in self._places:
                if (found := place.find(candidate)) is not None:
                    return place, found
        for place in self._places:
            if (found := place.find_below(cleaned)) is not None:
                return place, found
        places = ", ".join(str(place.path) for place in self._places)
        raise FileNotFoundError(f"there is no image {name} in {places}")


class _Folder:
    """Files below a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def find(self, name: str) -> Path | None:
        """The file, or None."""
        if ".." in PurePosixPath(name).parts:
            return None
        return next((self.path / form for form in _forms(name) if (self.path / form).is_file()), None)

    def find_below(self, name: str) -> Path | None:
        """A file given with the folders that lead to this one: /data/images/a.jpg in /data/images."""
        try:
            return self.find(PurePosixPath("/", name).relative_to(self.path.absolute().as_posix()).as_posix())
        except ValueError:
            return None


class _Archive:
    """The members of a tar or zip file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._members = {_clean(name): member for name, member in _list_members(path)}
        self._by_last_part: dict[str, list[str]] | None = None

    def find(self, name: str) -> Member | None:
        """The member, or None."""
        return self._members.get(name)

    def find_below(self, name: str) -> Member | None:
        """A member below folders that the name doesn't have. Raises OSError if several fit."""
        if self._by_last_part is None:
            self._by_last_part = {}
            for member in self._members:
                self._by_last_part.setdefault(PurePosixPath(member).name, []).append(member)
        same = self._by_last_part.get(PurePosixPath(name).name, [])
        fitting = [member for member in same if member.endswith(f"/{name}")]
        if len(fitting) > 1:
            raise OSError(
                f"{self.path} has several images {name}: {', '.join(sorted(fitting)[:3])}; give their folders"
            )
        return self.find(fitting[0]) if fitting else None


def _clean(name: str) -> str:
    """One way to write a name: a relative path with slashes, composed accents, no "." in it."""
    return unicodedata.normalize("NFC", PurePosixPath(name.replace("\\", "/")).as_posix().lstrip("/"))


def _forms(name: str) -> tuple[str, ...]:
    """How file systems may write the name: with composed accents, or with separate ones (macOS)."""
    return (name,) if name.isascii() else (name, unicodedata.normalize("NFD", name))


def _list_members(path: Path) -> Iterator[tuple[str, Member]]:
    """The names of an archive's files, and where they are. Raises ValueError for a broken archive or another file."""
    if _is_plain_tar(path):  # first, since a tar that ends with a zip looks like a zip
        return _list_tar(path)
    if zipfile.is_zipfile(path):
        return _list_zip(path)
    raise ValueError(
        f"images are read from folders, uncompressed tar files and zip files; {path} is none of these{_explain(path)}"
    )


def _explain(path: Path) -> str:
    with path.open("rb") as opened:
        start = opened.read(8)
    for mark, command in _COMPRESSED.items():
        if start.startswith(mark):
            return f": it is compressed, and single images can't be read from it; run {command} on it once"
    return ": it looks like a zip file that is cut off" if start.startswith(b"PK\x03\x04") else ""


def _list_zip(path: Path) -> Iterator[tuple[str, Member]]:
    with foreign(f"{path} is a broken zip file"), zipfile.ZipFile(path) as archive:
        members = [info for info in archive.infolist() if not info.is_dir()]
    for info in members:
        if info.flag_bits & _ENCRYPTED:
            raise ValueError(f"{path}: {info.filename} is encrypted; pack it again without a password")
        yield _name_of(info), info.filename


def _name_of(info: zipfile.ZipInfo) -> str:
    """Its name as UTF-8, which many programs write without the flag for it: zipfile then reads code page 437."""
    if info.flag_bits & _UTF8:
        return info.filename
    try:
        return info.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.filename


def _is_plain_tar(path: Path) -> bool:
    try:
        tarfile.open(path, "r:").close()
    except tarfile.ReadError:
        return False
    except FOREIGN_ERRORS as error:  # its first header is a tar's, with an extension that can't be read
        raise ValueError(f"{path} is a tar file that is broken at its start: {explain(error)}") from error
    return True


def _list_tar(path: Path) -> Iterator[tuple[str, Member]]:
    size, last = path.stat().st_size, "its start"
    try:
        with tarfile.open(path, "r:") as archive:
            while (member := archive.next()) is not None:
                last = cut(member.name)
                if not 0 <= member.size <= size - member.offset_data:
                    raise tarfile.ReadError("its last file is cut off")
                if len(member.pax_headers) > MOST_HEADERS:
                    raise tarfile.ReadError(f"it has more than {MOST_HEADERS} headers for a file")
                archive.members.clear()  # type: ignore[attr-defined]  # each copies all headers of the archive
                if member.isfile():
                    yield member.name, (member.offset_data, member.size)
            if any(
                _read_member(path, (archive.offset, tarfile.BLOCKSIZE))
            ):  # a tar ends with zeros; tarfile stops at anything else without an error
                raise tarfile.ReadError("a header is expected")
    except FOREIGN_ERRORS as error:
        raise ValueError(f"{path} is a tar file that is cut off or broken at {last}: {explain(error)}") from error


def _read_file(place: Path, found: FoundFile) -> bytes:
    """An image file's bytes. Raises OSError, also for more of them than an image has."""
    if not isinstance(found, Path):
        return _read_member(place, found)
    with foreign(str(found), raises=OSError):
        return read_bytes(found, "an image", MOST_BYTES)


def _read_member(archive: Path, member: Member) -> bytes:
    if isinstance(member, str):
        return _read_zipped(archive, member)
    start, size = member
    if size > MOST_BYTES:
        raise OSError(f"{archive} has an image of {size:,} bytes; an image has {MOST_BYTES:,} at most")
    with archive.open("rb") as opened:
        opened.seek(start)
        return opened.read(size)


def _read_zipped(archive: Path, member: str) -> bytes:
    with foreign(f"{cut(member)} can't be read from {archive}", raises=OSError):
        opened = _open_zip(archive, os.getpid())
        info = opened.getinfo(member)
        most = MOST_BYTES if info.compress_type == zipfile.ZIP_STORED else MOST_UNPACKED
        if info.file_size > most:
            raise ValueError(f"it unpacks to {info.file_size:,} bytes; an image has {most:,} at most")
        with opened.open(info) as content:
            return read_pieces(content, most, _PIECE if info.compress_type in _BOUNDED else _SMALL_PIECE)


@lru_cache(maxsize=8)
def _open_zip(archive: Path, _process: int) -> zipfile.ZipFile:
    """The archive with its table, once for each process: forked ones must not share the file's position."""
    return zipfile.ZipFile(archive)
