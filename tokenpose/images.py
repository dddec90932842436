"""Images: a path, a PIL image, an array or a tensor becomes a uint8 RGB tensor; errors for everything else."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

RgbImage = UInt8[Tensor, "3 height width"]

_DECODING_ERRORS = (
    SyntaxError,
    ValueError,
    EOFError,
    Image.DecompressionBombError,
)  # what Pillow raises beside OSError


def read_image(image: Any) -> RgbImage:
    """A path, a PIL image, a uint8 RGB array (H, W, 3) or an RGB tensor (3, H, W), uint8 or float in 0..1, as uint8.

    Files and PIL images are turned as their EXIF orientation says; grey (8 and 16 bits), palette, CMYK and transparent
    ones become RGB. Raises FileNotFoundError or another OSError for files that can't be read, TypeError for other
    types, ValueError for arrays and tensors of another shape or range, and for 32-bit PIL images.
    """
    if isinstance(image, str | Path):
        return _read_file(Path(image))
    if isinstance(image, Image.Image):
        return _from_pil(ImageOps.exif_transpose(image))
    if isinstance(image, np.ndarray):
        return _from_array(image)
    if isinstance(image, Tensor):
        return _from_tensor(image)
    raise TypeError(f"an image is a path, a PIL image, an array or a tensor; got {type(image).__name__}")


def decode_image(content: bytes, name: str) -> RgbImage:
    """An image file's bytes as pixels lie in the file, whatever its EXIF orientation: annotations refer to those.

    Raises OSError that names the file where it can't be decoded.
    """
    try:
        with Image.open(io.BytesIO(content)) as opened:
            return _from_pil(opened)
    except UnidentifiedImageError as error:
        raise OSError(f"{name} is not an image that can be read") from error
    except (OSError, *_DECODING_ERRORS) as error:
        raise OSError(f"{name} can't be decoded: {error}") from error


def _read_file(path: Path) -> RgbImage:
    if not path.exists():
        raise FileNotFoundError(f"there is no image {path}")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; an image file is needed")
    try:
        with Image.open(path) as opened:
            return _from_pil(ImageOps.exif_transpose(opened))
    except UnidentifiedImageError as error:
        raise OSError(f"{path} is not an image that can be read") from error
    except _DECODING_ERRORS as error:
        raise OSError(f"{path} can't be decoded: {error}") from error
    except OSError as error:
        raise type(error)(f"{path} can't be decoded: {error}") from error


def _from_pil(image: Image.Image) -> RgbImage:
    if image.mode in ("I", "F"):
        raise ValueError(
            f'a PIL image of mode "{image.mode}" (32 bits) does not say which value is white; scale it to 0..255 and '
            'convert it to "L" or "RGB"'
        )
    if image.mode.startswith("I;16"):  # Pillow would clip at 255 instead of scaling
        grey = np.array(image).astype(np.float32) / 257
        image = Image.fromarray(grey.round().astype(np.uint8))
    if image.mode == "P":  # Pillow warns where a palette has transparency
        image = image.convert("RGBA")
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()


def _from_array(array: np.ndarray) -> RgbImage:
    if array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        hint = "; it looks like (3, H, W): give a tensor, or transpose(1, 2, 0)" if array.shape[:1] == (3,) else ""
        raise ValueError(f"an image array is RGB of shape (H, W, 3); got {array.shape}{hint}")
    if array.dtype != np.uint8:
        raise ValueError(
            f"an image array is uint8, 0..255; got {array.dtype}: convert it, or give a float tensor in 0..1"
        )
    return torch.from_numpy(array.transpose(2, 0, 1).copy())  # never shares memory with a read-only array


def _from_tensor(tensor: Tensor) -> RgbImage:
    if tensor.ndim != 3 or tensor.shape[0] != 3 or tensor.numel() == 0:
        hint = "; it looks like (H, W, 3): use permute(2, 0, 1)" if tensor.ndim == 3 and tensor.shape[2] == 3 else ""
        raise ValueError(f"an image tensor is RGB of shape (3, H, W); got {tuple(tensor.shape)}{hint}")
    if tensor.dtype == torch.uint8:
        return tensor
    if not tensor.is_floating_point():
        raise ValueError(f"an image tensor is uint8 or float in 0..1; got {tensor.dtype}")
    low, high = tensor.min().item(), tensor.max().item()
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"a float image tensor holds values in 0..1; got {low:.4g}..{high:.4g}: divide by 255, undo normalisation"
        )
    return (tensor.detach().float() * 255).round().to(torch.uint8)
