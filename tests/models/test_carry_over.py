"""Weights that serve other keypoints, sizes and positions."""

import logging
import math

import pytest
import torch

from tokenpose.models.carry_over import load_weights
from tokenpose.models.create import create_model
from tokenpose.models.tokenpose import TokenPose
from tokenpose.models.weights import head_tensors, read_weights, write_weights
from tokenpose.models.zoo import list_models
from tokenpose.skeletons import Skeleton


@pytest.fixture
def images(generator) -> torch.Tensor:
    return torch.randn(2, 3, 64, 48, generator=generator)


def named(*names: str) -> Skeleton:
    return Skeleton.from_names(names)


def carried(tmp_path, model: TokenPose, sources=None, **changes) -> TokenPose:
    """A new model, its spec changed, with the other's weights by way of a file."""
    write_weights(model, tmp_path / "weights.safetensors")
    torch.manual_seed(1)
    new = TokenPose(model.spec.replace(**changes)).eval()
    load_weights(new, read_weights(tmp_path / "weights.safetensors"), sources)
    return new


@torch.no_grad()
@pytest.mark.parametrize("positions", ["sine_every_block", "learnable"])
def test_permuted_names_give_permuted_heatmaps(tmp_path, tiny, build, images, positions):
    model = build(tiny.replace(skeleton=named("a", "b", "c", "d", "e"), positions=positions))
    new = carried(tmp_path, model, skeleton=named("d", "a", "e", "b", "c"))
    assert torch.equal(new.tokenizer.keypoint_tokens, model.tokenizer.keypoint_tokens[:, [3, 0, 4, 1, 2]])
    torch.testing.assert_close(new(images), model(images)[:, [3, 0, 4, 1, 2]], rtol=0, atol=1e-5)
    assert new.newly_initialized == ()


@torch.no_grad()
def test_new_keypoints_are_named_logged_and_start_as_a_new_models(tmp_path, tiny, build, caplog):
    model = build(tiny.replace(skeleton=named("a", "b", "c", "d", "e"), positions="learnable"))
    with caplog.at_level(logging.INFO, logger="tokenpose"):
        new = carried(tmp_path, model, skeleton=named("x", "c", "y"))
    assert new.newly_initialized == ("tokenizer.keypoint_tokens[x]", "tokenizer.keypoint_tokens[y]")
    assert "newly initialized: tokenizer.keypoint_tokens[x], tokenizer.keypoint_tokens[y]" in caplog.text
    tokens, positions = new.tokenizer.keypoint_tokens[0], new.tokenizer.positions[0]
    assert torch.equal(tokens[1], model.tokenizer.keypoint_tokens[0, 2])
    assert torch.equal(positions[1], model.tokenizer.positions[0, 2])
    assert torch.equal(positions[3:], model.tokenizer.positions[0, 5:])
    for rows in (tokens[[0, 2]], positions[[0, 2]]):
        assert 0.01 < rows.std() < 0.03  # truncated normal, 0.02
    assert not torch.equal(tokens[0], tokens[2])


def test_keypoints_that_the_weights_spell_otherwise_are_told(tmp_path, tiny, build, caplog):
    model = build(tiny.replace(skeleton=named("left_eye", "right_eye", "nose")))
    carried(tmp_path, model, skeleton=named("Eye L", "right_eye", "tail"))
    assert (
        "keypoints 'Eye L' start at random, though the weights have 'left_eye': "
        "keypoints={'Eye L': 'left_eye'}" in caplog.text
    )
    caplog.clear()
    carried(tmp_path, model, sources={"Eye L": "left_eye"}, skeleton=named("Eye L", "right_eye", "tail"))
    assert "start at random" not in caplog.text


@torch.no_grad()
def test_renamed_keypoints_bring_their_tokens(tmp_path, tiny, build, images):
    model = build(tiny.replace(skeleton=named("a", "b", "c", "d", "e")))
    new = carried(tmp_path, model, {"crown": "e", "foot": "a", "b": "b"}, skeleton=named("crown", "foot", "b", "c"))
    assert torch.equal(new.tokenizer.keypoint_tokens, model.tokenizer.keypoint_tokens[:, [4, 0, 1, 2]])
    assert new.newly_initialized == ()


