"""Images: a path, a PIL image, an array or a tensor becomes a uint8 RGB tensor; and RGB arrays become files."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor

from tokenpose.files import expand, written_whole
from tokenpose.shapes import RgbImage

_TWO_STEPS = {"P": "RGBA", "PA": "RGBA", "RGBa": "RGBA", "La": "LA"}

_MOST_PIXELS = {"WEBP": 60_000_000, "AVIF": 60_000_000, "JPEG2000": 60_000_000}
_STRIP = 16_000_000  # pixels
_SIDEWAYS = (5, 6, 7, 8)
_AS_STORED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda turned: turned,
    2: lambda turned: turned[:, ::-1],
    3: lambda turned: turned[::-1, ::-1],
    4: lambda turned: turned[::-1],
    5: lambda turned: turned.swapaxes(0, 1),
    6: lambda turned: turned.swapaxes(0, 1)[::-1],
    7: lambda turned: turned.swapaxes(0, 1)[::-1, ::-1],
    8: lambda turned: turned.swapaxes(0, 1)[:, ::-1],
}
"""By EXIF's orientation: a view of turned pixels, in which they lie as in the file."""

_DECODING_ERRORS = (
    SyntaxError,
    ValueError,
    EOFError,
    RuntimeError,  # AVIF's decoder; NotImplementedError too, DDS's
    Image.DecompressionBombError,
)  # raised by Pillow besides OSError


def read_image(image: Any) -> RgbImage:
    """A path, a PIL image, a uint8 RGB array (H, W, 3) or an RGB tensor (3, H, W), uint8 or float in 0..1, as uint8.

    Files and PIL images are turned as their EXIF orientation says; gray (8 and 16 bits), palette and CMYK become RGB;
    transparency is dropped; of an animation the first picture is read. Pillow guards against decompression bombs by its
    own ``PIL.Image.MAX_IMAGE_PIXELS``: a warning above 89 megapixels, refusal above 179.

    Raises FileNotFoundError or another OSError for files that can't be read whole, TypeError for other types,
    ValueError for arrays and tensors of another shape or range, and for PIL images without pixels or of 32-bit modes.
    """
    if isinstance(image, str | Path):
        return _read_file(str(image))
    if isinstance(image, Image.Image):
        return _from_pil(image, _orientation(image))
    if isinstance(image, np.ndarray):
        return _from_array(image)
    if isinstance(image, Tensor):
        return _from_tensor(image)
    raise TypeError(f"an image is a path, a PIL image, an array or a tensor; got {type(image).__name__}")


def decode_image(content: bytes, name: str) -> RgbImage:
    """Decode an image file's bytes without applying its EXIF orientation: annotations refer to the stored pixels.

    Raises OSError that names the file if it can't be decoded.
    """
    try:
        with Image.open(io.BytesIO(content)) as opened:
            _refuse_large(opened)
            return _from_pil(opened)
    except UnidentifiedImageError as error:
        raise OSError(f"{name} is not an image that can be read") from error
    except (OSError, *_DECODING_ERRORS) as error:
        raise OSError(f"{name} can't be decoded: {error}") from error


def write_image(image: UInt8[np.ndarray, "height width 3"], path: str | Path) -> None:
    """Write an RGB array in the format that the file's suffix names, and make its folder if needed.

    Raises ValueError for a suffix of a format that Pillow can't write, and OSError that names the file.
    """
    path = Path(path)
    form = Image.registered_extensions().get(path.suffix.lower())
    if form not in Image.SAVE:
        raise ValueError(f"can't write an image as {path}: end its name in .png or .jpg")
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as partial:
        Image.fromarray(image).save(partial, form, quality=92)


def _read_file(name: str) -> RgbImage:
    path = expand(name)
    if not path.exists():
        hint = "; addresses are not fetched: download it first" if "://" in name else ""
        raise FileNotFoundError(f"there is no image {name}{hint}")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; an image file is needed")
    try:
        with Image.open(path) as opened:
            _refuse_large(opened)
            return _from_pil(opened, _orientation(opened))
    except UnidentifiedImageError as error:
        raise OSError(f"{path} is not an image that can be read") from error
    except _DECODING_ERRORS as error:
        raise OSError(f"{path} can't be decoded: {error}") from error
    except OSError as error:
        raise type(error)(f"{path} can't be decoded: {error}") from error


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation; 1 where there is none, or anything but one of the eight."""
    found = image.getexif().get(ExifTags.Base.Orientation, 1)
    return found if isinstance(found, int) and found in _AS_STORED else 1


def _refuse_large(image: Image.Image) -> None:
    """Raise OSError for pictures of which Pillow's decoder holds several copies at once."""
    most = _MOST_PIXELS.get(image.format or "")
    if most is not None and image.width * image.height > most:
        raise OSError(f"{image.width}x{image.height} pixels; a {image.format} file may have {most:,} at most")


