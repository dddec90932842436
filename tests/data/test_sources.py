import io
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tokenpose.data.sources import ImageSource, Source


@pytest.fixture
def folder(tmp_path):
    """pictures/a.png and pictures/images/b.png, of 2 x 3 pixels, 10 and 20 everywhere; nothing/ is empty."""
    for name, gray in (("a.png", 10), ("images/b.png", 20)):
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((2, 3, 3), gray, dtype=np.uint8)).save(path)
    (tmp_path / "nothing").mkdir()
    return tmp_path / "pictures"


def packed(folder, kind):
    path = folder.parent / f"packed.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in ("a.png", "images/b.png"):
                archive.write(folder / name, name)
    else:
        with tarfile.open(path, "w:gz" if kind == "tar.gz" else "w") as archive:
            archive.add(folder, ".")
    return path


@pytest.mark.parametrize("kind", ["folder", "tar", "zip"])
def test_images_are_read_from(folder, kind):
    source = ImageSource(folder if kind == "folder" else packed(folder, kind))
    image = source.read("a.png")
    assert (image.shape, image.dtype) == ((3, 2, 3), torch.uint8)
    assert (image == 10).all()
    assert (source.read("b.png") == 20).all()  # found under images/
    assert (source.read("images/b.png") == 20).all()
    assert (source.read("elsewhere/a.png") == 10).all()  # by its last part


def test_patterns_and_several_places_are_taken_together(folder):
    packed(folder, "tar").rename(folder.parent / "part-0.tar")
    Image.fromarray(np.full((2, 3, 3), 30, dtype=np.uint8)).save(folder / "c.png")
    with zipfile.ZipFile(folder.parent / "part-1.tar", "w") as archive:  # known by its content, not by its name
        archive.write(folder / "c.png", "c.png")
    source = ImageSource(str(folder.parent / "part-*.tar"))
    assert [int(source.read(name)[0, 0, 0]) for name in ("a.png", "b.png", "c.png")] == [10, 20, 30]
    source = ImageSource([folder.parent / "nothing", str(folder.parent / "pict*")])
    assert (source.read("c.png") == 30).all()


@pytest.mark.parametrize("kind", ["folder", "tar", "zip"])
def test_missing_image_is_refused_with_the_places(folder, kind):
    place = folder if kind == "folder" else packed(folder, kind)
    with pytest.raises(FileNotFoundError, match=rf"there is no image z\.png in .*{place.name}"):
        ImageSource(place).read("z.png")


@pytest.mark.parametrize("place", ["nowhere", "part-*.tar"])
def test_missing_place_is_refused(tmp_path, place):
    with pytest.raises(FileNotFoundError, match=r"there is no folder, tar or zip of images .*(nowhere|part-\*\.tar)"):
        ImageSource(str(tmp_path / place))


def test_compressed_tar_and_other_files_are_refused(folder):
    message = "images are read from folders, uncompressed tar files and zip files; .* is none of these"
    with pytest.raises(ValueError, match=f"{message}$"):
        ImageSource(folder / "a.png")
    with pytest.raises(ValueError, match=f"{message}: it is compressed, .*; run gunzip on it once$"):
        ImageSource(packed(folder, "tar.gz"))


def cut(path, size):
    """The file's first bytes; of a negative size: all but so many."""
    path.write_bytes(path.read_bytes()[:size])
    return path


def test_tar_that_is_cut_off_is_refused_with_the_last_file_in_it(folder):
    path = packed(folder, "tar")
    with tarfile.open(path) as archive:
        place = archive.getmember("./images/b.png")
    with pytest.raises(ValueError, match=r"packed\.tar is a tar file that is cut off or broken at \./images/b\.png: "):
        ImageSource(cut(path, place.offset_data + place.size - 1))
    with pytest.raises(ValueError, match=r"packed\.tar is a tar file that is cut off or broken at \./images: "):
        ImageSource(cut(path, place.offset + 100))  # in the middle of its header


def test_tar_with_a_broken_header_is_refused(folder):
    path = packed(folder, "tar")
    with tarfile.open(path) as archive:
        place = archive.getmember("./images").offset
    content = bytearray(path.read_bytes())
    content[place : place + 100] = b"x" * 100
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"is cut off or broken at \./a\.png: a header is expected"):
        ImageSource(path)


def test_zip_that_is_cut_off_is_refused(folder):
    with pytest.raises(ValueError, match=r"packed\.zip is none of these: it looks like a zip file that is cut off"):
        ImageSource(cut(packed(folder, "zip"), -30))


def test_zip_with_a_damaged_image_is_refused_when_that_is_read(folder):
    path = packed(folder, "zip")
    content = bytearray(path.read_bytes())
    content[40:60] = bytes(20)
    path.write_bytes(content)
    source = ImageSource(path)
    assert (source.read("b.png") == 20).all()
    with pytest.raises(OSError, match=r"a\.png can't be read from .*packed\.zip: "):
        source.read("a.png")


