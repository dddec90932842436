"""Prediction of image files: find them, get their people's boxes, predict poses, write pictures and JSON."""

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

from tokenpose.boxes import Box, read_boxes
from tokenpose.files import make_folder, write_text
from tokenpose.images import read_image, write_image
from tokenpose.jobs.box_source import BoxSource, FindBoxes, whole_image
from tokenpose.poses import Poses
from tokenpose.predictor import PosePredictor
from tokenpose.shapes import RgbImage
from tokenpose.stream import read_images
from tokenpose.visualize import draw_poses

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
READERS = 4  # threads, and images in memory

READABLE_SIDE = 480
"""Pictures of smaller images are enlarged by a whole factor until their longer side has this many pixels."""


# Which images


def find_images(places: Iterable[Path]) -> list[Path]:
    """Find the image files, those in folders included, each once, in order. Raises FileNotFoundError."""
    found: dict[Path, Path] = {}
    for place in places:
        if not place.exists():
            hint = "; images are not downloaded" if str(place).startswith(("http:", "https:")) else ""
            raise FileNotFoundError(f"there is no image or folder {place}{hint}")
        files = [place]
        if place.is_dir():
            files = [path for path in sorted(place.iterdir()) if _is_image(path)]
            if not files:
                raise FileNotFoundError(f"there are no images ({' '.join(IMAGE_SUFFIXES)}) in the folder {place}")
        for path in files:
            found.setdefault(path.resolve(), path)
    return list(found.values())


def _is_image(path: Path) -> bool:
    """Whether this is an image file, and not a picture that `predict` drew."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.stem.endswith(".poses") and path.is_file()


# What goes in, and where results go


@dataclass(frozen=True, kw_only=True)
class Photograph:
    """An image file, its people's boxes (None: they are found when it is read), and where its results go."""

    path: Path
    boxes: Sequence[Box] | None
    image_id: int
    picture: Path
    record: Path


def choose_photographs(paths: Sequence[Path], source: BoxSource, output: Path) -> list[Photograph]:
    """Give each image its people's boxes, an id, and names for its results.

    Raises ValueError for boxes that can't be cropped, and where results would overwrite the boxes file.
    """
    photographs = []
    known = source.of_images(paths)
    for position, (path, name, found) in enumerate(zip(paths, _output_names(paths), known, strict=True), 1):
        suffix = ".jpg" if path.suffix.lower() in (".jpg", ".jpeg") else ".png"
        photograph = Photograph(
            path=path,
            boxes=None if found is None else _check_boxes(found.boxes, path),
            image_id=_choose_id(None if found is None else found.image_id, path, position),
            picture=output / f"{name}.poses{suffix}",
            record=output / f"{name}.json",
        )
        if source.file is not None and photograph.record.resolve() == source.file.resolve():
            raise ValueError(f"the results would overwrite the boxes file {source.file}; choose another --output")
        photographs.append(photograph)
    return photographs


def _check_boxes(boxes: Sequence[Box], path: Path) -> Sequence[Box]:
    try:
        read_boxes(boxes, "xyxy")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return boxes


def _choose_id(known: Any, path: Path, position: int) -> int:
    """The id in the boxes file; else the file's name where it is a number, as in COCO; else the position from 1."""
    if isinstance(known, int):
        return known
    is_number = path.stem.isascii() and path.stem.isdecimal() and len(path.stem) < 19  # fits into 64 bits
    return int(path.stem) if is_number else position


def _output_names(paths: Sequence[Path]) -> list[str]:
    """A name for each image's results: the file's name without suffix, with a number where an earlier image has it."""
    stems, used = {path.stem.lower() for path in paths}, set[str]()
    names = []
    for path in paths:
        name, number = path.stem, 1
        while name.lower() in used or (number > 1 and name.lower() in stems):
            number += 1
            name = f"{path.stem}-{number}"
        if number > 1:
            logger.warning("several images are named %s: the results of %s are named %s", path.stem, path, name)
        used.add(name.lower())
        names.append(name)
    return names


# Poses


