import numpy as np
import pytest

from tokenpose.attention.computation import attention_maps
from tokenpose.attention.maps import AttentionMaps
from tokenpose.models.tokenpose import TokenPose

from .small_models import BOX, HEIGHT, WIDTH, make


@pytest.fixture(scope="module")
def model() -> TokenPose:
    return make(depth=4)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def maps(model, pixels) -> AttentionMaps:
    return attention_maps(model, pixels, BOX)