@torch.no_grad()
def test_keypoints_that_stay_tell_the_same_from_fewer_neighbors(tmp_path, tiny, build, images):
    # only attention among keypoint tokens can change what is left
    model = build(tiny.replace(skeleton=named("a", "b", "c", "d", "e")))
    for group in model.encoder.groups:
        for block in group:
            block.attention.output.weight.zero_()
    new = carried(tmp_path, model, skeleton=named("e", "a"))
    torch.testing.assert_close(new(images), model(images)[:, [4, 0]], rtol=0, atol=1e-5)


def set_head_map(model: TokenPose, heatmap: torch.Tensor) -> None:
    """Let the head put out one map, whatever it is asked."""
    last = model.head[-2]
    last.weight.zero_()
    last.bias.copy_(heatmap.flatten())


@torch.no_grad()
@pytest.mark.parametrize("head_layers", [1, 2])
def test_head_of_another_image_size_puts_out_the_same_constant_map(tmp_path, tiny, build, head_layers):
    model = build(tiny.replace(head_layers=head_layers, head_hidden=24))
    set_head_map(model, torch.full((16, 12), 0.7))
    new = carried(tmp_path, model, image_size=(128, 96))
    heatmaps = new(torch.randn(1, 3, 128, 96))
    torch.testing.assert_close(heatmaps, torch.full((1, 5, 32, 24), 0.7), rtol=1e-6, atol=0)
    assert new.newly_initialized == ()


