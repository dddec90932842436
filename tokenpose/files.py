"""Files: written whole or not at all, held by one process at a time; foreign ones read within bounds."""

import errno
import lzma
import math
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TextIO

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


def decode(content: bytes) -> str:
    """The text in a file's bytes: UTF-8, with or without a byte order mark. Raises ValueError."""
    check_encoding(content[:4])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{error}; save it as UTF-8") from error


def check_encoding(start: bytes) -> None:
    """Raise ValueError if a file begins with these four bytes and so is UTF-16 or UTF-32."""
    if len(start) < 4:
        return
    zeros = [byte == 0 for byte in start]
    if start.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")) or zeros.count(True) == 3:
        raise ValueError("it is UTF-32; save it as UTF-8")
    if start.startswith((b"\xff\xfe", b"\xfe\xff")) or zeros in ([True, False] * 2, [False, True] * 2):
        raise ValueError("it is UTF-16; save it as UTF-8")


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


# Foreign files: by anybody, perhaps broken, perhaps made to do harm

LONGEST_VALUE = 80
"""How many characters of a foreign value an error shows."""

FOREIGN_ERRORS = (
    ValueError, LookupError, TypeError, AttributeError, ArithmeticError, EOFError, RuntimeError, MemoryError,
    AssertionError, struct.error, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError,
)  # fmt: skip
"""What Python's readers raise for broken files, besides OSError. RuntimeError includes RecursionError and
NotImplementedError, ValueError includes UnicodeDecodeError, ArithmeticError includes OverflowError."""


def shown(value: Any, most: int = LONGEST_VALUE) -> str:
    """A foreign value as an error shows it: its repr in one line, cut after ``most`` characters."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # ValueError: an int of more digits than Python prints
        text = f"<{type(value).__name__}>"
    return cut(text, most)


def listed(names: Iterable[str], most: int = 800) -> str:
    """Foreign names with commas between them, cut after ``most`` characters."""
    return cut(", ".join(names), most)


def cut(text: str, most: int = LONGEST_VALUE) -> str:
    """A foreign text in one line, of which the end is left out after ``most`` characters."""
    if not text.isprintable():
        text = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text[: most + 1])
    return text if len(text) <= most else f"{text[: most - 3]}..."


def explain(error: BaseException) -> str:
    """Why reading failed, in one line of at most 200 characters."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, MemoryError):
        return "it claims more than the memory holds"
    text = " ".join(str(error).split())
    is_code = not text or isinstance(error, LookupError | TypeError | AttributeError | ArithmeticError | struct.error)
    return cut(f"{type(error).__name__}{text and f': {text}'}" if is_code else text, 200)


@contextmanager
def foreign(
    refusal: str, errors: tuple[type[Exception], ...] = FOREIGN_ERRORS, raises: type[Exception] = ValueError
) -> Iterator[None]:
    """Turn whatever a reader of Python's or another library raises in the block into one line: ``refusal``, which names
    the file (and the record), and the reason.

    OSErrors that name a file pass; others come from reading in a broken place, or are a reader's own. To be put around
    calls of such readers only: the library's own errors name the file already.
    """
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        raise raises(f"{refusal}: {explain(error)}") from error
    except errors as error:
        raise raises(f"{refusal}: {explain(error)}") from error


def expand(path: str | Path) -> Path:
    """The path, with a leading ~ as the home folder it stands for. Raises FileNotFoundError for an unknown user's."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise FileNotFoundError(f"{shown(str(path))} starts with a home folder that is not known") from error


def check_size(path: Path, what: str, most: int) -> None:
    """Raise ValueError for a file that is larger than ``what`` ("a recipe", say) can be, in bytes."""
    if (size := path.stat().st_size) > most:
        raise ValueError(f"{path} has {size:,} bytes, more than {what} can have ({most:,}); is it another file?")


def read_bytes(path: Path, what: str, most: int) -> bytes:
    """A file's content. Raises OSError, and ValueError where it has more bytes than ``what`` can have."""
    check_size(path, what, most)
    with path.open("rb") as opened:
        content = opened.read(most + 1)  # a pipe or a growing file has no size
    if len(content) > most:
        raise ValueError(f"{path} has more bytes than {what} can have ({most:,}); is it another file?")
    return content


def read_pieces(opened: BinaryIO | Any, most: int, piece: int) -> bytes:
    """What a decompressing reader gives, asked for piece by piece, so that it never holds much more than ``most``.

    Raises ValueError if there is more.
    """
    content = bytearray()
    while part := opened.read(piece):
        content += part
        if len(content) > most:
            raise ValueError(f"it unpacks to more than {most:,} bytes")
    return bytes(content)
