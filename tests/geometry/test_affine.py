import pytest
import torch

from tokenpose.geometry.affine import compose, crop_matrices, invert, resize_matrices, transform_points
from tokenpose.geometry.boxes import center_and_scale

IMAGE, HEATMAP = (256, 192), (64, 48)


@pytest.fixture
def matrices(generator):
    """Eight people anywhere, turned anyhow; float64."""
    center = 400 * torch.rand(8, 2, generator=generator, dtype=torch.float64)
    scale = 50 + 300 * torch.rand(8, 2, generator=generator, dtype=torch.float64)
    rotation = 360 * torch.rand(8, generator=generator, dtype=torch.float64)
    return crop_matrices(center, scale, IMAGE, rotation)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_matrices_are_the_published_ones(ops, dtype):
    center, scale = center_and_scale(ops["boxes_xywh"].to(dtype), IMAGE)
    to_crop = crop_matrices(center, scale, IMAGE, ops["rotation_deg"].to(dtype))
    to_heatmap = resize_matrices(to_crop, IMAGE, HEATMAP)
    assert to_crop.dtype == to_heatmap.dtype == dtype
    torch.testing.assert_close(to_crop.double(), ops["affine_image_192x256"], rtol=0, atol=2e-4)
    torch.testing.assert_close(to_heatmap.double(), ops["affine_heatmap_48x64"], rtol=0, atol=5e-5)


def test_box_center_lands_on_the_crop_center_however_it_is_turned():
    center, scale = torch.tensor([[100.0, 50.0]] * 4), torch.tensor([[192.0, 256.0]] * 4)
    matrices = crop_matrices(center, scale, IMAGE, torch.tensor([0.0, 30.0, 90.0, -135.0]))
    landed = transform_points(center.unsqueeze(1), matrices)
    torch.testing.assert_close(landed, torch.tensor([[[95.5, 127.5]]] * 4), rtol=0, atol=1e-4)


def test_box_of_the_crops_own_size_is_shifted_only():
    matrix = crop_matrices(torch.tensor([[95.5, 127.5]]), torch.tensor([[192.0, 256.0]]), IMAGE)
    torch.testing.assert_close(matrix, torch.tensor([[[1.0, 0, 0], [0, 1, 0]]]), rtol=0, atol=1e-5)


def test_zoom_is_between_outermost_pixel_centers_and_follows_widths_only():
    scale = torch.tensor([[96.5, 128.0], [96.5, 5000.0]])  # (192 - 1) / (96.5 - 1) = 2
    matrices = crop_matrices(torch.zeros(2, 2), scale, IMAGE)
    assert matrices[:, :, :2].tolist() == [[[2.0, 0.0], [0.0, 2.0]]] * 2


def test_box_turns_clockwise_so_what_was_right_of_the_center_is_seen_above_it():
    # by 90 degrees the box's top points to the image's right: a point there is seen at the crop's top
    matrix = crop_matrices(torch.tensor([[50.0, 50.0]]), torch.tensor([[192.0, 256.0]]), IMAGE, torch.tensor([90.0]))
    seen = transform_points(torch.tensor([[[60.0, 50.0], [50.0, 60.0]]]), matrix)
    torch.testing.assert_close(seen, torch.tensor([[[95.5, 117.5], [105.5, 127.5]]]), rtol=0, atol=1e-4)


def test_rotation_matrix_is_cosine_sine_minus_sine_cosine():
    matrix = crop_matrices(torch.zeros(1, 2), torch.tensor([[192.0, 256.0]]), IMAGE, torch.tensor([30.0]))
    expected = torch.tensor([[[0.8660254, 0.5], [-0.5, 0.8660254]]])
    torch.testing.assert_close(matrix[..., :2], expected, rtol=0, atol=1e-6)


def test_cell_is_as_many_pixels_high_as_wide():
    # (192 - 1) / (48 - 1) crop pixels from cell to cell in x and in y, from center to center
    crop_points = torch.tensor([[[95.5, 127.5], [95.5 + 191 / 47, 127.5], [95.5, 127.5 + 191 / 47], [0.0, 0.0]]])
    identity = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    cells = transform_points(crop_points, resize_matrices(identity, IMAGE, HEATMAP))
    corner = [0.0, 31.5 - 127.5 * 47 / 191]  # x: corner on corner; y: a fraction of a cell beside it
    torch.testing.assert_close(
        cells, torch.tensor([[[23.5, 31.5], [24.5, 31.5], [23.5, 32.5], corner]]), rtol=0, atol=1e-5
    )


def test_resizing_equals_cropping_to_the_other_size(matrices, generator):
    center, scale = torch.rand(8, 2, generator=generator) * 300, 50 + torch.rand(8, 2, generator=generator) * 300
    rotation = torch.rand(8, generator=generator) * 90
    resized = resize_matrices(crop_matrices(center, scale, IMAGE, rotation), IMAGE, (96, 72))
    torch.testing.assert_close(resized, crop_matrices(center, scale, (96, 72), rotation), rtol=1e-5, atol=1e-4)


def test_image_to_crop_and_back_is_where_it_was(matrices, generator):
    points = 500 * torch.rand(8, 17, 2, generator=generator, dtype=torch.float64)
    back = transform_points(transform_points(points, matrices), invert(matrices))
    torch.testing.assert_close(back, points, rtol=0, atol=1e-9)


def test_map_after_its_inverse_is_the_identity(matrices):
    identity = torch.tensor([[[1.0, 0, 0], [0, 1, 0]]] * 8, dtype=torch.float64)
    torch.testing.assert_close(compose(matrices, invert(matrices)), identity, rtol=0, atol=1e-9)
    torch.testing.assert_close(compose(invert(matrices), matrices), identity, rtol=0, atol=1e-9)


def test_composed_maps_do_first_then_second(matrices, generator):
    points = 500 * torch.rand(8, 17, 2, generator=generator, dtype=torch.float64)
    second, first = matrices.flip(0), matrices
    one_by_one = transform_points(transform_points(points, first), second)
    torch.testing.assert_close(transform_points(points, compose(second, first)), one_by_one, rtol=1e-12, atol=1e-9)
    assert not torch.allclose(transform_points(points, compose(first, second)), one_by_one, atol=1.0)


def test_nobody_gives_no_matrices():
    nobody = crop_matrices(torch.zeros(0, 2), torch.zeros(0, 2), IMAGE, torch.zeros(0))
    assert nobody.shape == invert(nobody).shape == compose(nobody, nobody).shape == (0, 2, 3)
    assert resize_matrices(nobody, IMAGE, HEATMAP).shape == (0, 2, 3)
    assert transform_points(torch.zeros(0, 17, 2), nobody).shape == (0, 17, 2)


def test_matrices_stay_on_their_device():
    center, scale = torch.zeros(2, 2, device="meta"), torch.ones(2, 2, device="meta")
    to_heatmap = resize_matrices(crop_matrices(center, scale, IMAGE, torch.zeros(2, device="meta")), IMAGE, HEATMAP)
    assert to_heatmap.is_meta
    assert to_heatmap.shape == (2, 2, 3)
