"""Flies of three keypoints in COCO files, whose areas are 10,000 square pixels."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from tokenpose.data.coco import read_columns
from tokenpose.evaluation.ground_truth import GroundTruth, make_ground_truth

FLY = {"id": 1, "name": "fly", "keypoints": ["head", "left_wing", "right_wing"], "skeleton": []}
FLY_SIGMAS = np.array([0.1, 0.1, 0.1])
SEEN = [10, 20, 2, 30, 40, 1, 50, 20, 2]


def record(**changes: Any) -> dict[str, Any]:
    """A fly of 10,000 square pixels."""
    whole = {"id": 0, "image_id": 3, "category_id": 1, "iscrowd": 0, "bbox": [0, 0, 100, 100], "area": 10_000}
    return {**whole, "num_keypoints": 3, "keypoints": SEEN, **changes}


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in record().items() if key != name}


def read(path: Path, category: str | None = None) -> GroundTruth:
    return make_ground_truth(read_columns(path, category))


def write_flies(folder: Path, *annotations: dict[str, Any], name: str = "flies.json", **changes: Any) -> Path:
    images = [{"id": number, "file_name": f"{number}.jpg", "height": 200, "width": 200} for number in (3, 4)]
    whole = {"images": images, "annotations": list(annotations), "categories": [FLY], **changes}
    path = folder / name
    path.write_text(json.dumps(whole))
    return path


def found(keypoints: list[float], image: int = 3, score: float = 1.0) -> dict[str, Any]:
    return {"image_id": image, "category_id": 1, "keypoints": keypoints, "score": score}


def moved(keypoints: list[float], x: float) -> list[float]:
    return [value + x if index % 3 == 0 else value for index, value in enumerate(keypoints)]
