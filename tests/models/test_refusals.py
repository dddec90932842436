"""What doesn't fit is refused when a model is made, not when it runs."""

import pytest
import torch

from tokenpose.models.create import create_model, read_model
from tokenpose.models.recording import record_attention
from tokenpose.models.tokenpose import TokenPose
from tokenpose.models.weights import save_pretrained, write_weights


def test_hrnet_needs_multiples_of_16_and_says_which():
    with pytest.raises(ValueError, match="image width that is a multiple of 16; got 204: use 192 or 208"):
        create_model("tokenpose_b.coco_256x192", image_size=(256, 204), device="meta")


def test_timm_model_of_square_images_is_refused_at_once():
    with pytest.raises(ValueError, match=r"timm/nest_tiny can't read images of \(256, 192\) .*only .* square inputs"):
        create_model("tokenpose_s_v1.coco_256x192", backbone="timm/nest_tiny")


def test_a_file_of_s_v2_is_no_s_v1(tmp_path):
    write_weights(create_model("tokenpose_s_v2", depth=1), tmp_path / "v2.safetensors")
    with pytest.raises(ValueError, match=r"is not a tokenpose_s_v1: its patch_size is \(2, 2\)"):
        create_model("tokenpose_s_v1", weights=tmp_path / "v2.safetensors", depth=1)


def test_a_model_from_meta_gets_its_sine_table_back_with_its_weights(tiny, build):
    model, images = build(tiny), torch.randn(1, 3, 64, 48)
    with torch.device("meta"):
        copy = TokenPose(tiny)
    copy = copy.to_empty(device="cpu").eval()
    copy.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(copy(images), model(images))


def test_recordings_do_not_nest(tiny, build):
    model = build(tiny)
    with record_attention(model), pytest.raises(ValueError, match="being recorded already"), record_attention(model):
        pass
    with record_attention(model) as recording, torch.no_grad():
        model(torch.zeros(1, 3, 64, 48))
    assert len(recording.rows) == 3


def test_the_card_goes_along_with_the_weights(tiny, build, tmp_path):
    write_weights(build(tiny), tmp_path / "one.safetensors", {"data": "drawn", "terms": "research"})
    save_pretrained(read_model(tmp_path / "one.safetensors"), tmp_path / "again")
    assert read_model(tmp_path / "again").card == {"data": "drawn", "terms": "research"}
    assert "- terms: research" in (tmp_path / "again" / "README.md").read_text()
