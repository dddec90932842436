"""A detector's boxes in the images of an annotation file."""

import logging
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from tokenpose.data.box_files import BoxesFile, ImageBoxes, read_boxes_file
from tokenpose.data.coco_categories import name_categories
from tokenpose.evaluation.ground_truth import GroundTruth
from tokenpose.evaluation.run import BoxesToPredict

logger = logging.getLogger(__name__)


def read_detections(path: Path, threshold: float, truth: GroundTruth) -> tuple[BoxesToPredict, dict[str, int]]:
    """A detector's boxes in the images of the annotation file, and how many are left out, by reason.

    Boxes without a score get 1, which is logged. Raises ValueError where none of the file's boxes is of the category
    and in the images, and what `read_boxes_file` raises.
    """
    file = read_boxes_file(path, [category["id"] for category in truth.columns.categories])
    images = _of_images(file, truth)
    found, unscored = sum(len(people.boxes) for people in images), sum(people.unscored for people in images)
    if not found:
        raise ValueError(_why_none(file, truth))
    if unscored:
        logger.warning("%s: %d boxes have no score: 1 is taken", path, unscored)
    rows, boxes, scores = [], [], []
    left_out: Counter[str] = Counter()
    for index, ((width, height), people) in enumerate(zip(truth.columns.sizes.tolist(), images, strict=True)):
        for (x1, y1, x2, y2), score in zip(people.boxes, people.scores, strict=True):
            if score < threshold:
                left_out[f"score below {threshold:g}"] += 1
            elif x2 - x1 < 1 or y2 - y1 < 1 or x2 <= 0 or y2 <= 0 or x1 >= width or y1 >= height:
                left_out["under a pixel a side, or outside the image"] += 1
            else:
                rows.append(index)
                boxes.append((x1, y1, x2 - x1, y2 - y1))
                scores.append(score)
    others = sum(len(people.boxes) for people in file.images.values()) - found
    if others:
        left_out[f"in images that are not in {truth.columns.path.name}"] = others
    if file.other_categories:
        categories, wanted = _first_three(file.other_categories), name_categories(truth.columns.categories)
        left_out[f"of category {categories} instead of {wanted}"] = sum(file.other_categories.values())
    detected = BoxesToPredict(
        image_index=np.array(rows, dtype=np.int64),
        boxes=np.array(boxes, dtype=np.float32).reshape(-1, 4),
        scores=np.array(scores, dtype=np.float64),
    )
    return detected, dict(left_out)


def _of_images(file: BoxesFile, truth: GroundTruth) -> list[ImageBoxes]:
    """The boxes of each image, found by its id, else by its name."""
    by_id = {people.image_id: people for people in file.images.values() if people.image_id is not None}
    by_name = {name: people for name, people in file.images.items() if name != str(people.image_id)}
    return [
        by_id.get(identity) or by_name.get(str(name)) or ImageBoxes()
        for identity, name in zip(truth.image_ids, truth.columns.files, strict=True)
    ]


def _why_none(file: BoxesFile, truth: GroundTruth) -> str:
    """Why none of a file's boxes is of the category and in the images of the annotation file."""
    having = {name: people for name, people in file.images.items() if people.boxes}
    if not having and file.other_categories:
        categories, category = _first_three(file.other_categories), name_categories(truth.columns.categories)
        return f"{file.path} has boxes of category {categories}, and none of {category} as in {truth.columns.path}"
    kind = repr(truth.category.get("name"))
    if not having:
        return f"{file.path} has no boxes of {kind}"
    image_ids = [people.image_id for people in having.values() if people.image_id is not None]
    field, names = ("image_id", truth.image_ids) if image_ids else ("file_name", truth.columns.files)
    found = _first_three(map(repr, image_ids or having))
    listed = _first_three(map(repr, names))
    return (
        f"{file.path} has boxes of {kind} for none of the images of {truth.columns.path}: it has {field} {found}, that "
        f"file {listed}"
    )


def _first_three(written: Iterable[str]) -> str:
    some = [f"{value:.80}" for value in written]
    return ", ".join(some[:3]) + (", ..." if len(some) > 3 else "")
