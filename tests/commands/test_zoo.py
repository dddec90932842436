"""`tokenpose list`, `tokenpose convert` and `tokenpose export`."""

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from tokenpose.cli import app
from tokenpose.models.create import create_model
from tokenpose.models.weights import read_weights
from tokenpose.models.zoo import list_models

from .running import read, run


def test_list_prints_a_name_a_line():
    assert run("list").stdout.splitlines() == list_models()
    assert run("list", "tokenpose_s*").stdout.splitlines() == list_models("tokenpose_s*")


def test_list_of_nothing_is_an_error():
    assert run("list", "hrnet*", exit_code=1).stderr == "error: no model matches 'hrnet*'; see: tokenpose list\n"


def test_list_of_pretrained_shows_those_whose_weights_ship():
    shipped = list_models(pretrained=True)
    result = CliRunner().invoke(app, ["list", "--pretrained"])
    assert result.stdout.splitlines() == shipped
    assert result.exit_code == (0 if shipped else 1)


@pytest.fixture
def published(golden, tmp_path, monkeypatch) -> dict[str, torch.Tensor]:
    """Tensors of T in the published names and shapes; the position table is sine and cosine of some angles."""
    monkeypatch.chdir(tmp_path)
    shapes = read(golden / "t.keys.json")["state_dict"]
    generator = torch.Generator().manual_seed(0)
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    angles = torch.rand(1, 256, 96, generator=generator)
    return {**tensors, "transformer.pos_embedding": torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)}


@pytest.mark.parametrize("nested", [False, True], ids=["state dict", "checkpoint"])
def test_converted_weights_are_the_published_ones(published, nested):
    torch.save({"epoch": 1, "state_dict": published} if nested else published, "t.pth")
    result = run("convert", "t.pth", "--model", "tokenpose_t.coco_256x192", "--output", "out/t.safetensors")
    assert result.stdout == f"{Path('out/t.safetensors')}\n"
    written = read_weights("out/t.safetensors")
    assert written.card == {"converted_from": "t.pth"}
    assert torch.equal(written.tensors["tokenizer.keypoint_tokens"], published["transformer.keypoint_token"])
    assert sum(tensor.numel() for tensor in written.tensors.values()) == sum(
        tensor.numel() for name, tensor in published.items() if not name.endswith("pos_embedding")
    )
    create_model("tokenpose_t.coco_256x192", weights="out/t.safetensors")


def test_checkpoint_of_another_variant_is_refused(published):
    torch.save(published, "t.pth")
    result = run(
        "convert", "t.pth", "--model", "tokenpose_s_v1.coco_256x192", "--output", "out.safetensors", exit_code=1
    )
    assert result.stderr.startswith("error: t.pth, read as a tokenpose_s_v1.coco_256x192: the weights don't fit")
    assert not Path("out.safetensors").exists()


def test_file_that_is_no_checkpoint_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("text.pth").write_text("not a checkpoint")
    torch.save({"code": Path("x")}, "code.pth")
    torch.save([1, 2], "list.pth")
    torch.save({"weight": torch.zeros(1)}, "other.pth")
    messages = {
        "none.pth": "there is no checkpoint none.pth",
        "text.pth": "text.pth is not a file that torch.save wrote",
        "code.pth": "code.pth is not a PyTorch checkpoint that holds nothing but tensors and plain values",
        "list.pth": "list.pth holds no state dict: a mapping from names to tensors is needed",
        "other.pth": "other.pth: not a published TokenPose state dict: 1 of 1 names unknown: weight",
    }
    for name, message in messages.items():
        result = run("convert", name, "--model", "tokenpose_t.coco_256x192", "--output", "out.safetensors", exit_code=1)
        assert result.stderr.startswith(f"error: {message}")
        assert result.stderr.count("\n") == 1


@pytest.mark.slow
def test_exported_network_is_written_and_named(weights, tmp_path, unchecked):
    result = run("export", "--weights", weights, "--output", tmp_path / "new" / "model.onnx")
    assert result.stdout.split() == [str(tmp_path / "new" / "model.onnx")]
    assert (tmp_path / "new" / "model.onnx").stat().st_size > 100_000


def test_checkpoint_with_another_suffix_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = ("convert", "t.safetensors", "--model", "tokenpose_t", "--output", "out.safetensors")
    assert run(*given, exit_code=1).stderr == (
        "error: t.safetensors is not a PyTorch checkpoint: its name must end in one of .pth, .pt, .ckpt, .bin, .tar\n"
    )
