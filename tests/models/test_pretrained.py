"""The bundled weights: the file, its output on a fixed input, and its score on real people."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tokenpose.data.coco import read_coco
from tokenpose.data.sources import ImageSource
from tokenpose.jobs.evaluation import measure_pck
from tokenpose.models.create import create_model
from tokenpose.models.zoo import list_models

SHIPPED = list_models(pretrained=True)
STORED = json.loads((Path(__file__).parent / "pretrained_outputs.json").read_text())


def fixed_crop(height: int, width: int) -> torch.Tensor:
    noise = np.random.RandomState(1234).standard_normal((1, 3, height, width))
    return torch.from_numpy(noise.astype(np.float32))


def test_weights_ship():
    assert "tokenpose_s_v1.lsp_256x192" in SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_weights_give_the_stored_heatmaps_on_a_fixed_input(name):
    model = create_model(name, pretrained=True)
    with torch.no_grad():
        heatmaps = model(fixed_crop(*model.spec.image_size))[0]
    stored = STORED[name]
    peak = max(stored["peaks"])
    assert heatmaps.flatten(1).amax(dim=1).tolist() == pytest.approx(stored["peaks"], abs=1e-4 * peak)
    parts = torch.nn.functional.adaptive_avg_pool2d(heatmaps, (4, 3)).flatten(1)
    torch.testing.assert_close(parts, torch.tensor(stored["parts"]), rtol=0, atol=1e-4 * peak)


def test_the_architecture_alone_means_the_weights_that_ship():
    alone, named = (create_model(name, pretrained=True) for name in ("tokenpose_s_v1", "tokenpose_s_v1.lsp_256x192"))
    assert alone.spec == named.spec
    assert all(torch.equal(a, b) for a, b in zip(alone.state_dict().values(), named.state_dict().values(), strict=True))


def test_a_shipped_file_that_was_changed_is_refused(monkeypatch):
    monkeypatch.setattr("hashlib.sha256", lambda content: __import__("hashlib").md5(content, usedforsecurity=False))
    with pytest.raises(ValueError, match="SHA-256 differs"):
        create_model("tokenpose_s_v1.lsp_256x192", pretrained=True)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_score_on_100_validation_persons_is_the_stored_one(name, data_folder):
    people = read_coco(data_folder / "lspet" / "person_keypoints_val.json").take(slice(0, 100))
    source = ImageSource(data_folder / "lspet" / "val.tar")
    score = measure_pck(create_model(name, pretrained=True), people, source).mean
    assert score == pytest.approx(STORED[name]["pck_of_first_100"], abs=0.2)
