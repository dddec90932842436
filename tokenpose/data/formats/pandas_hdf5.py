"""Tables that pandas wrote to HDF5, read by h5py: PyTables, which pandas uses, unpickles what a file holds."""

import io
import pickle
import pickletools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tokenpose.data.formats.hdf5 import check_hdf5, open_hdf5
from tokenpose.data.formats.reading import read_by_others, show

_CALLS = {
    "GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "REDUCE", "NEWOBJ", "NEWOBJ_EX", "BUILD", "EXT1", "EXT2", "EXT4",
    "PERSID", "BINPERSID", "BYTEARRAY8", "NEXT_BUFFER",
}  # fmt: skip
"""What a pickle needs to run code, or to claim any size. The names of columns need none of it."""

Name = tuple[str, ...]


class Frame(NamedTuple):
    """A table: the names of columns and rows, one part for each level, and the values."""

    columns: Sequence[Name]
    rows: Sequence[Name]
    values: np.ndarray
    """(rows, columns)."""


def read_frame(path: Path, key: str) -> Frame:
    """The table of numbers that pandas stored under the key, in the format "fixed" or "table", with names in text.

    Raises FileNotFoundError, ModuleNotFoundError without h5py, and ValueError for another file.
    """
    check_hdf5(path)
    with open_hdf5(path) as file, read_by_others(f"{path} is not a table that pandas wrote"):
        if key not in file:
            raise ValueError(f"it has no {key}, but {show(sorted(file))}")
        group = file[key]
        frame = _read_table(group) if "table" in group else _read_fixed(group)
        if frame.values.shape != (len(frame.rows), len(frame.columns)):
            raise ValueError(f"its values are {frame.values.shape}, for {len(frame.rows)} x {len(frame.columns)} names")
        return frame


# The format "fixed": an array for each axis, or for each level of one, and one for each block of columns


def _read_fixed(group: Any) -> Frame:
    columns, rows = _read_axis(group, "axis0"), _read_axis(group, "axis1")
    values = np.full((len(rows), len(columns)), np.nan)
    place = {name: index for index, name in enumerate(columns)}
    for number in range(int(group.attrs["nblocks"])):
        names = _read_axis(group, f"block{number}_items")
        values[:, [place[name] for name in names]] = _read_values(group[f"block{number}_values"])
    return Frame(columns, rows, values)


def _read_axis(group: Any, axis: str) -> list[Name]:
    if _text(group.attrs[f"{axis}_variety"]) != "multi":
        return [(name,) for name in _read_names(group[axis])]
    levels = range(int(group.attrs[f"{axis}_nlevels"]))
    names = [_read_names(group[f"{axis}_level{level}"]) for level in levels]
    codes = [group[f"{axis}_label{level}"][()].tolist() for level in levels]
    return [tuple(name[code] for name, code in zip(names, row, strict=True)) for row in zip(*codes, strict=True)]


def _read_names(dataset: Any) -> list[str]:
    """Texts, or numbers as texts. Texts stored as Python objects are pickles, and aren't read."""
    if dataset.dtype.kind not in "Siuf":
        raise ValueError(f"the names in {dataset.name} are stored as {dataset.dtype}, not as text")
    return [_text(name) for name in np.ravel(dataset[()])]


def _read_values(dataset: Any) -> np.ndarray:
    if dataset.dtype.kind not in "iuf":
        raise ValueError(f"{dataset.name} holds {dataset.dtype}, not numbers")
    return np.asarray(dataset[()], dtype=np.float64)


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


# The format "table": a record for each row, whose fields are the index and the blocks of columns


def _read_table(group: Any) -> Frame:
    table = group["table"]
    if "index" not in (table.dtype.names or ()):
        raise ValueError(f"its records have the fields {show(table.dtype.names)}, and no index")
    records = table[()]
    columns, blocks = list[Name](), list[np.ndarray]()
    for field in sorted(name for name in records.dtype.names if name.startswith("values_block_")):
        columns += _read_columns(bytes(table.attrs[f"{field}_kind"]))
        blocks.append(np.asarray(records[field], dtype=np.float64).reshape(len(records), -1))
    order = _order(group, columns)
    values = np.concatenate(blocks, axis=1)[:, order] if blocks else np.zeros((len(records), 0))
    return Frame([columns[index] for index in order], [(_text(name),) for name in records["index"]], values)


def _order(group: Any, columns: Sequence[Name]) -> list[int]:
    """Where the table's columns stand in its blocks."""
    [(_, names)] = read_plain_pickle(bytes(group.attrs["non_index_axes"]))
    place = {name: index for index, name in enumerate(columns)}
    return [place[name] for name in _names_of(names)]


def _read_columns(content: bytes) -> list[Name]:
    return list(_names_of(read_plain_pickle(content)))


def _names_of(names: Any) -> Iterator[Name]:
    for name in names:
        yield tuple(map(str, name)) if isinstance(name, tuple) else (str(name),)


def read_plain_pickle(content: bytes) -> Any:
    """What a pickle of texts, numbers, lists, tuples and dicts holds. Raises ValueError for one that calls anything."""
    if any(opcode.name in _CALLS for opcode, _, _ in pickletools.genops(content)):
        raise ValueError("its names are a pickle that may run code")
    return _PlainUnpickler(io.BytesIO(content)).load()


class _PlainUnpickler(pickle.Unpickler):
    """Knows no classes and no functions."""

    def find_class(self, module: str, name: str) -> Any:
        raise ValueError(f"its names are a pickle that may run code ({module}.{name})"[:80])
