"""A small member of each of timm's families as the backbone: it learns, or it is refused with the reason."""

import pytest
import timm
import torch

from tokenpose.models.create import create_model
from tokenpose.models.tokenpose import TokenPose

pytestmark = pytest.mark.skipif(
    tuple(int(part) for part in timm.__version__.split(".")[:3]) < (1, 0, 31),
    reason="several families give no features in an older timm",
)

WORKING = {  # family: model, stride
    "resnet": ("resnet10t", 8),
    "resnext": ("resnext26ts", 16),
    "seresnet": ("legacy_seresnet18", 16),
    "resnest": ("resnest14d", 16),
    "resnetv2": ("resnetv2_18", 16),
    "res2net": ("res2net50_14w_8s", 8),
    "sknet": ("skresnet18", 8),
    "tresnet": ("tresnet_m", 8),
    "regnet": ("regnety_002", 16),
    "densenet": ("densenet121", 8),
    "dpn": ("dpn48b", 8),
    "dla": ("dla46x_c", 8),
    "vgg": ("vgg11", 8),
    "vovnet": ("ese_vovnet19b_slim_dw", 16),
    "xception": ("legacy_xception", 8),
    "hrnet": ("hrnet_w18_small", 4),
    "cspnet": ("cs3darknet_focus_s", 16),
    "darknet": ("darknet17", 8),
    "nfnet": ("nfnet_l0", 4),
    "convnext": ("convnext_atto", 16),
    "convnextv2": ("convnextv2_atto", 16),
    "convmixer": ("convmixer_768_32", 7),
    "inception_next": ("inception_next_atto", 16),
    "mobilenetv1": ("mobilenetv1_100", 8),
    "mobilenetv2": ("mobilenetv2_035", 16),
    "mobilenetv3": ("mobilenetv3_small_050", 16),
    "mobilenetv4": ("mobilenetv4_conv_small_035", 16),
    "efficientnet": ("efficientnet_b0", 8),
    "efficientnetv2": ("efficientnetv2_rw_t", 4),
    "efficientnet_lite": ("tf_efficientnet_lite0", 16),
    "mnasnet": ("mnasnet_small", 32),
    "hardcorenas": ("hardcorenas_a", 8),
    "ghostnet": ("ghostnet_050", 16),
    "lcnet": ("lcnet_035", 16),
    "rexnet": ("rexnet_100", 8),
    "repvgg": ("repvgg_a0", 8),
    "mobileone": ("mobileone_s0", 8),
    "repghost": ("repghostnet_050", 16),
    "repvit": ("repvit_m0_9", 16),
    "hgnet": ("hgnetv2_b0", 16),
    "starnet": ("starnet_s1", 16),
    "mambaout": ("mambaout_femto", 4),
    "edgenext": ("edgenext_xx_small", 16),
    "mobilevit": ("mobilevit_xxs", 16),
    "mobilevitv2": ("mobilevitv2_050", 16),
    "fastvit": ("fastvit_t8", 16),
    "efficientformer": ("efficientformer_l1", 16),
    "efficientformerv2": ("efficientformerv2_s0", 16),
    "swiftformer": ("swiftformer_xs", 16),
    "efficientvit_mit": ("efficientvit_b0", 16),
    "efficientvit_msra": ("efficientvit_m0", 16),
    "shvit": ("shvit_s1", 16),
    "tiny_vit": ("tiny_vit_5m_224", 8),
    "poolformer": ("poolformer_s12", 8),
    "caformer": ("caformer_s18", 4),
    "swin": ("swin_tiny_patch4_window7_224", 8),
    "swinv2": ("swinv2_tiny_window8_256", 8),
    "swinv2_cr": ("swinv2_cr_tiny_224", 8),
    "pvt_v2": ("pvt_v2_b0", 8),
    "twins": ("twins_pcpvt_small", 4),
    "davit": ("davit_tiny", 4),
    "focalnet": ("focalnet_tiny_srf", 4),
    "maxvit": ("maxvit_rmlp_pico_rw_256", 8),
    "coatnet": ("coatnet_pico_rw_224", 8),
    "coat": ("coat_lite_tiny", 8),
    "nextvit": ("nextvit_small", 4),
    "hiera": ("hiera_tiny_224", 4),
    "mvitv2": ("mvitv2_tiny", 4),
    "nest": ("nest_tiny", 4),
    "gcvit": ("gcvit_xxtiny", 8),
    "levit": ("levit_128s", 16),
    "pit": ("pit_ti_224", 16),
    "visformer": ("visformer_tiny", 16),
    "convit": ("convit_tiny", 16),
    "vit": ("vit_tiny_patch16_224", 16),
    "vit_relpos": ("vit_relpos_small_patch16_224", 16),
    "deit": ("deit_tiny_patch16_224", 16),
    "deit3": ("deit3_small_patch16_224", 16),
    "eva02": ("eva02_tiny_patch14_224", 14),
    "dinov2": ("vit_small_patch14_dinov2", 14),
    "dinov3": ("vit_small_patch16_dinov3", 16),
    "beit": ("beit_base_patch16_224", 16),
    "xcit": ("xcit_nano_12_p16_224", 16),
    "cait": ("cait_xxs24_224", 16),
    "crossvit": ("crossvit_tiny_240", 12),
    "volo": ("volo_d1_224", 16),
    "mixer": ("mixer_s16_224", 16),
    "resmlp": ("resmlp_12_224", 16),
}
SIZES = {  # where it is not (96, 64)
    "convmixer": (70, 56),
    "mvitv2": (64, 64),
    "nest": (64, 64),
    "convit": (64, 64),
    "eva02": (84, 56),
    "dinov2": (84, 56),
    "crossvit": (72, 72),
}
PARTLY_FROZEN = {"hrnet", "hardcorenas", "crossvit"}  # timm keeps parameters in these that the map doesn't need

