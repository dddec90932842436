"""A small model, photographs and labels for commands."""

import json
from pathlib import Path

import pytest
import torch

from tokenpose.models.create import create_model
from tokenpose.models.tokenpose import TokenPose
from tokenpose.models.weights import write_weights
from tokenpose.skeletons import LSP

from .running import save_noise


@pytest.fixture(scope="session")
def model() -> TokenPose:
    torch.manual_seed(0)
    return create_model("tokenpose_t.lsp_256x192", image_size=(64, 48), depth=2, heads=4)


@pytest.fixture(scope="session")
def weights(model, tmp_path_factory) -> Path:
    """The file of a small model with random weights."""
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    write_weights(model, path)
    return path


@pytest.fixture
def photos(tmp_path, monkeypatch) -> Path:
    """The working folder, with photos/a.png, b.jpg, 007.png of 80 x 60 pixels."""
    monkeypatch.chdir(tmp_path)
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    folder = Path("photos")
    folder.mkdir()
    for seed, name in enumerate(("a.png", "b.jpg", "007.png")):
        save_noise(folder / name, seed)
    return folder


@pytest.fixture
def labeled(photos) -> Path:
    """A COCO keypoint file of the three photos, a person each, keypoints on a grid."""
    keypoints = [value for index in range(14) for value in (10 + 4 * (index % 7), 10 + 20 * (index // 7), 2)]
    images = [
        {"id": index, "file_name": name, "width": 80, "height": 60}
        for index, name in enumerate(("a.png", "b.jpg", "007.png"))
    ]
    annotations = [
        {
            "id": index,
            "image_id": index,
            "category_id": 1,
            "bbox": [5, 5, 45, 45],
            "keypoints": keypoints,
            "num_keypoints": 14,
            "iscrowd": 0,
        }
        for index in range(3)
    ]
    category = {"id": 1, "name": "person", "keypoints": list(LSP.keypoints), "skeleton": []}
    path = Path("labeled.json")
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [category]}))
    return path
