"""Published parameter names become ours."""

import pytest
import torch

from tokenpose.models.official import convert_official

from .reference import Published, random_state, sine_table

SMALL = {"depth": 3, "heatmap": (32, 24), "image": (128, 96)}


@pytest.mark.parametrize("keypoints", [1, 5, 16, 17, 133])
@pytest.mark.parametrize("positions", ["sine", "sine-full"])
def test_sine_tables_are_left_out_whatever_the_number_of_keypoints(keypoints, positions):
    state = random_state(Published(**SMALL, keypoints=keypoints, positions=positions))
    assert "transformer.pos_embedding" in state
    assert "tokenizer.positions" not in convert_official(state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_sine_table_is_known_in_other_precisions(dtype):
    table = sine_table((16, 16), 192).to(dtype)
    assert convert_official({"transformer.pos_embedding": table}) == {}


@pytest.mark.parametrize("channel", [0, 1, 94, 96, 191])
def test_positions_that_are_a_sine_table_but_for_one_channel_are_learned_ones_and_kept(channel):
    table = sine_table((16, 16), 192)
    table[..., channel] += 0.5
    assert convert_official({"transformer.pos_embedding": table}) == {"tokenizer.positions": table}


def test_learnable_positions_survive_conversion():
    state = random_state(Published(**SMALL, keypoints=5, positions="learnable"))
    converted = convert_official(state)
    assert converted["tokenizer.positions"] is state["transformer.pos_embedding"]
    assert converted["tokenizer.positions"].shape == (1, 64 + 5, 192)


def test_conversion_lists_names_that_are_not_published_ones():
    state = random_state(Published(**SMALL)) | {
        "transformer.final_layer.weight": torch.zeros(1),
        "epoch": torch.zeros(1),
    }
    with pytest.raises(ValueError, match=r"2 of \d+ names unknown: transformer.final_layer.weight, epoch$"):
        convert_official(state)
    many = {f"layer{index}": torch.zeros(1) for index in range(9)}
    with pytest.raises(ValueError, match=r"9 of 9 names unknown: layer0, layer1, layer2, layer3, layer4, \.\.\."):
        convert_official(many)
