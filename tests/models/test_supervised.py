import pytest
import torch

from tokenpose.models.recording import record_attention
from tokenpose.models.supervised import Supervised, start_as_published, widen_start
from tokenpose.models.tokenpose import TokenPose


@pytest.fixture
def images(generator) -> torch.Tensor:
    return torch.randn(2, 3, 64, 48, generator=generator)


def test_without_helpers_there_are_only_the_models_logits(tiny, build, images):
    model = build(tiny.replace(heatmap_activation="softmax"))
    predictions = Supervised(model)(images)
    assert torch.equal(predictions.logits, model.logits(images))
    assert predictions.patches is predictions.attention is None


@torch.no_grad()
def test_helpers_have_the_heatmaps_size_and_change_no_logits(tiny, build, images):
    model = build(tiny)
    network = Supervised(model, patch_blocks=(0, 1), guided_blocks=(1, 2)).eval()
    predictions = network(images)
    assert torch.equal(predictions.logits, model.logits(images))
    assert predictions.patches.shape == (2, 2, 5, 16, 12)
    assert predictions.attention.shape == (2, 2, 5, 16)


@torch.no_grad()
def test_guided_attention_is_the_recorded_share_of_each_visual_token(tiny, build, images):
    model = build(tiny)
    attention = Supervised(model, guided_blocks=(1, 2))(images).attention
    with record_attention(model) as recording:
        model(images)
    for given, rows in zip(attention, recording.rows[1:], strict=True):
        visual = rows.mean(dim=1)[..., 5:]
        torch.testing.assert_close(given, visual / visual.sum(dim=-1, keepdim=True), rtol=0, atol=1e-6)
    torch.testing.assert_close(attention.sum(dim=-1), torch.ones(2, 2, 5), rtol=0, atol=1e-5)


@torch.no_grad()
def test_each_visual_token_gives_the_cells_of_its_patch(tiny, build, images):
    network = Supervised(build(tiny), patch_blocks=(0,)).eval()
    head = network.patch_heads["0"]
    tokens = torch.randn(1, 5 + 16, 48)
    before = head(tokens, (4, 4))
    tokens[0, 5 + 6] *= -1  # visual token 6 of 4 x 4: second row, third column
    changed = (head(tokens, (4, 4)) != before).any(dim=1)[0]
    rows, columns = changed.nonzero(as_tuple=True)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (4, 7, 6, 8)


@torch.no_grad()
def test_numbers_read_off_a_visual_token_are_keypoint_by_keypoint_the_rows_of_its_cells(tiny, build):
    head = Supervised(build(tiny), patch_blocks=(0,)).patch_heads["0"]
    head.linear.weight.zero_()
    head.linear.bias.copy_(torch.arange(60.0))  # 5 keypoints x 4 rows x 3 columns, whatever the token
    heatmaps = head(torch.zeros(1, 5 + 16, 48), (4, 4))[0]
    assert heatmaps.shape == (5, 16, 12)
    for top, left in ((0, 0), (4, 0), (12, 9)):
        assert heatmaps[0, top, left : left + 3].tolist() == [0, 1, 2]
        assert heatmaps[0, top + 1, left : left + 3].tolist() == [3, 4, 5]
        assert heatmaps[2, top + 3, left : left + 3].tolist() == [2 * 12 + 9, 2 * 12 + 10, 2 * 12 + 11]


def test_gradients_reach_the_helpers(tiny, build, images):
    network = Supervised(build(tiny), patch_blocks=(0,), guided_blocks=(0,))
    predictions = network(images)
    (predictions.patches.sum() + predictions.attention[..., 0].sum()).backward()
    assert network.patch_heads["0"].linear.weight.grad is not None
    assert network.model.encoder.groups[0][0].attention.qkv.weight.grad.abs().max() > 0


@pytest.mark.parametrize(("patch_blocks", "guided_blocks"), [((2,), ()), ((-1,), ()), ((), (3,)), ((), (-1,))])
def test_blocks_that_are_not_there_are_refused(tiny, build, patch_blocks, guided_blocks):
    with pytest.raises(
        ValueError, match="the model has blocks 0 to 2, and the last gives no visual tokens; got patch_bl"
    ):
        Supervised(build(tiny), patch_blocks=patch_blocks, guided_blocks=guided_blocks)


def test_heatmaps_that_are_no_whole_number_of_patches_are_refused(tiny, build):
    model = build(tiny.replace(heatmap_size=(18, 12)))
    with pytest.raises(ValueError, match=r"\(18, 12\) cells can't be read off \(4, 4\) patches"):
        Supervised(model, patch_blocks=(0,))


def test_wide_start_gives_queries_and_keys_unit_scale_and_leaves_values_and_outputs_as_published(tiny):
    torch.manual_seed(0)
    model = TokenPose(tiny)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    widen_start(model)
    for name, tensor in model.state_dict().items():
        if name.endswith("qkv.weight"):
            queries, keys, values = tensor.chunk(3)
            assert abs(queries.std() * 48**0.5 - 1) < 0.05  # of tokens of unit variance: 48 products of 1 / 48
            assert abs(keys.std() * 48**0.5 - 1) < 0.05
            assert torch.equal(values, before[name].chunk(3)[2])
        elif name == "tokenizer.keypoint_tokens":
            assert abs(tensor.std() - 0.5) < 0.05
        else:
            assert torch.equal(tensor, before[name])


def test_published_start_is_that_of_the_stem_alone(tiny):
    torch.manual_seed(0)
    model = TokenPose(tiny.replace(backbone="stem", backbone_stride=4, patch_size=(4, 3)))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    start_as_published(model)
    for name, tensor in model.state_dict().items():
        if name.startswith("backbone") and tensor.ndim == 4:
            assert abs(tensor.std() / 0.001 - 1) < 0.1
        else:
            assert torch.equal(tensor, before[name])


def test_published_start_leaves_a_model_without_a_stem_as_it_is(tiny):
    model = TokenPose(tiny)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    start_as_published(model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
