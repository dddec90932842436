"""The pictures of findings."""

import pytest

from tokenpose.visualize import LEFT

from .sheets import colors


def test_box_outside_the_image_is_shown_on_gray(sheet):
    page = sheet(lambda content: content["annotations"][5].update(bbox=[90, 20, 90, 60]))
    boxes = page.raw.split('id="boxes"')[1]
    assert "its box 90 x 60 at (90, 20) reaches 60 pixels out of the image" in boxes
    assert colors(page.pictures[0], (150, 150, 150)) > 1000


@pytest.mark.parametrize("box", [None, [0, 0, 0, 0], [5, 5, -3, 8], [float("nan")] * 4, [1e6, 1e6, 5, 5]])
def test_people_are_drawn_whatever_their_box(sheet, box):
    page = sheet(lambda content: content["annotations"][5].update(bbox=box))
    assert len(page.pictures) >= 1
    assert colors(page.pictures[0], LEFT) > 20
