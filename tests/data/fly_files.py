"""COCO files of flies with three keypoints."""

import json
from pathlib import Path
from typing import Any

SEEN = [10, 20, 2, 30, 40, 1, 0, 0, 0]


def record(**changes: Any) -> dict[str, Any]:
    return {"id": 7, "image_id": 3, "category_id": 1, "iscrowd": 0, "bbox": [5, 6, 21, 31], "keypoints": SEEN} | changes


def content(*annotations: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "images": [
            {"id": 3, "file_name": "a.jpg", "height": 100, "width": 80},
            {"id": 1, "file_name": "b.jpg", "height": 50, "width": 60},
        ],
        "annotations": list(annotations),
        "categories": [
            {"id": 1, "name": "fly", "keypoints": ["head", "left_wing", "right_wing"], "skeleton": [[1, 2], [1, 3]]}
        ],
    } | changes


LEFT_OUT = {
    "crowd": record(iscrowd=1, keypoints=[0] * 9),
    "no labeled keypoint": record(keypoints=[0] * 9),
    "box without area": record(bbox=[5, 6, 0, 31]),
}


def write_flies(folder: Path, values: Any) -> Path:
    path = folder / "people.json"
    path.write_text(values if isinstance(values, str) else json.dumps(values))
    return path
