import zipfile

import pytest
from PIL import Image

from tokenpose.data.formats.image_sizes import ImageSizes

from .exports import save_image, write


def test_sizes_are_width_and_height_from_the_header(tmp_path):
    save_image(tmp_path / "in" / "a.png", 80, 60)
    assert ImageSizes(None, tmp_path).find("in/a.png") == (80, 60)
    assert ImageSizes([tmp_path / "in"], tmp_path / "none").find("a.png") == (80, 60)


def test_a_photograph_that_exif_turns_has_its_turned_size(tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (80, 60)).save(tmp_path / "a.jpg", exif=turned)
    assert ImageSizes(None, tmp_path).find("a.jpg") == (60, 80)


def test_images_are_found_in_zip_files(tmp_path):
    save_image(tmp_path / "a.png")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "a.png", "photos/a.png")
    sizes = ImageSizes(tmp_path / "a.zip", tmp_path)
    assert sizes.find("a.png") == (80, 60)
    assert sizes.has("a.png")
    assert not sizes.has("b.png")


def test_nothing_outside_the_folder_is_read(tmp_path):
    save_image(tmp_path / "a.png")
    (tmp_path / "in").mkdir()
    assert not ImageSizes(tmp_path / "in", tmp_path).has("../a.png")


def test_a_missing_image_says_how_to_give_a_place(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no image a\.png .*; say where the images are: --images PLACE"):
        ImageSizes(None, tmp_path).find("a.png")
    with pytest.raises(FileNotFoundError, match=f"no image a\\.png in {tmp_path}$"):
        ImageSizes(tmp_path, tmp_path).find("a.png")


def test_a_file_that_is_no_image_is_refused_by_name(tmp_path):
    write(tmp_path / "a.png", "no image")
    with pytest.raises(OSError, match=r"^a\.png is not an image that can be read$"):
        ImageSizes(None, tmp_path).find("a.png")
