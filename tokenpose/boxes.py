"""Boxes from the user: arrays become float32 xyxy, and files list the boxes of each image."""

import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tokenpose.files import is_number
from tokenpose.geometry.boxes import center_and_scale, xywh_to_xyxy, xyxy_to_xywh

logger = logging.getLogger(__name__)

BoxFormat = Literal["xyxy", "xywh"]

Box = tuple[float, float, float, float]
"""x1, y1, x2, y2."""

_FARTHEST = 1e6  # pixels: beyond, float32 loses the fractions that crops need


def read_boxes(
    boxes: Any, box_format: str = "xyxy", image_size: tuple[int, int] | None = None
) -> Float[Tensor, "people 4"]:
    """Boxes as float32 x1, y1, x2, y2 on the CPU; (0, 4) for none. ``image_size`` (height, width), if known.

    Raises ValueError for another shape or format, and ValueError that names the first invalid box: it isn't finite, has
    swapped corners or a side under one pixel, reaches beyond a million pixels, or lies entirely outside the image.
    """
    if box_format not in ("xyxy", "xywh"):
        raise ValueError(f'box_format must be "xyxy" or "xywh"; got {box_format!r}')
    array = read_numbers(boxes, "boxes must be numbers of shape (people, 4)")
    if array.numel() == 0:
        return array.new_zeros(0, 4)
    if array.ndim != 2 or array.shape[1] != 4:
        hint = "; one box is written [[...]]: shape (1, 4)" if tuple(array.shape) == (4,) else ""
        raise ValueError(f"boxes must have shape (people, 4); got {tuple(array.shape)}{hint}")
    xyxy = array if box_format == "xyxy" else xywh_to_xyxy(array)
    _check_boxes(array, xyxy, box_format)
    if image_size is not None:
        _check_inside(array, xyxy, box_format, image_size)
    return xyxy


def _check_boxes(given: Float[Tensor, "people 4"], xyxy: Float[Tensor, "people 4"], box_format: str) -> None:
    sides = xyxy[:, 2:] - xyxy[:, :2]
    bad = ~torch.isfinite(xyxy).all(dim=1) | (sides < 1).any(dim=1) | (xyxy.abs() > _FARTHEST).any(dim=1)
    if not bad.any():
        return
    index = int(bad.nonzero()[0])
    hint = ""
    if (given.abs() <= 1).all():
        hint = "; boxes look like fractions of the image: multiply by its width and height"
    elif box_format == "xyxy" and (sides[index] < 0).any():
        hint = '; corners are swapped, or these are x, y, width, height: box_format="xywh"'
    raise ValueError(
        f"box {index} is {given[index].tolist()} ({box_format}); it must be finite, x2 and y2 at least 1 pixel "
        f"beyond x1 and y1 (for xywh: width and height at least 1), and within a million pixels{hint}"
    )


def _check_inside(
    given: Float[Tensor, "people 4"], xyxy: Float[Tensor, "people 4"], box_format: str, image_size: tuple[int, int]
) -> None:
    height, width = image_size
    x1, y1, x2, y2 = xyxy.unbind(dim=1)
    outside = (x2 <= 0) | (y2 <= 0) | (x1 >= width) | (y1 >= height)
    if not outside.any():
        return
    index = int(outside.nonzero()[0])
    swapped = bool((x1 < height).all() and (y1 < width).all() and (x2 > 0).all() and (y2 > 0).all())
    hint = "; width and height look swapped" if swapped and height != width else ""
    raise ValueError(
        f"box {index} is {given[index].tolist()} ({box_format}), wholly outside the image of width {width} and height "
        f"{height}{hint}"
    )


