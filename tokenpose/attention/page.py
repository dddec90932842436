"""A page to explore attention: one HTML file that contains photographs and numbers and loads nothing else."""

import base64
import hashlib
import html
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image

from tokenpose.attention.computation import attention_maps
from tokenpose.attention.maps import AttentionMaps, Heads
from tokenpose.files import write_text
from tokenpose.geometry.affine import invert
from tokenpose.images import read_image
from tokenpose.models.tokenpose import TokenPose
from tokenpose.shapes import RgbImage

MOST_PANELS = 4
"""How many people a page shows side by side."""

PHOTOGRAPH_SIDE = 1000
"""Photographs are embedded with at most this many pixels on their longer side."""


@dataclass(frozen=True, kw_only=True)
class Person:
    """A person whose attention is shown: an image file and its pixels, the box, and a title that tells people apart."""

    path: Path
    pixels: RgbImage
    box: Float[np.ndarray, " 4"]
    title: str


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One person on the page. ``image``: what `attention_maps` was called with; ``title``: plain text above it."""

    image: Any
    maps: AttentionMaps
    title: str


def look_inside(people: Sequence[Person], models: Sequence[tuple[str, TokenPose]], decoder: str) -> list[Panel]:
    """A panel for each person and each model; ``models`` are (name, model)."""
    return [
        Panel(
            image=person.pixels,
            maps=attention_maps(model, person.pixels, person.box, decoder=decoder),
            title=f"{person.title}, {name}",
        )
        for person in people
        for name, model in models
    ]


def write_attention_page(panels: Sequence[Panel], path: str | Path) -> None:
    """Write one HTML file that shows what each keypoint attends to; people, photographs and models side by side.

    The file needs no server and loads nothing: it contains photographs as JPEG, and attention and heatmaps as 8-bit
    numbers with a lowest value and a step for each row or map, exact to half a step, 1/510 of the row's range.

    Raises ValueError for no panels, more than `MOST_PANELS` and maps of another image, and what `read_image`
    raises.
    """
    if not 1 <= len(panels) <= MOST_PANELS:
        raise ValueError(f"a page shows 1 to {MOST_PANELS} people side by side; got {len(panels)}")
    people = [_describe(panel) for panel in panels]
    write_text(path, _fill(files("tokenpose.attention").joinpath("page.html").read_text("utf-8"), people))


def _fill(template: str, people: Sequence[dict[str, Any]]) -> str:
    """Fill the template's three placeholders in one pass, so that inserted text is not searched."""
    title = " | ".join(dict.fromkeys(person["title"] for person in people))
    places = {"title": html.escape(title), "policy": _policy(template), "people": _json(people)}
    return re.sub(r"@(title|policy|people)@", lambda place: places[place[1]], template)


def _policy(template: str) -> str:
    """A Content-Security-Policy that allows the template's own style and script and embedded images, nothing else."""
    style, script = (
        base64.b64encode(hashlib.sha256(re.findall(rf"<{tag}>(.*?)</{tag}>", template, re.DOTALL)[0].encode()).digest())
        for tag in ("style", "script")
    )
    rules = ("default-src 'none'", "img-src data:", "base-uri 'none'", "form-action 'none'")
    return "; ".join((*rules, f"style-src 'sha256-{style.decode()}'", f"script-src 'sha256-{script.decode()}'"))


def _json(values: Any) -> str:
    """JSON that can't end its script element, whatever the names in it."""
    text = json.dumps(values, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _describe(panel: Panel) -> dict[str, Any]:
    """What the page's script needs to know about a person, as plain values."""
    maps, pixels = panel.maps, read_image(panel.image).permute(1, 2, 0).numpy()
    if pixels.shape[:2] != maps.image_size:
        raise ValueError(
            f"{panel.title}: the image is {pixels.shape[:2]}, the maps belong to an image of {maps.image_size}"
        )
    heads: list[Heads | int] = ["mean", "max", "rollout", *range(maps.to_image.shape[1])]
    to_image, to_keypoints = _shares(maps, heads)
    rows = [maps.skeleton.index(name) for name in maps.names]
    (height, width), (crop_height, crop_width) = maps.image_size, maps.crop.shape[:2]
    return {
        "title": panel.title,
        "photograph": _jpeg(pixels),
        "size": [width, height],
        "crop": _jpeg(maps.crop),
        "cropSize": [crop_width, crop_height],
        "cropToImage": _canvas_matrix(maps.matrix),
        "names": maps.names,
        "keypoints": maps.skeleton.keypoints,
        "limbs": maps.skeleton.limbs,
        "sides": [maps.skeleton.side(index) for index in range(len(maps.skeleton))],
        "points": _rounded(maps.pose.keypoints[0]),
        "scores": _rounded(maps.pose.scores[0, rows]),
        "layer": maps.default_layer,
        "imageShares": _rounded(to_image.sum(axis=(-2, -1))),
        "toImage": _pack(to_image, leading=3),
        "toKeypoints": _pack(to_keypoints, leading=3),
        "heatmaps": _pack(maps.heatmaps, leading=2),
        "evidence": [
            [[maps.evidence(name, layer, choice) for name in maps.names] for choice in heads]
            for layer in range(maps.layers)
        ],
    }


def _shares(
    maps: AttentionMaps, heads: Sequence[Heads | int]
) -> tuple[
    Float[np.ndarray, "layers choices queries rows columns"], Float[np.ndarray, "layers choices queries keypoints"]
]:
    """Shares of each row's attention, for each way to reduce heads. Rows of maxima are rescaled to sum to 1."""
    reduced = [maps.reduce(choice) for choice in heads]
    to_image = np.concatenate([one.to_image for one in reduced], axis=1)
    to_keypoints = np.concatenate([one.to_keypoints for one in reduced], axis=1)
    totals = to_image.sum(axis=(-2, -1)) + to_keypoints.sum(axis=-1)
    return to_image / totals[..., None, None], to_keypoints / totals[..., None]


def _pack(values: Float[np.ndarray, "..."], leading: int) -> dict[str, Any]:
    """Values as bytes in base64: value = low + step * byte, with low and step for each index of the leading axes."""
    blocks = values.reshape(*values.shape[:leading], -1).astype(np.float64)
    low = np.vectorize(_short)(blocks.min(axis=-1))
    step = np.vectorize(_short)((blocks.max(axis=-1) - low) / 255)
    counts = (blocks - low[..., None]) / np.where(step > 0, step, 1)[..., None]
    content = counts.round().clip(0, 255).astype(np.uint8).tobytes()
    return {
        "shape": values.shape,
        "low": low.ravel().tolist(),
        "step": step.ravel().tolist(),
        "bytes": base64.b64encode(content).decode(),
    }


def _short(value: float) -> float:
    return float(f"{value:.7g}")


def _rounded(values: Float[np.ndarray, "..."]) -> Any:
    return np.vectorize(_short)(values.astype(np.float64)).tolist()


def _canvas_matrix(matrix: Float[np.ndarray, "2 3"]) -> list[float]:
    """Crop -> image as a canvas expects it: column by column, and with pixel centers at halves instead of integers."""
    inverse = invert(torch.from_numpy(matrix)[None])[0].double().numpy()
    inverse[:, 2] += 0.5 - inverse[:, :2].sum(axis=1) / 2
    return [float(value) for value in inverse.T.ravel()]


def _jpeg(pixels: UInt8[np.ndarray, "height width 3"]) -> str:
    picture = Image.fromarray(pixels)
    picture.thumbnail((PHOTOGRAPH_SIDE, PHOTOGRAPH_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
