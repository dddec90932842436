"""HDF5 files of strangers: their claimed sizes are bounded, and pickles in them may not call anything."""

import pickletools
from pathlib import Path
from typing import Any

LEAST_BYTES = 512 << 20
"""What the data sets of a small file may take, uncompressed."""
MOST_GROWTH = 20
"""Of the file's size, for larger ones."""

_CALLS = {
    "GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "REDUCE", "NEWOBJ", "NEWOBJ_EX", "BUILD", "EXT1", "EXT2", "EXT4",
    "PERSID", "BINPERSID", "BYTEARRAY8",
}  # fmt: skip
"""What a pickle needs to run code, or to claim any size. Numbers, texts, lists and tuples need none of it."""


def open_hdf5(path: Path) -> Any:
    """The file, opened by h5py. Raises FileNotFoundError, ModuleNotFoundError, and ValueError for another file."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f'reading {path} needs h5py: pip install "tokenpose[import]"') from error
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{path} is not an HDF5 file, or is cut off: {error}") from error


def check_hdf5(path: Path) -> None:
    """Raise ValueError if the data sets together are far larger than the file, or lie in another file.

    A few kilobytes of compressed data can claim terabytes.
    """
    import h5py

    with open_hdf5(path) as file:
        total = 0

        def measure(name: str, thing: Any) -> None:
            nonlocal total
            if not isinstance(thing, h5py.Dataset):
                return
            if thing.external or thing.is_virtual:
                raise ValueError(f"{path}: the data of {name[:80]} lie in another file")
            total += thing.size * thing.dtype.itemsize

        def look(name: str, link: Any) -> None:
            if isinstance(link, h5py.ExternalLink):
                raise ValueError(f"{path}: {name[:80]} lies in another file")

        file.visititems_links(look)
        file.visititems(measure)
    most = max(LEAST_BYTES, MOST_GROWTH * path.stat().st_size)
    if total > most:
        raise ValueError(f"{path} claims {total:,} bytes of data; a file of its size is read up to {most:,}")


def refuse_code(path: Path) -> None:
    """Raise ValueError if an attribute, or a list of Python objects, is a pickle that may run code.

    PyTables unpickles attributes when it opens a file; what DeepLabCut writes holds only texts and numbers.
    """
    import h5py

    with open_hdf5(path) as file:

        def look(name: str, thing: Any) -> None:
            for key, value in thing.attrs.items():
                content = bytes(value) if isinstance(value, bytes) else b""
                if may_run_code(content):
                    raise ValueError(
                        f"{path}: the attribute {key[:40]} of {name[:40] or '/'} may run code; it isn't read"
                    )
                if key == "PSEUDOATOM" and content == b"object" and isinstance(thing, h5py.Dataset):
                    raise ValueError(f"{path}: {name[:80]} holds Python objects, which may run code; they aren't read")

        look("", file)
        file.visititems(look)


def may_run_code(content: bytes) -> bool:
    """Whether PyTables would unpickle these bytes, and the pickle calls something or can't be read whole.

    PyTables unpickles what ends with a dot. Plain text is harmless: to name what it calls, a pickle needs a line break
    or a byte beyond ASCII.
    """
    if not content.endswith(b".") or (content.isascii() and content.decode().isprintable()):
        return False
    try:
        return any(opcode.name in _CALLS for opcode, _, _ in pickletools.genops(content))
    except (ValueError, IndexError, EOFError):
        return True
