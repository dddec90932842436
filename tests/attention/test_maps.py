"""attention_maps and keypoint_similarity: what a keypoint attends to, followed through the blocks."""

import re
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch import nn

from tokenpose.attention.maps import AttentionMaps, attention_maps, keypoint_similarity
from tokenpose.geometry.decode import decode
from tokenpose.models.attention import Attention
from tokenpose.models.blocks import blocks
from tokenpose.models.create import create_model
from tokenpose.models.recording import record_attention
from tokenpose.models.tokenpose import TokenPose
from tokenpose.predictor import predict
from tokenpose.transforms import create_transform

BOX = [5.0, 10.0, 65.0, 90.0]
HEIGHT, WIDTH = 100, 80
GRID = (4, 4)


def make(name: str = "tokenpose_t.lsp_256x192", **changes) -> TokenPose:
    """A small model from random weights whose outputs are far from constant."""
    torch.manual_seed(0)
    model = create_model(name, **{"image_size": (64, 48), "depth": 2, "heads": 4, "head_hidden": 24, **changes})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module")
def model() -> TokenPose:
    return make(depth=4)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def maps(model, pixels) -> AttentionMaps:
    return attention_maps(model, pixels, BOX)


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


def test_selection_and_reduction_take_what_they_name(maps):
    knee = maps.names.index("left_knee")
    chosen = maps.select(["neck", "left_knee"])
    assert chosen.names == ("neck", "left_knee")
    assert np.array_equal(chosen.to_image[:, :, 1], maps.to_image[:, :, knee])
    assert chosen.heatmaps.shape == (4, 2, 16, 12)
    assert np.array_equal(maps.reduce().to_image[:, 0], maps.to_image.mean(axis=1))
    assert np.array_equal(maps.reduce("max").to_keypoints[:, 0], maps.to_keypoints.max(axis=1))
    assert np.array_equal(maps.reduce(-1).to_image[:, 0], maps.to_image[:, 3])
    assert np.array_equal(maps.reduce("rollout").to_image[:, 0], maps.rollout_to_image)
    assert np.array_equal(chosen.reduce("rollout").to_image[:, 0], maps.rollout_to_image[:, [12, knee]])


def test_a_map_put_back_into_the_image_lies_where_its_patches_do(maps):
    wrist = maps.names.index("right_wrist")
    values = maps.reduce().to_image[2, 0, wrist]
    shown = maps.in_image("right_wrist", layer=2)
    assert shown.shape == (HEIGHT, WIDTH)
    inverse = np.linalg.inv(np.vstack((maps.matrix, [0, 0, 1])))
    seen = 0
    for row in range(4):
        for column in range(4):  # patches of 16 x 12 crop pixels; their centers lie between pixels
            x, y, _ = inverse @ [column * 12 + 5.5, row * 16 + 7.5, 1]
            if 0 <= round(y) < HEIGHT and 0 <= round(x) < WIDTH:
                spread = values.max() - values.min()
                assert abs(shown[round(y), round(x)] - values[row, column]) < 0.1 * spread + 1e-6
                seen += 1
    assert seen == 16
    assert shown.max() <= values.max() + 1e-6


def test_a_map_put_back_is_0_outside_the_crop_and_constant_maps_stay_constant(maps, model, pixels):
    small = attention_maps(model, pixels, [30, 30, 50, 60])
    even = AttentionMaps(
        **{
            **{entry.name: getattr(small, entry.name) for entry in fields(small)},
            "to_image": np.full_like(small.to_image, 0.25),
        }
    )
    shown = even.in_image("neck", heads="max")
    corners = np.array([[0, 0, 1], [WIDTH - 1, HEIGHT - 1, 1]]) @ small.matrix.T
    assert (corners[0] < -0.5).all()
    assert (corners[1] > [48, 64]).all()
    assert shown[0, 0] == shown[-1, -1] == 0
    np.testing.assert_allclose(shown[shown > 0], 0.25, atol=1e-5)
    area = (shown > 0).sum()
    scale = small.matrix[0, 0]
    assert abs(area - 64 * 48 / scale**2) < 0.06 * area


def test_top_constraints_are_the_largest_shares_of_others(maps):
    constraints = maps.top_constraints(3, layer=1)
    assert list(constraints) == list(maps.names)
    shares = maps.to_keypoints[1].mean(axis=0)
    for index, name in enumerate(maps.names):
        row = {other: shares[index, k] for k, other in enumerate(maps.names) if k != index}
        expected = sorted(row, key=row.get, reverse=True)[:3]
        assert [other for other, _ in constraints[name]] == expected
        assert constraints[name][0][1] == pytest.approx(row[expected[0]])


