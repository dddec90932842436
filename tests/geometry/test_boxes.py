import pytest
import torch

from tokenpose.geometry.boxes import center_and_scale, grow_to_aspect, xywh_to_xyxy, xyxy_to_xywh

FLOATS = [torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", FLOATS)
def test_centers_and_scales_are_the_published_ones(ops, dtype):
    center, scale = center_and_scale(ops["boxes_xywh"].to(dtype), (256, 192))
    assert center.dtype == scale.dtype == dtype
    # 2e-5, and one rounding of a float32 near 400 (3e-5) where the boxes are rounded to it
    torch.testing.assert_close(center.double(), ops["center_xy"], rtol=0, atol=2e-5 if dtype == torch.float64 else 4e-5)
    torch.testing.assert_close(scale.double() / 200, ops["scale_wh_div200"], rtol=0, atol=2e-5)


def test_center_is_that_of_the_outermost_pixel_centers():
    # pixels 10..14 across and 20..29 down: their centers' middle is (12, 24.5)
    center, _ = center_and_scale(torch.tensor([[10.0, 20.0, 5.0, 10.0]]), (256, 192))
    assert center.tolist() == [[12.0, 24.5]]


@pytest.mark.parametrize(
    ("extent", "grown"),
    [
        ([30.0, 80.0], [60.0, 80.0]),  # tall: 80 x 192 / 256 wide
        ([90.0, 80.0], [90.0, 120.0]),  # wide: 90 x 256 / 192 high
        ([75.0, 100.0], [75.0, 100.0]),  # fits already
    ],
)
def test_short_side_grows_to_the_aspect_of_the_crop(extent, grown):
    assert grow_to_aspect(torch.tensor([extent]), (256, 192)).tolist() == [grown]


def test_scale_is_padded_by_a_quarter_unless_told():
    box = torch.tensor([[0.0, 0.0, 60.0, 80.0]])
    assert center_and_scale(box, (256, 192))[1].tolist() == [[75.0, 100.0]]
    assert center_and_scale(box, (256, 192), padding=1.0)[1].tolist() == [[60.0, 80.0]]


def test_corners_and_sizes_convert_into_each_other():
    xyxy = torch.tensor([[10.0, 20.0, 40.0, 80.0], [-5.0, 0.0, 5.0, 1.0]])
    assert xyxy_to_xywh(xyxy).tolist() == [[10.0, 20.0, 30.0, 60.0], [-5.0, 0.0, 10.0, 1.0]]
    assert torch.equal(xywh_to_xyxy(xyxy_to_xywh(xyxy)), xyxy)


def test_no_box_gives_no_center():
    center, scale = center_and_scale(torch.zeros(0, 4), (256, 192))
    assert center.shape == scale.shape == (0, 2)
    assert xyxy_to_xywh(torch.zeros(0, 4)).shape == xywh_to_xyxy(torch.zeros(0, 4)).shape == (0, 4)


def test_boxes_are_not_edited():
    boxes = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    for convert in (xyxy_to_xywh, xywh_to_xyxy, lambda given: center_and_scale(given, (64, 48))):
        convert(boxes)
    assert boxes.tolist() == [[1.0, 2.0, 3.0, 4.0]]
