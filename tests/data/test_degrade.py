import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from tokenpose.data.degrade import compress, reduce_resolution, turn_gray


@pytest.fixture
def crops(generator) -> torch.Tensor:
    """Smooth pictures with some noise, 0 to 255."""
    coarse = torch.rand(3, 3, 6, 5, generator=generator) * 255
    smooth = functional.interpolate(coarse, size=(64, 48), mode="bicubic")
    return (smooth + 8 * torch.randn(3, 3, 64, 48, generator=generator)).round().clamp(0, 255)


def test_gray_is_the_luminance_that_pillow_gives_and_only_of_the_chosen(crops):
    found = turn_gray(crops, torch.tensor([True, False, True]))
    assert torch.equal(found[1], crops[1])
    for row in (0, 2):
        picture = Image.fromarray(crops[row].permute(1, 2, 0).to(torch.uint8).numpy())
        expected = torch.from_numpy(np.asarray(picture.convert("L")).astype(np.float32))
        assert (found[row] - expected).abs().max() <= 1
        assert torch.equal(found[row, 0], found[row, 2])


@pytest.mark.parametrize("quality", [10.0, 30.0, 60.0])
def test_compression_is_that_of_a_jpeg_encoder(crops, quality):
    found = compress(crops, torch.full((3,), quality))
    for row in range(3):
        picture, file = Image.fromarray(crops[row].permute(1, 2, 0).to(torch.uint8).numpy()), io.BytesIO()
        picture.save(file, "jpeg", quality=int(quality), subsampling=2)
        decoded = torch.from_numpy(np.asarray(Image.open(file)).astype(np.float32)).permute(2, 0, 1)
        ours, theirs = (found[row] - crops[row]).square().mean().sqrt(), (decoded - crops[row]).square().mean().sqrt()
        assert (found[row] - decoded).square().mean().sqrt() < 0.3 * theirs  # the encoder's rounding differs
        assert ours.item() == pytest.approx(theirs.item(), rel=0.05)


def test_only_crops_with_a_quality_are_compressed_and_any_size_is(crops):
    found = compress(crops[:, :, :50, :37], torch.tensor([0.0, 20.0, 0.0]))
    assert torch.equal(found[0], crops[0, :, :50, :37])
    assert torch.equal(found[2], crops[2, :, :50, :37])
    assert (found[1] != crops[1, :, :50, :37]).float().mean() > 0.5
    assert torch.equal(compress(crops, torch.zeros(3)), crops)


def test_resolution_falls_by_the_factor_of_each_crop(crops):
    found = reduce_resolution(crops, torch.tensor([1.0, 2.0, 4.0]))
    assert torch.equal(found[0], crops[0])

    def detail(picture: torch.Tensor) -> float:
        return picture.diff(dim=-1).square().mean().item()

    for row, most in ((1, 0.8), (2, 0.5)):
        assert detail(found[row]) < most * detail(crops[row])
    assert (found.mean(dim=(2, 3)) - crops.mean(dim=(2, 3))).abs().max() < 2
    small = functional.interpolate(crops[2:], scale_factor=0.25, mode="bilinear", antialias=True)
    expected = functional.interpolate(small, size=(64, 48), mode="bilinear")
    torch.testing.assert_close(found[2:], expected)
