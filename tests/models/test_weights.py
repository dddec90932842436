"""Weights files, and weights carried over to other keypoints, sizes and positions."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from tokenpose.models.carry_over import load_weights
from tokenpose.models.spec import ModelSpec
from tokenpose.models.tokenpose import TokenPose
from tokenpose.models.weights import read_weights, save_pretrained, write_weights
from tokenpose.skeletons import Skeleton

STEM = ModelSpec(backbone="stem", image_size=(64, 48), skeleton=Skeleton.from_count(5), width=48, heads=4, depth=1)


@pytest.fixture
def images(generator) -> torch.Tensor:
    return torch.randn(2, 3, 64, 48, generator=generator)


def carried(tmp_path, model: TokenPose, sources=None, **changes) -> TokenPose:
    """A new model, its spec changed, with the other's weights by way of a file."""
    write_weights(model, tmp_path / "weights.safetensors")
    torch.manual_seed(1)
    new = TokenPose(model.spec.replace(**changes)).eval()
    load_weights(new, read_weights(tmp_path / "weights.safetensors"), sources)
    return new


@torch.no_grad()
def test_written_weights_read_back_to_the_bit_with_spec_and_card(tmp_path, build, images):
    model = build(STEM)
    write_weights(model, tmp_path / "a.safetensors", {"samples": 3, "data": ["lsp"]})
    weights = read_weights(tmp_path / "a.safetensors")
    assert weights.spec == model.spec
    assert weights.card == {"samples": 3, "data": ["lsp"]}
    again = TokenPose(weights.spec).eval()
    again.load_state_dict(weights.tensors, strict=True)
    assert torch.equal(again(images), model(images))


@torch.no_grad()
def test_half_precision_halves_the_file_but_keeps_running_statistics(tmp_path, build, images):
    model = build(STEM)
    write_weights(model, tmp_path / "whole.safetensors")
    write_weights(model, tmp_path / "half.safetensors", half=True)
    stored = load_file(tmp_path / "half.safetensors")
    for name, tensor in stored.items():
        if name.endswith(("running_mean", "running_var")):
            assert tensor.dtype == torch.float32
        elif not name.endswith("num_batches_tracked"):
            assert tensor.dtype == torch.float16
    assert sum(name.endswith("running_var") for name in stored) == 2 + 4 * 3 + 1
    assert (tmp_path / "half.safetensors").stat().st_size < 0.6 * (tmp_path / "whole.safetensors").stat().st_size
    weights = read_weights(tmp_path / "half.safetensors")
    assert weights.spec == model.spec
    assert all(tensor.dtype in (torch.float32, torch.int64) for tensor in weights.tensors.values())
    again = TokenPose(weights.spec).eval()
    again.load_state_dict(weights.tensors)
    assert (again(images) - model(images)).abs().max() < 0.01 * model(images).abs().max()


