"""Photographs in files: found, given their boxes, predicted, and written out as pictures and JSON."""

import json
import logging
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image

from tokenpose.boxes import Box, ImageBoxes, read_boxes, read_boxes_file
from tokenpose.data.combine import read_image_of
from tokenpose.data.samples import Samples
from tokenpose.data.sources import Source
from tokenpose.files import write_text, written_whole
from tokenpose.images import RgbImage, read_image, read_images
from tokenpose.poses import Poses
from tokenpose.predictor import PosePredictor
from tokenpose.visualize import contact_sheet, crop_picture, draw_poses, scale_to_fit

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
    save_picture(draw_poses(pixels, poses, threshold, boxes=draw_boxes, scale=float(scale)), photograph.picture)
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


def _format_of(path: Path) -> str:
    """Pillow's name for a suffix. Raises ValueError for one that it doesn't know."""
    form = Image.registered_extensions().get(path.suffix.lower())
    if form is None:
        raise ValueError(f"{path} is no picture that can be written: end it in .png or .jpg")
    return form


def save_picture(picture: np.ndarray, path: Path) -> None:
    """Write an RGB array as the format that the suffix names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as partial:
        Image.fromarray(picture).save(partial, _format_of(path), quality=92)


def draw_sheet(predictor: PosePredictor, samples: Samples, source: Source, count: int, threshold: float) -> np.ndarray:
    """The first people: the labelled pose on the left, the predicted one on the right."""

    side, pictures, captions = 240, [], []
    for index in range(min(count, len(samples))):
        image = read_image_of(source, samples, int(samples.image_index[index]))
        predicted = predictor(image, samples.boxes[index : index + 1], "xywh")
        labelled = Poses(
            keypoints=samples.keypoints[index : index + 1],
            scores=samples.visible[index : index + 1].astype(np.float32),
            boxes=predicted.boxes,
            skeleton=samples.skeleton,
        )
        halves: list[np.ndarray] = []
        for poses, least in ((labelled, 0.5), (predicted, threshold)):
            picture, poses = crop_picture(image.permute(1, 2, 0).numpy(), poses)
            halves.append(draw_poses(picture, poses, least, scale=scale_to_fit(picture, (side, side))))
        between = np.full((len(halves[0]), 2, 3), 255, dtype=np.uint8)
        pictures.append(np.concatenate((halves[0], between, halves[1]), axis=1))
        captions.append(PurePath(samples.file_of(index)).name)
    return contact_sheet(pictures, columns=5, size=(side, 2 * side + 2), captions=captions)
