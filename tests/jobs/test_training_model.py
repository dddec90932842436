import pytest
import torch

from tokenpose.data.coco import read_coco
from tokenpose.jobs.training_model import choose_start, complete_settings, make_trainee
from tokenpose.models.tokenpose import TokenPose
from tokenpose.models.weights import save_pretrained, write_weights
from tokenpose.training.recipes import Recipe, read_recipe

from .small import TINY


def test_random_weights_follow_from_the_seed_and_the_start(people):
    skeleton = read_coco(people).skeleton
    published, wide, again = (
        make_trainee(Recipe(), {"start": start, "seed": 3}, skeleton, "tiny")[0].state_dict()
        for start in ("published", "wide", "wide")
    )
    tokens = "tokenizer.keypoint_tokens"
    assert 0.01 < published[tokens].std() < 0.03
    assert 0.4 < wide[tokens].std() < 0.55
    assert all(torch.equal(wide[name], again[name]) for name in wide)


def test_published_start_is_that_of_the_stem_and_only_of_new_models(people, tmp_path):
    skeleton = read_coco(people).skeleton
    changes = {"backbone": "stem", "backbone_stride": 4, "patch_size": (4, 3)}
    stems = {
        start: make_trainee(Recipe(), {"start": start}, skeleton, "tiny", **changes)[0].backbone.conv2.weight
        for start in ("published", "wide")
    }
    assert stems["published"].std().item() == pytest.approx(0.001, rel=0.05)
    assert stems["wide"].std() > 0.03
    model = TokenPose(TINY.replace(**changes))
    write_weights(model, tmp_path / "some.safetensors")
    again, _ = make_trainee(
        Recipe(), {"start": "published"}, skeleton, "tiny", weights=tmp_path / "some.safetensors", **changes
    )
    assert torch.equal(again.backbone.conv2.weight, model.backbone.conv2.weight)


@pytest.mark.parametrize(
    ("recipe", "name", "expected"),
    [("coco", "tokenpose_s_v2", 48), ("coco", "tiny", 128), ("finetune", "tokenpose_s_v2", 16), ("mpii", "tiny", 64)],
)
def test_batch_size_that_nobody_names_is_the_published_one(people, recipe, name, expected):
    skeleton, small = read_coco(people).skeleton, {"image_size": (64, 48), "depth": 1}
    patches = {"patch_size": (4, 3)} if name == "tokenpose_s_v2" else {}
    _, settings = make_trainee(
        read_recipe(recipe), {}, skeleton, name, pretrained=False, **(small | patches if name != "tiny" else {})
    )
    assert settings.batch_size == expected
    _, settings = make_trainee(read_recipe(recipe), {"batch_size": 5}, skeleton, "tiny", pretrained=False)
    assert settings.batch_size == 5


@pytest.mark.parametrize(
    ("loss", "activation"), [(None, "softmax"), ("cross_entropy", "softmax"), ("squared_error", "identity")]
)
def test_new_model_has_the_activation_that_its_loss_needs(people, loss, activation):
    changes = {} if loss is None else {"loss": loss}
    model, settings = make_trainee(Recipe(), changes, read_coco(people).skeleton, "tiny")
    assert model.spec.heatmap_activation == activation
    assert complete_settings(settings, model).loss == (loss or "cross_entropy")


@pytest.mark.parametrize("activation", ["softmax", "identity"])
def test_loss_that_is_left_open_is_that_of_the_weights(people, tmp_path, activation):
    write_weights(TokenPose(TINY.replace(heatmap_activation=activation)), tmp_path / "some.safetensors")
    model, settings = make_trainee(
        read_recipe("finetune"), {}, read_coco(people).skeleton, "tiny", weights=tmp_path / "some.safetensors"
    )
    assert model.spec.heatmap_activation == activation
    fitting = {"softmax": "cross_entropy", "identity": "squared_error"}
    assert complete_settings(settings, model).loss == fitting[activation]
    assert model.newly_initialized == ()


def test_recipe_names_the_model_and_changes_its_spec(people, tmp_path):
    (tmp_path / "mine.toml").write_text('[model]\nname = "tiny"\ndepth = 3\nimage_size = [96, 72]\n')
    model, _ = make_trainee(read_recipe(tmp_path / "mine.toml"), {}, read_coco(people).skeleton)
    assert (model.spec.depth, model.spec.image_size) == (3, (96, 72))
    model, _ = make_trainee(read_recipe(tmp_path / "mine.toml"), {}, read_coco(people).skeleton, depth=1)
    assert model.spec.depth == 1


