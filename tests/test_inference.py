"""optimize: the copy's heatmaps, keypoints and attention are the model's."""

import copy
import json
import logging
import pickle
import threading
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.utils import prune
from torch.utils._python_dispatch import TorchDispatchMode

from tokenpose import inference
from tokenpose.attention import attention_maps
from tokenpose.geometry.decode import decode
from tokenpose.inference import optimize
from tokenpose.models.attention import PATHS, Attention, record_attention
from tokenpose.models.backbones import backbones
from tokenpose.models.blocks import blocks
from tokenpose.models.create import create_model
from tokenpose.models.fusion import FusedBackbone, FusedConvolution
from tokenpose.models.official import convert_official
from tokenpose.models.spec import ModelSpec
from tokenpose.models.tokenpose import TokenPose
from tokenpose.models.weights import save_pretrained, write_weights
from tokenpose.models.zoo import find_tag, list_models
from tokenpose.predictor import predict
from tokenpose.skeletons import Skeleton

from .models.reference import random_weight, sine_table

pytestmark = pytest.mark.usefixtures("unchecked")

SMALL = ModelSpec(
    backbone="stem", image_size=(64, 48), skeleton=Skeleton.from_count(5), width=48, heads=4, depth=3
)  # fmt: skip


@pytest.fixture(autouse=True)
def _few_chunks(monkeypatch) -> None:
    """Measuring large batches takes most of an optimisation's time."""
    monkeypatch.setattr(inference, "_CHUNKS", (1, 2))


def with_statistics(model: TokenPose) -> TokenPose:
    """Batch norms that do something, as if they had been trained; biases too."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2, generator=generator)
            module.running_var.uniform_(0.5, 2.0, generator=generator)
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0, 0.2, generator=generator)
        elif isinstance(module, nn.Linear) and module.bias is not None:
            module.bias.data.normal_(0, 0.2, generator=generator)
    return model


def make(spec: ModelSpec = SMALL) -> TokenPose:
    torch.manual_seed(0)
    return with_statistics(TokenPose(spec)).eval()


def difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """As a share of the largest value."""
    return ((found - expected).abs().max() / expected.abs().max()).item()


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
def test_optimised_heatmaps_are_the_golden_ones(golden, case, name):
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
    assert not model.is_optimized
    assert model.chunk is None
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert fast.is_optimized
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


@torch.inference_mode()
def test_recording_holds_everybody_when_a_batch_goes_through_in_chunks(generator):
    model = make()
    fast, crops = optimize(model), torch.randn(8, 3, 64, 48, generator=generator)
    with record_attention(model) as expected:
        model(crops)
    for chunk in (None, 1, 3, 4, 7):  # with and without a rest
        fast.chunk = chunk
        with record_attention(fast) as recording:
            fast(crops[:5])
            heatmaps = fast(crops)
        assert heatmaps.shape[0] == 8
        assert [rows.shape for rows in recording.rows] == [(8, 4, 5, 5 + 16)] * 3, chunk
        for found, rows in zip(recording.rows, expected.rows, strict=True):
            assert (found - rows).abs().max() <= 1e-5, chunk


@torch.no_grad()
def test_recording_goes_on_after_an_error_between_chunks(generator):
    model, crops = make(), torch.randn(3, 3, 64, 48, generator=generator)
    model.chunk = 1
    calls: list[int] = []

    def fail_once(*_: object) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("on purpose")

    handle = model.encoder.groups[0][1].register_forward_hook(fail_once)
    with record_attention(model) as recording:
        with pytest.raises(RuntimeError, match="on purpose"):
            model(crops)
        model(crops)
        assert [rows.shape[0] for rows in recording.rows] == [3, 3, 3]
        model.read(model.backbone(crops[:2]))  # a pass of its own
        assert [rows.shape[0] for rows in recording.rows] == [2, 2, 2]
    handle.remove()


@pytest.mark.parametrize("path", PATHS)
def test_each_way_of_attention_is_the_same(path):
    model, crops = make(), torch.randn(2, 3, 64, 48)
    other = copy.deepcopy(model)
    for group in other.encoder.groups:
        for block in group:
            block.attention.path = path
    assert difference(other(crops), model(crops)) <= 1e-5


@pytest.mark.parametrize("optimised", [False, True])
def test_no_matrix_of_tokens_by_tokens_is_made(optimised):
    class Shapes(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                seen.add(tuple(result.shape[-2:]))
            return result

    seen: set[tuple[int, ...]] = set()
    model = make(SMALL.replace(image_size=(256, 192), patch_size=(2, 2)))
    model = optimize(model) if optimised else model
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
    monkeypatch.setattr(inference, "_CHUNKS", (1, 2, 4, 8, 16, 32, 64))
    seconds = iter([cost * chunk for cost, chunk in zip(costs, inference._CHUNKS, strict=False)])
    monkeypatch.setattr(inference, "_time", lambda run, calls: next(seconds))
    assert inference._choose_chunk(make()) == chosen


def test_batches_are_split_and_joined_in_order():
    fast = optimize(make())
    crops = torch.randn(7, 3, 64, 48)
    together = {}
    for chunk in (None, 1, 2, 7):
        fast.chunk = chunk
        together[chunk] = fast(crops)
    for chunk, heatmaps in together.items():
        assert difference(heatmaps, together[None]) <= 1e-5, chunk
    assert fast(crops[:0]).shape == (0, 5, 16, 12)


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
    assert "backbone 'branching' stays as it is" in caplog.text
    crops = torch.randn(2, 3, 64, 48)
    assert difference(fast(crops), model(crops)) <= 1e-4


class Own(nn.Module):
    """A backbone of one's own; what it does with its convolutions is for the kinds below to say."""

    channels, stride = 4, 1

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)