def test_evidence_says_where_attention_goes_in_numbers_that_add_up(maps):
    sentence = maps.evidence("left_elbow", layer=3)
    assert sentence.startswith("left_elbow, block 4 of 4, mean over heads: ")
    percent = [int(number) for number in re.findall(r"(\d+)%", sentence)]
    assert abs(sum(percent[:4]) - 100) <= 2
    row = maps.names.index("left_elbow")
    assert percent[2] == round(100 * float(maps.to_keypoints[3].mean(axis=0)[row, row]))
    assert maps.top_constraints(1, 3)["left_elbow"][0][0] in sentence
    assert "rollout through all before" in maps.evidence("neck", heads="rollout")
    assert "head 2:" in maps.evidence("neck", heads=1)


def test_evidence_finds_attention_at_the_keypoints_own_place(maps):
    x, y = maps.pose.keypoints[0, maps.names.index("neck")]
    column, row = (maps.matrix @ [x, y, 1] + 0.5) / [48, 64] * 4
    here = np.zeros_like(maps.to_image)
    here[..., int(row), int(column)] = 1
    values = {entry.name: getattr(maps, entry.name) for entry in fields(maps)}
    all_here = AttentionMaps(**{**values, "to_image": here, "to_keypoints": np.zeros_like(maps.to_keypoints)})
    assert "100% of its attention goes to its own place in the image, 0% elsewhere" in all_here.evidence("neck")


def test_maps_survive_a_file(maps, tmp_path):
    maps.save(tmp_path / "maps.npz")
    again = AttentionMaps.load(tmp_path / "maps.npz")
    for entry in fields(AttentionMaps):
        before, after = getattr(maps, entry.name), getattr(again, entry.name)
        if entry.name == "pose":
            assert np.array_equal(before.keypoints, after.keypoints)
        elif isinstance(before, np.ndarray):
            assert np.array_equal(before, after)
        else:
            assert before == after
    assert again.evidence("neck") == maps.evidence("neck")


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04broken"])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.npz holds no attention maps that AttentionMaps\.save wrote"):
        AttentionMaps.load(tmp_path / "a.npz")
    with pytest.raises(FileNotFoundError, match=r"there is no file .*none\.npz"):
        AttentionMaps.load(tmp_path / "none.npz")


def test_a_file_of_a_later_version_or_with_pickles_is_refused(maps, tmp_path):
    maps.save(tmp_path / "maps.npz")
    with np.load(tmp_path / "maps.npz") as file:
        content = dict(file)
    facts = str(content["facts"]).replace('"format_version": 1', '"format_version": 2')
    np.savez(tmp_path / "later.npz", **{**content, "facts": np.array(facts)})
    with pytest.raises(ValueError, match=r"holds no attention maps that AttentionMaps\.save wrote"):
        AttentionMaps.load(tmp_path / "later.npz")
    np.savez(tmp_path / "pickle.npz", **{**content, "crop": np.array([{"a": 1}], dtype=object)})
    with pytest.raises(ValueError, match=r"holds no attention maps that AttentionMaps\.save wrote"):
        AttentionMaps.load(tmp_path / "pickle.npz")


@torch.no_grad()
def test_boxes_come_as_one_of_four_numbers_or_none(model, pixels):
    for box in (BOX, [BOX], torch.tensor(BOX), np.array(BOX)):
        assert attention_maps(model, pixels, box).pose.boxes.tolist() == [BOX]
    assert attention_maps(model, pixels, [5, 10, 60, 80], "xywh").pose.boxes.tolist() == [BOX]
    assert attention_maps(model, pixels).pose.boxes.tolist() == [[0, 0, WIDTH, HEIGHT]]
    with pytest.raises(ValueError, match=r"person by person: give one box of four numbers; got \(2, 4\)"):
        attention_maps(model, pixels, [BOX, BOX])
    with pytest.raises(ValueError, match="wholly outside the image"):
        attention_maps(model, pixels, [200, 200, 250, 250])


def test_unknown_keypoints_blocks_and_heads_are_refused(maps, model):
    with pytest.raises(LookupError, match="no keypoint 'left_wirst' in these maps; did you mean left_wrist"):
        maps.select("left_wirst")
    with pytest.raises(LookupError, match="no keypoint 'neck' in these maps"):
        maps.select("left_wrist").evidence("neck")
    with pytest.raises(ValueError, match=r"there are 4 blocks, 0 to 3; got 4"):
        maps.in_image("neck", layer=4)
    with pytest.raises(ValueError, match=r'heads must be "mean", "max", "rollout" or a number in 0\.\.3; got 4'):
        maps.reduce(4)
    with pytest.raises(ValueError, match="the model has 4 heads, 0 to 3; got"), record_attention(model, heads=[4]):
        pass