def predict_photographs(
    predictor: PosePredictor,
    photographs: Sequence[Photograph],
    find_boxes: FindBoxes = whole_image,
    batch_size: int = 64,
) -> Iterator[tuple[Photograph, Poses | Exception]]:
    """Predict the poses of each photograph, in order.

    For a photograph that can't be read, or whose boxes lie outside it, the error takes the poses' place.
    ``find_boxes`` is asked for the boxes that aren't known, photograph by photograph, as they are read.
    """
    waiting: deque[tuple[Photograph, Exception | None]] = deque()
    boxes: deque[Sequence[Box] | Float[np.ndarray, "people 4"]] = deque()

    def readable() -> Iterator[RgbImage]:
        read = read_images([photograph.path for photograph in photographs], READERS)
        for photograph, pixels in zip(photographs, read, strict=True):
            checked = _check_inside(photograph, pixels)
            if isinstance(checked, Exception):
                waiting.append((photograph, checked))
                continue
            waiting.append((photograph, None))
            boxes.append(find_boxes(checked) if photograph.boxes is None else photograph.boxes)
            yield checked

    def of_readable() -> Iterator[Sequence[Box] | Float[np.ndarray, "people 4"]]:
        while boxes:
            yield boxes.popleft()

    for poses in predictor.many(readable(), of_readable(), batch_size=batch_size):
        while (entry := waiting.popleft())[1] is not None:
            yield entry[0], entry[1]
        yield entry[0], poses
    yield from ((photograph, error) for photograph, error in waiting if error is not None)


def _check_inside(photograph: Photograph, pixels: RgbImage | Exception) -> RgbImage | Exception:
    """The pixels, or why they can't be used: they can't be read, or a box lies outside them."""
    if isinstance(pixels, Exception):
        return pixels
    try:
        read_boxes(photograph.boxes or [], "xyxy", (pixels.shape[1], pixels.shape[2]))
    except ValueError as error:
        return error
    return pixels


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How many people were found in how many images, and how many more images failed."""

    people: int
    images: int
    failed: int


def write_photographs(
    predictor: PosePredictor,
    photographs: Sequence[Photograph],
    find_boxes: FindBoxes = whole_image,
    batch_size: int = 64,
    *,
    threshold: float = 0.15,
    draw_boxes: bool = False,
    tick: Callable[[], None] = lambda: None,
) -> Counts:
    """Predict photographs and write each one's picture and JSON file; ``tick`` is called after each.

    Keypoints with a score below ``threshold`` are not drawn. A photograph that fails is logged, and the others go on.
    """
    for folder in {photograph.picture.parent for photograph in photographs}:
        make_folder(folder)
    people = failed = 0
    for photograph, poses in predict_photographs(predictor, photographs, find_boxes, batch_size):
        if isinstance(poses, Exception):
            logger.error("%s", _name_file(photograph.path, poses))
            failed += 1
        else:
            write_poses(photograph, poses, threshold, draw_boxes)
            people += len(poses)
            if photograph.boxes is None and len(poses) == 0:
                logger.warning("%s: nobody was found", photograph.path)
        tick()
    return Counts(people=people, images=len(photographs) - failed, failed=failed)


def _name_file(path: Path, error: Exception) -> str:
    message = " ".join(str(error).split())
    return message if str(path) in message else f"{path}: {message}"


def write_poses(photograph: Photograph, poses: Poses, threshold: float, draw_boxes: bool) -> None:
    """Write the picture and the JSON file. This reads the image again: keeping it would take unbounded memory."""
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
    logger.info("wrote %s and %s", photograph.picture, photograph.record)


def _coco_file(image: Mapping[str, Any], poses: Poses) -> dict[str, Any]:
    """One image's poses as a COCO keypoint file that can be trained on: every keypoint has v = 2, and a score beside.

    Scores of people are as in `Poses.to_coco`. Those of keypoints are clipped to 0..1, as training expects them.
    """
    skeleton = poses.skeleton
    limbs = [[first + 1, second + 1] for first, second in skeleton.limbs]  # COCO counts from 1
    annotations = []
    for index, (record, scores) in enumerate(zip(poses.to_coco(image["id"]), poses.scores, strict=True), 1):
        keypoints = [2 if place % 3 == 2 else value for place, value in enumerate(record["keypoints"])]
        clipped = [round(score, 4) for score in scores.clip(0, 1).tolist()]
        labels = {"keypoints": keypoints, "num_keypoints": len(skeleton), "scores": clipped}
        area = record["bbox"][2] * record["bbox"][3]
        annotations.append({"id": index, **record, **labels, "area": area, "iscrowd": 0})
    return {
        "images": [dict(image)],
        "categories": [{"id": 1, "name": "person", "keypoints": list(skeleton.keypoints), "skeleton": limbs}],
        "annotations": annotations,
    }
