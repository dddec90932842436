"""Foreign JSON, YAML and text files: bounded, and refused in a line that names file and record."""

import json
import reprlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tokenpose.files import decode, foreign, is_number

MOST_BYTES = 2 << 30
"""Of a JSON or text file."""
MOST_YAML_BYTES = 4 << 20

Value = TypeVar("Value")

_OTHERS_RAISE = (
    OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError, EOFError, MemoryError,
    AssertionError, SystemError,
)  # fmt: skip
"""SystemError: h5py, for an error within a visit of a broken file."""

_NAMES: dict[Any, str] = {dict: "an object", list: "a list", str: "text", int: "a whole number", float: "a number"}


def read_text(path: Path, most: int = MOST_BYTES) -> str:
    """A text file in UTF-8, with or without a byte order mark. Raises OSError, and ValueError that names the file."""
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; a file is needed")
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    if path.stat().st_size > most:
        raise ValueError(f"{path} has {path.stat().st_size:,} bytes; at most {most:,} are read")
    with foreign(str(path)):
        return decode(path.read_bytes())


def read_json(path: Path) -> Any:
    """What a JSON file holds. Raises FileNotFoundError, and ValueError for a file that is not JSON."""
    text = read_text(path)
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError(f"{path} is nested too deeply") from error
    except ValueError as error:  # json.JSONDecodeError, and Python's limit of digits
        raise ValueError(f"{path} is not JSON: {error}") from error


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Aliases are refused: a few of them can stand for gigabytes.

    Raises FileNotFoundError, and ValueError for a file that is no such YAML.
    """
    import yaml

    text = read_text(path, MOST_YAML_BYTES)
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
            raise ValueError(f"{path} has aliases (*name), which are not read; write the values out")
        content = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a mapping of names to values; it holds {show(content)}")
    return content


@contextmanager
def read_by_others(refusal: str) -> Iterator[None]:
    """Turn what another library raises for a broken file into ValueError: ``refusal``, which names it, and why."""
    try:
        yield
    except _OTHERS_RAISE as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{refusal}: {reason or type(error).__name__}") from error


def show(value: Any) -> str:
    """A value in an error: its first 80 characters, however long or deeply nested it is."""
    return reprlib.repr(value)[:80]


def take(record: Any, field: str, kind: type[Value], where: str) -> Value:
    """A field of a record that must be of that kind. Raises ValueError that begins with ``where``, file and record."""
    if not isinstance(record, Mapping):
        raise ValueError(f"{where} must be an object; got {show(record)}")
    value = record.get(field)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ValueError(f"{where}: {field} must be {_NAMES[kind]}; got {show(value)}")
    return value


def take_number(record: Any, field: str, where: str) -> float:
    """A field that must be a finite number; text such as "12.5" is one, as XML and csv files have it."""
    value: Any = record.get(field) if isinstance(record, Mapping) else None
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            value = None
    if not is_number(value):
        got = record.get(field) if isinstance(record, Mapping) else record
        raise ValueError(f"{where}: {field} must be a finite number; got {show(got)}")
    return float(value)


def take_size(record: Any, fields: tuple[str, str], where: str) -> tuple[int, int]:
    """Width and height of an image. Raises ValueError where they are not whole numbers of at least 1."""
    width, height = (take_number(record, field, where) for field in fields)
    if width < 1 or height < 1 or width != int(width) or height != int(height):
        raise ValueError(f"{where}: {fields[0]} and {fields[1]} must be whole numbers of pixels; got {width}, {height}")
    return int(width), int(height)
