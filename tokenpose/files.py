"""Files: written whole or not at all; and what values that come from them are."""

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
    """Gives a place beside the file to write to, which takes the file's own place in the end.

    Its mode follows the umask, whatever wrote it. Where writing fails, or is interrupted, an older file stays as it
    was. Links are followed, and what is no file (/dev/stdout, a pipe) is written to as it is. Raises OSError of the
    kind that stopped it, which names the file.
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
    """OSErrors from inside name the file: on a full disk, they name none."""
    try:
        yield
    except OSError as error:
        kind = type(error) if error.errno is not None else OSError
        raise kind(f"{path} can't be written ({error.strerror or error})") from error


def write_text(path: str | Path, text: str) -> None:
    """Write a file whole or not at all, in UTF-8; what can't be encoded becomes "?". Raises OSError that names it."""
    with written_whole(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="replace")


@contextmanager
def locked(path: Path, refusal: str) -> Iterator[None]:
    """Hold a file that one process at a time can hold; the system lets go of it when that ends, however it does.

    It is there as long as it is held, longer after kill -9. Without effect where the system, or the file system, has
    no such locks. Raises BlockingIOError, with the refusal, where another process holds it.
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
    """The file, open and locked; not one that its holder removed meanwhile. A forked process doesn't hold it."""
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
    """Python can't ask for it without setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def is_number(value: Any) -> bool:
    """Whether it is a finite number: no truth value, and no integer too large for a float."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False