def test_field_that_no_model_has_is_refused_with_the_recipes_name(people, tmp_path):
    (tmp_path / "mine.toml").write_text('[model]\nname = "tiny"\nlayers = 3\nkeypoints = ["a"]\n')
    with pytest.raises(ValueError, match=r"recipe .*mine\.toml: model has no fields keypoints, layers"):
        make_trainee(read_recipe(tmp_path / "mine.toml"), {}, read_coco(people).skeleton)


WRONG_MODELS = {
    'depth = "x"': "depth must be a positive whole number; got 'x'",
    "image_size = 3": r"image_size must be \(height, width\); got 3",
    "heads = 7": "width 48 does not divide into 7 heads; 6 or 8 would fit",
    'block = "nope"': "there is no block named 'nope'",
    'name = "nobody"': "there is no model named 'nobody'",
    'weights = "nowhere.safetensors"': r"there is no weights file nowhere\.safetensors",
}


@pytest.mark.parametrize("line", WRONG_MODELS)
def test_wrong_field_of_a_recipes_model_is_refused_by_file_and_field(people, tmp_path, line, unchecked):
    name = "" if "name" in line else 'name = "tiny"\n'
    (tmp_path / "mine.toml").write_text(f"[model]\n{name}{line}\n")
    message = rf"recipe .*mine\.toml: {WRONG_MODELS[line]}"
    with pytest.raises((TypeError, ValueError, LookupError, OSError), match=message):
        make_trainee(read_recipe(tmp_path / "mine.toml"), {}, read_coco(people).skeleton)


def test_error_of_a_changed_recipe_names_the_changes_too(people, tmp_path):
    (tmp_path / "mine.toml").write_text('[model]\nname = "tiny"\ndepth = 3\n')
    message = r"^recipe .*mine\.toml with depth=0: depth must be a positive whole number; got 0$"
    with pytest.raises(ValueError, match=message):
        make_trainee(read_recipe(tmp_path / "mine.toml"), {}, read_coco(people).skeleton, depth=0)


def test_weights_or_a_place_win_over_the_recipes_pretraining(people, tmp_path):
    torch.manual_seed(0)
    save_pretrained(TokenPose(TINY), tmp_path / "folder")
    model, _ = make_trainee(read_recipe("finetune"), {}, read_coco(people).skeleton, f"local-dir:{tmp_path / 'folder'}")
    assert model.newly_initialized == ()
    assert model.spec.heatmap_activation == "softmax"


@pytest.mark.parametrize("recipe", [None, "finetune", "lsp"])
def test_weights_without_a_name_say_what_the_model_is(people, tmp_path, recipe):
    torch.manual_seed(0)
    model = TokenPose(TINY.replace(depth=2, image_size=(64, 48)))
    write_weights(model, tmp_path / "model.safetensors")
    skeleton = read_coco(people).skeleton
    chosen = Recipe() if recipe is None else read_recipe(recipe)
    again, settings = make_trainee(chosen, {}, skeleton, weights=tmp_path / "model.safetensors")
    assert again.spec.replace(skeleton=model.spec.skeleton, head_hidden=None) == model.spec
    assert torch.equal(again.head[1].weight, model.head[1].weight)
    assert settings.batch_size > 0
    start = choose_start(chosen, weights=tmp_path / "model.safetensors")
    assert start == {"pretrained": False, "weights": str(tmp_path / "model.safetensors")}
    third, _ = make_trainee(Recipe(model=start), {}, skeleton, mlp_ratio=TINY.mlp_ratio)  # settings.json of that run
    assert third.spec == again.spec


def test_a_name_beside_weights_still_has_to_fit_them(people, tmp_path):
    write_weights(TokenPose(TINY), tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"is not a tokenpose_s_v1\..*: it has backbone"):
        make_trainee(Recipe(), {}, read_coco(people).skeleton, "tokenpose_s_v1", weights=tmp_path / "model.safetensors")


def test_checkpoints_without_a_name_ask_for_it(people, tmp_path):
    torch.save({}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"a\.pth is a PyTorch checkpoint, which has no spec: give the name"):
        make_trainee(Recipe(), {}, read_coco(people).skeleton, weights=tmp_path / "a.pth")
