import json
from dataclasses import asdict
from pathlib import Path

import pytest

from tokenpose.data.settings import Augmentation
from tokenpose.models.zoo import find_tag
from tokenpose.training.recipes import Recipe, list_recipes, read_recipe


def test_recipes_of_the_package():
    assert list_recipes() == ["coco", "finetune", "lsp", "mpii", "tokens"]


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_makes_settings_and_names_a_model_that_exists(name):
    recipe = read_recipe(name)
    assert recipe.name == name
    values = {**asdict(recipe.settings()), **asdict(recipe.settings().augmentation)}
    for field, value in {**recipe.training, **recipe.augmentation}.items():
        assert values[field] == (tuple(value) if isinstance(value, list) else value)
    if "name" in recipe.model:
        find_tag(recipe.model["name"])


def test_coco_is_the_published_training():
    settings = read_recipe("coco").settings()
    assert (settings.optimizer, settings.learning_rate, settings.weight_decay) == ("adam", 1e-3, 0)
    assert (settings.schedule, settings.milestones, settings.epochs) == ("multi_step", (200, 260), 300)
    assert (settings.batch_size, settings.clip, settings.average) == (None, 0, 0)  # the model says how many people
    assert (settings.loss, settings.start) == ("squared_error", "published")
    assert (settings.keep, settings.validate_every) == ("best", 1)
    assert settings.guidance == settings.patches == 0
    augmentation = settings.augmentation
    assert (augmentation.scale, augmentation.rotation, augmentation.rotation_probability) == (0.35, 45, 0.6)
    assert (augmentation.flip, augmentation.half_body) == (0.5, 0.3)
    assert (augmentation.color, augmentation.blur) == (0, 0)


def test_mpii_differs_from_coco_in_what_was_published():
    coco, mpii = read_recipe("coco"), read_recipe("mpii")
    assert mpii.training == {**coco.training, "batch_size": 64}
    assert mpii.settings().augmentation == Augmentation(scale=0.25, rotation=30.0)
    assert mpii.model["name"] == "tokenpose_l_d6.mpii_256x256"


@pytest.mark.parametrize("name", ["tokens", "finetune"])
def test_fine_tuning_is_pretrained_and_leaves_the_loss_to_the_weights(name):
    recipe = read_recipe(name)
    assert recipe.model["pretrained"] is True
    assert recipe.settings().loss is None


@pytest.mark.parametrize("name", ["tokens", "finetune"])
def test_fine_tuning_takes_at_least_150_steps_unless_epochs_are_given(name):
    recipe = read_recipe(name)
    assert recipe.settings().min_steps == 150
    assert recipe.settings({"epochs": 3}).min_steps == 0
    assert recipe.settings({"epochs": 3, "min_steps": 7}).min_steps == 7


def test_changes_win_over_the_recipe_whether_of_training_or_augmentation():
    settings = read_recipe("coco").settings({"epochs": 3, "rotation": 10.0})
    assert (settings.epochs, settings.augmentation.rotation) == (3, 10)
    assert (settings.optimizer, settings.augmentation.scale) == ("adam", 0.35)
    with pytest.raises(ValueError, match="training has no settings epoch, rotate"):
        Recipe().settings({"epoch": 3, "rotate": 10.0})


def test_settings_of_a_run_are_a_recipe(tmp_path):
    settings = read_recipe("lsp").settings({"epochs": 7, "flip": 0.25, "milestones": (1, 2)})
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(asdict(settings)))
    assert read_recipe(path).settings() == settings


@pytest.mark.parametrize(("suffix", "content"), [(".toml", "epochs = 7\n"), (".json", '{"epochs": 7}')])
def test_byte_order_mark_is_no_fault_and_utf16_is_told(tmp_path, suffix, content):
    path = tmp_path / f"recipe{suffix}"
    path.write_text(content, encoding="utf-8-sig")
    assert read_recipe(path).settings().epochs == 7
    path.write_text(content, encoding="utf-16")
    with pytest.raises(
        ValueError, match=rf"recipe{suffix} is not {suffix[1:].upper()}: it is UTF-16; save it as UTF-8$"
    ):
        read_recipe(path)


WRONG = {
    "epochs = \n": "is not TOML: Invalid value",
    "epoch = 3\n": "there are no settings epoch",
    "epochs = 0\n": "epochs must be at least 1; got 0",
    "[augmentation]\nrotate = 3.0\n": "augmentation: there are no settings rotate",
    "[augmentation]\nflip = 3.0\n": "flip must be at least 0 and at most 1; got 3.0",
    "augmentation = 3\n": "augmentation must be a table of settings; got 3",
    'milestones = ["a"]\n': "milestones must be a list of whole numbers; got ('a',)",
    "milestones = 3\n": "milestones must be a list of whole numbers; got 3",
    "milestones = [1.5]\n": "milestones must be a list of whole numbers; got (1.5,)",
    'trackers = "tensorboard"\n': "trackers must be a list of names; got 'tensorboard'",
    '[model]\npretrained = "no"\n': "model: pretrained must be true or false; got 'no'",
    '[model]\nbackbone_pretrained = "no"\n': "model: backbone_pretrained must be true or false; got 'no'",
    "[data]\nrename = 3\n": "data: rename must be a table of names; got 3",
    "[data]\ncategory = 3\n": "data: category must be text; got 3",
    "data = 3\n": "data must be a table of rename, flip_pairs and category; got 3",
    "[model]\nname = 3\n": "model: name must be text; got 3",
    'model = "s"\n': "model must be a table of name, pretrained and changes of the spec; got 's'",
}


def test_wrong_recipe_is_refused_by_file_and_field(tmp_path, run_python):
    # without the type check of the tests, as users meet it
    for number, text in enumerate(WRONG):
        (tmp_path / f"{number}.toml").write_text(text)
    code = (
        "from tokenpose.training.recipes import read_recipe\n"
        f"for number in range({len(WRONG)}):\n"
        "    try: read_recipe(f'{number}.toml')\n"
        "    except ValueError as error: print(' '.join(str(error).split()))\n"
    )
    said = run_python(code).stdout.splitlines()
    for number, (line, expected) in enumerate(zip(said, WRONG.values(), strict=True)):
        assert line.startswith(f"{number}.toml")
        assert expected in line


def test_unknown_recipes_are_refused():
    with pytest.raises(
        LookupError, match="there is no recipe 'coca'; there are coco, finetune, lsp, mpii, tokens, and files"
    ):
        read_recipe("coca")
    with pytest.raises(FileNotFoundError, match=r"there is no recipe nowhere\.toml"):
        read_recipe(Path("nowhere.toml"))