def test_encrypted_zip_is_refused(folder):
    path = packed(folder, "zip")
    content = bytearray(path.read_bytes())
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + flags] |= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"packed\.zip: a\.png is encrypted; pack it again without a password"):
        ImageSource(path)


def write_archive(path, names):
    """Pictures of gray 10, 20, 30, ... under these names."""
    contents = []
    for gray in range(10, 10 * len(names) + 1, 10):
        buffer = io.BytesIO()
        Image.fromarray(np.full((2, 3, 3), gray, dtype=np.uint8)).save(buffer, "PNG")
        contents.append(buffer.getvalue())
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in zip(names, contents, strict=True):
                archive.writestr(name, content)
    else:
        with tarfile.open(path, "w") as archive:
            for name, content in zip(names, contents, strict=True):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize("suffix", [".tar", ".zip"])
@pytest.mark.parametrize(
    ("packed_as", "asked"),
    [
        ("./a.png", "a.png"),
        ("/a.png", "a.png"),
        ("a.png", "./a.png"),
        ("a.png", "/data/a.png"),
        ("set\\a.png", "set/a.png"),
        ("set/a.png", "set\\a.png"),
        ("set//a.png", "set/./a.png"),
        ("train2017/a.png", "a.png"),
        ("coco/train/a.png", "train/a.png"),
        ("ünïcode/größe.png", "größe.png"),
        ("gro\u0308ße.png", "größe.png"),  # the accent as a sign of its own, as macOS writes it
        ("größe.png", "gro\u0308ße.png"),
        ("写真.png", "写真.png"),
    ],
)
def test_names_are_found_however_they_are_written(tmp_path, suffix, packed_as, asked):
    source = ImageSource(write_archive(tmp_path / f"some{suffix}", [packed_as, "other/b.png"]))
    assert (source.read(asked) == 10).all()


def test_names_of_a_zip_that_does_not_say_utf8_are_found(tmp_path):
    path = write_archive(tmp_path / "some.zip", ["größe.png"])
    content = bytearray(path.read_bytes())
    for mark, flags in ((b"PK\x03\x04", 7), (b"PK\x01\x02", 9)):
        content[content.index(mark) + flags] &= 0xFF ^ 0x08
    path.write_bytes(content)
    assert (ImageSource(path).read("größe.png") == 10).all()


def test_folders_have_names_with_accents_too(tmp_path):
    for name in ("größe.png", "a\u0308.png"):
        Image.fromarray(np.full((2, 3, 3), 10, dtype=np.uint8)).save(tmp_path / name)
    source = ImageSource(tmp_path)
    assert (source.read("größe.png") == 10).all()
    assert (source.read("ä.png") == 10).all()


@pytest.mark.parametrize("suffix", [".tar", ".zip"])
def test_name_that_fits_several_members_is_refused(tmp_path, suffix):
    source = ImageSource(write_archive(tmp_path / f"some{suffix}", ["one/1.png", "two/1.png"]))
    assert (source.read("two/1.png") == 20).all()
    with pytest.raises(OSError, match=rf"some\{suffix} has several images 1\.png: one/1\.png, two/1\.png; give their"):
        source.read("1.png")
    with pytest.raises(FileNotFoundError, match=r"there is no image three/1\.png"):  # never another folder's
        source.read("three/1.png")


def test_first_place_that_has_a_name_counts(tmp_path, folder):
    first = write_archive(tmp_path / "first.zip", ["x.png", "a.png"])
    second = write_archive(tmp_path / "second.tar", ["x.png", "y.png", "a.png"])
    assert [int(ImageSource([first, second, folder]).read(name)[0, 0, 0]) for name in ("a.png", "y.png")] == [20, 20]
    assert (ImageSource([second, folder, first]).read("a.png") == 30).all()
    assert (ImageSource([folder, first, second]).read("a.png") == 10).all()


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("suffix", [".tar", ".zip"])
def test_last_of_two_members_of_one_name_counts_as_when_unpacked(tmp_path, suffix):
    source = ImageSource(write_archive(tmp_path / f"some{suffix}", ["a.png", "b.png", "a.png"]))
    assert (source.read("a.png") == 30).all()


def test_nothing_outside_a_folder_is_read(folder):
    source = ImageSource(folder / "images")
    for name in ("../a.png", str(folder / "a.png")):
        with pytest.raises(FileNotFoundError, match="there is no image"):
            source.read(name)
    assert (source.read(str(folder / "images" / "b.png")) == 20).all()
    (folder / "images" / "deep").mkdir()
    Image.fromarray(np.full((2, 3, 3), 30, dtype=np.uint8)).save(folder / "images" / "deep" / "c.png")
    assert (source.read(str(folder / "images" / "deep" / "c.png")) == 30).all()


