"""COCO's AP and AR through pycocotools, from the annotation file itself."""

import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from tokenpose.boxes import BoxesFile, ImageBoxes, read_boxes_file
from tokenpose.data.augment import Framing
from tokenpose.data.coco import name_categories
from tokenpose.data.sigmas import SHARE_OF_BOX
from tokenpose.evaluation.oks import oks_nms, soft_oks_nms
from tokenpose.evaluation.run import Boxes, Predicted, by_image
from tokenpose.files import is_number
from tokenpose.geometry.boxes import center_and_scale

logger = logging.getLogger(__name__)

FIGURES = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")
"""In pycocotools' order."""
COUNTED_SCORE = 0.2  # keypoints with a lower score don't count in a person's, as published
MOST_PER_IMAGE = 20  # of COCO's keypoint evaluation


@dataclass(frozen=True, kw_only=True)
class GroundTruth:
    """The annotations of one category as pycocotools takes them, crowds and people without keypoints included."""

    path: Path
    category: Mapping[str, Any]
    images: Sequence[Mapping[str, Any]]
    annotations: Sequence[Mapping[str, Any]]
    filled: dict[str, int]
    """What the file did not give, and for how many annotations it was made up."""

    @property
    def people(self) -> int:
        """How many annotations count: neither crowds nor without keypoints."""
        return sum(not entry["iscrowd"] and entry["num_keypoints"] > 0 for entry in self.annotations)


@dataclass(frozen=True, kw_only=True)
class CocoResult:
    """COCO's AP and AR."""

    figures: dict[str, float]
    """COCO's ten, 0 to 1: AP, AP50, AP75, APM, APL, AR, AR50, AR75, ARM, ARL; NaN where nobody is of that size."""
    people: int
    """Labelled people that count."""
    predictions: int
    """Poses that stayed after suppression."""
    suppression: str
    sigmas: dict[str, float]
    sigma_origins: dict[str, str]
    """By keypoint: "skeleton" for known ones, else what `tokenpose.data.sigmas.Sigmas` says: "named" or "estimated"."""

    @property
    def sigmas_are_estimated(self) -> bool:
        """Whether any is; AP is then no number to compare with others' data."""
        return "estimated" in self.sigma_origins.values()

    def describe_sigmas(self) -> str:
        """In words."""
        estimated = [name for name, origin in self.sigma_origins.items() if origin == "estimated"]
        if not estimated:
            return "the skeleton's sigmas" if "skeleton" in self.sigma_origins.values() else "COCO's sigmas by name"
        if len(estimated) == len(self.sigma_origins):
            return "estimated sigmas"
        return f"sigmas estimated for {', '.join(estimated)}, COCO's for the others"