@torch.no_grad()
@pytest.mark.parametrize("size", [(128, 96), (192, 144), (32, 24)])
def test_bump_stays_at_its_relative_place_when_the_head_is_resampled(tmp_path, tiny, build, size):
    model = build(tiny.replace(heatmap_size=(65, 49), head_hidden=24))
    rows, columns = torch.arange(65.0)[:, None], torch.arange(49.0)
    set_head_map(model, torch.exp(-((rows - 16) ** 2 + (columns - 36) ** 2) / 18))  # a quarter down, three across
    new = carried(tmp_path, model, heatmap_size=(size[0] + 1, size[1] + 1))
    heatmap = new(torch.randn(1, 3, 64, 48))[0, 0]
    row, column = divmod(int(heatmap.argmax()), size[1] + 1)
    assert (row, column) == (size[0] // 4, 3 * size[1] // 4)
    torch.testing.assert_close(heatmap[row, column].item(), 1.0, rtol=1e-5, atol=0)
    # half a sigma of the old map away, along the column
    beside = heatmap[row + size[0] * 4 // 64, column].item()
    assert abs(beside - math.exp(-16 / 18)) < 0.02


@torch.no_grad()
def test_the_heads_rows_are_resampled_as_maps_for_every_hidden_unit(tmp_path, tiny, build):
    model = build(tiny.replace(heatmap_size=(5, 4), head_hidden=24))
    rows, columns = torch.arange(5.0)[:, None, None], torch.arange(4.0)[:, None]
    slopes = torch.randn(2, 24)
    model.head[3].weight.copy_((rows * slopes[0] + columns * slopes[1]).flatten(0, 1))
    new = carried(tmp_path, model, heatmap_size=(9, 7))  # every second row and column is an old one
    plane = torch.arange(9.0)[:, None, None] / 2 * slopes[0] + torch.arange(7.0)[:, None] / 2 * slopes[1]
    torch.testing.assert_close(new.head[3].weight, plane.flatten(0, 1), rtol=0, atol=1e-5)


@torch.no_grad()
def test_learnable_positions_are_resampled_over_the_grid(tmp_path, tiny, build):
    model = build(tiny.replace(positions="learnable", head_hidden=24))
    ramp = torch.arange(4.0)[:, None] + 10 * torch.arange(4.0)  # 4 x 4 patches
    model.tokenizer.positions[0, 5:] = ramp.flatten()[:, None].expand(-1, 48)
    new = carried(tmp_path, model, image_size=(112, 84))  # 7 x 7 patches
    finer = torch.arange(7.0)[:, None] / 2 + 10 * torch.arange(7.0) / 2
    torch.testing.assert_close(
        new.tokenizer.positions[0, 5:], finer.flatten()[:, None].expand(-1, 48), rtol=0, atol=1e-4
    )
    assert torch.equal(new.tokenizer.positions[0, :5], model.tokenizer.positions[0, :5])
    assert new.newly_initialized == ()


@torch.no_grad()
def test_sine_positions_are_computed_for_the_new_size(tmp_path, tiny, build):
    new = carried(tmp_path, build(tiny.replace(head_hidden=24)), image_size=(128, 96))
    assert torch.equal(new.tokenizer.positions, TokenPose(new.spec).tokenizer.positions)
    assert new.tokenizer.positions.shape[1] in (64, 5 + 64)


@torch.no_grad()
def test_positions_may_change_their_mode(tmp_path, tiny, build):
    from_sine = carried(tmp_path, build(tiny), positions="learnable")
    assert from_sine.newly_initialized == ("tokenizer.positions",)
    from_learnable = carried(tmp_path, build(tiny.replace(positions="learnable")), positions="none")
    assert from_learnable.newly_initialized == ()
    assert torch.isfinite(from_sine(torch.zeros(1, 3, 64, 48))).all()


def test_carrying_over_leaves_the_read_weights_as_they_are(tmp_path, tiny, build):
    model = build(tiny.replace(positions="learnable", head_hidden=24))
    write_weights(model, tmp_path / "a.safetensors")
    weights = read_weights(tmp_path / "a.safetensors")
    before = {name: tensor.clone() for name, tensor in weights.tensors.items()}
    load_weights(TokenPose(model.spec.replace(image_size=(128, 96), skeleton=named("x"))), weights)
    assert weights.tensors.keys() == before.keys()
    assert all(torch.equal(weights.tensors[name], before[name]) for name in before)


SMALL = {"depth": 1, "width": 48, "heads": 4}


@torch.no_grad()
@pytest.mark.parametrize("head_layers", [1, 2])
@pytest.mark.parametrize("name", [name.partition(".")[0] for name in list_models("*.coco_256x192")])
def test_weights_of_every_architecture_serve_other_keypoints_at_another_size(tmp_path, name, head_layers):
    torch.manual_seed(0)
    model = create_model(f"{name}.coco_256x192", **SMALL, image_size=(128, 96), head_layers=head_layers)
    weight, bias = head_tensors(model.spec)
    model.state_dict()[bias].normal_()
    write_weights(model, tmp_path / "a.safetensors")
    options = {**SMALL, "head_layers": head_layers, "image_size": (192, 144), "weights": tmp_path / "a.safetensors"}
    new = create_model(name, **options, keypoints={"crown": "nose", "left_hip": "left_hip"})
    assert new.newly_initialized == ()
    named = create_model(name, **options, keypoints=["crown", "left_hip", "right_hip", "tail"])
    assert named.newly_initialized == ("tokenizer.keypoint_tokens[crown]", "tokenizer.keypoint_tokens[tail]")
    coco, tokens = model.spec.skeleton, model.tokenizer.keypoint_tokens
    assert torch.equal(new.tokenizer.keypoint_tokens[0, 0], tokens[0, coco.index("nose")])
    assert torch.equal(named.tokenizer.keypoint_tokens[0, 1], tokens[0, coco.index("left_hip")])
    changed = {"tokenizer.keypoint_tokens", *head_tensors(model.spec)}
    tensors = named.state_dict()
    for key, tensor in model.state_dict().items():
        assert key in changed or torch.equal(tensors[key], tensor)
    heatmaps = named(torch.zeros(1, 3, 192, 144))
    assert heatmaps.shape == (1, 4, 48, 36)
    maps, larger = (m.state_dict()[bias].view(1, 1, *m.spec.output_size) for m in (model, named))
    resampled = torch.nn.functional.interpolate(maps, size=(48, 36), mode="bilinear", align_corners=True)
    torch.testing.assert_close(larger, resampled)
    assert named.state_dict()[weight].shape[1] == model.state_dict()[weight].shape[1]
