"""One small member of each of timm's families as a backbone: forward, backward, or a plain refusal."""

import pytest
import torch

from tokenpose.models.create import create_model

# family: model, stride, image size
WORKING = {
    "resnet": ("resnet10t", 8, (96, 64)),
    "resnext": ("resnext26ts", 16, (96, 64)),
    "seresnet": ("legacy_seresnet18", 16, (96, 64)),
    "resnest": ("resnest14d", 16, (96, 64)),
    "resnetv2": ("resnetv2_18", 16, (96, 64)),
    "res2net": ("res2net50_14w_8s", 8, (96, 64)),
    "sknet": ("skresnet18", 8, (96, 64)),
    "tresnet": ("tresnet_m", 8, (96, 64)),
    "regnet": ("regnety_002", 16, (96, 64)),
    "densenet": ("densenet121", 8, (96, 64)),
    "dpn": ("dpn48b", 8, (96, 64)),
    "dla": ("dla46x_c", 8, (96, 64)),
    "vgg": ("vgg11", 8, (96, 64)),
    "vovnet": ("ese_vovnet19b_slim_dw", 16, (96, 64)),
    "xception": ("legacy_xception", 8, (96, 64)),
    "hrnet": ("hrnet_w18_small", 4, (96, 64)),
    "cspnet": ("cs3darknet_focus_s", 16, (96, 64)),
    "darknet": ("darknet17", 8, (96, 64)),
    "nfnet": ("nfnet_l0", 4, (96, 64)),
    "convnext": ("convnext_atto", 16, (96, 64)),
    "convnextv2": ("convnextv2_atto", 16, (96, 64)),
    "convmixer": ("convmixer_768_32", 7, (70, 56)),
    "inception_next": ("inception_next_atto", 16, (96, 64)),
    "mobilenetv1": ("mobilenetv1_100", 8, (96, 64)),
    "mobilenetv2": ("mobilenetv2_035", 16, (96, 64)),
    "mobilenetv3": ("mobilenetv3_small_050", 16, (96, 64)),
    "mobilenetv4": ("mobilenetv4_conv_small_035", 16, (96, 64)),
    "efficientnet": ("efficientnet_b0", 8, (96, 64)),
    "efficientnetv2": ("efficientnetv2_rw_t", 4, (96, 64)),
    "efficientnet_lite": ("tf_efficientnet_lite0", 16, (96, 64)),
    "mnasnet": ("mnasnet_small", 32, (96, 64)),
    "hardcorenas": ("hardcorenas_a", 8, (96, 64)),
    "ghostnet": ("ghostnet_050", 16, (96, 64)),
    "lcnet": ("lcnet_035", 16, (96, 64)),
    "rexnet": ("rexnet_100", 8, (96, 64)),
    "repvgg": ("repvgg_a0", 8, (96, 64)),
    "mobileone": ("mobileone_s0", 8, (96, 64)),
    "repghost": ("repghostnet_050", 16, (96, 64)),
    "repvit": ("repvit_m0_9", 16, (96, 64)),
    "hgnet": ("hgnetv2_b0", 16, (96, 64)),
    "starnet": ("starnet_s1", 16, (96, 64)),
    "mambaout": ("mambaout_femto", 4, (96, 64)),
    "edgenext": ("edgenext_xx_small", 16, (96, 64)),
    "mobilevit": ("mobilevit_xxs", 16, (96, 64)),
    "mobilevitv2": ("mobilevitv2_050", 16, (96, 64)),
    "fastvit": ("fastvit_t8", 16, (96, 64)),
    "efficientformer": ("efficientformer_l1", 16, (96, 64)),
    "efficientformerv2": ("efficientformerv2_s0", 16, (96, 64)),
    "swiftformer": ("swiftformer_xs", 16, (96, 64)),
    "efficientvit_mit": ("efficientvit_b0", 16, (96, 64)),
    "efficientvit_msra": ("efficientvit_m0", 16, (96, 64)),
    "shvit": ("shvit_s1", 16, (96, 64)),
    "tiny_vit": ("tiny_vit_5m_224", 8, (96, 64)),
    "poolformer": ("poolformer_s12", 8, (96, 64)),
    "caformer": ("caformer_s18", 4, (96, 64)),
    "swin": ("swin_tiny_patch4_window7_224", 8, (96, 64)),
    "swinv2": ("swinv2_tiny_window8_256", 8, (96, 64)),
    "swinv2_cr": ("swinv2_cr_tiny_224", 8, (96, 64)),
    "pvt_v2": ("pvt_v2_b0", 8, (96, 64)),
    "twins": ("twins_pcpvt_small", 4, (96, 64)),
    "davit": ("davit_tiny", 4, (96, 64)),
    "focalnet": ("focalnet_tiny_srf", 4, (96, 64)),
    "maxvit": ("maxvit_rmlp_pico_rw_256", 8, (96, 64)),
    "coatnet": ("coatnet_pico_rw_224", 8, (96, 64)),
    "coat": ("coat_lite_tiny", 8, (96, 64)),
    "nextvit": ("nextvit_small", 4, (96, 64)),
    "hiera": ("hiera_tiny_224", 4, (96, 64)),
    "mvitv2": ("mvitv2_tiny", 4, (64, 64)),
    "nest": ("nest_tiny", 4, (64, 64)),
    "gcvit": ("gcvit_xxtiny", 8, (96, 64)),
    "levit": ("levit_128s", 16, (96, 64)),
    "pit": ("pit_ti_224", 16, (96, 64)),
    "visformer": ("visformer_tiny", 16, (96, 64)),
    "convit": ("convit_tiny", 16, (64, 64)),
    "vit": ("vit_tiny_patch16_224", 16, (96, 64)),
    "vit_relpos": ("vit_relpos_small_patch16_224", 16, (96, 64)),
    "deit": ("deit_tiny_patch16_224", 16, (96, 64)),
    "deit3": ("deit3_small_patch16_224", 16, (96, 64)),
    "eva02": ("eva02_tiny_patch14_224", 14, (84, 56)),
    "dinov2": ("vit_small_patch14_dinov2", 14, (84, 56)),
    "dinov3": ("vit_small_patch16_dinov3", 16, (96, 64)),
    "beit": ("beit_base_patch16_224", 16, (96, 64)),
    "xcit": ("xcit_nano_12_p16_224", 16, (96, 64)),
    "cait": ("cait_xxs24_224", 16, (96, 64)),
    "crossvit": ("crossvit_tiny_240", 12, (72, 72)),
    "volo": ("volo_d1_224", 16, (96, 64)),
    "mixer": ("mixer_s16_224", 16, (96, 64)),
    "resmlp": ("resmlp_12_224", 16, (96, 64)),
}
# Here timm keeps parameters that the map doesn't need; they are frozen.
PARTLY_FROZEN = {"hrnet", "hardcorenas", "crossvit"}


def create(name: str, stride: int, image_size: tuple[int, int]):
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
    name, stride, (height, width) = WORKING[family]
    torch.manual_seed(0)
    model = create(name, stride, (height, width)).train()
    heatmaps = model(torch.randn(2, 3, height, width, generator=generator))
    assert heatmaps.shape == (2, 3, height // 4, width // 4)
    assert heatmaps.isfinite().all()
    heatmaps.square().mean().backward()
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    assert bool(frozen) == (family in PARTLY_FROZEN)
    gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert [name for name, gradient in gradients.items() if gradient is None] == []
    assert [name for name, gradient in gradients.items() if not gradient.isfinite().all()] == []