class ByName(Own):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.second(input=self.first(input=images)))


class Expanded(Own):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.second(self.first(images))
        return maps.mean(dim=(2, 3), keepdim=True).expand_as(maps)


class InPlace(Own):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        first = self.first(images)
        first.add_(self.second(first))
        return first + torch.relu(first)


@pytest.mark.parametrize("kind", [ByName, Expanded, InPlace])
def test_backbones_of_ones_own_are_fused(kind, generator):
    torch.manual_seed(0)
    backbone, images = kind().eval(), torch.randn(2, 3, 16, 12, generator=generator)
    with torch.no_grad():
        fused = FusedBackbone(backbone, images)
        fused.pack(images)
        assert sum(isinstance(module, FusedConvolution) for module in fused.modules()) == 2
        assert difference(fused(images), backbone(images)) <= 1e-5
        images[1, 0, 0, 0] = float("nan")
        assert fused(images)[1, 0].isnan().any()
        assert not fused(images)[0].isnan().any()


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
    assert f"backbone '{name}' stays as it is" in caplog.text
    assert reason in caplog.text
    crops = torch.randn(2, 3, 64, 48)
    assert difference(fast(crops), model(crops)) <= 1e-4


def test_a_block_with_parts_of_ones_own_stays_as_it_is(generator):
    class Half(nn.Module):
        def __init__(self, attention: Attention) -> None:
            super().__init__()
            self.inner = attention

        def forward(self, tokens: torch.Tensor, queries: int | None = None) -> torch.Tensor:
            return 0.5 * self.inner(tokens, queries)

    model, crops = make(), torch.randn(1, 3, 64, 48, generator=generator)
    first, second = model.encoder.groups[0][:2]
    first.attention, second.mlp = Half(first.attention), nn.Linear(48, 48)
    with torch.no_grad():
        assert difference(optimize(model)(crops), model(crops)) <= 1e-5


def test_what_cannot_be_optimised_says_so():
    model = make()
    fast = optimize(model)
    with pytest.raises(TypeError, match=r"TokenPose is needed.*got Linear"):
        optimize(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="optimised already"):
        optimize(fast)
    with pytest.raises(ValueError, match=r"given to torch\.compile"):
        optimize(torch.compile(model))
    with pytest.raises(ValueError, match="on the meta device, without weights"):
        optimize(make().to("meta"))
    with record_attention(model), pytest.raises(ValueError, match="being recorded"):
        optimize(model)


def test_optimised_models_are_not_written(tmp_path):
    fast = optimize(make())
    for write in (lambda: write_weights(fast, tmp_path / "x.safetensors"), lambda: save_pretrained(fast, tmp_path)):
        with pytest.raises(ValueError, match=r"optimised model can't be written.*tokenpose\.optimize"):
            write()
    assert list(tmp_path.iterdir()) == []


class Toy(nn.Module):
    """What follows convolutions in all ways that fusion must tell apart."""

    channels, stride = 8, 1

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(c, 8, 3, padding=1, bias=False) for c in (3, 8))
        self.third, self.fourth = (nn.Conv2d(8, 8, 1) for _ in range(2))
        self.norm1, self.norm2, self.norm3 = (nn.BatchNorm2d(8) for _ in range(3))
        self.scale = nn.Parameter(torch.full((8, 1, 1), 0.5))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        first = torch.relu(self.norm1(self.first(images)))  # all three
        second = self.second(first)
        normed = self.norm2(second)  # and read again: the norm can't be folded
        third = self.third(normed) + second  # an addition without ReLU
        fourth = torch.relu(self.fourth(third) + third)  # its other side is read later: not to be overwritten
        shifted = self.fourth(fourth) + self.scale  # not a map of the same shape; a convolution used twice
        return self.norm3(shifted + third)