def test_writing_replaces_the_file_at_once_and_leaves_nothing_beside_it(tmp_path, tiny, build, monkeypatch):
    write_weights(build(tiny), tmp_path / "a.safetensors")
    before = (tmp_path / "a.safetensors").read_bytes()

    def interrupted(tensors, path, metadata):
        path.write_bytes(b"half a fi")
        raise OSError("no space left")

    monkeypatch.setattr("tokenpose.models.weights.save_file", interrupted)
    with pytest.raises(OSError, match="no space left"):
        write_weights(build(tiny, seed=1), tmp_path / "a.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == before
    monkeypatch.undo()
    write_weights(build(tiny, seed=1), tmp_path / "a.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_saved_folder_holds_weights_config_and_card(tmp_path, tiny, build):
    model = build(tiny)
    save_pretrained(model, tmp_path / "new" / "folder", {"trained on": "nothing"})
    folder = tmp_path / "new" / "folder"
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert ModelSpec.from_json((folder / "config.json").read_text()) == tiny
    assert read_weights(folder / "model.safetensors").card == {"trained on": "nothing"}
    assert "- trained on: nothing" in (folder / "README.md").read_text()


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no weights file .*nowhere\.safetensors"):
        read_weights(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize("keep", [0, 5, 1000, -1000])
def test_truncated_file_is_refused(tmp_path, tiny, build, keep):
    path = tmp_path / "a.safetensors"
    write_weights(build(tiny), path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"a\.safetensors is not a whole safetensors file: "):
        read_weights(path)


def test_file_without_a_spec_is_refused(tmp_path):
    save_file({"weight": torch.zeros(3)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"a\.safetensors has no model spec in its metadata"):
        read_weights(tmp_path / "a.safetensors")


def test_file_whose_card_is_not_json_is_refused(tmp_path, tiny):
    save_file({"weight": torch.zeros(3)}, tmp_path / "a.safetensors", {"spec": tiny.to_json(), "card": "{"})
    with pytest.raises(ValueError, match=r"a\.safetensors has a card that is not JSON"):
        read_weights(tmp_path / "a.safetensors")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_file_with_values_that_are_not_finite_is_refused(tmp_path, tiny, build, value):
    model = build(tiny)
    model.head[3].bias.data[3] = value
    save_file(model.state_dict(), tmp_path / "a.safetensors", {"spec": tiny.to_json()})
    with pytest.raises(ValueError, match=r"a\.safetensors holds values that are not finite, in head\.3\.bias"):
        read_weights(tmp_path / "a.safetensors")


def test_values_that_are_not_finite_are_not_written(tmp_path, tiny, build):
    model = build(tiny)
    model.head[3].bias.data[3] = 1e5  # beyond float16
    write_weights(model, tmp_path / "a.safetensors")
    for value, half in ((1e5, True), (math.nan, False)):
        model.head[3].bias.data[3] = value
        with pytest.raises(ValueError, match=r"the model holds values that are not finite, in head\.3\.bias"):
            write_weights(model, tmp_path / "a.safetensors", half=half)
    assert read_weights(tmp_path / "a.safetensors").tensors["head.3.bias"][3] == 1e5


def test_file_of_a_later_format_is_refused(tmp_path, tiny):
    spec = json.dumps({**json.loads(tiny.to_json()), "format_version": 2})
    save_file({"weight": torch.zeros(3)}, tmp_path / "a.safetensors", {"spec": spec})
    with pytest.raises(ValueError, match="format_version 2"):
        read_weights(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depth": 4}, r"depth is 4, the file's 3; encoder\.groups\.0\.3\.\S+ is missing, expected \(48"),
        ({"depth": 2}, r"encoder\.groups\.0\.2\.\S+ is not part of this model"),
        ({"width": 24}, r"is \(1, 5, 48\), expected|is \(48, 576\), expected \(24, 576\)"),
        ({"head_hidden": 30}, r"head\.1\.weight is \(24, 48\), expected \(30, 48\)"),
        ({"patch_size": (8, 12)}, r"tokenizer\.patch_embedding\.weight is \(48, 576\), expected \(48, 288\)"),
        ({"head_layers": 1}, r"head\.1\.weight is \(24, 48\), expected \(192, 48\)"),
        ({"block": "gated"}, r"is missing, expected"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name_and_shape(tmp_path, tiny, build, changes, message):
    with pytest.raises(ValueError, match=f"the weights don't fit the model: .*({message})"):
        carried(tmp_path, build(tiny), **changes)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("tokenizer.keypoint_tokens", "spec"),
        ("head.3.bias", "spec"),
        ("encoder.groups.0.1.mlp.0.weight", "spec"),
    ],
)
def test_file_that_lacks_a_tensor_is_refused(tmp_path, tiny, build, name, what):
    model = build(tiny)
    tensors = {key: tensor for key, tensor in model.state_dict().items() if key != name}
    save_file(tensors, tmp_path / "a.safetensors", {"spec": tiny.to_json()})
    with pytest.raises(
        ValueError, match=rf"a\.safetensors: the weights don't fit the {what}: {name} is missing, expected \("
    ):
        load_weights(model, read_weights(tmp_path / "a.safetensors"))