def padded_center_and_scale(
    xyxy: Float[Tensor, "people 4"], crop_size: tuple[int, int], padding: float
) -> tuple[Float[Tensor, "people 2"], Float[Tensor, "people 2"]]:
    """Centers and scales of the padded boxes, as `tokenpose.geometry.boxes.center_and_scale` defines them.

    Raises ValueError if a padding below 1 leaves a pixel or less of a box: then the published crop is undefined.
    """
    center, scale = center_and_scale(xyxy_to_xywh(xyxy), crop_size, padding)
    if (scale <= 1).any():
        index = int((scale <= 1).any(dim=1).nonzero()[0])
        raise ValueError(
            f"box {index} is {xyxy[index].tolist()} (xyxy): with box_padding {padding} it shows "
            f"{scale[index].tolist()} pixels, and a crop needs more than one"
        )
    return center, scale


def read_numbers(values: Any, expected: str) -> Tensor:
    """Convert anything like an array to float32 on the CPU."""
    try:
        values = values.detach().cpu().float().numpy() if isinstance(values, Tensor) else values
        return torch.from_numpy(np.array(values, dtype=np.float32))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{expected}; got {values!r:.200}") from error


@dataclass(kw_only=True)
class ImageBoxes:
    """The people's boxes in one image, and the image's id if the file has one."""

    boxes: list[Box] = field(default_factory=list)
    image_id: Any = None
    scores: list[float] = field(default_factory=list)
    """One score for each of a file's boxes; 1 if the file has none."""
    unscored: int = 0
    """The number of boxes without a score in the file."""


@dataclass(frozen=True, kw_only=True)
class BoxesFile:
    """A boxes file's content, by the image names in the file, or by their ids as text if it has no names."""

    path: Path
    images: Mapping[str, ImageBoxes]
    other_categories: Mapping[str, int] = field(default_factory=dict)
    """The number of boxes left out because of their category, by category id, if one category was requested."""

    def of_images(self, paths: Sequence[Path]) -> list[ImageBoxes]:
        """Each image's boxes. Images that the file doesn't name get none, and a warning is logged.

        An image is looked up by its path as given, by its file name, and by its stem as an id, with and without leading
        zeros. Raises LookupError if the file names none of the images, ValueError if an entry fits two of them.
        """
        keys = self._find_keys(paths)
        missing = [str(path) for path, key in zip(paths, keys, strict=True) if key is None]
        if len(missing) == len(paths):
            raise LookupError(f"{self.path} has boxes for none of the images: it names {_shorten(self.images)}")
        twice = [key for key, count in Counter(keys).items() if key is not None and count > 1]
        if twice:
            fitting = [str(path) for path, key in zip(paths, keys, strict=True) if key == twice[0]]
            raise ValueError(f"{self.path}: {twice[0]!r} fits {_shorten(fitting)}; name images by their paths there")
        if missing:
            logger.warning("%s has no boxes for %d of the images: %s", self.path, len(missing), _shorten(missing))
        return [self.images[key] if key is not None else ImageBoxes() for key in keys]

    def _find_keys(self, paths: Iterable[Path]) -> list[str | None]:
        by_file_name: dict[str, list[str]] = {}
        for key in self.images:
            by_file_name.setdefault(PurePath(key).name, []).append(key)
        keys = []
        for path in paths:
            same_name = by_file_name.get(path.name, [])
            candidates = [str(path), path.as_posix(), *(same_name if len(same_name) == 1 else [path.name])]
            candidates += [path.stem, path.stem.lstrip("0") or "0"]
            keys.append(next((key for key in candidates if key in self.images), None))
        return keys


