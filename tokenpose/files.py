"""Files: written whole or not at all, held by one process at a time; checks of the values in them."""

import errno
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl: Any = None  # type: ignore[no-redef]


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside the file, and move what was written there into place at the end.

    The file's mode follows the umask. If writing fails or is interrupted, an older file stays as it
    was. Links are followed, and a device or a pipe (/dev/stdout) is written to directly. Raises the OSError that
    stopped the writing, with the file's name in it.
    """
    path = Path(path)
    with named(path):
        if path.exists() and not path.is_file():
            yield path
            return
        target = Path(os.path.realpath(path))  # not resolve(), which raises RuntimeError for links in a circle
        partial = target.with_name(target.name + ".partial")
        try:
            yield partial
            with partial.open("rb+") as file:
                os.fsync(file.fileno())  # or a power cut may leave the new name without the content
            with suppress(OSError):  # file systems without modes
                partial.chmod(0o666 & ~_umask())  # safetensors makes files that only their owner reads
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Add the file's name to OSErrors raised in the block: errors about a full disk lack it."""
    try:
        yield
    except OSError as error:
        kind = type(error) if error.errno is not None else OSError
        raise kind(f"{path} can't be written ({error.strerror or error})") from error


def write_text(path: str | Path, text: str) -> None:
    """Write a file whole or not at all, in UTF-8; "?" replaces what can't be encoded. Raises OSError that names it."""
    with written_whole(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="replace")


def make_folder(path: Path) -> None:
    """Make a folder and its parents if they don't exist. Raises OSError that names a file in the way."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        file = next(place for place in (path, *path.parents) if os.path.lexists(place))
        raise type(error)(f"{file} is a file, where a folder is needed; choose another output") from error


@contextmanager
def locked(path: Path, refusal: str) -> Iterator[None]:
    """Hold a file that only one process at a time can hold; the system releases it when the process ends.

    The file is removed when it is released, except after kill -9. This has no effect where the system or the file
    system has no such locks. Raises BlockingIOError, with ``refusal`` as its message, if another process holds it.
    """
    if fcntl is None:
        yield
        return
    with _hold(path, refusal):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _hold(path: Path, refusal: str) -> TextIO:
    """Open and lock the file, and make sure that its last holder didn't remove it meanwhile. Forks don't hold it."""
    while True:
        with named(path):
            file = path.open("a", encoding="utf-8")
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                file.close()
                raise BlockingIOError(refusal) from error
            return file
        with suppress(FileNotFoundError):
            if os.path.samestat(path.stat(), os.fstat(file.fileno())):
                return file
        file.close()


def _umask() -> int:
    """The process's umask, which Python can only read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def is_number(value: Any) -> bool:
    """Whether this is a finite number: not a bool, and not an integer too large for a float."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False
