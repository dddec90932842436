import pytest
import torch

from tokenpose.geometry.affine import crop_matrices
from tokenpose.geometry.reduction import crop_levels, reduce_image

SIZE = (64, 48)


def matrix_of(width: float, center=(200.0, 150.0), rotation: float = 0.0) -> torch.Tensor:
    """Image -> a crop that shows ``width`` pixels around the center."""
    zoom = (SIZE[1] - 1) / (width - 1)
    scale = torch.tensor([[1 + 47 / zoom, 1 + 63 / zoom]])
    return crop_matrices(torch.tensor([center]), scale, SIZE, torch.tensor([rotation]))


def test_a_reduced_pixel_is_the_mean_of_its_square_and_black_lies_beyond_the_image():
    image = torch.arange(12, dtype=torch.uint8).view(3, 4).expand(3, 3, 4)
    reduced = reduce_image(image, 2)
    expected = torch.tensor([[(0 + 1 + 4 + 5) / 4, (2 + 3 + 6 + 7) / 4], [(8 + 9) / 4, (10 + 11) / 4]])
    assert torch.equal(reduced, expected.expand(3, 2, 2))
    assert torch.equal(reduce_image(image, 1), image.float())


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("factor", [4, 128, 256])
def test_means_of_white_are_white_for_every_dtype_and_factor(dtype, factor):
    reduced = reduce_image(torch.full((3, 512, 256), 255, dtype=dtype), factor)
    assert reduced.shape == (3, 512 // factor, 256 // factor)
    assert reduced.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert (reduced == 255).all()


def test_levels_count_how_often_a_crop_halves_its_image_however_it_is_turned():
    matrices = torch.cat([matrix_of(1 + 47 * covered, rotation=50.0) for covered in (0.3, 1.0, 2.0, 2 * 2**0.5, 8.0)])
    torch.testing.assert_close(crop_levels(matrices), torch.tensor([0.0, 0.0, 1.0, 1.5, 3.0]), rtol=0, atol=1e-5)