def read_ground_truth(path: str | Path, name: str | None = None) -> GroundTruth | None:
    """What pycocotools needs of a COCO keypoint file that `read_coco` has accepted; None for a file of another form.
    ``name``: of the category, None for the only one with keypoints.

    An annotation without ``area`` gets 0.53 of its box, one without ``iscrowd`` is no crowd, and one without
    ``num_keypoints`` has as many as are labelled. People of no keypoints and no box are left out: pycocotools forgives
    predictions in their boxes, and they have none. Raises ValueError that names file and record.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError:  # the people were read from it, so it is a form that isn't JSON
        return None
    if not isinstance(content, dict) or not {"images", "annotations", "categories"} <= content.keys():
        return None
    categories = [entry for entry in content["categories"] if entry.get("keypoints")]
    category = next(entry for entry in categories if name in (None, entry.get("name")))
    filled: Counter[str] = Counter()
    annotations: list[dict[str, Any]] = []
    for record in content["annotations"]:
        if record.get("category_id") == category["id"]:
            image = record.get("image_id")
            if not isinstance(image, int | float | str):
                raise ValueError(f"{path}: annotation {record.get('id')} is of image {image!r:.60}, which is no id")
            entry = _read_annotation(record, len(category["keypoints"]), filled, path)
            if entry is not None:
                # pycocotools takes the id 0 for "none"
                annotations.append({**entry, "id": len(annotations) + 1, "category_id": category["id"]})
    return GroundTruth(
        path=path, category=category, images=content["images"], annotations=annotations, filled=dict(filled)
    )


def _read_annotation(record: Mapping[str, Any], count: int, filled: Counter[str], path: Path) -> dict[str, Any] | None:
    where = f"{path}: annotation {record.get('id')}"
    keypoints = record.get("keypoints") or [0] * (3 * count)
    if not isinstance(keypoints, list) or len(keypoints) != 3 * count:
        amount = f"{len(keypoints)} keypoint numbers" if isinstance(keypoints, list) else f"keypoints {keypoints!r:.60}"
        raise ValueError(f"{where} has {amount}; {count} keypoints need {3 * count}")
    if not all(map(is_number, keypoints)):
        raise ValueError(f"{where} has keypoints that are no finite numbers: {keypoints!r:.100}")
    labelled = sum(value > 0 for value in keypoints[2::3])
    box = record.get("bbox") or []
    if not box and (not labelled or record.get("iscrowd")):
        filled["left out"] += 1
        return None
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
        raise ValueError(f"{where} needs a bbox of x, y, width, height; it has {box}")
    filled.update(name for name in ("area", "iscrowd", "num_keypoints") if record.get(name) is None)
    area = record.get("area")
    if area is None:
        area = SHARE_OF_BOX * max(box[2], 0) * max(box[3], 0)
    if not is_number(area) or area < 0:
        raise ValueError(f"{where} needs an area in square pixels; it has {area!r}")
    number = _read_count(record, "num_keypoints", where)
    return {
        "image_id": record.get("image_id"),
        "iscrowd": _read_count(record, "iscrowd", where) or 0,
        "bbox": box,
        "area": area,
        "num_keypoints": labelled if number is None else number,
        "keypoints": keypoints,
    }


def _read_count(record: Mapping[str, Any], name: str, where: str) -> int | None:
    """A whole number, also written as 14.0; None where there is none."""
    value = record.get(name)
    if value is None:
        return None
    if not isinstance(value, bool) and (not is_number(value) or value != int(value)):
        raise ValueError(f"{where}: {name} must be a whole number; got {value!r:.60}")
    return int(value)


def read_detections(path: Path, threshold: float, truth: GroundTruth) -> tuple[Boxes, dict[str, int]]:
    """A detector's boxes in the images of the annotation file, and how many were left out, by reason.

    Boxes without a score have 1, which is logged. Raises ValueError where none of the file's boxes is of the category
    and in the images, and what `read_boxes_file` raises.
    """
    file = read_boxes_file(path, truth.category["id"])
    images = _of_images(file, truth)
    found, unscored = sum(len(people.boxes) for people in images), sum(people.unscored for people in images)
    if not found:
        raise ValueError(_why_none(file, truth))
    if unscored:
        logger.warning("%s: %d boxes without a score: taken as 1", path, unscored)
    rows, boxes, scores = [], [], []
    left_out: Counter[str] = Counter()
    for index, (image, people) in enumerate(zip(truth.images, images, strict=True)):
        for (x1, y1, x2, y2), score in zip(people.boxes, people.scores, strict=True):
            if score < threshold:
                left_out[f"score below {threshold:g}"] += 1
            elif x2 - x1 < 1 or y2 - y1 < 1 or x2 <= 0 or y2 <= 0 or x1 >= image["width"] or y1 >= image["height"]:
                left_out["under a pixel a side, or outside the image"] += 1
            else:
                rows.append(index)
                boxes.append((x1, y1, x2 - x1, y2 - y1))
                scores.append(score)
    others = sum(len(people.boxes) for people in file.images.values()) - found
    if others:
        left_out[f"in images that are not in {truth.path.name}"] = others
    if file.other_categories:
        categories, wanted = _first_three(file.other_categories), name_categories([truth.category])
        left_out[f"of category {categories}, where {wanted} is wanted"] = sum(file.other_categories.values())
    detected = Boxes(
        image_index=np.array(rows, dtype=np.int64),
        boxes=np.array(boxes, dtype=np.float32).reshape(-1, 4),
        scores=np.array(scores, dtype=np.float64),
    )
    return detected, dict(left_out)


def _of_images(file: BoxesFile, truth: GroundTruth) -> list[ImageBoxes]:
    """What a boxes file has for each image, by its id, else by its name."""
    by_id = {people.image_id: people for people in file.images.values() if people.image_id is not None}
    return [
        by_id.get(image["id"]) or file.images.get(str(image["file_name"])) or ImageBoxes() for image in truth.images
    ]


def _why_none(file: BoxesFile, truth: GroundTruth) -> str:
    """Why none of a file's boxes is of the category and in the images of the annotation file."""
    having = {name: people for name, people in file.images.items() if people.boxes}
    if not having and file.other_categories:
        categories, category = _first_three(file.other_categories), name_categories([truth.category])
        return f"{file.path} has boxes of category {categories}, and none of {category} as {truth.path} has it"
    kind = repr(truth.category.get("name"))
    if not having:
        return f"{file.path} has no boxes of {kind}"
    image_ids = [people.image_id for people in having.values() if people.image_id is not None]
    field, key = ("image_id", "id") if image_ids else ("file_name", "file_name")
    found = _first_three(map(repr, image_ids or having))
    listed = _first_three(repr(image[key]) for image in truth.images)
    return (
        f"{file.path} has boxes of {kind} for none of the images of {truth.path}: it has {field} {found}, that file "
        f"{listed}"
    )


