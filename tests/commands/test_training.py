"""`tokenpose train`."""

import dataclasses
import inspect
from pathlib import Path

import pytest
import torch

from tokenpose.commands.training import train_command
from tokenpose.data.augment import Augmentation
from tokenpose.models.weights import read_weights
from tokenpose.training.settings import TrainingSettings

from .running import TINY, read, run


def test_sizes_are_written_as_heights_and_widths():
    help_of_sizes = " ".join(run("train", "--help").stdout.split())
    assert "--sizes HEIGHTxWIDTH,..." in help_of_sizes
    message = "write a size as HEIGHTxWIDTH, for example 256x192; got '12'"
    assert message in " ".join(
        run("train", "--train", "a", "--val", "b", "--output", "c", "--sizes", "64x48,12", exit_code=2).stderr.split()
    )


def test_every_setting_of_training_is_an_option():
    fields = {field.name for kind in (TrainingSettings, Augmentation) for field in dataclasses.fields(kind)}
    assert fields - {"augmentation"} <= inspect.signature(train_command).parameters.keys()


def test_help_of_train_shows_the_defaults_of_the_settings():
    text = " ".join(run("train", "--help").stdout.split())
    settings = TrainingSettings()
    assert f"[default: {settings.epochs}]" in text
    assert f"[default: {settings.weight_decay}]" in text
    assert f"[default: {settings.augmentation.rotation}]" in text


def test_training_says_what_was_left_out_and_each_epoch(labeled, photos):
    result = run("train", "--train", labeled, "--val", labeled, "--images", photos, "--output", "run", *TINY)
    assert "labeled.json: 3 annotations: 3 people; left out: none" in result.stderr
    assert "epoch 1, step 1, samples 3" in result.stderr


def test_training_twice_from_one_seed_gives_the_same_weights(labeled, photos):
    first, second = (
        run("train", "--train", labeled, "--val", labeled, "--images", photos, "--output", output, *TINY)
        and read_weights(f"{output}/model.safetensors").tensors
        for output in ("one", "two")
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


TRAIN_USAGE = {
    "write a size as HEIGHTxWIDTH, for example 256x192; got '256'": ("--image-size", "256"),
    "write FIELD=VALUE, for example depth=6; got 'depth'": ("--spec", "depth"),
    "expected numbers, 4,5,6 for example; got '4;5'": ("--milestones", "4;5"),
    "write OLD=NEW, for example throat=neck; got 'neck'": ("--rename", "neck"),
    "write OLD=NEW, for example throat=neck; got 'neck='": ("--rename", "neck="),
    "'neck' gets two new names; give one": ("--rename", "neck=throat", "--rename", "neck=nape"),
    "can't set skeleton: the keypoints are those of the files; --rename": ("--spec", "skeleton=3"),
    "can't set keypoints: the keypoints are those of the files; --rename": ("--spec", "keypoints=3"),
    "can't set weights: use --weights": ("--spec", "weights=a.safetensors"),
}


@pytest.mark.parametrize("message", TRAIN_USAGE)
def test_wrong_option_of_train_is_wrong_usage(labeled, photos, message):
    given = ("--train", labeled, "--val", labeled, "--images", photos, "--output", "run")
    result = run("train", *given, *TRAIN_USAGE[message], exit_code=2)
    assert message in " ".join(result.stderr.split())
    assert not Path("run").exists()


def test_contradictions_and_places_of_train_are_refused_before_files_are_read(photos):
    given = ("--train", "none.json", "--val", "none.json", "--images", photos)
    result = run("train", *given, "--output", "run", "--weights", "a.safetensors", "--pretrained", exit_code=2)
    assert "give --weights or --pretrained, not both" in result.stderr
    Path("file").touch()
    said = run("train", *given, "--output", "file", exit_code=1).stderr
    assert said == "error: the output file is a file, but a run needs a folder: give another output\n"
    said = run("train", *given, "--output", "none", "--resume", exit_code=1).stderr
    assert said == f"error: there is no checkpoint {Path('none/checkpoint.pt')} to resume from\n"
    assert not Path("none").exists()


def test_settings_file_of_a_run_is_a_recipe_that_knows_how_its_data_were_read(labeled, photos):
    given = ("train", "--train", labeled, "--val", labeled, "--images", photos)
    run(*given, "--output", "run", *TINY, "--rename", "neck=throat")
    data = read("run/settings.json")["data"]
    assert data == {
        "train": [str(labeled)], "val": [str(labeled)], "images": [str(photos)], "rename": {"neck": "throat"},
        "flip_pairs": None, "category": None,
    }  # fmt: skip
    run(*given, "--output", "again", "--recipe", "run/settings.json", "--guidance", "0", "--patches", "0")
    assert "throat" in read_weights("again/model.safetensors").spec.skeleton.keypoints


def test_setting_that_the_library_refuses_is_an_error(labeled, photos):
    given = ("--train", labeled, "--val", labeled, "--images", photos, "--output", "run")
    assert (
        run("train", *given, "--average", "1", exit_code=1).stderr
        == "error: average must be at least 0 and below 1; got 1.0\n"
    )
    assert "ModelSpec has no field 'depht'" in run("train", *given, "--spec", "depht=2", exit_code=1).stderr