def test_a_compiled_model_is_refused(model, pixels):
    with pytest.raises((ValueError, TypeError), match=r"a compiled model can't be recorded|TokenPose"):
        attention_maps(torch.compile(model), pixels, BOX)


@torch.no_grad()
def test_chosen_heads_are_recorded_alone(model, pixels):
    people = create_transform(model)(pixels, [BOX, BOX])
    with record_attention(model) as everything:
        before = model(people.crops)
    with record_attention(model, blocks=[1], heads=[2, -1]) as chosen:
        assert torch.equal(model(people.crops), before)
    assert chosen.rows[0].shape == (2, 2, 14, 30)
    torch.testing.assert_close(chosen.rows[0], everything.rows[1][:, [2, 3]], rtol=0, atol=1e-6)


@torch.no_grad()
def test_half_precision_models_can_be_looked_into(pixels):
    found = attention_maps(make().to(torch.bfloat16), pixels, BOX)
    np.testing.assert_allclose(found.to_image.sum((-1, -2)) + found.to_keypoints.sum(-1), 1, atol=1e-3)
    assert found.to_image.dtype == np.float32


# keypoint_similarity


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
    with pytest.raises(ValueError, match=r"give image=\.\.\. with a depth, and only then"):
        keypoint_similarity(model, depth=1)
    with pytest.raises(ValueError, match=r"give image=\.\.\. with a depth, and only then"):
        keypoint_similarity(model, image=pixels)


def test_decoding_each_blocks_heatmaps_shows_the_keypoint_on_its_way(maps):
    last = decode(torch.from_numpy(maps.heatmaps), decoder="dark").keypoints[-1]
    assert last.shape == (14, 2)


def test_reduced_maps_remember_what_they_are(maps, tmp_path):
    for heads, words in (("rollout", "rollout through all before"), ("max", "maximum over heads"), (-1, "head 4")):
        reduced = maps.reduce(heads)
        assert f"block 3 of 4, {words}: " in reduced.evidence("left_hip")
        assert reduced.evidence("left_hip") == maps.evidence("left_hip", heads=heads)
        assert reduced.reduce() is reduced
        with pytest.raises(ValueError, match=re.escape(f"these maps are reduced already ({words})")):
            reduced.reduce(0)
    maps.reduce(2).save(tmp_path / "one.npz")
    assert AttentionMaps.load(tmp_path / "one.npz").reduced == "head 3"


def test_shares_of_maxima_are_shares(maps):
    name, share = maps.top_constraints(1, heads="max")["left_knee"][0]
    reduced = maps.reduce("max")
    row = maps.names.index("left_knee")
    total = reduced.to_image[2, 0, row].sum() + reduced.to_keypoints[2, 0, row].sum()
    assert share == pytest.approx(reduced.to_keypoints[2, 0, row, maps.names.index(name)] / total)


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
        ValueError, match=r"one tokenpose\.Attention each; block 0 of this model has 2: record_attention"
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


def test_slips_are_refused(maps, model, pixels):
    needed = r"a model is needed, as tokenpose\.create_model makes; got 'tokenpose_t'"
    with pytest.raises(TypeError, match=needed), record_attention("tokenpose_t"):
        pass
    with pytest.raises(TypeError, match="blocks"), record_attention(model, blocks=1):
        pass
    with pytest.raises(ValueError, match="count, the constraints of a keypoint, must be at least 1; got 0"):
        maps.top_constraints(0)
    with pytest.raises(ValueError, match="select at least one keypoint; got none"):
        maps.select([])
    with pytest.raises(ValueError, match=r"give one box of four numbers; got \(2, 4\)"):
        keypoint_similarity(model, depth=1, image=pixels, box=[BOX, BOX])
    with pytest.raises(ValueError, match=r"give image=\.\.\. with a depth, and only then"):
        keypoint_similarity(model, box=BOX)


def test_a_map_of_a_large_image_takes_no_memory_but_its_own(maps):
    shown = replace(maps, image_size=(8_000, 10_000)).in_image("neck")
    assert shown.shape == (8_000, 10_000)
    assert np.array_equal(shown[:HEIGHT, :WIDTH], maps.in_image("neck"))
    assert shown[200:].max() == 0
