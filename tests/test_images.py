import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tokenpose.images import decode_image, read_image, write_image

ORIENTATION = 0x0112  # the EXIF tag


@pytest.fixture
def pixels() -> np.ndarray:
    """3 rows, 5 columns."""
    return np.random.default_rng(0).integers(0, 256, (3, 5, 3), dtype=np.uint8)


def as_array(image: torch.Tensor) -> np.ndarray:
    assert image.dtype == torch.uint8
    return image.permute(1, 2, 0).numpy()


def test_path_pil_array_and_tensors_give_the_same_pixels(pixels, tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    for image in (path, str(path), Image.fromarray(pixels), pixels, tensor, tensor / 255, tensor.double() / 255):
        assert np.array_equal(as_array(read_image(image)), pixels)


def test_bfloat16_of_white_is_white():
    assert read_image(torch.ones(3, 2, 2, dtype=torch.bfloat16)).min() == 255


def test_uint8_tensor_is_not_copied(pixels):
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    assert read_image(tensor) is tensor


@pytest.mark.parametrize("view", [np.s_[:, ::-1], np.s_[::2], np.s_[..., ::-1]], ids=["mirrored", "strided", "bgr"])
def test_views_of_arrays_are_read_as_they_are(pixels, view):
    assert np.array_equal(as_array(read_image(pixels[view])), pixels[view])


def test_read_only_array_is_copied(pixels):
    for array in (pixels, pixels[:1, :1]):
        array.setflags(write=False)
        image = read_image(array)
        image.zero_()
        assert array.any()


def test_exif_orientation_turns_files_and_pil_images_but_not_annotated_ones(pixels, tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # to be turned clockwise by 90 degrees
    path = tmp_path / "turned.png"
    Image.fromarray(pixels).save(path, exif=exif)
    clockwise = np.rot90(pixels, -1)
    assert np.array_equal(as_array(read_image(path)), clockwise)
    with Image.open(path) as opened:
        assert np.array_equal(as_array(read_image(opened)), clockwise)
    assert np.array_equal(as_array(decode_image(path.read_bytes(), "turned.png")), pixels)


def test_gray_images_get_three_equal_channels():
    gray = np.array([[0, 100, 255]], dtype=np.uint8)
    assert np.array_equal(as_array(read_image(Image.fromarray(gray)))[..., 2], gray)


def test_black_and_white_images_become_0_and_255():
    assert as_array(read_image(Image.new("1", (2, 1), 1))).tolist() == [[[255] * 3] * 2]


def test_16_bit_gray_is_scaled_so_that_65535_is_white(tmp_path):
    gray = Image.fromarray(np.array([[0, 257, 32768, 65535]], dtype=np.uint16))
    gray.save(tmp_path / "deep.png")
    for image in (gray, tmp_path / "deep.png"):
        assert as_array(read_image(image))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_transparency_is_dropped_and_the_color_beneath_kept():
    assert as_array(read_image(Image.new("RGBA", (1, 1), (10, 20, 30, 0)))).tolist() == [[[10, 20, 30]]]
    assert as_array(read_image(Image.new("LA", (1, 1), (10, 0)))).tolist() == [[[10, 10, 10]]]


def test_palette_is_looked_up_with_transparency_too(tmp_path):
    palette = Image.new("P", (1, 1), 0)
    palette.putpalette([10, 20, 30] * 256)
    palette.save(tmp_path / "palette.png", transparency=bytes(256))
    for image in (palette, tmp_path / "palette.png"):
        assert as_array(read_image(image)).tolist() == [[[10, 20, 30]]]


def test_cmyk_becomes_rgb():
    assert as_array(read_image(Image.new("CMYK", (1, 1), (0, 255, 255, 0)))).tolist() == [[[255, 0, 0]]]


@pytest.mark.parametrize("mode", ["I", "F"])
def test_32_bit_images_are_refused_because_white_is_unknown(mode, tmp_path):
    image = Image.new(mode, (2, 2))
    with pytest.raises(ValueError, match=f'mode "{mode}".*does not say which value is white'):
        read_image(image)
    image.save(tmp_path / "deep.tif")
    with pytest.raises(OSError, match=r"deep\.tif can't be decoded: .*does not say which value is white"):
        read_image(tmp_path / "deep.tif")


@pytest.mark.parametrize("mode", ["HSV", "YCbCr", "LAB", "La", "RGBa", "PA", "RGBX", "LA", "CMYK", "I;16B", "I;16L"])
def test_every_mode_of_8_and_16_bits_becomes_rgb(mode):
    assert read_image(Image.new(mode, (4, 3))).shape == (3, 3, 4)


@pytest.mark.parametrize(
    ("orientation", "turned"),
    [
        (1, lambda a: a), (2, np.fliplr), (3, lambda a: np.rot90(a, 2)), (4, np.flipud),
        (5, lambda a: a.transpose(1, 0, 2)), (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: np.rot90(a, 2).transpose(1, 0, 2)), (8, np.rot90), (9, lambda a: a), (0, lambda a: a),
    ],
)  # fmt: skip
def test_every_exif_orientation_is_undone(pixels, tmp_path, orientation, turned):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(pixels).save(tmp_path / "photo.png", exif=exif)
    assert np.array_equal(as_array(read_image(tmp_path / "photo.png")), turned(pixels))


def test_of_an_animation_the_first_picture_is_read(tmp_path):
    frames = [Image.new("RGB", (4, 3), color) for color in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    for name in ("a.gif", "a.webp", "a.png"):
        options = {"lossless": True} if name == "a.webp" else {}
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
        assert as_array(read_image(tmp_path / name))[0, 0].tolist() == [255, 0, 0]


def test_deep_color_files_are_read_at_8_bits(tmp_path):
    header = b"P6 2 1 65535\n" + b"\xff\xff\x80\x80\x00\x00" * 2
    (tmp_path / "deep.ppm").write_bytes(header)
    assert as_array(read_image(tmp_path / "deep.ppm"))[0, 0].tolist() == [255, 128, 0]


def test_a_pil_image_without_pixels_is_refused():
    with pytest.raises(ValueError, match="a PIL image of 0x5 has no pixels"):
        read_image(Image.new("RGB", (0, 5)))


def test_a_decompression_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    Image.new("L", (300, 300)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30_000)  # Pillow's own limit, made small
    with pytest.raises(OSError, match=r"bomb\.png can't be decoded: .*90000 pixels.* decompression bomb"):
        read_image(tmp_path / "bomb.png")


def test_a_header_that_promises_too_much_is_refused(tmp_path):
    content = io.BytesIO()
    Image.new("L", (8, 8)).save(content, "PNG")
    header = bytearray(content.getvalue())
    header[16:24] = (100_000).to_bytes(4, "big") * 2
    (tmp_path / "bomb.png").write_bytes(header)
    with pytest.raises(OSError, match=r"bomb\.png (can't be decoded|is not an image)"):
        read_image(tmp_path / "bomb.png")


def test_an_address_is_not_fetched():
    with pytest.raises(FileNotFoundError, match=r"no image https://a\.b/c\.jpg; addresses are not fetched: download"):
        read_image("https://a.b/c.jpg")


FILE_ERRORS = {
    "missing.png": (FileNotFoundError, "there is no image {path}"),
    "folder": (IsADirectoryError, "{path} is a folder; an image file is needed"),
    "text.jpg": (OSError, "{path} is not an image that can be read"),
    "empty.jpg": (OSError, "{path} is not an image that can be read"),
    "cut.png": (OSError, "{path} can't be decoded: "),
    "cut.jpg": (OSError, "{path} can't be decoded: "),
}


@pytest.mark.parametrize("name", FILE_ERRORS)
def test_unreadable_file_is_an_error_that_names_it(name, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.jpg").write_text("not an image")
    (tmp_path / "empty.jpg").touch()
    for cut in ("cut.png", "cut.jpg"):
        Image.effect_noise((64, 64), 50).save(tmp_path / cut)
        content = (tmp_path / cut).read_bytes()
        (tmp_path / cut).write_bytes(content[: len(content) // 2])
    error, message = FILE_ERRORS[name]
    with pytest.raises(error, match=re.escape(message.format(path=tmp_path / name))):
        read_image(tmp_path / name)


def test_bytes_that_are_no_image_are_an_error_that_names_them():
    with pytest.raises(OSError, match=r"^00001\.jpg is not an image that can be read$"):
        decode_image(b"nothing", "00001.jpg")
    content = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(content, "PNG")
    with pytest.raises(OSError, match=r"^00001\.png can't be decoded: "):
        decode_image(content.getvalue()[:1000], "00001.png")


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 5), np.uint8), "an image array is RGB of shape (H, W, 3); got (4, 5); it looks gray"),
        (np.zeros((4, 5, 4), np.uint8), "an image array is RGB of shape (H, W, 3); got (4, 5, 4); it looks like RGBA"),
        (
            np.zeros((3, 4, 5), np.uint8),
            "got (3, 4, 5); channels look swapped, (3, H, W): give a tensor, or transpose(1, 2, 0)",
        ),
        (np.zeros((0, 5, 3), np.uint8), "an image array is RGB of shape (H, W, 3); got (0, 5, 3)"),
        (np.zeros((4, 5, 3)), "an image array is uint8, 0..255; got float64: convert it, or give a float tensor"),
        (torch.zeros(4, 5), "an image tensor is RGB of shape (3, H, W); got (4, 5)"),
        (torch.zeros(2, 3, 4, 5), "shape (3, H, W); got (2, 3, 4, 5); it looks like a batch"),
        (torch.zeros(4, 5, 3), "got (4, 5, 3); channels look swapped, (H, W, 3): use permute(2, 0, 1)"),
        (torch.zeros(3, 4, 5, dtype=torch.int32), "an image tensor is uint8 or float in 0..1; got torch.int32"),
        (torch.full((3, 4, 5), 255.0), "holds values in 0..1; got 255..255: divide by 255, undo normalization"),
        (torch.full((3, 4, 5), -0.5), "holds values in 0..1; got -0.5..-0.5"),
        (torch.full((3, 4, 5), torch.nan), "holds values in 0..1; got nan..nan"),
    ],
    ids=lambda value: "" if isinstance(value, str) else None,
)
def test_wrong_array_or_tensor_is_refused(image, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        read_image(image)


@pytest.mark.parametrize("image", [None, 3, b"bytes", [Path("photo.jpg")]])
def test_other_types_are_refused(image):
    with pytest.raises(TypeError, match=rf"a path, a PIL image, an array or a tensor; got {type(image).__name__}"):
        read_image(image)


def test_written_image_is_read_again_and_its_folder_is_made(pixels, tmp_path):
    path = tmp_path / "new" / "picture.png"
    write_image(pixels, path)
    assert np.array_equal(as_array(read_image(path)), pixels)


def test_format_of_a_written_image_is_that_of_its_suffix(pixels, tmp_path):
    write_image(pixels, tmp_path / "picture.JPG")
    with Image.open(tmp_path / "picture.JPG") as written:
        assert written.format == "JPEG"


@pytest.mark.parametrize("name", ["picture", "picture.txt", "picture.psd"])
def test_suffix_that_names_no_format_to_write_is_refused(pixels, tmp_path, name):
    with pytest.raises(
        ValueError, match=rf"^can't write an image as .*{re.escape(name)}: end its name in .png or .jpg$"
    ):
        write_image(pixels, tmp_path / name)
    assert list(tmp_path.iterdir()) == []