@torch.inference_mode()
def test_fusion_goes_as_far_as_nothing_else_reads_between(generator):
    torch.manual_seed(0)
    toy = with_statistics(Toy()).eval()
    images = torch.randn(2, 3, 16, 12, generator=generator)
    expected = toy(images)
    fused = FusedBackbone(toy, images)
    assert difference(fused(images), expected) <= 1e-5
    fused.pack(images)
    assert difference(fused(images), expected) <= 1e-5
    assert difference(toy(images), expected) <= 1e-6
    assert sum(isinstance(module, nn.BatchNorm2d) for module in fused.modules()) == 2
    convolutions = [module for module in fused.modules() if isinstance(module, FusedConvolution)]
    assert len(convolutions) == 5
    assert sum(module.relu for module in convolutions) == 2


class Residuals(nn.Module):
    """Additions whose other map can, or must not, be overwritten."""

    channels, stride = 64, 1

    def __init__(self, dropout: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 64, 3, padding=1)
        self.second, self.third, self.fourth, self.fifth = (nn.Conv2d(64, 64, 3, padding=1) for _ in range(4))
        self.between = nn.Dropout() if dropout else nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        first = self.first(images)
        second = self.second(first) + first  # into its own input: not to be overwritten
        kept = self.between(second)  # in eval mode the same map under another name
        third = self.third(torch.relu(self.fourth(second))) + second  # may be, unless `kept` is that map
        return self.fifth(third) + kept


@pytest.mark.parametrize("dropout", [False, True])
@torch.inference_mode()
def test_only_maps_that_nobody_reads_any_more_are_overwritten(dropout, generator):
    torch.manual_seed(0)
    backbone = Residuals(dropout).eval()
    images = torch.randn(2, 3, 32, 24, generator=generator)
    fused = FusedBackbone(backbone, images)
    fused.pack(images)
    convolutions = {
        name: module for name, module in fused.graph.named_modules() if isinstance(module, FusedConvolution)
    }
    assert all(module.packed is not None for module in convolutions.values())
    assert difference(fused(images), backbone(images)) <= 1e-5
    # without the dropout `second` is read last by `fifth`, and by FusedConvolutions only
    assert [name for name, module in convolutions.items() if module.may_overwrite] == (
        [] if dropout else ["fifth_fifth"]
    )


def test_a_module_that_is_called_relu_is_none_unless_it_is_one(generator):
    class Named(nn.Module):
        channels, stride = 4, 1

        def __init__(self) -> None:
            super().__init__()
            self.convolution, self.relu, self.add = nn.Conv2d(3, 4, 1), nn.ReLU6(), nn.Bilinear(6, 6, 6)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            maps = self.relu(self.convolution(images))
            return self.add(maps, maps)

    named, images = Named(), 30 * torch.randn(1, 3, 6, 6, generator=generator)
    with torch.no_grad():
        assert difference(FusedBackbone(named, images)(images), named(images)) <= 1e-5


def test_weights_that_a_copy_reads_are_those_that_it_uses():
    first, second = optimize(make()), optimize(make())
    for parameter in second.parameters():
        parameter.data.mul_(1.1)
    crops = torch.randn(1, 3, 64, 48)
    first.load_state_dict(second.state_dict())
    assert difference(first(crops), copy.deepcopy(second)(crops)) <= 1e-5


def test_changed_weights_of_a_copy_are_those_that_it_uses(generator):
    fast, crops = optimize(make()), torch.randn(1, 3, 64, 48, generator=generator)
    before = fast(crops)
    larger = {name: 3 * parameter for name, parameter in fast.named_parameters() if "convolution" in name}
    assert difference(torch.func.functional_call(fast, larger, (crops,)), before) > 0.01
    assert difference(fast(crops), before) <= 1e-6
    with torch.no_grad():
        for name in larger:
            fast.get_parameter(name).mul_(3)
    expected = copy.deepcopy(fast)(crops)
    assert difference(expected, before) > 0.01
    assert difference(fast(crops), expected) <= 1e-5


def test_weights_of_a_copy_may_ask_for_gradients(generator):
    fast, crops = optimize(make()).requires_grad_(), torch.randn(1, 3, 64, 48, generator=generator)
    fast(crops).square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in fast.backbone.named_parameters()}
    assert all(gradient is not None and gradient.abs().max() > 0 for gradient in gradients.values())


@torch.inference_mode()
def test_a_copy_may_be_copied_in_inference_mode(generator):
    fast, crops = optimize(make()), torch.randn(1, 3, 64, 48, generator=generator)
    assert difference(copy.deepcopy(fast)(crops), fast(crops)) <= 1e-6


