"""The training form of the transform: augmented crops, and the targets that belong to them."""

import re

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from tokenpose.geometry.decode import decode
from tokenpose.models.create import create_model
from tokenpose.models.tokenpose import TokenPose
from tokenpose.transforms import create_transform

BOXES = [[10.0, 5.0, 50.0, 55.0], [30.0, 10.0, 79.0, 59.0]]


STILL = {"scale": 0.0, "rotation": 0.0, "flip": 0.0}


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


class Persons(Dataset):
    """Anybody's own dataset: an image, its boxes, its keypoints."""

    def __init__(self, transform, pixels, keypoints):
        self.transform, self.pixels, self.keypoints = transform, pixels, keypoints

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int):
        people = 1 + index % 2
        return self.transform(self.pixels, BOXES[:people], self.keypoints[:people])


def collate(samples):
    return [torch.cat(parts) for parts in zip(*samples, strict=True)]


def test_without_augmentation_the_training_form_gives_the_same_crops(model, pixels, keypoints):
    batch = create_transform(model, training=True, **STILL)(pixels, BOXES, keypoints)
    people = create_transform(model)(pixels, BOXES)
    assert torch.equal(batch.crops, people.crops)
    assert batch.heatmaps.shape == (2, 14, 32, 24)
    torch.testing.assert_close(create_transform(model).to_image(batch.keypoints, people), keypoints, rtol=0, atol=1e-3)


def test_heatmaps_peak_at_the_augmented_keypoints(model, pixels, keypoints, generator):
    transform = create_transform(model, training=True, scale=0.1, rotation=20)
    batch = transform(pixels, BOXES, keypoints, generator=generator)
    inside = ((batch.keypoints > 6) & (batch.keypoints < torch.tensor([17.0, 25.0]))).all(dim=-1)
    assert inside.sum() > 5
    found = decode(batch.heatmaps, decoder="dark").keypoints
    assert (found - batch.keypoints)[inside].abs().max() < 0.05


def test_keypoints_that_are_not_labeled_have_weight_0_and_an_empty_map(model, pixels, keypoints):
    v = torch.full((2, 14, 1), 2.0)
    v[0, 3], v[1, 5] = 0, 1
    labeled = torch.cat((keypoints, v), dim=-1)
    labeled[0, 3, :2] = torch.nan  # whatever stands where nothing is labeled
    batch = create_transform(model, training=True, **STILL)(pixels, BOXES, labeled)
    assert batch.weights[0, 3] == 0
    assert batch.heatmaps[0, 3].abs().max() == 0
    assert batch.weights.sum() == 27
    assert batch.heatmaps.isfinite().all()


def test_mirrored_people_have_left_and_right_exchanged(model, pixels, keypoints):
    plain = create_transform(model, training=True, **STILL)(pixels, BOXES, keypoints)
    mirrored = create_transform(model, training=True, **{**STILL, "flip": 1.0})(pixels, BOXES, keypoints)
    torch.testing.assert_close(mirrored.crops.flip(-1), plain.crops, rtol=0, atol=2e-2)
    left, right = model.spec.skeleton.index("left_knee"), model.spec.skeleton.index("right_knee")
    torch.testing.assert_close(23 - mirrored.keypoints[:, left, 0], plain.keypoints[:, right, 0], rtol=0, atol=1e-3)
    torch.testing.assert_close(mirrored.keypoints[:, left, 1], plain.keypoints[:, right, 1], rtol=0, atol=1e-3)


def test_draws_follow_the_generator_or_torchs_seed(model, pixels, keypoints):
    transform = create_transform(model, training=True, color=0.3)
    by_generator = [
        transform(pixels, BOXES, keypoints, generator=torch.Generator().manual_seed(seed)).crops for seed in (1, 1, 2)
    ]
    assert torch.equal(by_generator[0], by_generator[1])
    assert not torch.equal(by_generator[0], by_generator[2])
    torch.manual_seed(5)
    first, second = (transform(pixels, BOXES, keypoints).crops for _ in range(2))
    torch.manual_seed(5)
    assert torch.equal(transform(pixels, BOXES, keypoints).crops, first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_dataloader_of_anybodys_own_trains_a_model(pixels, keypoints, workers):
    torch.manual_seed(0)
    model = create_model("tokenpose_t.coco_256x192", keypoints=14, image_size=(64, 48), depth=1, heads=4).train()
    dataset = Persons(create_transform(model, training=True, scale=0.1, rotation=10, flip=0), pixels, keypoints)
    loader = DataLoader(dataset, batch_size=6, collate_fn=collate, num_workers=workers)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(15 if workers == 0 else 2):
        for crops, heatmaps, weights, _ in loader:
            assert crops.shape == (9, 3, 64, 48)
            loss = ((model(crops) - heatmaps).square().mean(dim=(2, 3)) * weights).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_workers_draw_differently_and_each_epoch_anew(model, pixels, keypoints):
    dataset = Persons(create_transform(model, training=True), pixels, keypoints)
    loader = DataLoader(dataset, batch_size=3, collate_fn=collate, num_workers=2)
    torch.manual_seed(0)
    epochs = [torch.cat([batch[0] for batch in loader])[[0, 4]] for _ in range(2)]
    assert not torch.equal(epochs[0], epochs[1])
    torch.manual_seed(0)
    assert torch.equal(torch.cat([batch[0] for batch in loader])[[0, 4]], epochs[0])


def test_files_and_pil_images_are_taken_too(model, pixels, keypoints, tmp_path):
    Image.fromarray(pixels).save(tmp_path / "a.png")
    transform = create_transform(model, training=True, **STILL)
    crops = [transform(image, BOXES, keypoints).crops for image in (pixels, tmp_path / "a.png")]
    assert torch.equal(*crops)


def test_nobody_gives_an_empty_batch(model, pixels):
    batch = create_transform(model, training=True)(pixels, [], np.zeros((0, 14, 2)))
    assert [len(part) for part in batch] == [0, 0, 0, 0]


REFUSALS = {
    "keypoints must have shape (2, 14, 2 or 3), for 2 boxes and 14 keypoints; got (1, 14, 2)": np.zeros((1, 14, 2)),
    "keypoints must have shape (2, 14, 2 or 3), for 2 boxes and 14 keypoints; got (2, 17, 3)": np.zeros((2, 17, 3)),
    "keypoints must have shape (2, 14, 2 or 3), for 2 boxes and 14 keypoints; got (2, 28)": np.zeros((2, 28)),
    "keypoints must be numbers of shape (people, 14, 2 or 3); got 'many'": "many",
    "labeled keypoints must be finite": np.full((2, 14, 2), np.nan),
}


@pytest.mark.parametrize("message", REFUSALS)
def test_wrong_keypoints_are_refused(model, pixels, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        create_transform(model, training=True)(pixels, BOXES, REFUSALS[message])
