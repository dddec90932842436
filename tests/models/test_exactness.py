"""Heatmaps and attention against the published method: its golden outputs, and a plain restatement of it."""

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tokenpose.models.official import convert_official
from tokenpose.models.recording import record_attention
from tokenpose.models.spec import ModelSpec
from tokenpose.models.tokenpose import TokenPose
from tokenpose.models.zoo import find_tag
from tokenpose.skeletons import Skeleton

from .reference import Published, forward, random_state, random_weight, shapes, sine_table

GOLDEN = {"t": "tokenpose_t", "s_v1": "tokenpose_s_v1", "b": "tokenpose_b", "l_d24": "tokenpose_l_d24"}
POSITIONS = {"sine-full": "sine_every_block", "sine": "sine", "learnable": "learnable", "none": "none"}


@pytest.fixture(scope="module", params=GOLDEN)
def golden_case(request, golden):
    """(the golden file's key list, its tensors, its published weights, our model with them)."""
    keys = json.loads((golden / f"{request.param}.keys.json").read_text())
    gain = 4.0 if request.param.startswith("s") else 1.8
    state = {name: random_weight(name, tuple(shape), gain) for name, shape in keys["state_dict"].items()}
    model = TokenPose(find_tag(f"{GOLDEN[request.param]}.coco_256x192")[2]).eval()
    table = next(name for name in state if name.endswith("pos_embedding"))
    state[table] = sine_table(model.spec.grid_size, 192).float()
    model.load_state_dict(convert_official(state), strict=True)
    return keys, load_file(golden / f"{request.param}.safetensors"), state, model


def golden_input(keys):
    values = np.random.RandomState(1234).standard_normal((1, 3, *keys["image_size_hw"]))
    return torch.from_numpy(values.astype(np.float32))


@torch.no_grad()
def test_heatmaps_are_the_golden_ones(golden_case):
    keys, expected, _, model = golden_case
    torch.testing.assert_close(model(golden_input(keys)), expected["heatmaps"], rtol=0, atol=5e-5)


