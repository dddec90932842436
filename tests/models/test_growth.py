"""Growth: TokenPose-B and L from S, and refusals."""

import pytest
import torch

from tokenpose.models.create import create_model
from tokenpose.models.growth import Growing, fit_smaller, grow_from, shared_with
from tokenpose.models.tokenpose import TokenPose
from tokenpose.skeletons import LSP

SMALL = {"image_size": (64, 48), "keypoints": LSP}


@pytest.fixture(scope="module")
def s() -> TokenPose:
    torch.manual_seed(0)
    return create_model("tokenpose_s_v1", **SMALL)


@pytest.fixture(scope="module")
def b(s) -> TokenPose:
    model = create_model("tokenpose_b", **SMALL)
    grow_from(model, s)
    return model


def test_b_takes_all_of_s_but_the_patch_embedding(s, b):
    own = b.state_dict()
    changed = {
        name for name, values in s.state_dict().items() if name not in own or not torch.equal(own[name], values)
    }  # that of the patch embedding doesn't fit, and the queries of twelve blocks are rescaled
    rescaled = {f"encoder.groups.0.{block}.attention.qkv.weight" for block in range(12)}
    assert changed == {"tokenizer.patch_embedding.weight", *rescaled}
    assert "tokenizer.patch_embedding.weight" in b.newly_initialized
    new = ("tokenizer.patch", "backbone.transition", "backbone.stage")
    assert all(name.startswith(new) for name in b.newly_initialized)


def test_encoder_and_head_of_b_do_what_those_of_s_do(s, b):
    tokens = torch.randn(2, 14 + 16, 192, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = s.head(s.encoder(tokens))
        torch.testing.assert_close(b.head(b.encoder(tokens)), expected, rtol=0, atol=1e-4)
        ratio = b.encoder.groups[0][3].attention.qkv.weight[:192] / s.encoder.groups[0][3].attention.qkv.weight[:192]
    torch.testing.assert_close(ratio.median(), torch.tensor((24 / 192) ** 0.5))


def test_l_takes_six_of_the_twelve_blocks_at_even_distances_and_a_new_head(s):
    model = create_model("tokenpose_l_d6", patch_size=(4, 3), **SMALL)
    grow_from(model, s)
    for place, source in enumerate((0, 2, 4, 7, 9, 11)):
        own, theirs = model.encoder.groups[place // 2][place % 2], s.encoder.groups[0][source]
        assert torch.equal(own.mlp[0].weight, theirs.mlp[0].weight), place
    assert {"head.0.weight", "head.1.weight"} <= set(model.newly_initialized)
    assert torch.equal(model.tokenizer.keypoint_tokens, s.tokenizer.keypoint_tokens)


def test_keypoints_are_matched_by_name_and_sizes_resampled(s):
    model = create_model("tokenpose_b", image_size=(128, 96), keypoints=["tail", "neck"])
    grow_from(model, s)
    assert model.newly_initialized[0] == "tokenizer.keypoint_tokens[tail]"
    assert torch.equal(model.tokenizer.keypoint_tokens[0, 1], s.tokenizer.keypoint_tokens[0, LSP.index("neck")])
    assert fit_smaller(s, model.spec).spec.image_size == (128, 96)


def test_models_whose_blocks_or_grids_differ_are_refused(s):
    with pytest.raises(
        ValueError, match="the model can't grow from one with heads 8 and not 16: their blocks don't fit"
    ):
        grow_from(create_model("tokenpose_t", **SMALL), s)
    with pytest.raises(ValueError, match=r"the model has \(8, 6\) visual tokens, .*\(4, 4\): they must be the same"):
        grow_from(create_model("tokenpose_b", patch_size=(2, 2), **SMALL), s)


def test_only_the_new_trunk_learns_while_it_grows(s, b):
    growing = Growing(b, s)
    names = [name for name, values in b.named_parameters() if values.requires_grad]
    assert all(name.startswith(("tokenizer.patch", "backbone.transition", "backbone.stage")) for name in names)
    assert len(shared_with(b, s)) == len(list(s.backbone.parameters()))
    crops = torch.randn(2, 3, 64, 48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        visual = growing.eval()(crops).visual
        tokens = b.tokenizer(b.backbone(crops))[:, 14:] - b.tokenizer.positions[:, 14:]
    torch.testing.assert_close(visual, tokens, rtol=0, atol=1e-5)
    growing.release()
    assert all(values.requires_grad for values in b.parameters())
