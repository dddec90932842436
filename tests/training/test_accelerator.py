import pytest
import torch
from accelerate.state import AcceleratorState

from tokenpose.training.accelerator import make_accelerator
from tokenpose.training.settings import TrainingSettings


@pytest.fixture(autouse=True)
def _fresh_accelerator():
    """accelerate keeps one state a process."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU trains in fp16")
def test_half_precision_is_refused_on_a_cpu(tmp_path):
    message = "precision fp16 needs a GPU, and this run is on a CPU: use fp32 or bf16"
    with pytest.raises(ValueError, match=message):
        make_accelerator(TrainingSettings(precision="fp16"), tmp_path)


def test_precision_that_accelerate_was_launched_with_is_not_ignored(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    message = "accelerate was launched with mixed precision bf16, but the settings say fp32: set precision bf16"
    with pytest.raises(ValueError, match=message):
        make_accelerator(TrainingSettings(), tmp_path)
    assert make_accelerator(TrainingSettings(precision="bf16"), tmp_path).mixed_precision == "bf16"
