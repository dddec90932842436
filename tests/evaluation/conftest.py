from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from .flies import write_flies


@pytest.fixture
def write(tmp_path) -> Callable[..., Path]:
    """Write a COCO file of annotations."""
    return partial(write_flies, tmp_path)
