"""Widths and heights of images whose labels don't say them, from the files' headers."""

import io
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import ExifTags, Image, UnidentifiedImageError

if TYPE_CHECKING:
    from tokenpose.data.sources import ImageSource

Places = str | Path | Iterable[str | Path]

_TURNED = {5, 6, 7, 8}  # EXIF orientations that exchange width and height


class ImageSizes:
    """Sizes (width, height) of images in folders, tar and zip files; None: in the folder beside the labels.

    A photograph that EXIF turns has its turned size, as labeling tools show it. Names are looked up as
    `tokenpose.data.sources.ImageSource` does.
    """

    def __init__(self, places: Places | None, beside: Path) -> None:
        self._is_given = places is not None
        given = beside if places is None else places
        self._places = [Path(place) for place in ([given] if isinstance(given, str | Path) else given)]

    @cached_property
    def _source(self) -> "ImageSource":
        from tokenpose.data.sources import ImageSource  # needs torch

        return ImageSource(self._places)

    def find(self, name: str) -> tuple[int, int]:
        """The size of the image of that name. Raises FileNotFoundError, or OSError for a file that is no image."""
        near = self._find_near(name)
        try:
            content = near if near is not None else io.BytesIO(self._source.read_bytes(name))
        except FileNotFoundError as error:
            hint = "" if self._is_given else "; say where the images are: --images PLACE, in Python images=PLACE"
            raise FileNotFoundError(f"{error}{hint}") from error
        return read_size(content, name)

    def has(self, name: str) -> bool:
        """Whether there is an image of that name."""
        if self._find_near(name) is not None:
            return True
        try:
            self._source.check(name)
        except FileNotFoundError:
            return False
        return True

    def _find_near(self, name: str) -> Path | None:
        """The file of exactly that name in a folder, found without a list of all files."""
        if Path(name).is_absolute() or ".." in Path(name).parts:
            return None
        return next((place / name for place in self._places if _is_file(place / name)), None)


def read_size(file: Path | io.BytesIO, name: str) -> tuple[int, int]:
    """Width and height from an image file's header, turned as EXIF says. Raises OSError that names the file."""
    try:
        with Image.open(file) as image:
            turned = image.getexif().get(ExifTags.Base.Orientation) in _TURNED
            return (image.height, image.width) if turned else image.size
    except UnidentifiedImageError as error:
        raise OSError(f"{name} is not an image that can be read") from error
    except (SyntaxError, ValueError, EOFError, RuntimeError, Image.DecompressionBombError) as error:
        raise OSError(f"{name} can't be read: {error}") from error


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long, or has a null character
        return False
