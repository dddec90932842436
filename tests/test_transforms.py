"""create_transform in user code: what the predictor does, and which options the training form takes."""

import numpy as np
import pytest
import torch

from tokenpose.attention.computation import attention_maps
from tokenpose.data.augment import Augmentation
from tokenpose.geometry.decode import DECODERS, decode
from tokenpose.models.create import create_model
from tokenpose.models.tokenpose import TokenPose
from tokenpose.predictor import PosePredictor
from tokenpose.transforms import create_transform

BOXES = [[10.0, 5.0, 50.0, 55.0], [30.0, 10.0, 79.0, 59.0]]


@pytest.fixture(scope="module")
def model() -> TokenPose:
    torch.manual_seed(0)
    return create_model("tokenpose_t.lsp_256x192", image_size=(128, 96), depth=1, heads=4)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)


@pytest.fixture
def keypoints(generator) -> torch.Tensor:
    """Two people's, inside their boxes."""
    corners = torch.tensor(BOXES).view(2, 2, 2)
    return corners[:, :1] + (corners[:, 1:] - corners[:, :1]) * torch.rand(2, 14, 2, generator=generator)


@torch.no_grad()
@pytest.mark.parametrize("decoder", list(DECODERS))
def test_the_steps_on_their_own_give_the_predictors_keypoints(model, pixels, decoder):
    transform = create_transform(model)
    people = transform(pixels, BOXES)
    keypoints, scores = decode(model(people.crops), decoder=decoder)
    expected = PosePredictor(model, decoder=decoder)(pixels, BOXES)
    assert np.array_equal(transform.to_image(keypoints, people).numpy(), expected.keypoints)
    assert np.array_equal(scores.numpy(), expected.scores)
    assert np.array_equal(people.boxes.numpy(), expected.boxes)


def test_every_way_to_crop_follows_the_specs_filter(model, keypoints):
    # stripes of a pixel, two and a half of which a crop's pixel covers: gray when averaged
    stripes = np.zeros((300, 400, 3), dtype=np.uint8)
    stripes[:, ::2] = 200
    box = [[120.0, 20.0, 312.0, 276.0]]
    averaging = create_model("tokenpose_t.lsp_256x192", image_size=(128, 96), depth=1, heads=4, crop_filter="area")
    spread = {}
    for name, chosen in (("bilinear", model), ("area", averaging)):
        assert chosen.spec.crop_filter == name
        still = create_transform(chosen, training=True, scale=0.0, rotation=0.0, flip=0.0)
        maps = attention_maps(chosen, stripes, box)
        spread[name] = (
            create_transform(chosen)(stripes, box).crops[..., 20:-20, 20:-20].std(),
            still(stripes, box, keypoints[:1]).crops[..., 20:-20, 20:-20].std(),
            maps.crop[20:-20, 20:-20, 0].std() / 58,
        )
    assert max(spread["area"]) < 0.25 * min(spread["bilinear"])


def test_the_device_is_the_models_or_the_named_one(model):
    assert create_transform(model).device == torch.device("cpu")
    assert create_transform(model, device="meta").device == torch.device("meta")
    assert create_transform(model, training=True).device == torch.device("cpu")


def test_the_published_augmentation_is_the_default(model):
    assert create_transform(model, training=True).augmentation == Augmentation()


def test_wrong_options_are_refused(model):
    with pytest.raises(TypeError, match="rotation: augmentation goes with training=True"):
        create_transform(model, rotation=30.0)
    with pytest.raises(TypeError, match="unexpected keyword argument 'turn'"):
        create_transform(model, training=True, turn=30)
    with pytest.raises(ValueError, match=r"rotation must be at least 0 and at most 180; got 200"):
        create_transform(model, training=True, rotation=200.0)
    nameless = create_model("tokenpose_t", keypoints=3, image_size=(64, 48), depth=1, heads=4)
    with pytest.raises(ValueError, match="mirroring needs to know which keypoints change sides"):
        create_transform(nameless, training=True)
    assert create_transform(nameless, training=True, flip=0.0).augmentation.flip == 0
