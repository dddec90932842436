"""optimize: the copy's heatmaps, keypoints and attention are the model's."""

import copy
import json
import logging
import pickle
import threading

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.utils import prune
from torch.utils._python_dispatch import TorchDispatchMode

from tokenpose.attention.computation import attention_maps
from tokenpose.deploy import optimization
from tokenpose.deploy.chunks import ChunkRunner
from tokenpose.deploy.fusion import FusedBackbone
from tokenpose.deploy.optimization import optimize
from tokenpose.geometry.decode import decode
from tokenpose.models.attention import PATHS, Attention
from tokenpose.models.backbones import backbones
from tokenpose.models.blocks import blocks
from tokenpose.models.create import create_model
from tokenpose.models.official import convert_official
from tokenpose.models.recording import record_attention
from tokenpose.models.spec import ModelSpec
from tokenpose.models.tokenpose import TokenPose
from tokenpose.models.weights import save_pretrained, write_weights
from tokenpose.models.zoo import find_tag, list_models
from tokenpose.predictor import predict

from ..models.reference import random_weight, sine_table
from .small_models import SMALL, Own, difference, make, with_statistics

pytestmark = pytest.mark.usefixtures("unchecked")


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models("*.coco_256x192"))
@torch.inference_mode()
def test_heatmaps_of_every_architecture_are_the_models(name, generator):
    model = with_statistics(create_model(name, depth=2, image_size=(128, 96)))
    fast = optimize(model)
    for batch in (1, 5):
        crops = torch.randn(batch, 3, 128, 96, generator=generator)
        assert difference(fast(crops), model(crops)) <= 1e-4
    if model.spec.backbone in ("stem", "hrnet_w32", "hrnet_w48"):
        assert any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fast.modules())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "name"),
    [("t", "tokenpose_t"), ("s_v1", "tokenpose_s_v1"), ("b", "tokenpose_b"), ("l_d24", "tokenpose_l_d24")],
)
@torch.inference_mode()
def test_optimized_heatmaps_are_the_golden_ones(golden, case, name):
    keys = json.loads((golden / f"{case}.keys.json").read_text())
    gain = 4.0 if case.startswith("s") else 1.8
    state = {key: random_weight(key, tuple(shape), gain) for key, shape in keys["state_dict"].items()}
    model = TokenPose(find_tag(f"{name}.coco_256x192")[2]).eval()
    state[next(key for key in state if key.endswith("pos_embedding"))] = sine_table(model.spec.grid_size, 192).float()
    model.load_state_dict(convert_official(state), strict=True)
    values = np.random.RandomState(1234).standard_normal((1, 3, *keys["image_size_hw"]))
    heatmaps = optimize(model)(torch.from_numpy(values.astype(np.float32)))
    expected = load_file(golden / f"{case}.safetensors")["heatmaps"]
    assert difference(heatmaps, expected) <= 1e-4


def test_the_model_stays_as_it_was():
    model = make().train()
    before = copy.deepcopy(model.state_dict())
    fast = optimize(model)
    assert model.training
    assert model.runner is None
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert isinstance(fast.runner, ChunkRunner)
    assert not fast.training
    assert not any(parameter.requires_grad for parameter in fast.parameters())


def test_predicted_keypoints_are_the_models():
    model = make()
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    boxes = [[10, 5, 60, 80], [40, 20, 110, 85], [0, 0, 120, 90]]
    expected, found = predict(model, image, boxes, flip_test=False), predict(optimize(model), image, boxes)
    cells = 110 * 1.25 / 12  # the largest box's pixels a heatmap cell
    np.testing.assert_allclose(found.keypoints, expected.keypoints, rtol=0, atol=0.01 * cells)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=1e-4 * np.abs(expected.scores).max())


