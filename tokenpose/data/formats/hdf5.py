"""HDF5 files of strangers: what they claim to hold is bounded."""

from pathlib import Path
from typing import Any

from tokenpose.data.formats.reading import read_by_others

LEAST_BYTES = 512 << 20
"""What the data sets of a small file may take, uncompressed."""
MOST_GROWTH = 20
"""Of the file's size, for larger ones."""


def open_hdf5(path: Path) -> Any:
    """The file, opened by h5py. Raises FileNotFoundError, ModuleNotFoundError, and ValueError for another file."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f'reading {path} needs h5py: pip install "tokenpose[import]"') from error
    with read_by_others(f"{path} is not an HDF5 file, or is cut off"):
        return h5py.File(path, "r")


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

    with open_hdf5(path) as file, read_by_others(f"{path} is a broken HDF5 file"):
        fault = file.visititems_links(find_outside) or file.visititems(measure)
    if fault:
        raise ValueError(f"{path}: {fault}, which isn't read")
    most = max(LEAST_BYTES, MOST_GROWTH * path.stat().st_size)
    if sum(sizes) > most:
        raise ValueError(f"{path} claims {sum(sizes):,} bytes of data; a file of its size is read up to {most:,}")
