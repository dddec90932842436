"""Images that can't be read, or have another size; images without annotations."""

import pytest
from PIL import Image

from .planting import HERE


def test_images_without_people_are_one_note_and_crowds_are_passed_over(content, check):
    del content["annotations"][:4]
    content["annotations"][0] = {"id": 4, "image_id": 14, "category_id": 1, "iscrowd": 1, "segmentation": {}}
    (found,) = check(content)
    assert (found.check, found.severity) == ("images without people", "note")
    assert found.message == "4 of 40 images have no annotations: 000.png, 001.png, 002.png and 1 more"
    assert found.images == ("000.png", "001.png", "002.png", "003.png")


def test_images_that_are_cut_short_or_no_images_cannot_be_read(content, check, drawn, tmp_path):
    whole = (drawn.parent / "images" / "007.png").read_bytes()
    (tmp_path / "short.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("no image")
    for row, name in ((HERE, "short.png"), (HERE + 1, "text.png")):
        content["images"][row]["file_name"] = name
    found = check(content, [drawn.parent / "images", tmp_path])  # type: ignore[arg-type]
    assert [(finding.check, finding.images) for finding in found] == [
        ("unreadable images", ("short.png",)),
        ("unreadable images", ("text.png",)),
    ]
    assert "short.png can't be decoded" in found[0].message
    assert "text.png is not an image that can be read" in found[1].message


@pytest.mark.parametrize(("size", "severity"), [((150, 120), "error"), ((120, 150), "note")])
def test_image_that_exif_turns_is_an_error_only_where_the_labels_were_made_on_the_turned_one(
    content, check, drawn, tmp_path, size, severity
):
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(drawn.parent / "images" / "007.png") as picture:
        picture.save(tmp_path / "turned.png", exif=exif)
    content["images"][HERE].update(file_name="turned.png", width=size[0], height=size[1])
    found = check(content, [drawn.parent / "images", tmp_path])  # type: ignore[arg-type]
    assert [(one.severity, one.images) for one in found if one.check == "image sizes"] == [(severity, ("turned.png",))]
