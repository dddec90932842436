"""COCO's AP and AR through pycocotools."""

from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from tokenpose.data.augment import Framing
from tokenpose.evaluation.ground_truth import GroundTruth
from tokenpose.evaluation.oks import oks_nms, soft_oks_nms
from tokenpose.evaluation.run import BoxesToPredict, PredictedKeypoints, by_image
from tokenpose.geometry.boxes import center_and_scale

FIGURES = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")
"""In pycocotools' order."""
COUNTED_SCORE = 0.2  # keypoints with a lower score don't count in a person's, as published
DECIMALS = 4  # of coordinates and scores; more would be below float32's resolution, and double a results file
MOST_PER_IMAGE = 20  # of COCO's keypoint evaluation


@dataclass(frozen=True, kw_only=True)
class CocoResult:
    """COCO's AP and AR."""

    figures: dict[str, float]
    """COCO's ten, 0 to 1: AP, AP50, AP75, APM, APL, AR, AR50, AR75, ARM, ARL; NaN where no one has that size."""
    people: int
    """Labeled people that count."""
    predictions: int
    """Poses that stayed after suppression."""
    suppression: str
    sigmas: dict[str, float]
    sigma_origins: dict[str, str]
    """By keypoint: "skeleton" for known ones, else what `tokenpose.data.sigmas.Sigmas` says: "named" or "estimated"."""

    def describe_sigmas(self) -> str:
        """In words."""
        estimated = [name for name, origin in self.sigma_origins.items() if origin == "estimated"]
        if not estimated:
            return "the skeleton's sigmas" if "skeleton" in self.sigma_origins.values() else "COCO's sigmas by name"
        if len(estimated) == len(self.sigma_origins):
            return "estimated sigmas"
        return f"sigmas estimated for {', '.join(estimated)}, COCO's for the others"


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
    boxes: BoxesToPredict,
    predicted: PredictedKeypoints,
    truth: GroundTruth,
    sigmas: Float[np.ndarray, " keypoints"],
    framing: Framing,
    nms: float = 0.9,
    soft_nms: float | None = None,
) -> list[dict[str, Any]]:
    """Records of a COCO results file, with scores of poses; poses that are too similar to a better one are removed.

    Each keypoint has its own score as third number. A pose with a keypoint or a score that isn't a finite number is no
    prediction.
    """
    scores, areas = person_scores(predicted.scores, boxes.scores), padded_areas(boxes.boxes, framing)
    keypoints = predicted.keypoints.astype(np.float64)
    triples = np.concatenate((keypoints, predicted.scores[..., None]), axis=2)
    is_finite: Any = np.isfinite(triples).all(axis=(1, 2))
    records = []
    for everybody in by_image(boxes.image_index):
        people = everybody[is_finite[everybody]]
        poses = keypoints[people], scores[people], areas[people], sigmas
        kept = oks_nms(*poses, nms) if soft_nms is None else soft_oks_nms(*poses, soft_nms, MOST_PER_IMAGE)
        image = truth.image_ids[boxes.image_index[everybody[0]]]
        records += [_record(triples[person], scores[person], image, truth.category["id"]) for person in people[kept]]
    return records


def _record(triples: Float[np.ndarray, "keypoints 3"], score: float, image_id: Any, category_id: Any) -> dict[str, Any]:
    return {
        "image_id": image_id,
        "category_id": category_id,
        "keypoints": triples.round(DECIMALS).ravel().tolist(),
        "score": float(score),
    }


def measure_coco(
    truth: GroundTruth, records: list[dict[str, Any]], sigmas: Float[np.ndarray, " keypoints"]
) -> dict[str, float]:
    """pycocotools' ten figures of the records, 0 to 1; NaN where no one has that size."""
    from pycocotools.cocoeval import COCOeval

    with redirect_stdout(StringIO()):
        labeled = _index(truth, truth.annotations)
        # loadRes can't tell what kind of results an empty list holds.
        found = labeled.loadRes([dict(record) for record in records]) if records else _index(truth, ())
        evaluation = COCOeval(labeled, found, "keypoints")
        evaluation.params.kpt_oks_sigmas = sigmas
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    figures = (float(figure) if figure >= 0 else float("nan") for figure in evaluation.stats)
    return dict(zip(FIGURES, figures, strict=True))


def _index(truth: GroundTruth, annotations: Sequence[dict[str, Any]]) -> Any:
    """pycocotools' COCO object of annotations, into which it writes."""
    from pycocotools.coco import COCO

    held = COCO()
    held.dataset = {
        "images": [{"id": identity} for identity in truth.image_ids],
        "annotations": list(annotations),
        "categories": [dict(truth.category)],
    }
    held.createIndex()
    return held
