from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import Tensor


@pytest.fixture(scope="session")
def ops(golden: Path) -> dict[str, Tensor]:
    """Inputs and outputs of the published routines, by the names of tests/golden/README.md."""
    return load_file(golden / "ops.safetensors")
