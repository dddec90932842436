"""What tests of formats share: pictures, and that training takes what a reader gives."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tokenpose.data.coco import read_coco, read_columns
from tokenpose.data.samples import Samples


def save_image(path: Path, width: int = 80, height: int = 60) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), 90, dtype=np.uint8)).save(path)
    return path


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def train_on(content: dict[str, Any], folder: Path, category: str | None = None) -> Samples:
    """The people that training sees in the content, which must have no fault."""
    path = write(folder / "imported.json", content)
    assert read_columns(path, category).faults == ()
    return read_coco(path, category)


def people_of(content: dict[str, Any], file: str) -> list[dict[str, Any]]:
    """The annotations of one image."""
    [image] = [record["id"] for record in content["images"] if record["file_name"] == file]
    return [record for record in content["annotations"] if record["image_id"] == image]


def keypoint(content: dict[str, Any], person: dict[str, Any], name: str) -> list[float]:
    """x, y, v of a person's keypoint."""
    [category] = [entry for entry in content["categories"] if entry["id"] == person["category_id"]]
    index = category["keypoints"].index(name)
    return person["keypoints"][3 * index : 3 * index + 3]
