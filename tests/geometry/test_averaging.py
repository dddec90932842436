"""Reduced images, and crops that average the pixels that they cover."""

import pytest
import torch

from tokenpose.geometry.affine import crop_matrices
from tokenpose.geometry.averaging import crop_images_averaged
from tokenpose.geometry.crops import crop_image
from tokenpose.geometry.reduction import crop_levels, cut_out, reduce_image

SIZE = (64, 48)


def matrix_of(width: float, center=(200.0, 150.0), rotation: float = 0.0) -> torch.Tensor:
    """Image -> a crop that shows ``width`` pixels around the center."""
    zoom = (SIZE[1] - 1) / (width - 1)
    scale = torch.tensor([[1 + 47 / zoom, 1 + 63 / zoom]])
    return crop_matrices(torch.tensor([center]), scale, SIZE, torch.tensor([rotation]))


@pytest.fixture
def photograph(generator) -> torch.Tensor:
    """A picture with detail of every size, uint8 (3, 300, 401)."""
    fields = [
        torch.nn.functional.interpolate(torch.rand(1, 3, 300 // side, 401 // side, generator=generator), (300, 401))
        for side in (1, 3, 10, 30)
    ]
    return (torch.cat(fields).mean(dim=0) * 255).to(torch.uint8)


@pytest.mark.parametrize("rotation", [0.0, 30.0])
def test_magnified_people_are_sampled_bilinearly_to_the_bit(photograph, rotation):
    matrices = torch.cat([matrix_of(width, rotation=rotation) for width in (20.0, 37.7, 47.9)])
    assert torch.equal(crop_image(photograph, matrices, SIZE, "area"), crop_image(photograph, matrices, SIZE))


def test_a_crop_of_half_the_size_is_the_mean_of_2_x_2_pixels(photograph):
    # from the first pixel on: a crop's pixel covers two of each axis
    matrix = torch.tensor([[[0.5, 0.0, -0.25], [0.0, 0.5, -0.25]]])
    means = reduce_image(photograph, 2)[:, :64, :48]
    torch.testing.assert_close(crop_image(photograph, matrix, SIZE, "area")[0], means, rtol=0, atol=0.01)


def test_detail_finer_than_a_crops_pixel_becomes_gray(generator):
    stripes = torch.zeros(3, 300, 400, dtype=torch.uint8)
    stripes[..., ::2] = 200
    for width in (4.6 * 47, 5.3 * 47):
        averaged = crop_image(stripes, matrix_of(width), SIZE, "area")
        sampled = crop_image(stripes, matrix_of(width), SIZE)
        inside = slice(16, 48), slice(12, 36)
        assert averaged[0, 0][inside].std() < 1
        assert (averaged[0, 0][inside] - 100).abs().max() < 2
        assert sampled[0, 0][inside].std() > 20


@pytest.mark.parametrize("covered", [1.0, 1.5, 2.0, 3.0, 4.0])
def test_a_slightly_larger_box_changes_little_also_where_another_size_is_averaged(photograph, covered):
    before, after = (crop_image(photograph, matrix_of(1 + 47 * covered + by), SIZE, "area") for by in (-0.002, 0.002))
    assert (before - after).abs().max() < 0.5  # gray levels; half a level of the blend would change up to 50


@pytest.mark.parametrize("rotation", [0.0, 40.0])
@pytest.mark.parametrize("width", [120.0, 230.0])
def test_a_photograph_and_its_half_size_copy_give_the_same_crop(photograph, width, rotation):
    half = reduce_image(photograph, 2)
    matrix = matrix_of(width, rotation=rotation)
    to_half = torch.cat((matrix[..., :2] * 2, matrix[..., 2:] + matrix[..., :2].sum(dim=-1, keepdim=True) / 2), dim=-1)
    assert crop_levels(matrix) > 1
    whole = crop_image(photograph, matrix, SIZE, "area")
    torch.testing.assert_close(crop_image(half, to_half, SIZE, "area"), whole, rtol=0, atol=0.01)


def test_everybodys_crop_equals_each_on_its_own_and_that_of_a_batch(photograph):
    matrices = torch.cat([
        matrix_of(30.0), matrix_of(90.0, rotation=20.0), matrix_of(200.0, (20.0, 280.0)), matrix_of(900.0),
        matrix_of(100.0, (-900.0, 100.0)), matrix_of(47.5, rotation=-70.0),
    ])  # fmt: skip
    together = crop_image(photograph, matrices, SIZE, "area")
    for person, crop in enumerate(together):
        assert torch.equal(crop_image(photograph, matrices[person : person + 1], SIZE, "area")[0], crop)
    batch = photograph.expand(len(matrices), -1, -1, -1)
    of_a_batch = crop_images_averaged(batch, matrices, SIZE, crop_levels(matrices))
    torch.testing.assert_close(of_a_batch, together, rtol=0, atol=0.02)


def test_white_stays_white_and_outside_is_black():
    white = torch.full((3, 300, 400), 255, dtype=torch.uint8)
    matrices = torch.cat((matrix_of(120.0, rotation=25.0), matrix_of(100.0, (900.0, 100.0))))
    inside, outside = crop_image(white, matrices, SIZE, "area")
    torch.testing.assert_close(inside, torch.full((3, 64, 48), 255.0), rtol=0, atol=0.01)
    assert outside.abs().max() == 0


def test_nobody_gives_no_crops(photograph):
    assert crop_image(photograph, torch.zeros(0, 2, 3), SIZE, "area").shape == (0, 3, 64, 48)
    nobody = photograph.expand(0, -1, -1, -1)
    assert crop_images_averaged(nobody, torch.zeros(0, 2, 3), SIZE, torch.zeros(0)).shape == (0, 3, 64, 48)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_result_has_the_wider_dtype(photograph, dtype):
    assert crop_image(photograph, matrix_of(200.0).to(dtype), SIZE, "area").dtype == dtype
    assert crop_image(photograph.to(dtype), matrix_of(200.0), SIZE, "area").dtype == dtype


def test_of_a_large_image_only_what_the_crop_shows_is_averaged():
    image = torch.arange(100, dtype=torch.uint8).repeat(100).expand(3, 10_000, 10_000)  # x % 100, in 10 kB
    part, left, top = cut_out(image, matrix_of(1 + 47 * 4, (5_000.0, 3_000.0)), SIZE, multiple=8)
    assert part.shape[2] < 220
    assert part.shape[1] < 290
    assert (left % 8, top % 8) == (0, 0)
    # columns 4906 to 5094 around 5000: the mean of each four pixels, except where 99 meets 0
    crop = crop_image(image, matrix_of(1 + 47 * 4, (5_050.0, 3_000.0)), SIZE, "area")[0, 0, 0]
    torch.testing.assert_close(crop[14:34], 50 + 4 * (torch.arange(14.0, 34) - 23.5), rtol=0, atol=0.1)
