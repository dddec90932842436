import tarfile
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from tokenpose.data.sources import ImageSource


@pytest.fixture
def folder(tmp_path):
    """pictures/a.png and pictures/images/b.png, of 2 x 3 pixels, 10 and 20 everywhere; nothing/ is empty."""
    for name, grey in (("a.png", 10), ("images/b.png", 20)):
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((2, 3, 3), grey, dtype=np.uint8)).save(path)
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
    message = "images are read from folders, uncompressed tar files and zip files; .* is none of them"
    for path in (packed(folder, "tar.gz"), folder / "a.png"):
        with pytest.raises(ValueError, match=message):
            ImageSource(path)


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
