"""Coordinates survive what is put around them: autocast, half-precision inputs."""

import pytest
import torch

from tokenpose.geometry.affine import compose, crop_matrices, invert, transform_points
from tokenpose.geometry.crops import crop_image
from tokenpose.geometry.decode import decode
from tokenpose.geometry.encode import encode_gaussian


def matrices(dtype=torch.float32):
    center, scale = torch.tensor([[1003.0, 1507.0]], dtype=dtype), torch.tensor([[301.0, 401.0]], dtype=dtype)
    return crop_matrices(center, scale, (256, 192), torch.tensor([30.0], dtype=dtype))


def test_autocast_leaves_coordinates_alone(generator):
    points = 2000 * torch.rand(1, 5, 2, generator=generator)
    expected = transform_points(points, matrices())
    with torch.autocast("cpu", torch.bfloat16):
        found = transform_points(points, matrices())
        back = transform_points(found, invert(matrices()))
        identity = compose(invert(matrices()), matrices())
    assert torch.equal(found, expected)
    assert (back - points).abs().max() < 0.01
    assert (identity[..., :2] - torch.eye(2)).abs().max() < 1e-5


def test_autocast_leaves_dark_alone():
    point = torch.tensor([[[20.3, 30.4]]])
    heatmaps, _ = encode_gaussian(point, torch.ones(1, 1, dtype=torch.bool), (64, 48), 2.0)
    expected = decode(heatmaps).keypoints
    with torch.autocast("cpu", torch.bfloat16):
        found = decode(heatmaps).keypoints
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_matrices_invert_and_crop_in_every_floating_dtype(dtype):
    zoom = torch.tensor([[[2.0, 0.0, 4.0], [0.0, 4.0, 8.0]]], dtype=dtype)
    assert invert(zoom).tolist() == [[[0.5, 0.0, -2.0], [0.0, 0.25, -2.0]]]
    crop = crop_image(torch.full((3, 8, 8), 7, dtype=torch.uint8), zoom, (8, 8))
    assert crop[0, :, 0, 0].tolist() == [0, 0, 0]  # image point (-2, -2)
    assert crop[0, :, 7, 7].tolist() == [5.25, 5.25, 5.25]  # (1.5, -0.25): three quarters of 7, the rest black
