"""The plots of attention maps: what `AttentionMaps.plot` checks, chooses and passes to the figures."""

from typing import Any, get_args

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure

from tokenpose.attention import figures
from tokenpose.attention.maps import AttentionMaps, Heads, Plot
from tokenpose.geometry.affine import resize_matrices, transform_points
from tokenpose.geometry.crops import crop_image
from tokenpose.images import read_image
from tokenpose.visualize import Picture


def plot(
    maps: AttentionMaps,
    kind: Plot,
    *,
    keypoint: str | None,
    layer: int | None,
    heads: Heads | int,
    image: Any,
    count: int,
) -> Figure:
    """The figure of `AttentionMaps.plot`, which describes the arguments and errors."""
    if kind not in get_args(Plot):
        raise ValueError(f"kind must be one of {', '.join(get_args(Plot))}; got {kind!r}")
    if count < 1:
        raise ValueError(f"count, the constraints of a keypoint, must be at least 1; got {count}")
    shown = (maps if keypoint is None else maps.select(keypoint)).reduce(heads)
    if kind == "layers" and len(shown.names) > 1:
        raise ValueError(f'"layers" shows one keypoint: give keypoint=..., one of {", ".join(shown.names)}')
    index = maps.layers - 1 if kind == "heatmaps" and layer is None else maps.find_layer(layer)
    if kind == "matrix":
        return _plot_matrix(shown, index)
    if kind == "constraints":
        return _plot_constraints(shown, index, image, count)
    return _plot_heatmaps(shown, index, image) if kind == "heatmaps" else _plot_layers(shown, image)


def _plot_matrix(maps: AttentionMaps, index: int) -> Figure:
    return figures.draw_matrix(
        maps.to_keypoints[index, 0],
        maps.names,
        maps.skeleton.keypoints,
        title=f"Attention to keypoints, {_block(maps, index)}, {maps.reduced}",
        label="attention",
        row_label="from",
        column_label="to",
    )


def _plot_constraints(maps: AttentionMaps, index: int, image: Any, count: int) -> Figure:
    picture, points = _draw_on(maps, image, whole=True)
    title = f"Constraints, {_block(maps, index)}, {maps.reduced}"
    return figures.draw_constraints(picture, points, maps.skeleton, maps.top_constraints(count, index), title=title)


def _plot_heatmaps(maps: AttentionMaps, index: int, image: Any) -> Figure:
    picture, points = _draw_on(maps, image)
    title = f"Heatmaps after {_block(maps, index)}"
    return figures.draw_heatmaps(picture, maps.heatmaps[index], maps.names, points, maps.skeleton, title=title)


def _plot_layers(maps: AttentionMaps, image: Any) -> Figure:
    picture, points = _draw_on(maps, image)
    to_image = maps.to_image[:, 0, 0]
    seen, rest = to_image.sum(axis=(1, 2)), maps.to_keypoints[:, 0, 0].sum(axis=1)
    return figures.draw_layers(
        picture,
        to_image,
        seen / (seen + rest),  # maxima over heads don't sum to 1
        maps.heatmaps[:, 0],
        point=points[maps.skeleton.index(maps.names[0])],
        title=f"{maps.names[0]}: attention to the image, {maps.reduced}",
    )


def _block(maps: AttentionMaps, index: int) -> str:
    return f"block {index + 1} of {maps.layers}"


def _draw_on(maps: AttentionMaps, image: Any, whole: bool = False) -> tuple[Picture, Float[np.ndarray, "keypoints 2"]]:
    """The picture to draw on and the keypoints in its pixels: the crop if there is no image, else the part of the
    image that the crop covers, or the ``whole`` image."""
    found, matrix = torch.from_numpy(maps.pose.keypoints), torch.from_numpy(maps.matrix)[None]
    if image is None:
        return maps.crop, transform_points(found, matrix)[0].float().numpy()
    pixels = read_image(image)
    if tuple(pixels.shape[1:]) != maps.image_size:
        raise ValueError(
            f"these maps are of an image of (height, width) {maps.image_size}; got one of {tuple(pixels.shape[1:])}"
        )
    if whole:
        return pixels.permute(1, 2, 0).numpy(), maps.pose.keypoints[0]
    height, width = maps.crop.shape[:2]
    finer = max(1.0, 512 / max(height, width))
    size = (round(finer * height), round(finer * width))
    matrix = resize_matrices(matrix, (height, width), size)
    picture = crop_image(pixels, matrix, size)[0].round().clamp(0, 255).to(torch.uint8)
    return picture.permute(1, 2, 0).numpy(), transform_points(found, matrix)[0].float().numpy()
