import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ..drawing import draw_people
from .flies import write_flies


@pytest.fixture
def write(tmp_path) -> Callable[..., Path]:
    """Write a COCO file of annotations."""
    return partial(write_flies, tmp_path)


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Path:
    """The COCO file of six drawn people."""
    return draw_people(tmp_path_factory.mktemp("drawn"), 6)


@pytest.fixture
def image_list(tmp_path) -> Path:
    """As COCO's image_info_test-dev2017.json: images, and categories that are only names."""
    images = [{"id": number, "file_name": f"{number}.png", "width": 80, "height": 60} for number in (581, 7)]
    for image in images:
        Image.new("RGB", (80, 60)).save(tmp_path / image["file_name"])
    categories = [
        {"supercategory": "person", "id": 1, "name": "person"},
        {"supercategory": "vehicle", "id": 2, "name": "bicycle"},
    ]
    path = tmp_path / "image_info_test.json"
    path.write_text(json.dumps({"info": {}, "images": images, "licenses": [], "categories": categories}))
    return path


@pytest.fixture
def boxes(tmp_path) -> Path:
    detections = [
        {"image_id": 7, "category_id": 1, "bbox": [10, 20, 30, 30], "score": 0.5},
        {"image_id": 581, "category_id": 1, "bbox": [1, 2, 30, 30], "score": 0.75},
        {"image_id": 7, "category_id": 2, "bbox": [10, 20, 30, 30], "score": 0.9},
    ]
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(detections))
    return path


@pytest.fixture
def write_mpii(tmp_path) -> Callable[..., Path]:
    """Write an MPII file of records, and its image."""

    def write(*records: dict[str, Any]) -> Path:
        Image.new("RGB", (80, 60)).save(tmp_path / "a.png")
        path = tmp_path / "valid.json"
        path.write_text(json.dumps(records))
        return path

    return write