def test_attention_of_the_copy_is_the_models():
    model = make()
    fast = optimize(model)
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    expected, found = (attention_maps(one, image, [10, 5, 60, 80]) for one in (model, fast))
    np.testing.assert_allclose(found.to_image, expected.to_image, rtol=0, atol=1e-5)
    np.testing.assert_allclose(found.rollout_to_image, expected.rollout_to_image, rtol=0, atol=1e-5)
    crops = torch.randn(1, 3, 64, 48)
    with torch.inference_mode(), record_attention(fast) as recording:
        recorded = fast(crops)
    assert len(recording.rows) == 3
    assert torch.equal(recorded, fast(crops))


@pytest.mark.parametrize("path", PATHS)
def test_each_way_of_attention_is_the_same(path):
    model, crops = make(), torch.randn(2, 3, 64, 48)
    other = copy.deepcopy(model)
    for group in other.encoder.groups:
        for block in group:
            block.attention.path = path
    assert difference(other(crops), model(crops)) <= 1e-5


@pytest.mark.parametrize("optimized", [False, True])
def test_no_matrix_of_tokens_by_tokens_is_made(optimized):
    class Shapes(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                seen.add(tuple(result.shape[-2:]))
            return result

    seen: set[tuple[int, ...]] = set()
    model = make(SMALL.replace(image_size=(256, 192), patch_size=(2, 2)))
    model = optimize(model) if optimized else model
    for group in model.encoder.groups:
        for block in group:
            block.attention.path = "fused"  # "explicit" makes one for as long as a block lasts
    tokens = 5 + 768
    with torch.no_grad(), Shapes():
        model(torch.randn(2, 3, 256, 192))
    assert (tokens, 48) in seen or (2 * tokens, 48) in seen
    assert (tokens, tokens) not in seen


@pytest.mark.parametrize(
    ("costs", "chosen"),
    [([3, 2, 1.5, 1.6, 1.5], 4), ([1, 1.5, 1.1], 1), ([3, 3, 2, 2.5, 2.5], 4), ([7, 6, 5, 4, 3, 2, 1], None)],
)
def test_chunk_grows_until_an_image_takes_no_less_two_times_in_a_row(costs, chosen, monkeypatch):
    monkeypatch.setattr(optimization, "_CHUNKS", (1, 2, 4, 8, 16, 32, 64))
    seconds = iter([cost * chunk for cost, chunk in zip(costs, optimization._CHUNKS, strict=False)])
    monkeypatch.setattr(optimization, "_time", lambda run, calls: next(seconds))
    assert optimization._choose_chunk(make()) == chosen


def test_copy_can_be_copied_and_pickled():
    fast = optimize(make())
    crops = torch.randn(1, 3, 64, 48)
    assert torch.equal(copy.deepcopy(fast)(crops), fast(crops))
    assert torch.equal(pickle.loads(pickle.dumps(fast))(crops), fast(crops))


PRECISE = {torch.float32: 1e-5, torch.float64: 1e-12, torch.float16: 1e-2, torch.bfloat16: 5e-2}


@pytest.mark.parametrize("dtype", PRECISE)
def test_precision_is_kept_and_autograd_may_be_on(dtype, generator):
    model = make().to(dtype)
    fast = optimize(model)
    assert {parameter.dtype for parameter in fast.parameters()} == {dtype}
    crops = torch.randn(3, 3, 64, 48, generator=generator).to(dtype)
    expected, found = decode(model(crops), "soft-argmax"), decode(fast(crops), "soft-argmax")
    assert (found.keypoints - expected.keypoints).abs().max() <= 0.3  # heatmap cells
    assert difference(fast(crops), model(crops)) <= PRECISE[dtype]
    assert not fast(crops).requires_grad


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_value_that_is_not_finite_is_not_hidden(value):
    model = make()
    crops = torch.randn(3, 3, 64, 48)
    crops[1, 2, 10, 20] = value
    expected, found = model(crops), optimize(model)(crops)
    assert expected[1].isnan().all()
    assert found[1].isnan().all()
    assert difference(found[::2], expected[::2]) <= 1e-5


def test_copy_moved_to_another_precision_still_works():
    fast = optimize(make())
    crops = torch.randn(1, 3, 64, 48)
    expected = fast(crops)
    assert difference(fast.double()(crops.double()), expected.double()) <= 1e-5


@torch.inference_mode()
def test_autocast_rounds_the_copy_no_more_than_the_model():
    model = make()
    fast = optimize(model)
    crops = torch.randn(2, 3, 64, 48)
    exact = model(crops)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        of_model, of_copy = model(crops).float(), fast(crops).float()
    assert difference(of_copy, exact) <= 1.5 * difference(of_model, exact)
    assert difference(of_copy, exact) <= 0.05


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "stride", "norms_left"),
    [
        ("timm/resnet18", 8, 0),
        ("timm/regnetx_002", 8, 0),
        ("timm/mobilenetv3_small_100", 8, 0),
        ("timm/hrnet_w18_small", 8, None),
        ("timm/convnext_atto", 8, 0),
        ("timm/vit_tiny_patch16_224", 16, 0),
    ],
)
@torch.inference_mode()
def test_backbones_of_timm(backbone, stride, norms_left, generator):
    size = (224, 224) if "vit" in backbone else (128, 96)
    patch = (2, 2) if stride == 16 else (4, 3)
    model = with_statistics(
        create_model("tokenpose_s_v1.coco_256x192", backbone=backbone, backbone_stride=stride, patch_size=patch,
                     image_size=size, depth=1)
    )  # fmt: skip
    fast = optimize(model)
    crops = torch.randn(3, 3, *size, generator=generator)
    assert difference(fast(crops), model(crops)) <= 1e-4
    if norms_left is not None:
        assert sum(isinstance(module, nn.BatchNorm2d) for module in fast.modules()) == norms_left


