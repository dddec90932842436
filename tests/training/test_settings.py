import dataclasses

import pytest

from tokenpose.data.augment import Augmentation
from tokenpose.training.settings import TrainingSettings

FAULTS = [
    ({"epochs": 0}, "epochs must be at least 1; got 0"),
    ({"batch_size": 0}, "batch_size must be at least 1; got 0"),
    ({"validate_every": -1}, "validate_every must be at least 1; got -1"),
    ({"learning_rate": 0.0}, r"learning_rate must be positive; got 0\.0"),
    ({"learning_rate": float("nan")}, "learning_rate must be positive; got nan"),
    ({"clip": -1.0}, r"clip must be positive; got -1\.0"),
    ({"weight_decay": -0.1}, r"weight_decay must not be negative; got -0\.1"),
    ({"warmup_steps": -1}, "warmup_steps must not be negative; got -1"),
    ({"guidance": -0.5}, r"guidance must not be negative; got -0\.5"),
    ({"auxiliary": -0.5}, r"auxiliary must not be negative; got -0\.5"),
    ({"patches": -0.5}, r"patches must not be negative; got -0\.5"),
    ({"workers": -1}, "workers must not be negative; got -1"),
    ({"checkpoint_seconds": -1.0}, r"checkpoint_seconds must not be negative; got -1\.0"),
    ({"average": 1.0}, r"average must be in \[0, 1\); got 1\.0"),
]


@pytest.mark.parametrize(("changes", "message"), FAULTS)
def test_impossible_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        TrainingSettings(**changes)


def test_unknown_loss_and_precision_are_refused(run_python):
    code = (
        "from tokenpose.training.settings import TrainingSettings\n"
        "for change in ({'loss': 'mse'}, {'precision': 'fp8'}):\n"
        "    try: TrainingSettings(**change)\n"
        "    except ValueError as error: print(error)\n"
    )
    assert run_python(code).stdout.splitlines() == [
        'loss must be "squared_error" or "cross_entropy"; got \'mse\'',
        'precision must be "no", "bf16" or "fp16"; got \'fp8\'',
    ]


def test_settings_are_frozen_and_keyword_only():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainingSettings().epochs = 3
    with pytest.raises(TypeError):
        TrainingSettings(3)
    assert TrainingSettings(augmentation=Augmentation(flip=0.0)).augmentation.flip == 0
