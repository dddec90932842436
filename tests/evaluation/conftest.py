from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from ..drawing import draw_people
from .flies import write_flies


@pytest.fixture
def write(tmp_path) -> Callable[..., Path]:
    """Write a COCO file of annotations."""
    return partial(write_flies, tmp_path)


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Path:
    """The COCO file of six drawn people."""
    return draw_people(tmp_path_factory.mktemp("drawn"), 6)
