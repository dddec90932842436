"""The contact sheet of suspects: what lies in the file."""

import io
import re
from typing import Any

import pytest
from PIL import Image

from tokenpose.doctor.drawings import RING
from tokenpose.visualize import LEFT, RIGHT

from .sheets import colors, exchange_hips

HOSTILE = "</style><script>alert(1)</script>\"'&\ud800.png"


def test_exchanged_hips_are_shown_as_labeled_and_the_other_way_round(sheet):
    page = sheet(exchange_hips)
    assert "Findings in people.json" in page.text
    assert "30 people in 30 images, 14 keypoints" in page.text
    assert "left and right: 1" in page.text
    assert "warning annotation 5 in 005.png left_hip and right_hip look swapped" in page.text
    assert "as labeled swapped" in page.text
    assert len(page.pictures) == 2
    for picture in page.pictures:
        assert max(Image.open(io.BytesIO(picture)).size) == 320
        assert min(colors(picture, color) for color in (LEFT, RIGHT, RING)) > 40
    assert page.pictures[0] != page.pictures[1]


def test_other_findings_about_a_person_are_told_beside(sheet):
    def change(content: dict[str, Any]) -> None:
        exchange_hips(content)
        content["annotations"][5]["num_keypoints"] = 3

    text = sheet(change).text
    assert "also visibility flags: its num_keypoints is 3, and v is above 0 for 14" in text
    assert "also left and right: left_hip and right_hip look swapped" in text


def test_names_of_a_file_cannot_become_markup(sheet):
    def change(content: dict[str, Any]) -> None:
        content["images"][5]["file_name"] = HOSTILE
        content["images"][6]["width"] = 99
        content["categories"][0]["keypoints"][3] = "<img src=x onerror=alert(1)>left_hip"
        content["annotations"][7]["keypoints"][9:12] = [999, 999, 2]

    page = sheet(change)
    assert "script" not in page.tags
    assert page.tags.count("img") == len(page.pictures) >= 2
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert "</style><script>alert(1)</script>\"'&?.png" in page.text  # what UTF-8 can't say becomes a question mark
    assert "<img src=x onerror=alert(1)>left_hip" in page.text


def test_page_asks_for_nothing_from_outside(sheet):
    page = sheet(exchange_hips)
    without_pictures = re.sub(r"data:image/jpeg;base64,[A-Za-z0-9+/=]+", "", page.raw)
    assert not re.search(r"https?:|//|@import|url\(", without_pictures)
    assert {value for name, value in page.attributes if name in ("src", "href")} - {"data:,", "#left-and-right"} == {
        value for name, value in page.attributes if name == "src"
    }
    policy = dict(page.attributes)["content"] and next(v for n, v in page.attributes if "default-src" in v)
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")


def test_at_most_so_many_of_a_check_are_shown_and_the_rest_is_counted(sheet):
    def change(content: dict[str, Any]) -> None:
        for annotation in content["annotations"][:10]:
            annotation["num_keypoints"] = 3

    page = sheet(change, most=4)
    assert page.tags.count("article") == 4
    assert "visibility flags: 10" in page.text
    assert "and 6 more, which the JSON report lists" in page.text
    with pytest.raises(ValueError, match="at least one finding of a check; got 0"):
        sheet(change, most=0)


def test_images_without_people_or_pixels_leave_the_sheet_whole(sheet, tmp_path):
    def change(content: dict[str, Any]) -> None:
        content["images"][5]["width"] = 77
        content["images"][5]["file_name"] = "gone.png"
        content["annotations"][5]["num_keypoints"] = 2
        content["images"][6]["width"] = 88
        del content["annotations"][6]

    page = sheet(change)
    assert "no picture: there is no image gone.png" in page.text
    assert "it is 120 x 150, and the file says 88 x 150" in page.text


def test_without_images_there_are_cards_without_pictures(sheet):
    page = sheet(exchange_hips, with_images=False)
    assert page.pictures == []
    assert page.tags.count("article") == 1
    assert page.text.count("not checked") == 4


def test_file_without_a_fault_has_an_overview_and_no_card(sheet):
    page = sheet(lambda content: None)
    assert page.tags.count("article") == 0
    assert page.tags.count("tr") == 17
