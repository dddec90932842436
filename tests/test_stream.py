"""Reading ahead and batches across images."""

import threading
import time

import numpy as np
import pytest
import torch
from PIL import Image

from tokenpose import stream
from tokenpose.geometry.decode import Decoded
from tokenpose.models.spec import ModelSpec
from tokenpose.skeletons import LSP
from tokenpose.stream import find_in_order, pair, read_images
from tokenpose.transforms import Transform

BOX = [0.0, 0.0, 5.0, 3.0]
TRANSFORM = Transform(
    spec=ModelSpec(backbone="pixels", backbone_stride=1, patch_size=(16, 12), image_size=(64, 48), skeleton=LSP),
    device=torch.device("cpu"),
)


@pytest.fixture
def pixels() -> np.ndarray:
    """3 rows, 5 columns."""
    return np.random.default_rng(0).integers(0, 256, (3, 5, 3), dtype=np.uint8)


def find_colors(crops: torch.Tensor) -> Decoded:
    """In place of a network: a "keypoint" a channel, whose coordinates and score are its mean."""
    means = crops.mean(dim=(2, 3))
    return Decoded(means.unsqueeze(-1).expand(-1, -1, 2), means)


def test_batches_are_filled_across_images_and_each_image_gets_its_own_people(pixels):
    sizes = []

    def find(crops: torch.Tensor) -> Decoded:
        sizes.append(len(crops))
        return find_colors(crops)

    images = [pixels, pixels // 2, 255 - pixels, pixels]
    boxes = [[BOX] * 2, [], [BOX] * 3, [BOX] * 2]
    found = list(find_in_order(pair(images, boxes, 0), TRANSFORM, find, "xyxy", batch_size=4, skip_errors=False))
    assert sizes == [4, 1, 2]  # the third image fills the first batch, and its last person follows at once
    for people, image, image_boxes in zip(found, images, boxes, strict=True):
        expected = find_colors(TRANSFORM(image, image_boxes).crops).scores
        scores = torch.cat([part.scores for part in people.decoded]) if image_boxes else expected
        torch.testing.assert_close(scores, expected, rtol=0, atol=1e-6)
        assert len(people.boxes) == len(image_boxes)


def test_reading_goes_on_while_the_network_works(pixels, tmp_path, monkeypatch):
    Image.fromarray(pixels).save(tmp_path / "a.png")
    read = threading.Semaphore(0)
    original = stream.read_image
    monkeypatch.setattr(stream, "read_image", lambda image: (original(image), read.release())[0])

    def find_and_wait_for_the_next(crops: torch.Tensor) -> Decoded:
        for _ in range(2):  # this image's own, and the next one's, which only another thread can read now
            assert read.acquire(timeout=30)
        read.release()
        return find_colors(crops)

    items = pair([tmp_path / "a.png"] * 4, [[BOX]] * 4, readers=1)
    found = find_in_order(items, TRANSFORM, find_and_wait_for_the_next, "xyxy", batch_size=1, skip_errors=False)
    assert [len(next(found).boxes) for _ in range(3)] == [1, 1, 1]


def test_a_tensor_that_is_used_again_keeps_its_place_among_files(pixels, tmp_path):
    Image.fromarray(pixels).save(tmp_path / "a.png")
    buffer = torch.from_numpy(pixels.copy()).permute(2, 0, 1)

    def images():
        for _ in range(3):
            yield tmp_path / "a.png"
        yield buffer
        buffer.zero_()
        yield buffer

    read = list(read_images(images(), readers=4))
    assert [np.array_equal(image.permute(1, 2, 0), pixels) for image in read] == [True] * 4 + [False]


@pytest.mark.parametrize("readers", [0, 1, 3])
def test_images_are_read_in_order_with_errors_in_their_places(pixels, tmp_path, readers):
    Image.fromarray(pixels).save(tmp_path / "a.png")
    read = list(read_images([tmp_path / "a.png", tmp_path / "none.png", pixels[:2], 3, pixels[:1]], readers))
    assert [type(image).__name__ for image in read] == ["Tensor", "FileNotFoundError", "Tensor", "TypeError", "Tensor"]
    assert [image.shape[1] for image in (read[0], read[2], read[4])] == [3, 2, 1]


def test_as_many_files_are_read_ahead_as_there_are_readers(pixels, tmp_path):
    taken = []

    def images(image):
        for number in range(20):
            taken.append(number)
            yield image

    Image.fromarray(pixels).save(tmp_path / "a.png")
    for image, ahead in ((tmp_path / "a.png", 3), (pixels, 0)):
        taken.clear()
        reading = read_images(images(image), readers=3)
        for done in range(1, 6):
            next(reading)
            assert len(taken) == done + ahead


def test_an_opened_image_may_be_closed_as_soon_as_the_next_is_asked_for(pixels, tmp_path):
    Image.fromarray(pixels).save(tmp_path / "a.png")

    def opened():
        for _ in range(5):
            with Image.open(tmp_path / "a.png") as image:
                yield image

    assert all(np.array_equal(image.permute(1, 2, 0), pixels) for image in read_images(opened(), readers=3))


def test_stopping_early_ends_the_readers(pixels, tmp_path):
    Image.fromarray(pixels).save(tmp_path / "a.png")
    reading = read_images([tmp_path / "a.png"] * 50, readers=2)
    next(reading)
    reading.close()
    deadline = time.monotonic() + 10
    while any(thread.name.startswith("tokenpose-reader") for thread in threading.enumerate()):
        assert time.monotonic() < deadline
