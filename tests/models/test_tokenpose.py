"""What every model does, whatever its parts."""

import copy
import math
import pickle

import pytest
import torch
from torch import nn

from tokenpose.models.backbones import backbones
from tokenpose.models.blocks import blocks
from tokenpose.models.spec import ModelSpec
from tokenpose.models.tokenpose import TokenPose
from tokenpose.models.tokens import sine_positions
from tokenpose.models.zoo import find_tag
from tokenpose.skeletons import COCO, Skeleton

STEM = ModelSpec(backbone="stem", image_size=(64, 48), skeleton=Skeleton.from_count(5), width=48, heads=4, depth=2)
# HRNet takes seconds to build: test_backbones.py has it
LIGHT_BACKBONES = [name for name in backbones if not name.startswith("hrnet")]


def tiny_of(backbone: str) -> ModelSpec:
    """The 4 x 4 patches of the other variants, whatever the backbone's stride."""
    stride = backbones.find(backbone).stride
    return STEM.replace(backbone=backbone, backbone_stride=stride, patch_size=(16 // stride, 12 // stride))


VARIANTS = {
    **{name: tiny_of(name) for name in LIGHT_BACKBONES},
    **{f"block {name}": STEM.replace(block=name) for name in blocks if name != STEM.block},
    "17 keypoints": STEM.replace(skeleton=COCO),
    "groups": STEM.replace(groups=3, head_layers=1),
    "softmax": STEM.replace(heatmap_activation="softmax"),
    "learnable": STEM.replace(positions="learnable"),
    "no positions": STEM.replace(positions="none"),
    "timm": STEM.replace(backbone="timm/resnet18"),
}


@pytest.fixture(params=VARIANTS)
def model(request, build) -> TokenPose:
    return build(VARIANTS[request.param])


@pytest.fixture
def images(generator) -> torch.Tensor:
    return torch.randn(3, 3, 64, 48, generator=generator)


def assert_equal_heatmaps(found: torch.Tensor, expected: torch.Tensor, share: float = 1e-4) -> None:
    """The design's tolerance: the largest difference against the largest value."""
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= share * expected.abs().max()


@torch.no_grad()
def test_heatmaps_have_the_specs_size_and_depend_on_the_image(model, images):
    heatmaps = model(images)
    assert heatmaps.shape == (3, len(model.spec.skeleton), 16, 12)
    assert (heatmaps[0] - heatmaps[1]).abs().max() > 1e-3 * heatmaps.abs().max()


@torch.no_grad()
def test_batch_equals_single(model, images):
    singly = torch.cat([model(image[None]) for image in images])
    assert_equal_heatmaps(model(images), singly)


@torch.no_grad()
def test_empty_batch_gives_no_heatmaps(model):
    assert model(torch.zeros(0, 3, 64, 48)).shape == (0, len(model.spec.skeleton), 16, 12)


@torch.no_grad()
def test_channels_last_equals_contiguous(model, images):
    expected = model(images)
    model = model.to(memory_format=torch.channels_last)
    assert_equal_heatmaps(model(images.contiguous(memory_format=torch.channels_last)), expected)


@torch.no_grad()
@pytest.mark.parametrize(("dtype", "share"), [(torch.bfloat16, 0.1), (torch.float16, 0.02)])
def test_half_precision_autocast_is_finite_and_near_float32(model, images, dtype, share):
    expected = model(images)
    with torch.autocast("cpu", dtype=dtype):
        heatmaps = model(images)
    assert torch.isfinite(heatmaps).all()
    assert_equal_heatmaps(heatmaps.float(), expected, share)
    assert not torch.equal(heatmaps.float(), expected)  # or it was not done in half precision


@torch.no_grad()
def test_float64_model_agrees_with_float32(model, images):
    expected = model(images)
    assert_equal_heatmaps(copy.deepcopy(model).double()(images.double()).float(), expected)


@torch.no_grad()
def test_pickled_and_deep_copied_models_give_the_same_heatmaps(model, images):
    expected = model(images)
    for again in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert torch.equal(again(images), expected)
        assert again.spec == model.spec


def test_gradients_reach_every_parameter(model, images):
    model.train()
    model(images).square().mean().backward()
    untouched = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert untouched == []


def test_state_dict_holds_no_sine_table(model):
    assert ("tokenizer.positions" in model.state_dict()) == (model.spec.positions == "learnable")


def test_new_models_have_nothing_newly_initialized(model):
    assert model.newly_initialized == ()


@torch.no_grad()
@pytest.mark.parametrize("keypoints", [1, 2, 133])
@pytest.mark.parametrize("positions", ["sine_every_block", "sine", "learnable", "none"])
def test_any_number_of_keypoints_works_with_any_positions(tiny, build, images, keypoints, positions):
    model = build(tiny.replace(skeleton=Skeleton.from_count(keypoints), positions=positions))
    assert model(images).shape == (3, keypoints, 16, 12)


@torch.no_grad()
def test_keypoint_tokens_join_the_sequence_without_positions(tiny, build, images):
    model = build(tiny.replace(positions="none"))
    before = model(images)
    model.tokenizer.keypoint_tokens[:, 0] *= -1
    after = model(images)
    assert ((after - before).abs().amax(dim=(0, 2, 3)) > 1e-3).all()  # every keypoint sees the first one


@torch.no_grad()
def test_permuted_keypoint_tokens_give_permuted_heatmaps(tiny, build, images):
    model = build(tiny)
    expected = model(images)
    order = [3, 0, 4, 1, 2]
    model.tokenizer.keypoint_tokens.copy_(model.tokenizer.keypoint_tokens[:, order])
    assert_equal_heatmaps(model(images), expected[:, order])


@torch.no_grad()
def test_patches_without_positions_may_change_places(tiny, build, images):
    model = build(tiny.replace(positions="none"))
    upside_down = images.unflatten(2, (4, 16)).flip(2).flatten(2, 3)  # rows of patches in reverse
    assert_equal_heatmaps(model(upside_down), model(images))


@torch.no_grad()
@pytest.mark.parametrize("positions", ["sine_every_block", "sine", "learnable"])
def test_patches_with_positions_may_not(tiny, build, images, positions):
    model = build(tiny.replace(positions=positions))
    upside_down = images.unflatten(2, (4, 16)).flip(2).flatten(2, 3)
    assert (model(upside_down) - model(images)).abs().max() > 1e-2


@torch.no_grad()
@pytest.mark.parametrize("sigma", [1.0, 2.0, 3.0])
def test_softmax_heatmaps_add_up_to_two_pi_sigma_squared(tiny, build, images, sigma):
    model = build(tiny.replace(heatmap_activation="softmax", sigma=sigma))
    sums = model(images).sum(dim=(-2, -1))
    torch.testing.assert_close(sums, torch.full((3, 5), 2 * math.pi * sigma**2), rtol=1e-5, atol=0)


@torch.no_grad()
def test_softmax_of_the_target_gaussians_logarithm_peaks_at_one(tiny, build):
    model = build(tiny.replace(heatmap_activation="softmax", heatmap_size=(64, 48), sigma=2.0))
    rows, columns = torch.arange(64.0)[:, None], torch.arange(48.0)
    last = model.head[3]
    last.weight.zero_()
    last.bias.copy_((-((rows - 30) ** 2 + (columns - 20) ** 2) / 8).flatten())
    heatmap = model(torch.zeros(1, 3, 64, 48))[0, 0]
    torch.testing.assert_close(heatmap[30, 20].item(), 1.0, rtol=1e-4, atol=0)
    torch.testing.assert_close(heatmap[30, 22].item(), math.exp(-0.5), rtol=1e-4, atol=0)


def test_logits_are_the_heatmaps_unless_there_is_an_activation(tiny, build, images):
    with torch.no_grad():
        model = build(tiny)
        assert torch.equal(model.logits(images), model(images))
        model = build(tiny.replace(heatmap_activation="softmax"))
        assert not torch.equal(model.logits(images), model(images))


@pytest.mark.parametrize("size", [(64, 64), (48, 64), (128, 96)])
def test_crops_of_another_size_are_refused(tiny, build, size):
    message = (
        rf"takes crops of \(height, width\) = \(64, 48\); got \({size[0]}, {size[1]}\); crop with tokenpose.create_t"
    )
    with pytest.raises(ValueError, match=message):
        build(tiny)(torch.zeros(1, 3, *size))


def test_published_initialization(tiny):
    torch.manual_seed(0)
    model = TokenPose(find_tag("tokenpose_t.coco_256x192")[2])
    for name, parameter in model.named_parameters():
        if "norm" in name or name.startswith(("head.0", "head.2")):
            assert (parameter == (1 if name.endswith("weight") else 0)).all()
        elif name.endswith("bias"):
            assert (parameter == 0).all()
        else:
            assert abs(parameter.std() - 0.02) < 0.002
            assert parameter.abs().max() < 0.2


def test_learnable_positions_start_as_the_published_linear_layers_do(tiny):
    torch.manual_seed(0)
    positions = TokenPose(tiny.replace(positions="learnable")).tokenizer.positions
    assert positions.shape == (1, 5 + 16, 48)
    assert abs(positions.std() - 0.02) < 0.002


def test_model_on_the_meta_device_gives_shapes(model):
    with torch.device("meta"):
        shapes = TokenPose(model.spec).eval()
    assert all(tensor.is_meta for tensor in (*shapes.parameters(), *shapes.buffers()))
    assert shapes(torch.empty(2, 3, 64, 48, device="meta")).shape == (2, len(model.spec.skeleton), 16, 12)


@torch.no_grad()
def test_model_from_the_meta_device_equals_the_original_once_loaded(model, images):
    with torch.device("meta"):
        again = TokenPose(model.spec).eval()
    again.to_empty(device="cpu")
    again.tokenizer.reset_parameters()  # the sine table is not stored: this computes it
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(images), model(images))


@torch.no_grad()
@pytest.mark.parametrize("positions", ["sine_every_block", "sine"])
def test_resetting_restores_the_sine_table(tiny, build, positions):
    model = build(tiny.replace(positions=positions))
    model.tokenizer.positions.fill_(math.nan)
    model.tokenizer.reset_parameters()
    visual = model.tokenizer.positions[:, -16:]
    assert torch.equal(visual, sine_positions((4, 4), 48))


@torch.no_grad()
def test_resetting_every_module_of_an_empty_model_makes_it_finite(model, images):
    with torch.device("meta"):
        fresh = TokenPose(model.spec).eval()
    fresh.to_empty(device="cpu")
    for module in fresh.modules():
        reset = getattr(module, "reset_parameters", None)
        if reset is not None:
            reset()
    assert torch.isfinite(fresh(images)).all()


def test_default_device_holds_for_the_sine_table_too(tiny):
    with torch.device("meta"):
        model = TokenPose(tiny)
    assert model.tokenizer.positions.is_meta
    assert isinstance(model.tokenizer.keypoint_tokens, nn.Parameter)
