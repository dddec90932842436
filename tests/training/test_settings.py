import dataclasses

import pytest

from tokenpose.data.settings import Augmentation
from tokenpose.training.settings import TrainingSettings

FAULTS = [
    ({"epochs": 0}, "epochs must be at least 1; got 0"),
    ({"batch_size": 0}, "batch_size must be at least 1; got 0"),
    ({"validate_every": -1}, "validate_every must be at least 1; got -1"),
    ({"learning_rate": 0.0}, r"learning_rate must be above 0; got 0\.0"),
    ({"learning_rate": float("nan")}, "learning_rate must be a finite number; got nan"),
    ({"backbone_rate": 0.0}, r"backbone_rate must be above 0; got 0\.0"),
    ({"token_rate": -1.0}, r"token_rate must be above 0; got -1\.0"),
    ({"clip": -1.0}, r"clip must be at least 0; got -1\.0"),
    ({"accumulate": 0}, "accumulate must be at least 1; got 0"),
    ({"accumulate": 9, "batch_size": 8}, "accumulate must be at most batch_size; got 9 and 8"),
    ({"milestones": (260, 200)}, r"milestones must increase; got \(260, 200\)"),
    ({"milestones": (0, 200)}, "each of milestones must be at least 1; got 0"),
    ({"hardest": 0}, "hardest must be at least 1; got 0"),
    ({"predictions": -1}, "predictions must be at least 0; got -1"),
    ({"weight_decay": -0.1}, r"weight_decay must be at least 0; got -0\.1"),
    ({"guidance": -0.5}, r"guidance must be at least 0; got -0\.5"),
    ({"patches": -0.5}, r"patches must be at least 0; got -0\.5"),
    ({"workers": -1}, "workers must be at least 0; got -1"),
    ({"checkpoint_seconds": -1.0}, r"checkpoint_seconds must be at least 0; got -1\.0"),
    ({"learning_rate": float("inf")}, "learning_rate must be a finite number; got inf"),
    ({"seed": 10**30}, "seed must be above -9223372036854775808 and below 9223372036854775808; got 1000"),
    ({"average": 1.0}, r"average must be at least 0 and below 1; got 1\.0"),
]


@pytest.mark.parametrize(("changes", "message"), FAULTS)
def test_impossible_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        TrainingSettings(**changes)


def test_unknown_choices_and_kinds_are_refused_by_name(run_python):
    # without the type check of the tests, as users meet it
    changes = [
        {"loss": "mse"}, {"precision": "no"}, {"optimizer": "sgd"}, {"schedule": "step"}, {"cache": "disk"},
        {"start": "cold"}, {"epochs": "3"}, {"epochs": 2.5}, {"learning_rate": "fast"}, {"compile": 1},
    ]  # fmt: skip
    code = (
        "from tokenpose.training.settings import TrainingSettings\n"
        f"for change in {changes}:\n"
        "    try: TrainingSettings(**change)\n"
        "    except ValueError as error: print(error)\n"
    )
    assert run_python(code).stdout.splitlines() == [
        'loss must be "squared_error", "hard_keypoints" or "cross_entropy"; got \'mse\'',
        'precision must be "fp32", "bf16" or "fp16"; got \'no\'',
        'optimizer must be "adamw" or "adam"; got \'sgd\'',
        'schedule must be "cosine" or "multi_step"; got \'step\'',
        'cache must be "none", "ram" or "device"; got \'disk\'',
        'start must be "wide" or "published"; got \'cold\'',
        "epochs must be a whole number; got '3'",
        "epochs must be a whole number; got 2.5",
        "learning_rate must be a finite number; got 'fast'",
        "compile must be true or false; got 1",
    ]


def test_whole_numbers_become_floats_where_those_are_expected(run_python):
    code = (
        "from tokenpose.training.settings import TrainingSettings\n"
        "print(repr(TrainingSettings(learning_rate=1, epochs=2).learning_rate))"
    )
    assert run_python(code).stdout == "1.0\n"


@pytest.mark.parametrize(
    ("steps_an_epoch", "epochs", "validate_every"), [(100, 20, 2), (8, 20, 2), (4, 38, 4), (2, 75, 8), (1, 100, 10)]
)
def test_few_people_are_trained_for_more_epochs_up_to_100_with_as_many_validations(
    steps_an_epoch, epochs, validate_every
):
    settings = TrainingSettings(epochs=20, min_steps=150, validate_every=2).stretched(steps_an_epoch)
    assert (settings.epochs, settings.validate_every) == (epochs, validate_every)


def test_more_than_100_epochs_stay_as_they_are():
    assert TrainingSettings(epochs=300, min_steps=1000).stretched(1).epochs == 300


def test_settings_are_frozen_and_keyword_only():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainingSettings().epochs = 3
    with pytest.raises(TypeError):
        TrainingSettings(3)
    assert TrainingSettings(augmentation=Augmentation(flip=0.0)).augmentation.flip == 0
