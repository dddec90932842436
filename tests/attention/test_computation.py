"""attention_maps and keypoint_similarity: what the tokens attend to and what they have learned, block by block."""

import numpy as np
import pytest
import torch
from torch import nn

from tokenpose.attention.computation import attention_maps, keypoint_similarity
from tokenpose.geometry.decode import decode
from tokenpose.models.attention import Attention
from tokenpose.models.blocks import blocks
from tokenpose.models.recording import record_attention
from tokenpose.predictor import predict
from tokenpose.transforms import create_transform

from .small_models import BOX, GRID, HEIGHT, WIDTH, make


def test_shapes_and_names_are_the_models(maps, model):
    assert maps.to_image.shape == (4, 4, 14, 4, 4)
    assert maps.to_keypoints.shape == (4, 4, 14, 14)
    assert maps.rollout_to_image.shape == (4, 14, 4, 4)
    assert maps.heatmaps.shape == (4, 14, 16, 12)
    assert maps.names == model.spec.skeleton.keypoints
    assert (maps.crop.shape, maps.image_size, maps.layers, maps.grid_size) == ((64, 48, 3), (100, 80), 4, GRID)


@torch.no_grad()
def test_rows_are_the_recorded_ones_and_sum_to_1(maps, model, pixels):
    people = create_transform(model)(pixels, [BOX])
    with record_attention(model) as recording:
        model(people.crops)
    for layer, rows in enumerate(recording.rows):
        assert np.array_equal(maps.to_keypoints[layer], rows[0, ..., :14].numpy())
        assert np.array_equal(maps.to_image[layer], rows[0, ..., 14:].unflatten(-1, GRID).numpy())
    sums = maps.to_image.sum(axis=(-2, -1)) + maps.to_keypoints.sum(axis=-1)
    np.testing.assert_allclose(sums, 1, atol=1e-5)


def test_the_pose_is_the_predictors(maps, model, pixels):
    expected = predict(model, pixels, [BOX])
    assert np.array_equal(maps.pose.keypoints, expected.keypoints)
    assert np.array_equal(maps.pose.scores, expected.scores)
    assert maps.pose.boxes.tolist() == [BOX]


@torch.no_grad()
@pytest.mark.parametrize("name", ["tokenpose_t", "tokenpose_s_v1", "tokenpose_l_d6"])
@pytest.mark.parametrize("positions", ["sine_every_block", "learnable", "none"])
def test_the_last_blocks_heatmaps_are_the_models_own_to_the_bit(pixels, name, positions):
    model = make(f"{name}.coco_256x192", positions=positions, head_hidden=None)
    found = attention_maps(model, pixels, BOX)
    people = create_transform(model)(pixels, [BOX])
    assert torch.equal(torch.from_numpy(found.heatmaps[-1]), model(people.crops)[0])
    assert found.layers == model.spec.groups * 2
    assert np.isfinite(found.heatmaps).all()


@torch.no_grad()
def test_a_model_cut_after_a_block_has_that_blocks_heatmaps(maps, model, pixels):
    shallow = make(depth=2)
    state = model.state_dict()
    shallow.load_state_dict({name: state[name] for name in shallow.state_dict()})
    people = create_transform(model)(pixels, [BOX])
    np.testing.assert_allclose(maps.heatmaps[1], shallow(people.crops)[0].numpy(), atol=1e-5)


@torch.no_grad()
def test_groups_not_yet_reached_stand_in_as_the_latest_exit_repeated(pixels):
    model = make("tokenpose_l_d6.coco_256x192", head_hidden=None, backbone="stem")
    found = attention_maps(model, pixels, BOX)
    after = []
    people = create_transform(model)(pixels, [BOX])
    model.read(model.backbone(people.crops), watch=lambda _, tokens: after.append(tokens[:, :17]))
    expected = {
        0: (after[0], after[0], after[0]), 1: (after[1], after[1], after[1]), 2: (after[1], after[2], after[2]),
        4: (after[1], after[3], after[4]), 5: (after[1], after[3], after[5]),
    }  # fmt: skip
    for block, exits in expected.items():
        heatmaps = model.head(torch.cat(exits, dim=-1))[0].numpy()
        np.testing.assert_allclose(found.heatmaps[block], heatmaps, atol=1e-6)


def test_rollout_is_the_product_of_halved_means(maps, model, pixels):
    # by hand for the first two blocks; of the second, keypoint rows are enough
    people = create_transform(model)(pixels, [BOX])
    seen = []
    for block in [module for module in model.modules() if type(module).__name__ == "Attention"][:2]:
        block.observer = lambda query, key, block=block: seen.append(
            (query @ key.transpose(-2, -1) * block.scale).softmax(dim=-1)[0].mean(dim=0)
        )
    try:
        with torch.no_grad():
            model(people.crops)
    finally:
        for block in model.modules():
            if type(block).__name__ == "Attention":
                block.observer = None
    first, second = ((mean + torch.eye(30)) / 2 for mean in seen)
    rolled = (second @ first)[:14]
    np.testing.assert_allclose(maps.rollout_to_keypoints[0], first[:14, :14].numpy(), atol=1e-6)
    np.testing.assert_allclose(maps.rollout_to_keypoints[1], rolled[:, :14].numpy(), atol=1e-6)
    np.testing.assert_allclose(maps.rollout_to_image[1].reshape(14, -1), rolled[:, 14:].numpy(), atol=1e-6)


