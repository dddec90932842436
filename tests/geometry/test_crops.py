import pytest
import torch

from tokenpose.geometry.affine import crop_matrices
from tokenpose.geometry.boxes import center_and_scale
from tokenpose.geometry.crops import crop_image, crop_images, normalize

IDENTITY = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])


def shifted(x: float, y: float) -> torch.Tensor:
    """Image -> a crop whose first pixel shows (x, y) of the image."""
    return IDENTITY - torch.tensor([[[0.0, 0.0, x], [0.0, 0.0, y]]])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_crops_are_the_published_ones(ops, dtype):
    center, scale = center_and_scale(ops["boxes_xywh"].to(dtype), (256, 192))
    matrices = crop_matrices(center, scale, (256, 192), ops["rotation_deg"].to(dtype))
    image = ops["image_hwc_uint8"].permute(2, 0, 1)
    crops = crop_image(image, matrices[ops["crop_indices"]], (256, 192))
    difference = (crops.round().permute(0, 2, 3, 1) - ops["crops_hwc_uint8"]).abs()
    assert crops.dtype == dtype
    assert difference.max() <= 1  # gray levels
    assert (difference > 0).double().mean() < 1e-4


def test_identity_map_gives_the_image(generator):
    image = torch.randint(0, 256, (3, 20, 30), generator=generator, dtype=torch.uint8)
    torch.testing.assert_close(crop_image(image, IDENTITY, (20, 30))[0], image.float(), rtol=0, atol=1e-2)


def test_between_pixels_is_their_weighted_mean():
    image = torch.tensor([[0.0, 100.0], [40.0, 140.0]]).expand(3, 2, 2)
    crop = crop_image(image, shifted(0.25, 0.5), (1, 1))  # a quarter across, halfway down: (25 + 65) / 2
    torch.testing.assert_close(crop, torch.full((1, 3, 1, 1), 45.0), rtol=0, atol=1e-4)


def test_half_outside_blends_with_black():
    white = torch.full((3, 4, 4), 200.0)
    crop = crop_image(white, shifted(-0.5, 1.0), (1, 2))[0, 0, 0]
    torch.testing.assert_close(crop, torch.tensor([100.0, 200.0]), rtol=0, atol=1e-3)


def test_box_outside_the_image_is_black():
    white = torch.full((3, 40, 30), 255, dtype=torch.uint8)
    center, scale = center_and_scale(torch.tensor([[100.0, 10.0, 30.0, 40.0], [-90.0, -80.0, 30.0, 40.0]]), (64, 48))
    assert crop_image(white, crop_matrices(center, scale, (64, 48)), (64, 48)).abs().max() == 0


def test_image_one_pixel_wide_is_black_beside_it():
    line = torch.full((3, 5, 1), 200.0)
    crop = crop_image(line, shifted(-2.0, 0.0), (5, 5))[0, 0]
    torch.testing.assert_close(crop, torch.tensor([0.0, 0, 200, 0, 0]).expand(5, 5), rtol=0, atol=1e-3)


def test_cropping_one_image_equals_cropping_a_batch_of_it(ops):
    image = ops["image_hwc_uint8"].permute(2, 0, 1)
    center, scale = center_and_scale(ops["boxes_xywh"].float(), (64, 48))
    matrices = crop_matrices(center, scale, (64, 48), ops["rotation_deg"].float())
    together = crop_images(image.expand(8, -1, -1, -1), matrices, (64, 48))
    torch.testing.assert_close(crop_image(image, matrices, (64, 48)), together, rtol=0, atol=1e-3)


def test_everybodys_crop_equals_each_on_its_own(ops):
    image = ops["image_hwc_uint8"].permute(2, 0, 1)
    center, scale = center_and_scale(ops["boxes_xywh"].float(), (64, 48))
    matrices = crop_matrices(center, scale, (64, 48))
    singly = [crop_image(image, matrices[person : person + 1], (64, 48)) for person in range(8)]
    assert torch.equal(crop_image(image, matrices, (64, 48)), torch.cat(singly))


