"""YOLO pose data sets, as Ultralytics documents and Roboflow exports them: data.yaml, images, text files -> COCO."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from tokenpose.data.formats.image_sizes import read_size
from tokenpose.data.formats.labels import DIGITS, VISIBLE, Category, Keypoint, Pairs, Person, Photograph, to_coco
from tokenpose.data.formats.reading import read_text, read_yaml, show
from tokenpose.skeletons import COCO, MOST_KEYPOINTS, infer_flip_pairs

logger = logging.getLogger(__name__)

SPLITS = ("train", "val", "valid", "test")


def read_yolo(path: str | Path, *, split: str | None = None, keypoints: Sequence[str] | None = None) -> dict[str, Any]:
    """The content of a COCO keypoint file, from a YOLO pose data set: its data.yaml, or its folder.

    ``split``: "train", "val" or "test" of data.yaml; None: all, and the image records say which in "split". File names
    are relative to the data set's folder, and sizes are read from the images. Names are those of ``kpt_names``, or
    ``keypoints``; else COCO's, if there are 17 with COCO's ``flip_idx``, or numbers. Flip pairs are those of
    ``flip_idx``; where it exchanges nothing and the names have sides, the names count. Without a third number, a
    keypoint at 0, 0 isn't labeled and any other is visible.

    Raises FileNotFoundError, and ValueError that names file and line.
    """
    path = _find_yaml(Path(path))
    settings = read_yaml(path)
    count, dimensions = _read_shape(settings, path)
    root, classes = _root(settings, path), _read_classes(settings, path)
    flip_pairs = _read_flip_pairs(settings, count, path)
    names = _choose_names(settings, count, flip_pairs, keypoints, path)
    flip_pairs = _settle_flip_pairs(flip_pairs, names, path)
    categories = [Category(name=name, keypoints=names, flip_pairs=flip_pairs) for name in classes.values()]
    reader = _LabelReader(root, names, classes, dimensions)
    photographs = [
        reader.read(image, chosen)
        for chosen in _choose_splits(settings, split, path)
        for image in _list_images(settings[chosen], root, path)
    ]
    if not photographs:
        raise FileNotFoundError(f"{path}: there are no images in {root}, in the folders that it names")
    used = {person.category for photograph in photographs for person in photograph.people}
    return to_coco(photographs, [category for category in categories if category.name in used], path)


def find_labels(image: Path) -> Path:
    """Where Ultralytics looks for an image's labels: the last folder "images" of its path becomes "labels"."""
    parts = list(image.parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _find_yaml(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = sorted(file for suffix in ("*.yaml", "*.yml") for file in path.glob(suffix))
    named = [file for file in found if file.stem == "data"] or found
    if len(named) != 1:
        what = "several" if named else "no"
        raise ValueError(f"{path} has {what} .yaml files; give the data set's data.yaml")
    return named[0]


def _read_shape(settings: Mapping[str, Any], path: Path) -> tuple[int, int]:
    shape: Any = settings.get("kpt_shape")
    whole = isinstance(shape, list) and len(shape) == 2 and all(type(number) is int for number in shape)
    if not whole or not 1 <= shape[0] <= MOST_KEYPOINTS or shape[1] not in (2, 3):
        raise ValueError(f"{path}: kpt_shape must be [keypoints, 2 or 3] for pose; got {show(shape)}")
    return shape[0], shape[1]


def _read_classes(settings: Mapping[str, Any], path: Path) -> dict[int, str]:
    names = settings.get("names")
    listed = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(listed, Mapping) or not all(type(number) is int for number in listed):
        raise ValueError(f"{path}: names must list the classes; got {show(names)}")
    return {number: str(name) for number, name in listed.items()}


def _read_flip_pairs(settings: Mapping[str, Any], count: int, path: Path) -> Pairs | None:
    """``flip_idx``, where each keypoint has its partner's index, as pairs."""
    partners = settings.get("flip_idx")
    if partners is None or partners == []:
        return None
    sound = isinstance(partners, list) and len(partners) == count and all(type(other) is int for other in partners)
    if not sound or any(not 0 <= other < count or partners[other] != index for index, other in enumerate(partners)):
        raise ValueError(
            f"{path}: flip_idx must pair {count} indices, each partner's partner itself; got {show(partners)}"
        )
    return tuple((index, other) for index, other in enumerate(partners) if index < other)


def _choose_names(
    settings: Mapping[str, Any], count: int, pairs: Pairs | None, given: Sequence[str] | None, path: Path
) -> tuple[str, ...]:
    written = settings.get("kpt_names")
    if isinstance(written, Mapping):  # of the first class: {0: ["nose", ...]}
        written = next(iter(written.values()), None)
    names = tuple(given) if given is not None else tuple(map(str, written)) if isinstance(written, list) else None
    if names is None and count == len(COCO) and pairs == COCO.flip_pairs:
        logger.info("%s doesn't name its keypoints: there are 17 with COCO's flip_idx, so they get COCO's names", path)
        return COCO.keypoints
    if names is None:
        logger.info("%s doesn't name its keypoints: they are numbered (name them with --keypoints)", path)
        return tuple(f"keypoint_{index}" for index in range(count))
    if len(names) != count:
        raise ValueError(
            f"{path}: kpt_shape says {count} keypoints; the names are {len(names)}: {', '.join(names)[:80]}"
        )
    return names


def _settle_flip_pairs(pairs: Pairs | None, names: tuple[str, ...], path: Path) -> Pairs | None:
    """The pairs of ``flip_idx``; None, so that names tell, where it exchanges nothing and the names have sides."""
    told = infer_flip_pairs(names)
    if pairs is None or told is None or set(told) == set(pairs):
        return pairs
    if not pairs:
        logger.warning("%s: flip_idx exchanges nothing, but the names have sides: the names count", path)
        return None
    logger.warning("%s: flip_idx pairs other keypoints than their names say: flip_idx counts", path)
    return pairs


def _root(settings: Mapping[str, Any], path: Path) -> Path:
    """The data set's folder: ``path`` if it has one of the splits, else the file's own."""
    places = [settings[name] for name in SPLITS if settings.get(name)]
    first = [str(place[0] if isinstance(place, list) and place else place) for place in places]
    root = path.parent / str(settings.get("path") or "")
    return root if any((root / place).exists() for place in first) else path.parent


def _choose_splits(settings: Mapping[str, Any], split: str | None, path: Path) -> list[str]:
    there = [name for name in SPLITS if settings.get(name)]
    if split is None:  # without those that name the places of another one
        places = [settings[name] for name in there]
        return [name for index, name in enumerate(there) if settings[name] not in places[:index]]
    wanted = {"valid": "val"}.get(split, split)
    chosen = [name for name in there if {"valid": "val"}.get(name, name) == wanted]
    if not chosen:
        raise ValueError(f"{path} has no split {split!r}; it has {', '.join(there) or 'none'}")
    return chosen


def _list_images(places: Any, root: Path, path: Path) -> Iterator[Path]:
    """The images of a split: a folder, a text file with a path on each line, or several of these."""
    for place in places if isinstance(places, list) else [places]:
        found = _find_place(str(place), root)
        if found is None:
            raise FileNotFoundError(f"{path}: there is no folder or list of images {place} in {root}")
        if found.is_dir():
            yield from sorted(file for file in found.rglob("*") if file.suffix.lower() in _suffixes())
        else:
            for line in filter(None, map(str.strip, read_text(found).splitlines())):
                yield found.parent / line


def _find_place(place: str, root: Path) -> Path | None:
    """Roboflow writes ../train/images for train/images."""
    stripped = place
    while stripped.startswith("../"):
        stripped = stripped[3:]
    return next((root / text for text in (place, stripped) if (root / text).exists()), None)


def _suffixes() -> set[str]:
    return {suffix for suffix, form in Image.registered_extensions().items() if form in Image.OPEN}


class _LabelReader:
    """Reads an image's text file."""

    def __init__(self, root: Path, names: tuple[str, ...], classes: Mapping[int, str], dimensions: int) -> None:
        self.root, self.names, self.classes, self.dimensions = root, names, classes, dimensions

    def read(self, image: Path, split: str) -> Photograph:
        """The photograph; an image without a text file has no people."""
        width, height = read_size(image, str(image))
        file, people = find_labels(image), list[Person]()
        if file.is_file():
            for number, line in enumerate(read_text(file).splitlines(), 1):
                if line.strip():
                    people.append(self._read_line(line, f"{file}, line {number}", width, height))
        return Photograph(file=self._name(image), width=width, height=height, people=people, fields={"split": split})

    def _name(self, image: Path) -> str:
        try:
            return (
                Path(os.path.abspath(image)).relative_to(os.path.abspath(self.root)).as_posix()
            )  # not where links lead
        except ValueError:
            return image.as_posix()

    def _read_line(self, line: str, where: str, width: int, height: int) -> Person:
        try:
            kind, *numbers = map(float, line.split())
        except ValueError as error:
            raise ValueError(f"{where} must be numbers; got {line[:80]!r}") from error
        expected = 4 + self.dimensions * len(self.names)
        if len(numbers) != expected:
            raise ValueError(f"{where}: a class, a box and {len(self.names)} keypoints are {expected + 1} numbers; "
                             f"got {len(numbers) + 1}")  # fmt: skip
        if kind not in self.classes:
            raise ValueError(f"{where}: class {kind:g} is not one of names in data.yaml: {show(dict(self.classes))}")
        x, y, across, down = numbers[:4]
        box = (
            round((x - across / 2) * width, DIGITS),
            round((y - down / 2) * height, DIGITS),
            round(across * width, DIGITS),
            round(down * height, DIGITS),
        )
        steps = range(4, expected, self.dimensions)
        keypoints = [self._keypoint(numbers[step : step + self.dimensions], width, height, where) for step in steps]
        return Person(
            category=self.classes[int(kind)], keypoints=dict(zip(self.names, keypoints, strict=True)), box=box
        )

    def _keypoint(self, numbers: Sequence[float], width: int, height: int, where: str) -> Keypoint:
        x, y = numbers[:2]
        v = numbers[2] if self.dimensions == 3 else VISIBLE * bool(x or y)
        if v not in (0, 1, 2):
            raise ValueError(f"{where}: a keypoint's visibility must be 0, 1 or 2; got {v:g}")
        return Keypoint(round(x * width, DIGITS), round(y * height, DIGITS), int(v))
