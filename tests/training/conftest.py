"""What tests of the training loop share."""

import pytest
from accelerate.state import AcceleratorState

from tokenpose.data.coco import read_coco
from tokenpose.data.sources import ImageSource

from ..drawing import draw_people


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Twelve drawn people and their images."""
    path = draw_people(tmp_path_factory.mktemp("drawn"), 12)
    return read_coco(path), ImageSource(path.parent)


@pytest.fixture
def fresh_accelerator():
    """accelerate keeps one state a process; this forgets it after the test."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