def test_nobody_gives_no_crops():
    assert crop_image(torch.zeros(3, 9, 9), torch.zeros(0, 2, 3), (64, 48)).shape == (0, 3, 64, 48)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_image_is_sampled_at_float32_coordinates(generator, half):
    image = torch.rand(3, 500, 500, generator=generator).to(half)
    matrices = crop_matrices(torch.tensor([[300.3, 250.7]]), torch.tensor([[300.0, 400.0]]), (256, 192))
    crop = crop_image(image, matrices, (256, 192))
    assert crop.dtype == torch.float32
    assert torch.equal(crop, crop_image(image.float(), matrices, (256, 192)))


def test_image_is_not_edited(generator):
    image = torch.randint(0, 256, (3, 9, 9), generator=generator, dtype=torch.uint8)
    before = image.clone()
    crop_image(image, shifted(2.0, 2.0), (5, 5))
    assert torch.equal(image, before)


def test_crops_have_shape_and_dtype_on_the_meta_device():
    crops = crop_image(
        torch.empty(3, 9, 9, dtype=torch.uint8, device="meta"), torch.empty(2, 2, 3, device="meta"), (64, 48)
    )
    assert (crops.shape, crops.dtype) == ((2, 3, 64, 48), torch.float32)


def test_normalized_mean_color_is_zero_and_one_deviation_above_is_one():
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    crops = torch.tensor([mean, [m + s for m, s in zip(mean, std, strict=True)]]).view(2, 3, 1, 1)
    expected = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 1, 1)
    torch.testing.assert_close(normalize(crops * 255, mean, std), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(normalize(crops, mean, std, unit=1.0), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("layout", ["planes", "pixels"])
def test_large_images_are_sampled_from_neighbors_alone_with_the_same_result(ops, monkeypatch, layout):
    image = ops["image_hwc_uint8"].permute(2, 0, 1)
    image = image.contiguous() if layout == "planes" else image
    center, scale = center_and_scale(ops["boxes_xywh"].float(), (64, 48))
    center = torch.cat((center, torch.tensor([[-5_000.0, 0.0], [0.0, 0.0], [image.shape[2] - 1.0, 3.0]])))
    scale = torch.cat((scale, torch.tensor([[50.0, 60.0], [30.0, 40.0], [9_000.0, 12_000.0]])))
    rotation = torch.cat((ops["rotation_deg"].float(), torch.tensor([0.0, 90.0, 10.0])))
    matrices = crop_matrices(center, scale, (64, 48), rotation)
    whole = crop_image(image, matrices, (64, 48))
    monkeypatch.setattr("tokenpose.geometry.crops._PIXELS_AT_ONCE", 0)
    sparsely = crop_image(image, matrices, (64, 48))
    assert (sparsely.shape, sparsely.dtype) == (whole.shape, whole.dtype)
    torch.testing.assert_close(sparsely, whole, rtol=0, atol=2e-2)  # gray levels of 255
    assert crop_image(image, matrices[:0], (64, 48)).shape == (0, 3, 64, 48)
    assert crop_image(image.double(), matrices, (64, 48)).dtype == torch.float64


def test_of_a_large_image_only_neighbors_are_read():
    image = torch.arange(100, dtype=torch.uint8).repeat(100).expand(3, 10_000, 10_000)  # x % 100, in 10 kB
    matrices = crop_matrices(torch.tensor([[5_049.5, 5_000.0]]), torch.tensor([[96.0, 128.0]]), (128, 96))
    columns = (torch.arange(96.0) + 2).expand(3, 128, 96)  # from x = 5002 on, pixel by pixel
    torch.testing.assert_close(crop_image(image, matrices, (128, 96))[0], columns, rtol=0, atol=0.1)
