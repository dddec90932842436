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

    sizes = []

    def find_outside(name: str, link: Any) -> str | None:
        return f"{name[:80]} lies in another file" if isinstance(link, h5py.ExternalLink) else None

    def measure(name: str, thing: Any) -> str | None:
        if not isinstance(thing, h5py.Dataset):
            return None
        sizes.append(thing.size * thing.dtype.itemsize)
        return f"the data of {name[:80]} lie in another file" if thing.external or thing.is_virtual else None

    with open_hdf5(path) as file:
        fault = file.visititems_links(find_outside) or file.visititems(measure)
    if fault:
        raise ValueError(f"{path}: {fault}, which isn't read")
    most = max(LEAST_BYTES, MOST_GROWTH * path.stat().st_size)
    if sum(sizes) > most:
        raise ValueError(f"{path} claims {sum(sizes):,} bytes of data; a file of its size is read up to {most:,}")


def refuse_code(path: Path) -> None:
    """Raise ValueError if an attribute, or a list of Python objects, is a pickle that may run code.

    PyTables unpickles attributes when it opens a file; what DeepLabCut writes holds only texts and numbers.
    """
    with open_hdf5(path) as file:
        fault = _find_code("/", file) or file.visititems(_find_code)
    if fault:
        raise ValueError(f"{path}: {fault}, which may run code; it isn't read")


def _find_code(name: str, thing: Any) -> str | None:
    for key, value in thing.attrs.items():
        content = bytes(value) if isinstance(value, bytes) else b""
        if may_run_code(content):
            return f"the attribute {key[:40]} of {name[:80]} is a pickle"
        if key == "PSEUDOATOM" and content == b"object":
            return f"{name[:80]} holds Python objects"
    return None


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
