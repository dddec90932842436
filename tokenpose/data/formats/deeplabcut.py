"""DeepLabCut's labels, CollectedData_*.csv or .h5, of one animal or several -> COCO."""

import csv
import io
import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from tokenpose.data.formats.image_sizes import ImageSizes, Places
from tokenpose.data.formats.labels import Category, Keypoint, Pairs, Person, Photograph, to_coco
from tokenpose.data.formats.pandas_hdf5 import read_frame
from tokenpose.data.formats.reading import read_text, read_yaml, show

logger = logging.getLogger(__name__)

ANIMAL, SINGLE = "animal", "single"
"""The individual "single" has the body parts that are not the animals'; it becomes a category of its own."""

KEY = "df_with_missing"
"""Where the table is in an h5."""

Column = tuple[str, str, str]
"""Individual, body part, and "x" or "y"."""


@dataclass(frozen=True)
class _Table:
    """The file as columns and rows."""

    columns: Sequence[Column | None]
    """None: a column that isn't read."""
    rows: Sequence[tuple[str, Sequence[float]]]
    """The image's path and the values, NaN where nothing is labeled."""


def read_deeplabcut(path: str | Path, *, images: Places | None = None) -> dict[str, Any]:
    """The content of a COCO keypoint file, from DeepLabCut's CollectedData_*.csv or .h5, or a folder with several.

    A folder is a project or its labeled-data; where csv and h5 stand beside each other, the csv is read. Each
    individual with a labeled body part is an animal; the individual "single" has a category of its own. Limbs are the
    ``skeleton`` of the project's config.yaml. File names are "labeled-data/VIDEO/IMAGE", as in the file.

    ``images``: where the images are, since the file doesn't say their sizes; None: in the project. h5 files need
    ``pip install "tokenpose[import]"``. Raises FileNotFoundError, ModuleNotFoundError, and ValueError that names the
    file.
    """
    path = Path(path)
    files = _find_files(path)
    tables = {file: _read_hdf5(file) if file.suffix.lower() == ".h5" else _read_csv(file) for file in files}
    project = _find_project(files[0])
    sizes = ImageSizes(images, project)
    categories = _categories(tables.values(), project)
    photographs = [photo for file, table in tables.items() for photo in _photographs(table, sizes, file)]
    return to_coco(photographs, categories, path)


def _find_files(path: Path) -> list[Path]:
    if not path.is_dir():
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {path}")
        return [path]
    found = {file.with_suffix(""): file for suffix in ("h5", "csv") for file in path.rglob(f"CollectedData_*.{suffix}")}
    if not found:
        raise FileNotFoundError(f"{path} has no CollectedData_*.csv or CollectedData_*.h5")
    return [found[key] for key in sorted(found)]


def _find_project(file: Path) -> Path:
    """The folder that image paths begin in."""
    folder = file.absolute().parent
    return folder.parent.parent if folder.parent.name == "labeled-data" else folder


# Files


def _read_csv(path: Path) -> _Table:
    """The header's rows are scorer, individuals where there are several, bodyparts and coords; the first columns, one
    or three, are the image's path."""
    try:
        lines = list(csv.reader(io.StringIO(read_text(path), newline="")))
    except csv.Error as error:
        raise ValueError(f"{path} is not csv: {error}") from error
    count = 4 if len(lines) > 1 and lines[1][:1] == ["individuals"] else 3
    if len(lines) <= count or [line[0] if line else "" for line in lines[:count]] != _HEADERS[count]:
        raise ValueError(
            f"{path} is not DeepLabCut's csv: its first column must begin with {', '.join(_HEADERS[count])}, and rows "
            "must follow"
        )
    width = len(lines[0])
    start = next((index for index, text in enumerate(lines[count - 1][1:], 1) if text), width)
    header = [line[start:] for line in lines[1:count]]
    rows = []
    for number, line in enumerate(lines[count:], count + 1):
        if not any(line):
            continue
        if len(line) != width:
            raise ValueError(f"{path}, line {number} has {len(line)} columns; the header has {width}")
        rows.append((_join(line[:start]), [_to_number(text, f"{path}, line {number}") for text in line[start:]]))
    return _Table(_columns(header, path), rows)


_HEADERS = {3: ["scorer", "bodyparts", "coords"], 4: ["scorer", "individuals", "bodyparts", "coords"]}


def _to_number(text: str, where: str) -> float:
    try:
        return float(text) if text else math.nan
    except ValueError as error:
        raise ValueError(f"{where}: {text[:80]!r} is not a number") from error


