"""Poses as pictures: arrays in, pictures out.

Colors mark the person's own sides: left is blue and right is orange, which color-blind readers can tell apart too; the
middle is near white. A dark rim keeps everything visible on any background.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from tokenpose.poses import Poses

Picture = UInt8[np.ndarray, "_ _ 3"]
Canvas = Float[np.ndarray, "height width 3"]
Color = tuple[int, int, int]

LEFT: Color = (64, 156, 255)
RIGHT: Color = (255, 149, 0)
MIDDLE: Color = (240, 240, 240)
RIM: Color = (20, 20, 20)

_SIDES = {"left": LEFT, "right": RIGHT}


def draw_poses(
    image: Picture,
    poses: Poses,
    threshold: float = 0.15,
    *,
    boxes: bool = False,
    scale: float = 1.0,
    color: Color | None = None,
    thickness: float = 1.0,
) -> Picture:
    """A copy of an RGB image with its people's limbs and keypoints, antialiased.

    Keypoints with a score below ``threshold`` are hidden, with their limbs. ``boxes`` also draws boxes.
    ``scale`` enlarges the picture before anything is drawn, so that small photographs stay readable. ``color``: one
    color instead of left, right and middle. The width of lines follows the person's size, times ``thickness``.

    Raises ValueError for anything but a uint8 RGB array and a positive scale.
    """
    _check_picture(image)
    if not scale > 0:
        raise ValueError(f"scale must be positive; got {scale}")
    canvas = _resize(image, scale).astype(np.float32)
    keypoints = (poses.keypoints.astype(np.float64) + 0.5) * scale - 0.5  # pixel centers are at integers
    corners = (poses.boxes.reshape(-1, 2, 2).astype(np.float64) + 0.5) * scale - 0.5
    shown = (poses.scores >= threshold) & np.isfinite(keypoints).all(axis=-1)
    for points, visible, box in zip(keypoints, shown, corners, strict=True):
        radius = thickness * _line_radius(points[visible], box, canvas)
        if boxes:
            _draw_box(canvas, box, max(0.6, radius / 2), color or MIDDLE)
        _draw_limbs(canvas, points, visible, poses, radius, color)
        _draw_keypoints(canvas, points, visible, poses, radius, color)
    return canvas.round().astype(np.uint8)


def contact_sheet(
    pictures: Sequence[Picture],
    columns: int = 6,
    size: tuple[int, int] = (240, 240),
    captions: Sequence[str] | None = None,
) -> Picture:
    """Pictures in rows of ``columns``, each scaled to fit into ``size`` (height, width), with a one-line caption below.

    Raises ValueError for no pictures, for arrays that aren't uint8 RGB, and if captions don't match in number.
    """
    if not pictures or columns < 1:
        raise ValueError(
            f"a contact sheet needs at least one picture and one column; got {len(pictures)} and {columns}"
        )
    if captions is not None and len(captions) != len(pictures):
        raise ValueError(f"{len(pictures)} pictures need as many captions; got {len(captions)}")
    for picture in pictures:
        _check_picture(picture)
    gap, line = 6, 18 if captions is not None else 0
    (height, width), columns = size, min(columns, len(pictures))
    rows = math.ceil(len(pictures) / columns)
    sheet = Image.new("RGB", (columns * (width + gap) + gap, rows * (height + line + gap) + gap), "white")
    for index, picture in enumerate(pictures):
        left, top = gap + index % columns * (width + gap), gap + index // columns * (height + line + gap)
        sheet.paste((228, 228, 228), (left, top, left + width, top + height))
        fitted = Image.fromarray(_resize(picture, scale_to_fit(picture, size)))
        sheet.paste(fitted, (left + (width - fitted.width) // 2, top + (height - fitted.height) // 2))
        if captions is not None:
            _write_caption(sheet, captions[index], left, top + height, width)
    return np.asarray(sheet).copy()


def crop_picture(image: Picture, poses: Poses, padding: float = 1.25) -> tuple[Picture, Poses]:
    """Crop an image to its people's boxes, grown by ``padding``. Returns the part, and the poses in its pixels."""
    corners = poses.boxes.reshape(-1, 2)
    if not len(corners):
        return image, poses
    low, high = corners.min(axis=0), corners.max(axis=0)
    margin = (padding - 1) / 2 * (high - low)
    limits = image.shape[1::-1]
    left, top = np.clip(np.floor(low - margin), 0, np.subtract(limits, 1)).astype(int)
    right, bottom = np.clip(np.ceil(high + margin) + 1, (left + 1, top + 1), limits).astype(int)
    shift = np.array([left, top], dtype=np.float32)
    moved = replace(poses, keypoints=poses.keypoints - shift, boxes=poses.boxes - np.tile(shift, 2))
    return image[top:bottom, left:right].copy(), moved