def _from_pil(image: Image.Image, orientation: int = 1) -> RgbImage:
    """The pixels as they lie in the image, or turned; in strips if it is large, since each step needs a copy."""
    if 0 in image.size:
        raise ValueError(f"a PIL image of {image.width}x{image.height} has no pixels")
    if image.mode in ("I", "F"):
        raise ValueError(
            f'a PIL image of mode "{image.mode}" (32 bits) does not say which value is white; scale it to 0..255 and '
            'convert it to "L" or "RGB"'
        )
    width, height = image.size
    turned = np.empty((width, height, 3) if orientation in _SIDEWAYS else (height, width, 3), dtype=np.uint8)
    stored = _AS_STORED[orientation](turned)
    rows = max(1, _STRIP // width)
    for top in range(0, height, rows):
        strip = image if rows >= height else image.crop((0, top, width, min(top + rows, height)))
        stored[top : top + rows] = _to_rgb(strip)
    return torch.from_numpy(turned).permute(2, 0, 1)


def _to_rgb(image: Image.Image) -> UInt8[np.ndarray, "height width 3"]:
    if image.mode.startswith("I;16"):  # Pillow would clip at 255 instead of scaling
        gray = np.array(image).astype(np.float32) / 257
        image = Image.fromarray(gray.round().astype(np.uint8))
    if image.mode in _TWO_STEPS:  # Pillow has no direct way for premultiplied ones, and warns for palettes
        image = image.convert(_TWO_STEPS[image.mode])
    if image.mode != "RGB":  # Pillow would copy RGB images
        image = image.convert("RGB")
    return np.asarray(image)


def _from_array(array: np.ndarray) -> RgbImage:
    if array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        hint = "; channels look swapped, (3, H, W): give a tensor, or transpose(1, 2, 0)"
        raise ValueError(
            f"an image array is RGB of shape (H, W, 3); got {array.shape}"
            f"{hint if array.ndim == 3 and len(array) == 3 else _hint(array.shape)}"
        )
    if array.dtype != np.uint8:
        raise ValueError(
            f"an image array is uint8, 0..255; got {array.dtype}: convert it, or give a float tensor in 0..1"
        )
    return torch.from_numpy(array.copy()).permute(2, 0, 1)  # the tensor must not share memory with a read-only array


def _from_tensor(tensor: Tensor) -> RgbImage:
    if tensor.ndim != 3 or tensor.shape[0] != 3 or tensor.numel() == 0:
        hint = "; channels look swapped, (H, W, 3): use permute(2, 0, 1)"
        raise ValueError(
            f"an image tensor is RGB of shape (3, H, W); got {tuple(tensor.shape)}"
            f"{hint if tensor.ndim == 3 and tensor.shape[2] == 3 else _hint(tuple(tensor.shape))}"
        )
    if tensor.dtype == torch.uint8:
        return tensor
    if not tensor.is_floating_point():
        raise ValueError(f"an image tensor is uint8 or float in 0..1; got {tensor.dtype}")
    low, high = tensor.min().item(), tensor.max().item()
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"a float image tensor holds values in 0..1; got {low:.4g}..{high:.4g}: divide by 255, undo normalization"
        )
    pixels = torch.empty(tensor.shape, dtype=torch.uint8, device=tensor.device)
    for channel, values in zip(pixels, tensor.detach(), strict=True):  # channel by channel, to save memory
        channel.copy_((values.float() * 255).round_())
    return pixels


def _hint(shape: tuple[int, ...]) -> str:
    """A guess at what an array of a wrong shape is, and what to do about it."""
    if len(shape) == 2:
        return "; it looks gray: repeat it for three channels"
    if len(shape) == 4:
        return "; it looks like a batch: give its images one by one, PosePredictor.many takes several"
    if len(shape) == 3 and 4 in (shape[0], shape[2]):
        return "; it looks like RGBA: leave out the fourth channel"
    return ""