def test_gradients_of_the_crops_are_the_models():
    model, crops = make(), torch.randn(1, 3, 64, 48)
    gradients = []
    for one in (model, optimize(model)):
        asked = crops.clone().requires_grad_()
        one(asked).square().sum().backward()
        gradients.append(asked.grad)
    assert difference(gradients[1], gradients[0]) <= 1e-4


def test_modules_keep_their_own_modes():
    model = make().train()
    model.backbone.eval()
    optimize(model)
    assert model.training
    assert not model.backbone.bn1.training
    assert model.encoder.training


@pytest.mark.parametrize(("name", "shape"), [("output", (48, 48)), ("qkv", (48, 144))])
def test_adapted_linear_layers_are_not_passed_by(name, shape):
    class Adapted(nn.Linear):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return super().forward(inputs) + 1

    model = make()
    attention = model.encoder.groups[0][0].attention
    adapted = Adapted(*shape, bias=getattr(attention, name).bias is not None)
    adapted.load_state_dict(getattr(attention, name).state_dict())
    setattr(attention, name, adapted)
    crops = torch.randn(1, 3, 64, 48)
    with torch.no_grad():
        assert difference(optimize(model)(crops), model(crops)) <= 1e-5


class Spread(nn.Module):
    """Adds what a convolution makes of a map's mean, a single cell, to the whole map."""

    channels, stride = 4, 1

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.first(images)
        return maps + self.second(maps.mean((2, 3), keepdim=True))


@pytest.mark.parametrize("packed", [False, True])
def test_a_cell_that_is_added_to_a_whole_map_is_no_residual(packed, generator):
    torch.manual_seed(0)
    backbone, images = Spread().eval(), torch.randn(2, 3, 8, 6, generator=generator)
    with torch.no_grad():
        fused = FusedBackbone(backbone, images)
        if packed:
            fused.pack(images)
        assert difference(fused(images), backbone(images)) <= 1e-5


def test_weights_of_other_than_four_dimensions_stay_as_they_lie(generator):
    class Volumes(nn.Module):
        channels, stride = 4, 1

        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(3, 4, 1)
            self.shift = nn.Parameter(torch.ones(1, 1, 4, 1, 1))
            self.register_buffer("scale", torch.full((1, 1, 4, 1, 1), 2.0))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return (self.convolution(images).unsqueeze(0) * self.scale + self.shift)[0]

    volumes, images = Volumes().eval(), torch.randn(1, 3, 8, 6, generator=generator)
    with torch.no_grad():
        assert difference(FusedBackbone(volumes, images)(images), volumes(images)) <= 1e-5


def test_models_in_other_threads_work_while_one_is_traced(generator):
    serving, images = nn.Conv2d(3, 4, 1), torch.randn(1, 3, 8, 6, generator=generator)
    results: list[Any] = []

    def serve() -> None:
        try:
            results.append(serving(images))
        except Exception as error:
            results.append(error)

    class Served(nn.Module):
        channels, stride = 4, 1

        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(3, 4, 1)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            thread = threading.Thread(target=serve)  # while the trace lasts
            thread.start()
            thread.join()
            return self.convolution(images)

    with torch.no_grad():
        FusedBackbone(Served().eval(), images)
    assert len(results) == 1
    assert torch.equal(results[0], serving(images))


def test_two_threads_may_optimise_at_once():
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


def test_optimising_under_autocast_is_no_reason_to_refuse(caplog):
    model, crops = make(), torch.randn(1, 3, 64, 48)
    with torch.autocast("cpu", dtype=torch.bfloat16), caplog.at_level(logging.WARNING, "tokenpose"):
        fast = optimize(model)
    assert "stays as it is" not in caplog.text
    assert difference(fast(crops), model(crops)) <= 1e-5


def test_heatmaps_of_zeros_are_equal():
    model, crops = make(), torch.randn(1, 3, 64, 48)
    last = next(module for module in reversed(list(model.head.modules())) if isinstance(module, nn.Linear))
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    assert not optimize(model)(crops).any()


def test_weights_that_are_not_finite_are_named():
    model = make()
    model.backbone.conv2.weight.data[0, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"weights aren't finite: 'backbone\.conv2\.weight' holds NaN"):
        optimize(model)
    model = make()
    model.backbone.bn1.running_var[3] = float("nan")
    with pytest.raises(ValueError, match=r"weights aren't finite: 'backbone\.bn1\.running_var' holds NaN"):
        optimize(model)
    model = make()
    model.backbone.bn1.running_var[3] = -1
    with pytest.raises(ValueError, match="heatmaps aren't finite, though its weights are"):
        optimize(model)
    model = make()
    model.head.register_buffer("mask", torch.full((1,), float("-inf")))
    assert optimize(model).is_optimized


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
def test_parts_with_hooks_are_named_and_not_optimised(part):
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
