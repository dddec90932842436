"""labelme's JSON files, one beside each image -> COCO."""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

from tokenpose.data.formats.grouping import LooseBox, LooseImage, LoosePoint, gather
from tokenpose.data.formats.image_sizes import ImageSizes, Places
from tokenpose.data.formats.labels import HIDDEN, VISIBLE, Keypoint, to_coco
from tokenpose.data.formats.reading import read_json, show, take, take_number, take_size

logger = logging.getLogger(__name__)

HIDDEN_FLAGS = ("hidden", "occluded")
"""Of a point's flags: one of them that is set makes v = 1."""


def read_labelme(
    path: str | Path, *, images: Places | None = None, keypoints: Sequence[str] | None = None
) -> dict[str, Any]:
    """The content of a COCO keypoint file, from a folder of labelme's JSON files, or from one of them.

    Points are keypoints, called as their labels; rectangles are people's boxes. Those with one ``group_id`` are one
    person; others are gathered as `tokenpose.data.formats.grouping.gather` says. A point with the flag "hidden" or
    "occluded" has v = 1. File names are relative to the folder. ``images``: where the images are, needed if a file
    doesn't say its image's size. ``keypoints``: the names in their order; None: as they first appear.

    Raises FileNotFoundError, and ValueError that names file and shape.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    files = sorted(path.rglob("*.json")) if path.is_dir() else [path]
    sizes, loose, ignored = ImageSizes(images, folder), list[LooseImage](), Counter[str]()
    for file in files:
        content = read_json(file)
        if not isinstance(content, Mapping) or "shapes" not in content:
            if file == path:
                raise ValueError(f"{path} is not labelme's JSON: it has no shapes")
            logger.info("%s is left out: it has no shapes", file)
            continue
        loose.append(_loose(content, file, folder, sizes))
        ignored.update(show(shape.get("shape_type")) for shape in content["shapes"] if not _is_read(shape))
    if not loose:
        raise ValueError(f"{path} has no file of labelme, whose JSON files have shapes")
    if ignored:
        words = ", ".join(f"{count} {name}" for name, count in ignored.items())
        logger.info("%s: left out: %s; points and rectangles are read", path, words)
    photographs, categories = gather(loose, str(path), keypoints)
    return to_coco(photographs, categories, path)


def _is_read(shape: Mapping[str, Any]) -> bool:
    return shape.get("shape_type") in ("point", "rectangle")


def _loose(content: Mapping[str, Any], file: Path, folder: Path, sizes: ImageSizes) -> LooseImage:
    name = PureWindowsPath(take(content, "imagePath", str, str(file))).as_posix()  # both kinds of slashes
    place = (file.parent / name).relative_to(folder).as_posix() if ".." not in name else PureWindowsPath(name).name
    if content.get("imageWidth") is None or content.get("imageHeight") is None:
        width, height = sizes.find(place)
    else:
        width, height = take_size(content, ("imageWidth", "imageHeight"), str(file))
    points, boxes = list[LoosePoint](), list[LooseBox]()
    for number, shape in enumerate(take(content, "shapes", list, str(file))):
        where = f"{file}: shapes[{number}]"
        group = _group(shape, where)
        label, corners = take(shape, "label", str, where), take(shape, "points", list, where)
        positions = list(_positions(corners, where))
        if shape.get("shape_type") == "point" and len(positions) == 1:
            points.append(LoosePoint(label, Keypoint(*positions[0], _visibility(shape)), group))
        elif shape.get("shape_type") == "rectangle" and len(positions) >= 2:
            boxes.append(LooseBox(label, _around(positions), group))
        elif _is_read(shape):
            raise ValueError(f"{where}: a point has one position, a rectangle two; got {show(corners)}")
    return LooseImage(file=place, width=width, height=height, points=points, boxes=boxes)


def _group(shape: Any, where: str) -> int | str | None:
    if not isinstance(shape, Mapping):
        raise ValueError(f"{where} must be an object; got {show(shape)}")
    group = shape.get("group_id")
    if not (group is None or isinstance(group, int | str)):
        raise ValueError(f"{where}: group_id must be a number or null; got {show(group)}")
    return group


def _positions(corners: Sequence[Any], where: str) -> Iterator[tuple[float, float]]:
    for corner in corners:
        if not isinstance(corner, list) or len(corner) != 2:
            raise ValueError(f"{where}: points must be pairs x, y; got {show(corner)}")
        point = {"x": corner[0], "y": corner[1]}
        yield take_number(point, "x", where), take_number(point, "y", where)


def _around(corners: Sequence[tuple[float, float]]) -> tuple[float, float, float, float]:
    """The box of two corners, or of four, as later versions have them, in any order."""
    left, top = min(x for x, _ in corners), min(y for _, y in corners)
    return left, top, max(x for x, _ in corners) - left, max(y for _, y in corners) - top


def _visibility(shape: Mapping[str, Any]) -> int:
    flags = shape.get("flags")
    return HIDDEN if isinstance(flags, Mapping) and any(flags.get(name) for name in HIDDEN_FLAGS) else VISIBLE