class Branching(nn.Module):
    """A backbone that looks at values."""

    channels, stride = 3, 1

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.norm(self.convolution(images))
        return maps if maps.mean() > 0 else -maps


def test_backbone_that_torch_fx_cannot_follow_is_left_and_named(caplog):
    if "branching" not in backbones:
        backbones.add("branching", Branching)
    model = make(SMALL.replace(backbone="branching", backbone_stride=1, patch_size=(16, 12)))
    with caplog.at_level(logging.WARNING, "tokenpose"):
        fast = optimize(model)
    assert "backbone 'branching' is left unfused" in caplog.text
    crops = torch.randn(2, 3, 64, 48)
    assert difference(fast(crops), model(crops)) <= 1e-4


class Overtaken(Own):
    """Fused, the first convolution would read its input after that has changed."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        first = self.first(images)
        second = self.second(first)
        first.mul_(2)
        return second + first


class Augmented(Own):
    """torch.fx takes the addition for one that makes a map."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        first = second = self.first(images)
        second += self.second(first)
        return second + first


class Listed(Own):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.first(images)
        return maps if type(images) is torch.Tensor else [maps, self.second(maps)]


@pytest.mark.parametrize(
    ("kind", "reason"), [(Overtaken, "would differ by"), (Augmented, "would differ by"), (Listed, "'list' object")]
)
def test_backbones_whose_fused_form_fails_stay_as_they_are(kind, reason, caplog):
    name = kind.__name__.lower()
    if name not in backbones:
        backbones.add(name, lambda spec: kind())
    model = make(SMALL.replace(backbone=name, backbone_stride=1, patch_size=(16, 12)))
    with caplog.at_level(logging.WARNING, "tokenpose"):
        fast = optimize(model)
    assert f"backbone '{name}' is left unfused" in caplog.text
    assert reason in caplog.text
    crops = torch.randn(2, 3, 64, 48)
    assert difference(fast(crops), model(crops)) <= 1e-4


def test_what_cannot_be_optimized_says_so():
    model = make()
    fast = optimize(model)
    with pytest.raises(TypeError, match=r"TokenPose is needed.*got Linear"):
        optimize(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="optimized already"):
        optimize(fast)
    with pytest.raises(ValueError, match=r"given to torch\.compile"):
        optimize(torch.compile(model))
    with pytest.raises(ValueError, match="on the meta device, without weights"):
        optimize(make().to("meta"))
    with record_attention(model), pytest.raises(ValueError, match="being recorded"):
        optimize(model)


