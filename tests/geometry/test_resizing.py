import pytest
import torch

from tokenpose.geometry.affine import resize_matrices, transform_points
from tokenpose.geometry.decode import decode
from tokenpose.geometry.encode import encode_gaussian
from tokenpose.geometry.resizing import resize_maps


def gaussians(size, keypoints, sigma):
    return encode_gaussian(keypoints, torch.ones(keypoints.shape[:2], dtype=torch.bool), size, sigma)[0]


@pytest.mark.parametrize("to_size", [(96, 72), (32, 24), (40, 30), (64, 48)])
def test_peaks_stay_at_their_places(to_size):
    keypoints = torch.tensor([[[20.0, 31.0], [12.4, 40.2]], [[30.7, 22.0], [25.0, 50.0]]])
    resized = resize_maps(gaussians((64, 48), keypoints, 2.0), to_size)
    assert resized.shape == (2, 2, *to_size)
    matrices = resize_matrices(torch.eye(2, 3).expand(2, -1, -1), (64, 48), to_size)
    expected = transform_points(keypoints, matrices)
    assert (decode(resized, "dark").keypoints - expected).abs().max() < 0.03
    assert resized.amax(dim=(-2, -1)).min() > 0.75


def test_maps_of_that_size_already_stay_as_they_are(generator):
    maps = torch.rand(1, 3, 8, 6, generator=generator)
    assert torch.equal(resize_maps(maps, (8, 6)), maps)


@pytest.mark.parametrize("to_size", [(16, 12), (8, 6), (4, 3)])
def test_even_maps_stay_even_up_to_the_edges(to_size):
    torch.testing.assert_close(resize_maps(torch.ones(1, 1, 8, 6), to_size), torch.ones(1, 1, *to_size))


def test_a_fine_pattern_becomes_its_mean():
    pattern = torch.arange(64).remainder(2).float().expand(1, 1, 64, -1)
    assert (resize_maps(pattern, (32, 32)) - 0.5).abs().max() < 1e-6
    assert resize_maps(pattern.bfloat16(), (32, 32)).dtype == torch.float32
