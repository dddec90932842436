"""What the tests of commands share: how a command is run, and what it is given."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from tokenpose.cli import app

BOX = "5,5,50,50"
TINY = (
    *("--model", "tokenpose_t", "--image-size", "64x48", "--spec", "depth=2", "--spec", "heads=4"),
    *("--spec", "width=48", "--spec", "patch_size=[16,12]", "--guidance", "0", "--patches", "0"),
    *("--epochs", "1", "--batch-size", "3", "--scale", "0.1", "--color", "0.2"),
)
BOXES_FILES = {
    "names": {"a.png": [[5, 5, 50, 50]], "b.jpg": [], "007.png": [[0, 0, 9, 9], [0, 0, 80, 60]]},
    "records": [
        {"file_name": "a.png", "bbox": [5, 5, 45, 45]},
        {"image_id": 7, "bbox": [0, 0, 9, 9]},
        {"image_id": 7, "bbox": [0, 0, 80, 60]},
    ],
    "annotations": {
        "images": [{"id": 7, "file_name": "007.png"}, {"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.jpg"}],
        "annotations": [
            {"image_id": 7, "bbox": [0, 0, 9, 9]},
            {"image_id": 7, "bbox": [0, 0, 80, 60]},
            {"image_id": 1, "bbox": [5, 5, 45, 45]},
        ],
    },
}


def run(*arguments: object, exit_code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exit_code != exit_code:
        pytest.fail(f"exit code {result.exit_code}: {result.output} {result.exception!r}", pytrace=False)
    return result


def save_noise(path: Path, seed: int = 0) -> None:
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (60, 80, 3), dtype=np.uint8)).save(path)


def read(path: str | Path) -> dict:
    return json.loads(Path(path).read_text())


def names(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())