def read_boxes_file(path: str | Path, category_id: int | None = None) -> BoxesFile:
    """Read a JSON file of boxes, in one of three forms. ``category_id`` leaves out records of other categories.

    {"photo.jpg": [[x1, y1, x2, y2], ...]}; a list of records with "bbox" (x, y, width, height), "file_name" or
    "image_id", and perhaps "score", as in COCO results; a COCO annotation file, without its crowds and, where it lists
    categories, only those of people or with keypoints.

    Raises FileNotFoundError, and ValueError that names file and entry.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no boxes file {path}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if isinstance(content, dict) and isinstance(content.get("annotations"), list):
        return _from_annotations(content, category_id, path)
    if isinstance(content, list):
        images = _from_records(content, {}, category_id, path)
        return BoxesFile(path=path, images=images, other_categories=_other_categories(content, category_id))
    if isinstance(content, dict):
        return BoxesFile(path=path, images=_from_names(content, path))
    raise ValueError(f"{path} must hold a JSON object or list of boxes; it holds {content!r:.60}")


def _from_names(content: Mapping[str, Any], path: Path) -> dict[str, ImageBoxes]:
    for name, boxes in content.items():
        if not isinstance(boxes, list):
            raise ValueError(f"{path}: {name!r} needs a list of boxes [[x1, y1, x2, y2], ...]; got {boxes!r:.100}")
    return {
        name: ImageBoxes(
            boxes=[_numbers(box, f"{path}: {name!r}", "x1, y1, x2, y2") for box in boxes],
            scores=[1.0] * len(boxes),
            unscored=len(boxes),
        )
        for name, boxes in content.items()
    }


def _from_annotations(content: Mapping[str, Any], category_id: int | None, path: Path) -> BoxesFile:
    names = {}
    for image in content.get("images") or ():
        if not isinstance(image, dict) or not _is_id(image.get("id")) or "file_name" not in image:
            raise ValueError(f"{path}: an image needs id and file_name; got {image!r:.100}")
        names[image["id"]] = str(image["file_name"])
    people = []
    for category in content.get("categories") or ():
        if not isinstance(category, dict):
            raise ValueError(f"{path}: a category is an object; got {category!r:.100}")
        if category.get("keypoints") or category.get("name") == "person":
            people.append(category.get("id"))

    def counts(record: Any) -> bool:
        if not isinstance(record, dict):
            return True  # refused below
        other = people and "category_id" in record and record["category_id"] not in people
        return not record.get("iscrowd") and not other

    counted = list(filter(counts, content["annotations"]))
    without = {name: ImageBoxes(image_id=image_id) for image_id, name in names.items()}
    images = without | _from_records(counted, names, category_id, path)
    return BoxesFile(path=path, images=images, other_categories=_other_categories(counted, category_id))


def _from_records(
    records: Sequence[Any], names: Mapping[Any, str], category_id: int | None, path: Path
) -> dict[str, ImageBoxes]:
    found: dict[str, ImageBoxes] = {}
    for index, record in enumerate(records):
        if not isinstance(record, dict) or "bbox" not in record or not {"file_name", "image_id"} & record.keys():
            raise ValueError(f"{path}: record {index} needs bbox, and file_name or image_id; got {record!r:.100}")
        if _is_of_another(record, category_id):
            continue
        image_id = record.get("image_id")
        if not (image_id is None or _is_id(image_id)):
            raise ValueError(f"{path}: record {index}: an image_id is a number or text; got {image_id!r:.100}")
        name = str(record.get("file_name", names.get(image_id, image_id)))
        x, y, width, height = _numbers(record["bbox"], f"{path}: record {index}", "x, y, width, height")
        people = found.setdefault(name, ImageBoxes(image_id=image_id))
        people.boxes.append((x, y, x + width, y + height))
        people.scores.append(_score(record.get("score", 1.0), f"{path}: record {index}"))
        people.unscored += "score" not in record
    return found


def _is_of_another(record: Mapping[str, Any], category_id: int | None) -> bool:
    return category_id is not None and record.get("category_id", category_id) != category_id


def _other_categories(records: Iterable[Mapping[str, Any]], category_id: int | None) -> Counter[str]:
    return Counter(f"{record['category_id']!r:.40}" for record in records if _is_of_another(record, category_id))


def _is_id(value: Any) -> bool:
    return isinstance(value, int | float | str)


def _score(score: Any, where: str) -> float:
    if not is_number(score):
        raise ValueError(f"{where}: a score is a number; got {score!r:.100}")
    return float(score)


def _numbers(box: Any, where: str, meaning: str) -> Box:
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
        raise ValueError(f"{where}: a box is four numbers {meaning}; got {box!r:.100}")
    first, second, third, fourth = map(float, box)
    return first, second, third, fourth


def _shorten(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "") if names else "no image"
