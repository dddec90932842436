"""COCO keypoint files -> a YOLO pose data set, as Ultralytics documents it: data.yaml, images and text files."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from tokenpose.data.formats.image_sizes import Places
from tokenpose.data.formats.label_file import LabelFile, read_people
from tokenpose.data.formats.labels import Category, Keypoint, Person, Photograph, counted, grow_box
from tokenpose.files import make_folder, write_text, written_whole

logger = logging.getLogger(__name__)


def write_yolo(
    data: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    val: str | Path | None = None,
    images: Places | None = None,
    copy: bool = False,
    category: str | None = None,
) -> Path:
    """Write a YOLO pose data set of COCO keypoint files into a folder, and give its data.yaml.

    ``data`` becomes the split "train", ``val`` the split "val"; without it, "val" is the training images, with a line.
    The images of ``images`` are linked into images/train and images/val, or copied if ``copy`` is on or they are in a
    tar or zip; without ``images``, put them there yourself. Keypoints outside their image aren't labeled, and boxes are
    cut to it, because Ultralytics refuses an image with any position outside; lines in the log count them.

    Raises FileExistsError for a folder that has a data.yaml, FileNotFoundError, OSError where links can't be made, and
    ValueError for faults of the files and for two images whose labels would be one file.
    """
    output = Path(output)
    if (output / "data.yaml").exists():
        raise FileExistsError(f"{output} has a data.yaml already; choose another folder")
    paths = [data] if isinstance(data, str | Path) else list(data)
    splits = {"train": read_people([Path(path) for path in paths], category)}
    if val is not None:
        splits["val"] = read_people([Path(val)], category)
        if splits["val"].category.keypoints != splits["train"].category.keypoints:
            raise ValueError(f"{val} has other keypoints than {paths[0]}")
    for split, content in splits.items():
        _write_split(content, output, split, images, copy)
    if val is None:
        logger.info("%s: val is the training images, since no val file is given", output / "data.yaml")
    write_text(output / "data.yaml", _describe(splits["train"].category, "val" if val is not None else "train"))
    return output / "data.yaml"


def _write_split(content: LabelFile, output: Path, split: str, images: Places | None, copy: bool) -> None:
    source = None if images is None else _Images(images, copy)
    taken = dict[str, str]()
    outside = 0
    for photograph in content.photographs:
        name = _name(photograph.file)
        labels = PurePosixPath(name).with_suffix(".txt").as_posix()
        if taken.setdefault(labels, photograph.file) != photograph.file:
            raise ValueError(f"the labels of {taken[labels]} and {photograph.file} would be one file, {labels}")
        lines = [_line(person, content.category, photograph) for person in photograph.people]
        outside += sum(len(_outside(person, photograph)) for person in photograph.people)
        path = output / "labels" / split / labels
        make_folder(path.parent)
        write_text(path, "".join(f"{line}\n" for line in lines if line))
        if source is not None:
            source.place(photograph.file, output / "images" / split / name)
    make_folder(output / "images" / split)
    if outside:
        logger.info("%s: left out: %s outside their image", split, counted(outside, "keypoint", "keypoints"))
    if source is None:
        images_of = counted(len(content.photographs), "image", "images")
        logger.info("put the %s of %s into %s", images_of, split, output / "images" / split)


def _name(file: str) -> str:
    """The image's place below images/train: its name, with its folders unless they lead elsewhere.

    A folder "images" gets another name: Ultralytics would look for the labels beside it.
    """
    path = PurePosixPath(file.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        return path.name
    return PurePosixPath(*(f"{part}_" if part == "images" else part for part in path.parts)).as_posix()


class _Images:
    """Links or copies images."""

    def __init__(self, places: Places, copy: bool) -> None:
        from tokenpose.data.sources import ImageSource  # needs torch

        given = [places] if isinstance(places, str | Path) else list(places)
        self._source, self._copy = ImageSource(given), copy
        self._folders = [Path(place) for place in given if Path(place).is_dir()]

    def place(self, file: str, path: Path) -> None:
        """Put the image of that name at the path."""
        make_folder(path.parent)
        found = next((folder / file for folder in self._folders if (folder / file).is_file()), None)
        if found is not None and not self._copy:
            try:
                os.symlink(found.absolute(), path)
            except FileExistsError:
                raise
            except OSError as error:
                raise OSError(f"{path} can't be a link ({error.strerror}); copy the images: --copy") from error
            return
        content = self._source.read_bytes(file)
        with written_whole(path) as partial:
            partial.write_bytes(content)


def _outside(person: Person, photograph: Photograph) -> list[str]:
    """The labeled keypoints that Ultralytics wouldn't take."""
    return [name for name, point in person.keypoints.items() if not _is_inside(point, photograph)]


def _is_inside(point: Keypoint, photograph: Photograph) -> bool:
    return 0 <= point.x <= photograph.width and 0 <= point.y <= photograph.height


def _line(person: Person, category: Category, photograph: Photograph) -> str:
    """ "0 x y width height x y v x y v ...", in shares of the image; "" for a box outside it."""
    width, height = photograph.width, photograph.height
    points = {name: point for name, point in person.keypoints.items() if _is_inside(point, photograph)}
    if person.box is None and not points:
        return ""
    left, top, across, down = person.box or grow_box(points.values(), width, height)
    x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + across, width), min(top + down, height)
    if x2 <= x1 or y2 <= y1:
        return ""
    numbers = [(x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height]
    for name in category.keypoints:
        point = points.get(name, Keypoint(0.0, 0.0, 0))
        numbers += [point.x / width, point.y / height, point.v]
    return " ".join(["0", *(f"{number:.17g}" for number in numbers)])


def _describe(category: Category, val: str) -> str:
    """data.yaml. ``path`` is left out: Ultralytics then takes the file's own folder."""
    import yaml

    partners = list(range(len(category.keypoints)))
    for first, second in category.flip_pairs or ():
        partners[first], partners[second] = second, first
    content: dict[str, Any] = {
        "train": "images/train",
        "val": f"images/{val}",
        "names": {0: category.name},
        "kpt_shape": [len(category.keypoints), 3],
        "kpt_names": {0: list(category.keypoints)},
    }
    if category.flip_pairs is not None:
        content["flip_idx"] = partners
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110)