@torch.no_grad()
def test_boxes_come_as_one_of_four_numbers_or_none(model, pixels):
    for box in (BOX, [BOX], torch.tensor(BOX), np.array(BOX)):
        assert attention_maps(model, pixels, box).pose.boxes.tolist() == [BOX]
    assert attention_maps(model, pixels, [5, 10, 60, 80], "xywh").pose.boxes.tolist() == [BOX]
    assert attention_maps(model, pixels).pose.boxes.tolist() == [[0, 0, WIDTH, HEIGHT]]
    with pytest.raises(ValueError, match=r"one person at a time: give one box of four numbers; got shape \(2, 4\)"):
        attention_maps(model, pixels, [BOX, BOX])
    with pytest.raises(ValueError, match="wholly outside the image"):
        attention_maps(model, pixels, [200, 200, 250, 250])


def test_a_compiled_model_is_refused(model, pixels):
    with pytest.raises((ValueError, TypeError), match=r"a compiled model can't be recorded|TokenPose"):
        attention_maps(torch.compile(model), pixels, BOX)


@torch.no_grad()
def test_half_precision_models_can_be_looked_into(pixels):
    found = attention_maps(make().to(torch.bfloat16), pixels, BOX)
    np.testing.assert_allclose(found.to_image.sum((-1, -2)) + found.to_keypoints.sum(-1), 1, atol=1e-3)
    assert found.to_image.dtype == np.float32


def test_similarity_of_input_tokens_is_the_papers():
    model = make()
    tokens = model.tokenizer.keypoint_tokens[0].detach().double()
    products = tokens @ tokens.T / 192**0.5
    expected = (products.exp() / products.exp().sum(dim=1, keepdim=True)).numpy()
    similarity = keypoint_similarity(model)
    assert similarity.dtype == np.float32
    np.testing.assert_allclose(similarity, expected, atol=1e-5)
    np.testing.assert_allclose(similarity.sum(axis=1), 1, atol=1e-5)


def test_cosine_similarity_is_symmetric_with_ones_on_the_diagonal(model, pixels):
    for options in ({}, {"depth": 2, "image": pixels, "box": BOX}):
        similarity = keypoint_similarity(model, "cosine", **options)
        np.testing.assert_allclose(np.diag(similarity), 1, atol=1e-5)
        np.testing.assert_allclose(similarity, similarity.T, atol=1e-6)
        assert np.abs(similarity).max() <= 1 + 1e-5


@torch.no_grad()
def test_at_depth_the_tokens_are_those_that_leave_the_block(model, pixels):
    people = create_transform(model)(pixels, [BOX])
    after = []
    model.read(model.backbone(people.crops), watch=lambda _, tokens: after.append(tokens[0, :14]))
    for depth in (1, 4):
        tokens = after[depth - 1] / after[depth - 1].norm(dim=1, keepdim=True)
        found = keypoint_similarity(model, "cosine", depth, pixels, BOX)
        np.testing.assert_allclose(found, (tokens @ tokens.T).numpy(), atol=1e-5)


def test_similarity_refuses_what_makes_no_sense(model, pixels):
    with pytest.raises((ValueError, TypeError), match="euclid"):
        keypoint_similarity(model, "euclid")
    with pytest.raises(ValueError, match=r"the model has 4 blocks: depth must be in 0\.\.4; got 5"):
        keypoint_similarity(model, depth=5, image=pixels)
    with pytest.raises(ValueError, match=r"give image=\.\.\. with a depth, and only with one"):
        keypoint_similarity(model, depth=1)
    with pytest.raises(ValueError, match=r"give image=\.\.\. with a depth, and only with one"):
        keypoint_similarity(model, image=pixels)


def test_decoding_each_blocks_heatmaps_shows_the_keypoint_on_its_way(maps):
    last = decode(torch.from_numpy(maps.heatmaps), decoder="dark").keypoints[-1]
    assert last.shape == (14, 2)


class Twice(nn.Module):
    """A block with two attentions."""

    def __init__(self, spec):
        super().__init__()
        self.first, self.second = (Attention(spec.width, spec.heads, spec.softmax_scale) for _ in range(2))

    def forward(self, tokens, queries=None):
        return tokens[:, :queries] + self.second(tokens + self.first(tokens), queries)


@torch.no_grad()
def test_blocks_with_two_attentions_are_recorded_and_not_mapped(pixels):
    blocks.add("twice", Twice)
    try:
        model = make(block="twice", depth=3)
    finally:
        del blocks._parts["twice"]
    people = create_transform(model)(pixels, [BOX])
    with record_attention(model, blocks=[-1]) as recording:
        model(people.crops)
    assert len(recording.rows) == 2
    with pytest.raises(
        ValueError, match=r"one tokenpose\.Attention each; block 0 of this model has 2: tokenpose\.record_attention"
    ):
        attention_maps(model, pixels, BOX)


def test_attention_in_a_backbone_is_not_a_blocks(pixels):
    model = make("tokenpose_t.lsp_256x192")
    model.backbone.looks = Attention(4, 2, 1.0)
    with torch.no_grad(), record_attention(model, blocks=[0], heads=[3]) as recording:
        model(create_transform(model)(pixels, [BOX]).crops)
    assert recording.rows[0].shape == (1, 1, 14, 30)


def test_a_model_in_training_is_looked_into_in_eval_mode_and_left_as_it_was(pixels):
    model = make()
    before = attention_maps(model, pixels, BOX)
    model.train()
    assert np.array_equal(attention_maps(model, pixels, BOX).to_image, before.to_image)
    keypoint_similarity(model, depth=1, image=pixels, box=BOX)
    assert model.training
