"""Boxes as people give them."""

import numpy as np
import pytest
import torch

from tokenpose.boxes import padded_center_and_scale, read_boxes


def test_boxes_of_any_kind_become_float32_corners():
    given = [[10, 20, 30, 60]]
    for boxes in (given, np.array(given), torch.tensor(given), torch.tensor(given, dtype=torch.float16)):
        xyxy = read_boxes(boxes)
        assert xyxy.dtype == torch.float32
        assert xyxy.tolist() == [[10, 20, 30, 60]]
    assert read_boxes(given, "xywh").tolist() == [[10, 20, 40, 80]]  # x + width, y + height
    assert read_boxes([]).shape == (0, 4)


@pytest.mark.parametrize(
    ("box", "inside"),
    [
        ([-10, 5, 0, 15], False),  # ends at the left edge, x2 = 0
        ([-10, 5, 1, 15], True),
        ([5, -10, 15, 0], False),
        ([5, -10, 15, 1], True),
        ([100, 5, 110, 15], False),  # begins at the right edge of 100 columns
        ([99, 5, 109, 15], True),
        ([5, 50, 15, 60], False),  # begins below 50 rows
        ([5, 49, 15, 59], True),
    ],
)
def test_box_counts_as_outside_from_the_image_edge_on(box, inside):
    if inside:
        assert read_boxes([box], image_size=(50, 100)).tolist() == [box]
    else:
        with pytest.raises(ValueError, match=r"box 0 is .* wholly outside the image of width 100 and height 50"):
            read_boxes([box], image_size=(50, 100))


def test_box_needs_a_pixel_a_side_and_a_million_at_most():
    assert read_boxes([[0, 0, 1, 1]]).tolist() == [[0, 0, 1, 1]]
    for box in ([0, 0, 0.99, 1], [0, 0, 1, 1_000_001], [0, 0, float("nan"), 1]):
        with pytest.raises(
            ValueError, match=r"box 0 is .* it must be finite, x2 and y2 at least 1 pixel beyond x1 and y1"
        ):
            read_boxes([box])


def test_a_box_that_shows_one_pixel_can_not_be_cropped():
    boxes = torch.tensor([[0.0, 0.0, 40.0, 40.0], [0.0, 0.0, 1.0, 1.0]])
    # both are square as the crop is: 40 x 0.5 = 20 pixels, and 1 x 0.5 = 0.5
    with pytest.raises(ValueError, match=r"box 1 is .*: with box_padding 0\.5 it shows \[0\.5, 0\.5\] pixels"):
        padded_center_and_scale(boxes, (64, 64), 0.5)
    center, scale = padded_center_and_scale(boxes[:1], (64, 64), 0.5)
    assert center.tolist() == [[19.5, 19.5]]  # 0 + (40 - 1) / 2
    assert scale.tolist() == [[20, 20]]
