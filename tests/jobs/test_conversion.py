from pathlib import Path

import pytest

from tokenpose.jobs.conversion import convert_checkpoint


@pytest.mark.parametrize("name", ["t.safetensors", "t"])
def test_only_checkpoints_are_converted(tmp_path, name):
    message = rf"{name} is not a PyTorch checkpoint: its name must end in one of .pth, .pt, .ckpt, .bin, .tar$"
    with pytest.raises(ValueError, match=message):
        convert_checkpoint(tmp_path / name, "tokenpose_t", tmp_path / "out" / "t.safetensors")
    assert not Path(tmp_path / "out").exists()