def _first_three(written: Iterable[str]) -> str:
    some = [f"{value:.80}" for value in written]
    return ", ".join(some[:3]) + (", ..." if len(some) > 3 else "")


def person_scores(
    keypoint_scores: Float[np.ndarray, "people keypoints"], box_scores: Float[np.ndarray, " people"]
) -> Float[np.ndarray, " people"]:
    """As published: the box's score times the mean of the keypoint scores above 0.2; 0 where none is."""
    counted = keypoint_scores > COUNTED_SCORE
    sums = np.where(counted, keypoint_scores, 0).sum(axis=1, dtype=np.float64)
    return box_scores * (sums / np.maximum(counted.sum(axis=1), 1))


def padded_areas(boxes: Float[np.ndarray, "people 4"], framing: Framing) -> Float[np.ndarray, " people"]:
    """As published: those of the boxes (x, y, width, height) after growing to the crop's aspect and padding."""
    _, scale = center_and_scale(torch.from_numpy(boxes), framing.image_size, framing.box_padding)
    return scale.double().prod(dim=1).numpy()


def make_results(
    boxes: Boxes,
    predicted: Predicted,
    truth: GroundTruth,
    sigmas: Float[np.ndarray, " keypoints"],
    framing: Framing,
    nms: float = 0.9,
    soft_nms: float | None = None,
) -> list[dict[str, Any]]:
    """Records of a COCO results file: rescored, and without poses that a better one in the image is too similar to.

    A pose with a keypoint that isn't a finite number is no prediction.
    """
    scores, areas = person_scores(predicted.scores, boxes.scores), padded_areas(boxes.boxes, framing)
    keypoints = predicted.keypoints.astype(np.float64)
    is_finite: Any = np.isfinite(keypoints).all(axis=(1, 2))
    records = []
    for everybody in by_image(boxes.image_index):
        people = everybody[is_finite[everybody]]
        poses = keypoints[people], scores[people], areas[people], sigmas
        kept = oks_nms(*poses, nms) if soft_nms is None else soft_oks_nms(*poses, soft_nms, MOST_PER_IMAGE)
        image = truth.images[boxes.image_index[everybody[0]]]["id"]
        records += [_record(keypoints[person], scores[person], image, truth.category["id"]) for person in people[kept]]
    return records


def _record(
    keypoints: Float[np.ndarray, "keypoints 2"], score: float, image_id: Any, category_id: Any
) -> dict[str, Any]:
    triples = np.concatenate((keypoints, np.ones((len(keypoints), 1))), axis=1)
    return {
        "image_id": image_id,
        "category_id": category_id,
        "keypoints": triples.ravel().tolist(),
        "score": float(score),
    }


def measure_coco(
    truth: GroundTruth, records: list[dict[str, Any]], sigmas: Float[np.ndarray, " keypoints"]
) -> dict[str, float]:
    """pycocotools' ten figures of the records, 0 to 1; NaN where nobody is of that size."""
    from pycocotools.cocoeval import COCOeval

    with redirect_stdout(StringIO()):
        labelled = _index(truth, truth.annotations)
        # Of an empty list loadRes can't tell what it is.
        found = labelled.loadRes([dict(record) for record in records]) if records else _index(truth, ())
        evaluation = COCOeval(labelled, found, "keypoints")
        evaluation.params.kpt_oks_sigmas = sigmas
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    figures = (float(figure) if figure >= 0 else float("nan") for figure in evaluation.stats)
    return dict(zip(FIGURES, figures, strict=True))


def _index(truth: GroundTruth, annotations: Sequence[Mapping[str, Any]]) -> Any:
    """A COCO object of copies: pycocotools writes into what it is given."""
    from pycocotools.coco import COCO

    held = COCO()
    held.dataset = {
        "images": [dict(image) for image in truth.images],
        "annotations": [dict(entry) for entry in annotations],
        "categories": [dict(truth.category)],
    }
    held.createIndex()
    return held