def test_a_tar_with_a_zip_in_it_is_a_tar(tmp_path):
    inner = write_archive(tmp_path / "inner.zip", ["b.png"])
    path = write_archive(tmp_path / "some.tar", ["a.png"])
    with tarfile.open(path, "a") as archive:
        archive.add(inner, "inner.zip")
    assert (ImageSource(path).read("a.png") == 10).all()


def test_image_sources_are_sources(folder):
    assert isinstance(ImageSource(folder), Source)


@pytest.mark.parametrize("content", [b"", b"not an image"])
def test_image_that_cannot_be_decoded_is_refused_by_name(folder, content):
    (folder / "broken.png").write_bytes(content)
    with pytest.raises(OSError, match=r"broken\.png is not an image that can be read"):
        ImageSource(folder).read("broken.png")


def test_truncated_image_is_refused_by_name(folder, generator):
    noise = torch.randint(0, 256, (64, 64, 3), generator=generator, dtype=torch.uint8).numpy()
    Image.fromarray(noise).save(folder / "cut.png")
    (folder / "cut.png").write_bytes((folder / "cut.png").read_bytes()[:2000])
    with pytest.raises(OSError, match=r"cut\.png can't be decoded"):
        ImageSource(folder).read("cut.png")


def test_real_images_are_read_from_their_tar_files(data_folder):
    source = ImageSource(str(data_folder / "lspet" / "*.tar"))
    assert source.read("00072.jpg").shape == (3, 256, 256)


# Archives made to do harm


def tar_of(path: Path, headers: dict[str, str], file: bytes = b"x") -> Path:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("a.jpg")
        info.size, info.pax_headers = len(file), headers
        archive.addfile(info, io.BytesIO(file))
    return path


@pytest.mark.parametrize(
    "headers",
    [{"GNU.sparse.size": "nan"}, {"GNU.sparse.map": "1,2,3,x"}, {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}],
    ids=str,
)
def test_tar_with_headers_that_are_no_numbers_is_refused_by_its_name(tmp_path, headers):
    path = tar_of(tmp_path / "x.tar", headers)
    with pytest.raises(ValueError, match=r"x\.tar is a tar file that is (cut off or )?broken at its start: "):
        ImageSource(path)


def test_tar_whose_size_is_negative_is_refused(tmp_path):
    content = bytearray(tar_of(tmp_path / "x.tar", {}).read_bytes())
    content[124:136] = b"\xff" * 12  # minus one, in binary
    content[148:156] = b"%06o\0 " % (sum(content[:148]) + 8 * 32 + sum(content[156:512]))
    (tmp_path / "x.tar").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.tar is a tar file that is (cut off or )?broken"):
        ImageSource(tmp_path / "x.tar")


def test_tar_with_thousands_of_headers_for_each_file_is_refused(tmp_path):
    path = tar_of(tmp_path / "x.tar", {f"key{index}": "v" for index in range(2000)})
    with pytest.raises(ValueError, match=r"broken at a\.jpg: it has more than 1000 headers for a file"):
        ImageSource(path)


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA], ids=["deflate", "bz2", "lzma"]
)
def test_zip_whose_image_unpacks_to_more_than_an_image_has_is_refused(tmp_path, monkeypatch, method):
    monkeypatch.setattr("tokenpose.data.sources.MOST_UNPACKED", 1_000_000)
    with zipfile.ZipFile(tmp_path / "x.zip", "w", method) as archive:
        archive.writestr("a.jpg", bytes(2_000_000))
    assert (tmp_path / "x.zip").stat().st_size < 10_000
    with pytest.raises(
        OSError, match=r"a\.jpg can't be read from .*x\.zip: it unpacks to 2,000,000 bytes; an image has 1,000"
    ):
        ImageSource(tmp_path / "x.zip").read("a.jpg")
    content = (tmp_path / "x.zip").read_bytes()
    stated = struct.pack("<I", 2_000_000)
    (tmp_path / "y.zip").write_bytes(content.replace(stated, struct.pack("<I", 100)))
    with pytest.raises(OSError, match=r"a\.jpg (can't be read from .*y\.zip: |is not an image)"):
        ImageSource(tmp_path / "y.zip").read("a.jpg")


def test_image_that_is_larger_than_images_are_is_refused_before_it_is_read(tmp_path):
    for name in ("a.jpg", "x.tar"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(3_000_000_000)  # takes no room
    with pytest.raises(OSError, match=r"a\.jpg has 3,000,000,000 bytes, more than an image can have"):
        ImageSource(tmp_path).read("a.jpg")
    info = tarfile.TarInfo("b.jpg")
    info.size = 2_500_000_000
    with (tmp_path / "x.tar").open("rb+") as file:
        file.write(info.tobuf())
    with pytest.raises(
        OSError, match=r"x\.tar has an image of 2,500,000,000 bytes; an image has 2,000,000,000 at most"
    ):
        ImageSource(tmp_path / "x.tar").read("b.jpg")
