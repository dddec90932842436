"""Files that are written whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


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


def _umask() -> int:
    """Python can't ask for it without setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
