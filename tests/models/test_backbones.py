import re

import pytest
import timm
import torch
from torch import nn

from tokenpose.models.backbones import backbones, make_backbone, register_backbone
from tokenpose.models.create import create_model
from tokenpose.models.spec import ModelSpec
from tokenpose.models.tokenpose import TokenPose


def spec(name: str, stride: int = 4, **changes) -> ModelSpec:
    return ModelSpec(
        **{"backbone": name, "backbone_stride": stride, "image_size": (64, 64), "patch_size": (1, 1)} | changes
    )


@pytest.fixture
def registered():
    """Names that the test registers are forgotten after it."""
    before = dict(backbones._parts)
    yield
    backbones._parts.clear()
    backbones._parts.update(before)


@pytest.fixture(scope="module", params=list(backbones))
def swept(request) -> TokenPose:
    """A tiny model with each of the backbones, at the stride that the backbone states."""
    stride = backbones.find(request.param).stride
    side = max(1, 16 // stride)
    torch.manual_seed(0)
    sizes = {"image_size": (32, 32), "patch_size": (side, side), "width": 48, "heads": 4, "depth": 1}
    return TokenPose(spec(request.param, stride, **sizes)).eval()


@torch.no_grad()
def test_every_backbone_gives_the_map_that_it_states_to_each_image_of_a_batch_as_to_it_alone(swept, generator):
    images, side = torch.randn(2, 3, 32, 32, generator=generator), 32 // swept.spec.backbone_stride
    together, alone = swept.backbone(images), swept.backbone(images[1:])
    assert together.shape == (2, swept.backbone.channels, side, side)
    assert (together[0] - together[1]).abs().max() > 1e-3 * together.abs().max()
    assert (together[1] - alone[0]).abs().max() <= 1e-4 * together.abs().max()
    assert swept.head(swept.encoder(swept.tokenizer(together))).shape == (2, 17, 8, 8)


def test_gradients_reach_every_parameter_of_every_backbone(swept, generator):
    images = torch.randn(2, 3, 32, 32, generator=generator, requires_grad=True)
    swept.backbone(images).square().mean().backward()
    assert images.grad.abs().max() > 0
    assert [name for name, parameter in swept.backbone.named_parameters() if parameter.grad is None] == []


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "channels", "stride"),
    [("pixels", 3, 1), ("stem", 256, 4), ("hrnet_w32", 32, 4), ("hrnet_w48", 48, 4), ("timm/resnet18", 64, 4)],
)
def test_map_has_the_stated_channels_and_stride(name, channels, stride):
    with torch.device("meta"):
        backbone = make_backbone(spec(name, stride)).eval()
        features = backbone(torch.empty(2, 3, 64, 96))
    assert (backbone.channels, backbone.stride) == (channels, stride)
    assert features.shape == (2, channels, 64 // stride, 96 // stride)


def test_pixels_are_the_image_itself(generator):
    images = torch.randn(2, 3, 8, 8, generator=generator)
    assert make_backbone(spec("pixels", 1))(images) is images


def test_stem_starts_with_two_over_the_outputs_that_each_value_reaches_as_variance():
    torch.manual_seed(0)
    stem = make_backbone(spec("stem"))
    # 64 channels of 3x3: sqrt(2 / 576) = 0.059, though the first reads 3 channels only; 256 of 1x1: sqrt(2 / 256)
    assert abs(stem.conv1.weight.std() / (2 / (64 * 9)) ** 0.5 - 1) < 0.05
    assert abs(stem.conv2.weight.std() / (2 / (64 * 9)) ** 0.5 - 1) < 0.05
    assert abs(stem.layer1[0].downsample[0].weight.std() / (2 / 256) ** 0.5 - 1) < 0.05
    assert abs(stem.layer1[3].conv1.weight.std() / (2 / 64) ** 0.5 - 1) < 0.05


@pytest.mark.parametrize(("name", "channels"), [("hrnet_w32", 32), ("hrnet_w48", 48)])
def test_hrnet_has_timms_names_and_shapes_up_to_stage_3(name, channels):
    with torch.device("meta"):
        ours = make_backbone(spec(name)).state_dict()
        theirs = timm.create_model(name).state_dict()
    assert {key: tensor.shape for key, tensor in ours.items()}.items() <= {
        key: tensor.shape for key, tensor in theirs.items()
    }.items()
    # timm's stages 1 to 3, but for what its last module would send to the coarser branches
    coarser = re.compile(r"stage3\.3\.fuse_layers\.[12]\.")
    assert set(ours) == {
        key
        for key in theirs
        if not re.match("stage4|transition3|incre|down|final|class", key) and not coarser.match(key)
    }
    assert ours["stage3.3.branches.0.0.conv1.weight"].shape[0] == channels


@pytest.mark.slow
@torch.no_grad()
def test_hrnets_map_is_timms_finest_branch_after_stage_3(generator):
    torch.manual_seed(0)
    whole = timm.create_model("hrnet_w32").eval()
    ours = make_backbone(spec("hrnet_w32")).eval()
    ours.load_state_dict({name: tensor for name, tensor in whole.state_dict().items() if name in ours.state_dict()})
    seen = []
    handle = whole.stage3.register_forward_hook(lambda module, inputs, outputs: seen.append(outputs[0]))
    images = torch.randn(1, 3, 64, 64, generator=generator)
    whole(images)
    handle.remove()
    torch.testing.assert_close(ours(images), seen[0], rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(("stride", "channels"), [(2, 64), (4, 64), (8, 128), (16, 256), (32, 512)])
def test_timm_model_gives_its_last_map_at_the_stride(stride, channels, generator):
    torch.manual_seed(0)
    backbone = make_backbone(spec("timm/resnet18", stride)).eval()
    images = torch.randn(1, 3, 64, 64, generator=generator)
    whole = timm.create_model("resnet18", features_only=True).eval()
    whole.load_state_dict(backbone.network.state_dict(), strict=False)
    features = backbone(images)
    assert features.shape == (1, channels, 64 // stride, 64 // stride)
    index = [2, 4, 8, 16, 32].index(stride)
    torch.testing.assert_close(features, whole(images)[index], rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(("stride", "patch"), [(4, (4, 3)), (8, (2, 2)), (16, (1, 1))])
def test_timm_backbone_in_a_whole_model(stride, patch):
    model = create_model(
        "tokenpose_s_v1",
        backbone="timm/resnet18",
        backbone_stride=stride,
        patch_size=patch,
        image_size=(128, 96),
        depth=1,
    )
    assert model(torch.zeros(2, 3, 128, 96)).shape == (2, len(model.spec.skeleton), 32, 24)


@torch.no_grad()
@pytest.mark.parametrize("name", ["mobilenetv3_small_100", "convnext_atto", "efficientnet_b0", "regnety_002"])
def test_other_convolutional_timm_models_work_too(name):
    backbone = make_backbone(spec(f"timm/{name}", 16)).eval()
    assert backbone(torch.zeros(1, 3, 64, 64)).shape == (1, backbone.channels, 4, 4)


@pytest.mark.parametrize(("name", "stride"), [("resnet18", 8), ("convnext_atto", 16)])
def test_timm_backbone_has_timms_names_and_start(name, stride):
    torch.manual_seed(0)
    ours = make_backbone(spec(f"timm/{name}", stride)).network.state_dict()
    index = timm.create_model(name, features_only=True).feature_info.reduction().index(stride)
    torch.manual_seed(0)
    theirs = timm.create_model(name, features_only=True, out_indices=(index,)).state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize(
    ("name", "stride", "part"), [("efficientnet_b0", 8, 0.02), ("mobilenetv3_small_100", 4, 0.002)]
)
def test_stages_after_the_map_are_left_out(name, stride, part):
    with torch.device("meta"):
        backbone = make_backbone(spec(f"timm/{name}", stride))
        whole = timm.create_model(name, features_only=True)
    count = sum(parameter.numel() for parameter in backbone.parameters())
    assert count < part * sum(parameter.numel() for parameter in whole.parameters())
    assert all(parameter.requires_grad for parameter in backbone.parameters())


def test_parameters_that_the_map_does_not_need_are_frozen_where_timm_keeps_them():
    with torch.device("meta"):
        backbone = make_backbone(spec("timm/hrnet_w18_small", 4))
    frozen = {name for name, parameter in backbone.named_parameters() if not parameter.requires_grad}
    parts = {name.removeprefix("network.").partition("fuse_layers.")[0] for name in frozen if "incre" not in name}
    if any("incre" in name for name in frozen):  # timm before 1.0.31 makes these for maps that are not asked for
        assert {name.split(".")[2] for name in frozen if "incre" in name} == {"1", "2", "3"}
        assert parts == {"stage4.0."}
    else:
        assert parts == {"model.stage4.0."}


@torch.no_grad()
def test_maps_with_channels_last_are_turned(generator):
    backbone = make_backbone(spec("timm/test_mambaout", 4)).eval()
    images = torch.randn(1, 3, 64, 64, generator=generator)
    features = backbone(images)
    network = backbone.network.model
    expected = network.stages[0](network.stem(images))
    assert expected.shape == features.shape == (1, 16, 16, 16)  # so the shape alone would not tell
    assert torch.equal(features, expected.permute(0, 3, 1, 2))


@torch.no_grad()
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "test_vit_relpos"])
def test_timm_models_of_one_image_size_are_built_for_the_specs(name):
    if name not in timm.list_models():
        pytest.skip(f"timm {timm.__version__} has no {name}")
    backbone = make_backbone(spec(f"timm/{name}", 16, image_size=(128, 96))).eval()
    assert backbone(torch.zeros(1, 3, 128, 96)).shape == (1, backbone.channels, 8, 6)


def test_timm_backbone_can_be_built_in_inference_mode():
    with torch.inference_mode():
        backbone = make_backbone(spec("timm/resnet10t", 8)).eval()
        assert backbone(torch.zeros(1, 3, 64, 64)).shape == (1, 128, 8, 8)


def test_wrong_stride_of_a_timm_model_lists_those_it_has():
    message = r"timm's 'resnet18' has no map at stride 3; backbone_stride may be one of \[2, 4, 8, 16, 32\]"
    with pytest.raises(ValueError, match=message):
        make_backbone(spec("timm/resnet18", 3, image_size=(63, 63)))


def test_unknown_timm_model_is_refused_with_close_ones():
    with pytest.raises(LookupError, match=r"timm has no model 'resnet_18'; close: \w*resnet"):
        make_backbone(spec("timm/resnet_18"))


def test_name_like_nothing_of_timms_says_where_to_look():
    with pytest.raises(LookupError, match=r"timm has no model 'qqqq'; close: timm.list_models\(\) lists all"):
        make_backbone(spec("timm/qqqq"))


@pytest.mark.parametrize("name", ["hf-hub:timm/resnet18", "local-dir:weights", "hf_hub:a/b", "../resnet18", "a\\b:c"])
def test_places_to_load_from_are_no_timm_names(name, monkeypatch):
    monkeypatch.setattr(timm, "create_model", lambda *args, **options: pytest.fail("timm was asked"))
    message = re.escape(f"timm/ takes names that timm.list_models() lists, not locations to load from; got {name!r}")
    with pytest.raises(LookupError, match=message):
        make_backbone(spec(f"timm/{name}"))


@pytest.mark.parametrize("name", ["resnet1*", "resnet1[8]", "resnet18*", "", "*"])
def test_wildcards_are_no_timm_names(name, monkeypatch):
    monkeypatch.setattr(timm, "create_model", lambda *args, **options: pytest.fail("timm was asked"))
    with pytest.raises(LookupError, match=re.escape(f"timm has no model {name!r}; close: ")):
        make_backbone(spec(f"timm/{name}"))


def test_unknown_tag_of_a_timm_model_is_refused_with_those_there_are():
    with pytest.raises(LookupError, match=r"timm's 'resnet18' has no weights 'a7'; there are .*a1_in1k, "):
        make_backbone(spec("timm/resnet18.a7"))
    assert make_backbone(spec("timm/resnet18.a1_in1k")).channels == 64


def test_unknown_backbone_is_refused_with_the_closest():
    with pytest.raises(LookupError, match="no backbone named 'hrnet_w33'; did you mean hrnet_w32"):
        make_backbone(spec("hrnet_w33"))


def test_stride_that_is_not_the_backbones_is_refused():
    with pytest.raises(ValueError, match="backbone 'stem' has stride 4, the spec says 8; set backbone_stride=4"):
        make_backbone(spec("stem", 8))


@pytest.mark.parametrize("name", ["pixels", "stem"])
def test_pretrained_is_refused_where_timm_has_nothing(name):
    message = rf"backbone '{name}' has no pretrained weights; timm/... and hrnet_... may have"
    with pytest.raises(ValueError, match=message):
        make_backbone(spec(name, 1 if name == "pixels" else 4), pretrained=True)


@pytest.mark.parametrize("name", ["timm/resnet18", "hrnet_w32"])
def test_timms_weights_that_cannot_be_downloaded_are_an_os_error_that_says_what_to_do(name, monkeypatch):
    def refuse(*args: object, **options: object) -> None:
        raise FileNotFoundError(
            "An error happened while looking for the file.\nAnd more."
        )  # as huggingface_hub offline

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", refuse)
    message = (
        f"timm's weights for '{name.removeprefix('timm/')}' are not in its cache and can't be downloaded: An error "
        "happened while looking for the file; connect to the network, or create the model without backbone_pretrained"
    )
    with pytest.raises(OSError, match=f"^{message}$"):
        make_backbone(spec(name), pretrained=True)


def test_offline_timms_weights_are_an_os_error(run_python, tmp_path):
    code = (
        "import tokenpose\n"
        "try:\n"
        "    tokenpose.create_model('tokenpose_b', backbone='timm/resnet18', backbone_pretrained=True)\n"
        "except OSError as error:\n"
        "    print(error)\n"
    )
    environment = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    printed = run_python(code, "-W", "error", environment=environment).stdout
    assert printed.startswith("timm's weights for 'resnet18' are not in its cache and can't be downloaded: ")


def test_timm_model_without_weights_cannot_start_from_them():
    message = "timm has no weights for 'darknet17'; create the model without backbone_pretrained"
    with pytest.raises(ValueError, match=message):
        make_backbone(spec("timm/darknet17", 8), pretrained=True)


@torch.no_grad()
@pytest.mark.parametrize("name", ["resnet10t", "test_vit", "mobilenetv3_small_050"])
def test_pretrained_timm_backbone_starts_from_timms_weights(name, generator, monkeypatch):
    torch.manual_seed(0)
    whole = timm.create_model(name).eval()
    load = "timm.models._builder.load_state_dict_from_hf"  # what timm calls to download
    monkeypatch.setattr(load, lambda *args, **options: dict(whole.state_dict()))
    size = timm.get_pretrained_cfg(name).input_size[1:]
    backbone = make_backbone(spec(f"timm/{name}", 16, image_size=size), pretrained=True).eval()
    images = torch.randn(1, 3, *size, generator=generator)
    maps = whole.forward_intermediates(images, intermediates_only=True)
    expected = [features for features in maps if features.shape[-1] == size[1] // 16][-1]
    torch.testing.assert_close(backbone(images), expected, rtol=0, atol=1e-5)


@pytest.mark.usefixtures("registered")
def test_registered_backbone_is_found_by_its_name():
    @register_backbone("eighths")
    class Eighths(nn.Module):
        channels, stride = 7, 8

        def __init__(self, spec: ModelSpec) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(3, 7, 8, stride=8)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.convolution(images)

    model = create_model(
        "tokenpose_s_v1.coco_256x192", backbone="eighths", backbone_stride=8, patch_size=(2, 2), depth=1
    )
    assert isinstance(model, TokenPose)
    assert model.spec.grid_size == (16, 12)
    assert model(torch.zeros(1, 3, 256, 192)).shape == (1, len(model.spec.skeleton), 64, 48)
    with pytest.raises(ValueError, match="a backbone named 'eighths' is registered already"):
        register_backbone("eighths")(Eighths)


def test_registered_backbones_are_forgotten_after_each_test():
    assert "eighths" not in list(backbones)
