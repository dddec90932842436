"""Photographs in files: found, given their boxes, predicted, and written out as pictures and JSON."""

import json
import logging
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from tokenpose.boxes import Box, ImageBoxes, read_boxes, read_boxes_file
from tokenpose.files import write_text
from tokenpose.images import RgbImage, read_image, read_images, write_image
from tokenpose.poses import Poses
from tokenpose.predictor import PosePredictor
from tokenpose.visualize import draw_poses

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
READERS = 4  # threads, and images in memory
Boxes = Float[np.ndarray, "people 4"]

READABLE_SIDE = 480
"""Pictures of smaller images are enlarged by a whole factor until their longer side has this many pixels."""


@dataclass(frozen=True, kw_only=True)
class Photograph:
    """An image, its people's boxes (None: they are found when it is read), and where its results go."""

    path: Path
    boxes: Sequence[Box] | None
    image_id: int
    picture: Path
    record: Path


def find_images(places: Iterable[Path]) -> list[Path]:
    """The images, those in folders included, each once, in order."""
    found: dict[Path, Path] = {}
    for place in places:
        if not place.exists():
            raise FileNotFoundError(f"there is no image or folder {place}")
        files = [place]
        if place.is_dir():
            files = [path for path in sorted(place.iterdir()) if _is_image(path)]
            if not files:
                raise FileNotFoundError(f"there are no images ({' '.join(IMAGE_SUFFIXES)}) in the folder {place}")
        for path in files:
            found.setdefault(path.resolve(), path)
    return list(found.values())


def _is_image(path: Path) -> bool:
    """An image's suffix, and not a picture that `predict` drew."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.stem.endswith(".poses") and path.is_file()


def choose_photographs(
    paths: Sequence[Path], boxes_file: Path | None, boxes: Sequence[Box], output: Path
) -> list[Photograph]:
    """Give each image its people's boxes, from a file, the same for all or none, and names for what will be written.

    Raises ValueError for boxes that can't be cropped and where results would overwrite the boxes file.
    """
    if boxes_file is not None:
        found = read_boxes_file(boxes_file).of_images(paths)
    else:
        found = [ImageBoxes(boxes=list(boxes)) for _ in paths]
    unknown = boxes_file is None and not boxes
    photographs = []
    for position, (path, name, people) in enumerate(zip(paths, _output_names(paths), found, strict=True), 1):
        try:
            read_boxes(people.boxes, "xyxy")
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        suffix = ".jpg" if path.suffix.lower() in (".jpg", ".jpeg") else ".png"
        photograph = Photograph(
            path=path,
            boxes=None if unknown else people.boxes,
            image_id=_choose_id(people.image_id, path, position),
            picture=output / f"{name}.poses{suffix}",
            record=output / f"{name}.json",
        )
        if boxes_file is not None and photograph.record.resolve() == boxes_file.resolve():
            raise ValueError(f"the results would overwrite the boxes file {boxes_file}; choose another --output")
        photographs.append(photograph)
    return photographs


def _choose_id(known: Any, path: Path, position: int) -> int:
    """The boxes file's id, else a number as the file's name, as in COCO, else the image's position from 1 on."""
    if isinstance(known, int):
        return known
    is_number = path.stem.isascii() and path.stem.isdecimal() and len(path.stem) < 19  # fits into 64 bits
    return int(path.stem) if is_number else position


def _output_names(paths: Sequence[Path]) -> list[str]:
    """A name for each image's results: its stem, numbered where an earlier image has it."""
    stems, used = {path.stem.lower() for path in paths}, set[str]()
    names = []
    for path in paths:
        name, number = path.stem, 1
        while name.lower() in used or (number > 1 and name.lower() in stems):
            number += 1
            name = f"{path.stem}-{number}"
        if number > 1:
            logger.warning("there is more than one %s: the results of %s are named %s", path.stem, path, name)
        used.add(name.lower())
        names.append(name)
    return names


def whole_image(pixels: RgbImage) -> Boxes:
    """The image's one box where it is all of one person."""
    return np.array([[0, 0, pixels.shape[2], pixels.shape[1]]], dtype=np.float32)


def predict_photographs(
    predictor: PosePredictor,
    photographs: Sequence[Photograph],
    batch_size: int,
    failed: list[Photograph],
    find_boxes: Callable[[RgbImage], Boxes] = whole_image,
) -> Iterator[tuple[Photograph, Poses]]:
    """Poses of each photograph, in order. Those that can't be read, or whose boxes lie outside them, are logged, put
    into ``failed`` and left out.

    ``find_boxes`` is asked, photograph by photograph as they are read, for the boxes that aren't known.
    """
    waiting: deque[Photograph] = deque()
    their_boxes: deque[Sequence[Box] | Boxes] = deque()

    def images() -> Iterator[Any]:
        read = read_images([photograph.path for photograph in photographs], READERS)
        for photograph, pixels in zip(photographs, read, strict=True):
            try:
                if isinstance(pixels, Exception):
                    raise pixels
                if photograph.boxes is not None:
                    read_boxes(photograph.boxes, "xyxy", (pixels.shape[1], pixels.shape[2]))
            except (OSError, ValueError) as error:
                message = " ".join(str(error).split())
                named = message if str(photograph.path) in message else f"{photograph.path}: {message}"
                logger.error("%s", named)
                failed.append(photograph)
                continue
            waiting.append(photograph)
            their_boxes.append(find_boxes(pixels) if photograph.boxes is None else photograph.boxes)
            yield pixels

    def boxes() -> Iterator[Sequence[Box] | Boxes]:
        while their_boxes:
            yield their_boxes.popleft()

    for poses in predictor.many(images(), boxes(), batch_size=batch_size):
        yield waiting.popleft(), poses


def write_poses(photograph: Photograph, poses: Poses, threshold: float, draw_boxes: bool) -> None:
    """The picture and the JSON file. The image is read again: keeping those that wait would take unbounded memory."""

    pixels = read_image(photograph.path).permute(1, 2, 0).numpy()
    scale = math.ceil(max(1.0, READABLE_SIDE / max(pixels.shape[:2])))
    write_image(draw_poses(pixels, poses, threshold, boxes=draw_boxes, scale=float(scale)), photograph.picture)
    image = {
        "id": photograph.image_id,
        "file_name": photograph.path.as_posix(),
        "width": pixels.shape[1],
        "height": pixels.shape[0],
    }
    write_text(photograph.record, json.dumps(_coco_file(image, poses)) + "\n")


def _coco_file(image: Mapping[str, Any], poses: Poses) -> dict[str, Any]:
    """What was found in one image, as a COCO keypoint file; keypoints carry scores instead of visibilities."""
    skeleton = poses.skeleton
    limbs = [[first + 1, second + 1] for first, second in skeleton.limbs]  # COCO counts from 1
    records = poses.to_coco(image["id"])
    return {
        "images": [dict(image)],
        "categories": [{"id": 1, "name": "person", "keypoints": list(skeleton.keypoints), "skeleton": limbs}],
        "annotations": [
            {"id": index, **record, "area": record["bbox"][2] * record["bbox"][3], "iscrowd": 0}
            for index, record in enumerate(records, 1)
        ],
    }
