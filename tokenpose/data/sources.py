"""Where image files come from: folders, tar and zip files, unopened until needed."""

import glob
import os
import tarfile
import zipfile
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path, PurePosixPath

from jaxtyping import UInt8
from torch import Tensor

from tokenpose.images import decode_image


class ImageSource:
    """Images by file name, from folders, tar files (uncompressed) and zip files, which are not unpacked.

    ``places``: a path, several, or patterns such as "data/train-*.tar". A name is looked up as given, then under
    images/. Raises FileNotFoundError where a place or, when read, a name is not there.
    """

    def __init__(self, places: str | Path | Iterable[str | Path]) -> None:
        self.folders: list[Path] = []
        self._members: dict[str, tuple[Path, int, int] | tuple[Path, str]] = {}
        for place in [places] if isinstance(places, str | Path) else places:
            found = [Path(place)] if Path(place).exists() else [Path(path) for path in sorted(glob.glob(str(place)))]
            if not found:
                raise FileNotFoundError(f"there is no folder, tar or zip of images {place}")
            for path in found:
                self._add(path)

    def _add(self, path: Path) -> None:
        if path.is_dir():
            self.folders.append(path)
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                self._members.update({name: (path, name) for name in archive.namelist()})
        elif _is_plain_tar(path):
            with tarfile.open(path, "r:") as archive:
                for member in archive:
                    if member.isfile():
                        self._members[member.name.removeprefix("./")] = (path, member.offset_data, member.size)
        else:
            raise ValueError(
                f"images are read from folders, uncompressed tar files and zip files; {path} is none of them"
            )

    def read(self, name: str) -> UInt8[Tensor, "3 height width"]:
        """The image of that name. Raises FileNotFoundError, or OSError where it can't be decoded."""
        return decode_image(self.read_bytes(name), name)

    def read_bytes(self, name: str) -> bytes:
        """The image file as it lies there. Raises FileNotFoundError, and what reading raises."""
        for candidate in (name, str(PurePosixPath("images") / name), PurePosixPath(name).name):
            if candidate in self._members:
                return _read_member(*self._members[candidate])
            for folder in self.folders:
                if (folder / candidate).is_file():
                    return (folder / candidate).read_bytes()
        places = sorted(
            {str(member[0]) for member in self._members.values()} | {str(folder) for folder in self.folders}
        )
        raise FileNotFoundError(f"there is no image {name} in {', '.join(places)}")


def _is_plain_tar(path: Path) -> bool:
    try:
        tarfile.open(path, "r:").close()
    except tarfile.ReadError:
        return False
    return True


def _read_member(archive: Path, place: int | str, size: int = 0) -> bytes:
    if isinstance(place, str):
        return _open_zip(archive, os.getpid()).read(place)
    with archive.open("rb") as opened:
        opened.seek(place)
        return opened.read(size)


@lru_cache(maxsize=8)
def _open_zip(archive: Path, _process: int) -> zipfile.ZipFile:
    """Its table is read once a process; a forked one must not share the file's position."""
    return zipfile.ZipFile(archive)
