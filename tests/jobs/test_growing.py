"""Runs of models that grow from a smaller one."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from tokenpose.jobs.training import finetune
from tokenpose.jobs.training_model import choose_start
from tokenpose.models.backbones import backbones
from tokenpose.models.create import read_model
from tokenpose.models.tokenpose import TokenPose
from tokenpose.models.weights import write_weights
from tokenpose.training.recipes import Recipe, read_recipe

from .small import CHANGES, TINY


class Trunk(nn.Module):
    channels, stride = 8, 4

    def __init__(self, spec) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.BatchNorm2d(8), nn.ReLU())

    def forward(self, images):
        return self.layers(images)


@pytest.fixture(autouse=True)
def _trunk():
    backbones.add("trunk", Trunk)
    yield
    del backbones._parts["trunk"]


@pytest.fixture
def smaller(tmp_path) -> Path:
    torch.manual_seed(0)
    write_weights(TokenPose(TINY), tmp_path / "smaller.safetensors", {"people": 7})
    return tmp_path / "smaller.safetensors"


@pytest.fixture
def given(people, tmp_path, smaller):
    return dict(
        train=people, val=people, images=people.parent, output=tmp_path / "run", recipe="lsp", grow=smaller,
        backbone="trunk", backbone_stride=4, patch_size=(4, 3), batch_size=4,
        settings=CHANGES | {"predictions": 0, "grow_epochs": 4, "grow_rate": 1e-2},
    )  # fmt: skip


def log_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_trunk_learns_the_visual_tokens_and_then_everything_learns(given, smaller, tmp_path):
    trained = finetune("tiny", **given)
    growth, run = log_of(tmp_path / "run" / "growth"), log_of(tmp_path / "run")
    assert [line["epoch"] for line in growth] == [1, 2, 3, 4]
    assert growth[-1]["visual"] < 0.9 * growth[0]["visual"]
    assert "heatmaps" not in growth[0]
    assert [line["epoch"] for line in run] == [1, 2, 3]
    start, end = read_model(tmp_path / "run" / "growth" / "model.safetensors"), read_model(smaller)
    assert torch.equal(start.head[1].weight, end.head[1].weight)  # copied, and not learned in the first stage
    assert not torch.equal(trained.head[1].weight, end.head[1].weight)
    assert trained.card["started_from"] == {"people": 7}
    assert "backbone.layers.0.weight" in trained.newly_initialized
    assert "head.1.weight" not in trained.newly_initialized
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert settings["model"]["grow"] == str(smaller)
    assert read_recipe(tmp_path / "run" / "settings.json").model["grow"] == str(smaller)


@pytest.mark.parametrize("stop_at", [3, 10])  # steps: in the first stage, and in the run
def test_interrupted_growth_goes_on_where_it_stood(given, tmp_path, monkeypatch, stop_at):
    from tokenpose.training.step import TrainingStep

    given["settings"] = given["settings"] | {"checkpoint_seconds": 0.0}
    whole = finetune("tiny", **given | {"output": tmp_path / "whole"})
    take, taken = TrainingStep.take, []

    def interrupted(self, batch):
        taken.append(batch)
        if len(taken) == stop_at:
            raise KeyboardInterrupt
        return take(self, batch)

    monkeypatch.setattr(TrainingStep, "take", interrupted)
    with pytest.raises(KeyboardInterrupt):
        finetune("tiny", **given)
    monkeypatch.undo()
    with pytest.raises(FileExistsError, match="belongs to an earlier run"):
        finetune("tiny", **given)
    trained = finetune("tiny", **given, resume=True)
    expected = whole.state_dict()
    for name, values in trained.state_dict().items():
        torch.testing.assert_close(values, expected[name], rtol=0, atol=1e-5)


def test_growth_without_epochs_copies_only(given, tmp_path):
    given["settings"] = given["settings"] | {"grow_epochs": 0}
    finetune("tiny", **given)
    assert not (tmp_path / "run" / "growth").exists()


def test_model_of_the_same_backbone_has_no_first_stage(given, tmp_path, caplog):
    same = {"backbone": "pixels", "backbone_stride": 1, "patch_size": (16, 12)}
    caplog.set_level("INFO")
    finetune("tiny", **given | same)
    assert "there is nothing to learn before everything learns" in caplog.text
    assert not (tmp_path / "run" / "growth").exists()


def test_model_grows_from_one_file_alone(tmp_path):
    pretrained = Recipe(model={"name": "tiny", "pretrained": True})
    assert choose_start(pretrained, grow="s.safetensors") == {
        "name": "tiny",
        "pretrained": False,
        "grow": "s.safetensors",
    }
    grown = Recipe(model={"name": "tiny", "grow": "s.safetensors"})
    assert choose_start(grown)["grow"] == "s.safetensors"
    assert "grow" not in choose_start(grown, weights="own.safetensors")
    assert "grow" not in choose_start(grown, pretrained=True)
    with pytest.raises(ValueError, match="a model grows from the weights of grow alone"):
        choose_start(Recipe(), grow="s.safetensors", weights="own.safetensors")