def _read_hdf5(path: Path) -> _Table:
    frame = read_frame(path, KEY)
    levels = len(frame.columns[0]) if frame.columns else 0
    if levels not in _HEADERS:
        raise ValueError(f"{path} is not DeepLabCut's h5: its columns have {levels} levels; 3 or 4 are expected")
    header = [[name[level] for name in frame.columns] for level in range(1, levels)]
    rows = [(_join(name), values) for name, values in zip(frame.rows, frame.values.tolist(), strict=True)]
    return _Table(_columns(header, path), rows)


def _columns(header: Sequence[Sequence[str]], path: Path) -> list[Column | None]:
    """The columns that hold positions. Raises ValueError for a file of predictions."""
    individuals = header[0] if len(header) == 3 else [ANIMAL] * len(header[-1])
    parts, coords = header[-2:]
    if "likelihood" in coords:
        raise ValueError(f"{path} has predictions, of a video's frames without images; give a CollectedData file")
    named = zip(individuals, parts, coords, strict=True)
    columns = [(who, part, axis) if axis in ("x", "y") else None for who, part, axis in named]
    if len(set(columns)) < len(columns) or not any(columns):
        raise ValueError(f"{path} must have one x and one y for each body part; it has {show(columns)}")
    return columns


def _join(parts: Sequence[Any]) -> str:
    """An image's path, from one column or three. Paths of Windows have backslashes."""
    return PureWindowsPath(*map(str, filter(None, parts))).as_posix()


# People


def _categories(tables: Iterable[_Table], project: Path) -> list[Category]:
    parts: dict[str, dict[str, None]] = {}
    for table in tables:
        for column in filter(None, table.columns):
            kind = SINGLE if column[0] == SINGLE else ANIMAL
            parts.setdefault(kind, {})[column[1]] = None
    limbs = _read_limbs(project / "config.yaml")
    return [Category(name=kind, keypoints=tuple(names), limbs=_among(limbs, [*names])) for kind, names in parts.items()]


def _among(limbs: Sequence[tuple[str, str]], names: Sequence[str]) -> Pairs:
    inside = [(first, second) for first, second in limbs if first in names and second in names and first != second]
    return tuple((names.index(first), names.index(second)) for first, second in inside)


def _read_limbs(config: Path) -> list[tuple[str, str]]:
    if not config.is_file():
        return []
    skeleton = read_yaml(config).get("skeleton")
    pairs = skeleton if isinstance(skeleton, list) else []
    return [(str(pair[0]), str(pair[1])) for pair in pairs if isinstance(pair, list) and len(pair) == 2]


def _photographs(table: _Table, sizes: ImageSizes, path: Path) -> Iterator[Photograph]:
    for name, values in table.rows:
        if name.isdecimal():
            raise ValueError(
                f"{path}: row {name!r} names no image: it is a frame of a video; give a CollectedData file"
            )
        people = dict[str, dict[str, Keypoint]]()
        for (who, part), (x, y) in _positions(table, values, f"{path}: {name}").items():
            people.setdefault(who, {})[part] = Keypoint(x, y)
        width, height = sizes.find(_place(name))
        yield Photograph(
            file=_place(name),
            width=width,
            height=height,
            people=[
                Person(
                    category=SINGLE if who == SINGLE else ANIMAL,
                    keypoints=keypoints,
                    fields={} if who == ANIMAL else {"individual": who},
                )
                for who, keypoints in people.items()
            ],
            fields={"video": PurePosixPath(name).parent.name},
        )


def _positions(table: _Table, values: Sequence[float], where: str) -> dict[tuple[str, str], tuple[float, float]]:
    """The labeled positions of a row, by individual and body part."""
    axes = dict[tuple[str, str], dict[str, float]]()
    for column, value in zip(table.columns, values, strict=True):
        if column is not None and not math.isnan(value):
            axes.setdefault(column[:2], {})[column[2]] = value
    for (who, part), found in axes.items():
        if len(found) != 2:
            raise ValueError(f"{where}: {part} of {who} has only {', '.join(found)}; a position is x and y")
    return {key: (found["x"], found["y"]) for key, found in axes.items()}


def _place(name: str) -> str:
    """The path below the project: older files have absolute ones of the machine where they were made."""
    parts = PureWindowsPath(name).parts
    return PurePosixPath(*parts[parts.index("labeled-data") :]).as_posix() if "labeled-data" in parts else name