NO_PADDING = r"its map is .* instead of .*; no other size that was tried would do; its strides are \[2, 4, 8, 16, 32\]"
REFUSED = {  # model: stride, image size, reason
    "inception_v3": (8, (96, 64), NO_PADDING),
    "inception_v4": (8, (96, 64), NO_PADDING),
    "inception_resnet_v2": (8, (96, 64), NO_PADDING),
    "gemma4_vit_167m": (16, (96, 64), "cannot be called on meta tensors; no other size that was tried would do"),
    "nest_tiny": (4, (96, 64), r"Model only handles square inputs; image_size=\(96, 96\) would do"),
    "convit_tiny": (16, (96, 64), r"must match the existing size .*; image_size=\(96, 96\) would do"),
    "mvitv2_tiny": (8, (96, 64), r"AssertionError without a message; image_size=\(96, 96\) would do"),
    "halonet26t": (16, (96, 64), r"AssertionError without a message; image_size=\(256, 256\) would do"),
    "hrnet_w18_small": (4, (80, 60), r"image_size=\(96, 64\) would do, with a patch_size that fits"),
    "efficientformer_l1": (32, (96, 64), r"image_size=\(224, 224\) would do, with a patch_size that fits"),
}


def create(name: str, stride: int, image_size: tuple[int, int]) -> TokenPose:
    return create_model(
        "tokenpose_b",
        backbone=f"timm/{name}",
        backbone_stride=stride,
        patch_size=(1, 1),
        image_size=image_size,
        keypoints=3,
        width=16,
        heads=2,
        depth=1,
    )


@pytest.mark.parametrize("family", WORKING)
def test_family_reads_images_and_every_parameter_learns(family, generator):
    height, width = SIZES.get(family, (96, 64))
    torch.manual_seed(0)
    model = create(*WORKING[family], (height, width)).train()
    heatmaps = model(torch.randn(2, 3, height, width, generator=generator))
    assert heatmaps.shape == (2, 3, height // 4, width // 4)
    assert heatmaps.isfinite().all()
    heatmaps.square().mean().backward()
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert [name for name, parameter in trained.items() if parameter.grad is None] == []
    assert [name for name, parameter in trained.items() if not parameter.grad.isfinite().all()] == []
    assert any(name not in trained for name, _ in model.named_parameters()) == (family in PARTLY_FROZEN)


@pytest.mark.parametrize("name", REFUSED)
def test_model_without_a_fitting_map_is_refused_with_the_reason(name):
    stride, image_size, reason = REFUSED[name]
    start = rf"timm/{name} can't read images of \({image_size[0]}, {image_size[1]}\) at stride {stride}: "
    with pytest.raises(ValueError, match=start + ".*" + reason):
        create(name, stride, image_size)