def scale_to_fit(image: Picture, size: tuple[int, int]) -> float:
    """The factor that makes the whole image fit into ``size`` (height, width)."""
    return min(size[0] / image.shape[0], size[1] / image.shape[1])


def _check_picture(image: np.ndarray) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.size == 0 or image.dtype != np.uint8:
        raise ValueError(f"a picture is a uint8 RGB array (H, W, 3); got {image.dtype} of shape {image.shape}")


def _resize(image: Picture, scale: float) -> Picture:
    if scale == 1:
        return image
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))


def _line_radius(points: Float[np.ndarray, "shown 2"], box: Float[np.ndarray, "2 2"], canvas: Canvas) -> float:
    """Half a limb's width: it grows with the person, is at least 1 pixel, and at most 1 % of the picture's diagonal."""
    corners = np.concatenate((points, box)) if len(points) < 2 else points
    extent = math.hypot(*np.ptp(corners, axis=0))
    return min(max(1.0, 0.009 * extent), max(1.0, 0.01 * math.hypot(*canvas.shape[:2])))


def _draw_limbs(
    canvas: Canvas,
    points: Float[np.ndarray, "keypoints 2"],
    visible: np.ndarray,
    poses: Poses,
    radius: float,
    color: Color | None,
) -> None:
    limbs = [limb for limb in poses.skeleton.limbs if visible[list(limb)].all()]
    rim = max(0.8, 0.4 * radius)
    for first, second in limbs:
        _paint(canvas, points[first], points[second], radius + rim, RIM, opacity=0.6)
    for first, second in limbs:
        sides = {poses.skeleton.side(index) for index in (first, second)} - {None}
        side = sides.pop() if len(sides) == 1 else None
        _paint(canvas, points[first], points[second], radius, color or _SIDES.get(side or "", MIDDLE))


def _draw_keypoints(
    canvas: Canvas,
    points: Float[np.ndarray, "keypoints 2"],
    visible: np.ndarray,
    poses: Poses,
    radius: float,
    color: Color | None,
) -> None:
    for index in np.flatnonzero(visible):
        side = poses.skeleton.side(int(index))
        _paint(canvas, points[index], points[index], 1.8 * radius + max(0.8, 0.4 * radius), RIM, opacity=0.8)
        _paint(canvas, points[index], points[index], 1.8 * radius, color or _SIDES.get(side or "", MIDDLE))


def _draw_box(canvas: Canvas, box: Float[np.ndarray, "2 2"], radius: float, color: Color) -> None:
    (x1, y1), (x2, y2) = box
    corners = np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1)])
    for rim, tint in ((radius + 0.8, RIM), (radius, color)):
        for first, second in pairwise(corners):
            _paint(canvas, first, second, rim, tint)


def _paint(
    canvas: Canvas,
    start: Float[np.ndarray, " 2"],
    end: Float[np.ndarray, " 2"],
    radius: float,
    color: Color,
    opacity: float = 1.0,
) -> None:
    """Draw an antialiased line with round ends: a pixel's coverage grows with its center's depth inside the line."""
    low = np.floor(np.clip(np.minimum(start, end) - radius - 1, 0, canvas.shape[1::-1])).astype(int)
    high = np.ceil(np.clip(np.maximum(start, end) + radius + 2, 0, canvas.shape[1::-1])).astype(int)
    x = np.arange(low[0], high[0], dtype=np.float32) - np.float32(start[0])
    y = np.arange(low[1], high[1], dtype=np.float32)[:, None] - np.float32(start[1])
    along, length = (end - start).astype(np.float32), float(((end - start) ** 2).sum())
    share = np.clip((x * along[0] + y * along[1]) / max(length, 1e-6), 0, 1)
    distance = np.hypot(x - share * along[0], y - share * along[1])
    covered = opacity * np.clip(radius + 0.5 - distance, 0, 1)[..., None]
    part = canvas[low[1] : high[1], low[0] : high[0]]
    part += covered * (np.array(color, dtype=np.float32) - part)


def _write_caption(sheet: Image.Image, caption: str, left: int, top: int, width: int) -> None:
    drawing, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=12)
    text = caption
    while text and drawing.textlength(text, font=font) > width:
        text = text[:-2] + "…" if len(text) > 1 else ""
    drawing.text((left + width // 2, top + 2), text, fill="black", font=font, anchor="ma")