@torch.no_grad()
def test_attention_rows_are_the_golden_ones_and_recording_changes_nothing(golden_case):
    keys, expected, _, model = golden_case
    images = golden_input(keys)
    with record_attention(model) as recording:
        heatmaps = model(images)
    blocks = len(recording.rows)
    assert blocks == model.spec.groups * model.spec.depth
    for name, block in (("first", 0), ("mid", blocks // 2), ("last", blocks - 1)):
        mean_over_heads = recording.rows[block][0].mean(dim=0)
        torch.testing.assert_close(mean_over_heads, expected[f"attention_{name}"], rtol=0, atol=1e-5)
    assert torch.equal(heatmaps, model(images))


def test_published_names_convert_the_same_behind_module(golden_case):
    _, _, state, model = golden_case
    plain = convert_official(state)
    wrapped = convert_official({f"module.{name}": tensor for name, tensor in state.items()})
    assert plain.keys() == wrapped.keys() == model.state_dict().keys()
    assert all(plain[name] is wrapped[name] for name in plain)
    assert len(plain) == len(state) - 1  # the sine table


@pytest.mark.parametrize(("name", "published"), [
    ("t", Published()),
    ("s_v1", Published(backbone="stem", patch=(4, 3), heads=8, model_scale=True)),
])  # fmt: skip
def test_reference_knows_the_published_names_and_shapes(golden, name, published):
    keys = json.loads((golden / f"{name}.keys.json").read_text())
    assert shapes(published) == {name: tuple(shape) for name, shape in keys["state_dict"].items()}


@pytest.mark.slow
def test_reference_gives_the_golden_heatmaps(golden):
    published = Published()
    images = golden_input(json.loads((golden / "t.keys.json").read_text()))
    expected = load_file(golden / "t.safetensors")["heatmaps"]
    heatmaps = forward(published, random_state(published), images)
    torch.testing.assert_close(heatmaps.float(), expected, rtol=0, atol=2e-5)


SMALL = {"depth": 3, "heatmap": (32, 24), "image": (128, 96)}

CASES = {
    "1 keypoint": Published(**SMALL, keypoints=1),
    "5 keypoints": Published(**SMALL, keypoints=5),
    "133 keypoints": Published(**SMALL, keypoints=133),
    "wide": Published(image=(192, 256), patch=(16, 16), heatmap=(48, 64), depth=2, keypoints=5),
    "heatmap of another shape": Published(**{**SMALL, "heatmap": (40, 16)}, keypoints=4),
    "square patch": Published(**SMALL, patch=(8, 8), keypoints=3),
    "flat patch": Published(**SMALL, patch=(4, 32), keypoints=3),
    "one token a row": Published(**SMALL, patch=(16, 96), keypoints=3),
    "one visual token": Published(**SMALL, patch=(128, 96), keypoints=3),
    "narrow": Published(**SMALL, width=64, heads=4, keypoints=6),
    "single head": Published(**SMALL, heads=1, keypoints=6),
    "sine once": Published(**SMALL, positions="sine", keypoints=5),
    "learnable": Published(**SMALL, positions="learnable", keypoints=5),
    "no positions": Published(**SMALL, positions="none", keypoints=5),
    "model scale": Published(**SMALL, model_scale=True, keypoints=5),
    "one-layer head": Published(**SMALL, head_layers=1, keypoints=5),
    "three groups": Published(**SMALL, groups=3, head_layers=1, keypoints=5),
    "three groups, two layers, sine once": Published(**SMALL, groups=3, positions="sine", keypoints=5),
    "three groups, learnable": Published(**SMALL, groups=3, positions="learnable", head_layers=1, keypoints=5),
    "three groups of one": Published(**{**SMALL, "depth": 1}, groups=3, head_layers=1, keypoints=2),
    "stem": Published(**SMALL, backbone="stem", patch=(4, 3), heads=8, model_scale=True, keypoints=14),
    "stem, three groups": Published(
        **SMALL, backbone="stem", patch=(2, 2), heads=8, groups=3, head_layers=1, keypoints=2
    ),
    "stem, learnable": Published(**SMALL, backbone="stem", patch=(8, 8), heads=12, positions="learnable", keypoints=5),
    "stem, no positions": Published(
        backbone="stem", image=(192, 256), patch=(6, 4), heatmap=(48, 64), depth=2, positions="none", keypoints=1
    ),
}


def spec_of(published: Published) -> ModelSpec:
    return ModelSpec(
        backbone=published.backbone,
        backbone_stride=4 if published.backbone == "stem" else 1,
        image_size=published.image,
        patch_size=published.patch,
        heatmap_size=published.heatmap,
        skeleton=Skeleton.from_count(published.keypoints),
        width=published.width,
        groups=published.groups,
        depth=published.depth,
        heads=published.heads,
        positions=POSITIONS[published.positions],
        attention_scale="model" if published.model_scale else "head",
        head_layers=published.head_layers,
    )


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_heatmaps_are_the_reference_ones(name, generator):
    published = CASES[name]
    state = random_state(published, gain=4.0 if published.model_scale else 1.8)
    model = TokenPose(spec_of(published)).eval()
    model.load_state_dict(convert_official(state), strict=True)
    images = torch.randn(2, 3, *published.image, generator=generator)
    expected = forward(published, state, images)
    assert expected.abs().max() > 1  # far from a constant map, so that 5e-5 says something
    torch.testing.assert_close(model(images).double(), expected, rtol=0, atol=5e-5)


@pytest.mark.parametrize("change", [
    {"attention_scale": "model"}, {"positions": "sine"}, {"mean_over": "channels"}, {"norm": 1e-6}, {"gelu": "tanh"},
], ids=lambda change: next(iter(change)))  # fmt: skip
@torch.no_grad()
def test_the_comparison_would_see_a_small_mistake(change, generator):
    published = Published(**{**SMALL, "depth": 12}, keypoints=5)
    state = random_state(published)
    spec = spec_of(published)
    model = TokenPose(spec.replace(**{k: v for k, v in change.items() if k in ("attention_scale", "positions")})).eval()
    model.load_state_dict(convert_official(state), strict=True)
    for module in model.modules():
        if "norm" in change and isinstance(module, torch.nn.LayerNorm):
            module.eps = change["norm"]
        if "gelu" in change and isinstance(module, torch.nn.GELU):
            module.approximate = change["gelu"]
    if "mean_over" in change:  # patches flattened channel first
        weight = model.tokenizer.patch_embedding.weight
        weight.copy_(weight.unflatten(1, (16, 12, 3)).permute(0, 3, 1, 2).flatten(1))
    images = torch.randn(1, 3, *published.image, generator=generator)
    assert (model(images) - forward(published, state, images)).abs().max() > 5e-5


def test_strict_load_refuses_weights_of_another_variant():
    published = Published(**SMALL, keypoints=5)
    model = TokenPose(spec_of(published).replace(depth=4))
    with pytest.raises(RuntimeError, match=r"Missing key.*encoder\.groups\.0\.3"):
        model.load_state_dict(convert_official(random_state(published)), strict=True)


def test_softmax_scales_of_the_variants():
    def scale(name):
        return find_tag(name)[2].softmax_scale

    assert math.isclose(scale("tokenpose_s_v1"), 192**-0.5)
    assert math.isclose(scale("tokenpose_s_v2"), 192**-0.5)
    assert math.isclose(scale("tokenpose_t"), (192 / 16) ** -0.5)
    assert math.isclose(scale("tokenpose_b"), (192 / 8) ** -0.5)
    assert math.isclose(scale("tokenpose_l_d24"), (192 / 12) ** -0.5)