def test_optimized_models_are_not_written(tmp_path):
    fast = optimize(make())
    for write in (lambda: write_weights(fast, tmp_path / "x.safetensors"), lambda: save_pretrained(fast, tmp_path)):
        with pytest.raises(ValueError, match=r"optimized model can't be written.*tokenpose\.optimize"):
            write()
    assert list(tmp_path.iterdir()) == []


@torch.inference_mode()
def test_a_copy_may_be_copied_in_inference_mode(generator):
    fast, crops = optimize(make()), torch.randn(1, 3, 64, 48, generator=generator)
    assert difference(copy.deepcopy(fast)(crops), fast(crops)) <= 1e-6


def test_modules_keep_their_own_modes():
    model = make().train()
    model.backbone.eval()
    optimize(model)
    assert model.training
    assert not model.backbone.bn1.training
    assert model.encoder.training


def test_two_threads_may_optimize_at_once():
    models, fast = [make(), make()], {}
    threads = [threading.Thread(target=lambda i=i: fast.update({i: optimize(models[i])})) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(fast) == [0, 1]
    assert not hasattr(nn.Module.__call__, "__wrapped__")  # by torch.fx
    assert all(isinstance(one.backbone, FusedBackbone) for one in fast.values())


class Narrow(nn.Module):
    """A block that attends with half the width."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(spec.width, spec.width // 2), nn.Linear(spec.width // 2, spec.width)
        self.attention = Attention(spec.width // 2, spec.heads, spec.softmax_scale)

    def forward(self, tokens: torch.Tensor, queries: int | None = None) -> torch.Tensor:
        return tokens[:, :queries] + self.up(self.attention(self.down(tokens), queries))


def test_attention_is_timed_on_the_tokens_that_reach_it(generator):
    if "narrow" not in blocks:
        blocks.add("narrow", Narrow)
    model, crops = make(SMALL.replace(block="narrow", depth=1)), torch.randn(2, 3, 64, 48, generator=generator)
    with torch.no_grad():
        assert difference(optimize(model)(crops), model(crops)) <= 1e-5


def test_optimizing_under_autocast_is_no_reason_to_refuse(caplog):
    model, crops = make(), torch.randn(1, 3, 64, 48)
    with torch.autocast("cpu", dtype=torch.bfloat16), caplog.at_level(logging.WARNING, "tokenpose"):
        fast = optimize(model)
    assert "is left unfused" not in caplog.text
    assert difference(fast(crops), model(crops)) <= 1e-5


@pytest.mark.parametrize("made", [False, True])
def test_a_copy_made_in_inference_mode_takes_weights_and_gradients(made):
    model = None if made else make()
    with torch.inference_mode():
        fast = optimize(model or make())
    assert not any(tensor.is_inference() for tensor in (*fast.parameters(), *fast.buffers()))
    fast.load_state_dict(copy.deepcopy(fast.state_dict()))
    fast.requires_grad_()(torch.randn(1, 3, 64, 48)).sum().backward()
    assert fast.backbone.graph.conv1_conv1.convolution.weight.grad is not None


@pytest.mark.parametrize(
    "part", ["", "backbone", "backbone.layer1.0", "backbone.conv1", "encoder.groups.0.1",
             "encoder.groups.0.0.attention", "encoder.groups.0.0.mlp", "head"]
)  # fmt: skip
def test_parts_with_hooks_are_named_and_not_optimized(part):
    model = make()
    model.get_submodule(part).register_forward_hook(lambda module, inputs, outputs: None)
    with pytest.raises(ValueError, match=rf"^{repr(part) if part else 'the model'} has a hook.*remove it"):
        optimize(model)


def test_pruned_models_are_told_how_to_become_plain():
    model = make()
    prune.l1_unstructured(model.backbone.conv1, "weight", amount=0.5)
    with pytest.raises(ValueError, match=r"'backbone.conv1' is pruned.*prune\.remove\(module, 'weight'\)"):
        optimize(model)
    prune.remove(model.backbone.conv1, "weight")
    assert (optimize(model).backbone.graph.conv1_conv1.convolution.weight == 0).float().mean() >= 0.5
