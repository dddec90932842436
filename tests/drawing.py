"""Stick figures on smooth backgrounds, with their COCO keypoint file: data whose truth is known."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from tokenpose.skeletons import LSP

SIZE = (150, 120)  # height, width
# of LSP's 14 keypoints, in a box of 1 x 1: the person looks at us, so their right is on our left
FIGURE = np.array([
    (0.20, 1.00), (0.25, 0.78), (0.35, 0.55), (0.65, 0.55), (0.75, 0.78), (0.80, 1.00),
    (0.00, 0.55), (0.10, 0.40), (0.30, 0.22), (0.70, 0.22), (0.90, 0.40), (1.00, 0.55),
    (0.50, 0.17), (0.50, 0.00),
])  # fmt: skip


def draw_people(folder: Path, count: int, seed: int = 0) -> Path:
    """One figure a picture, in ``folder``/images; gives the COCO file."""
    random = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for index in range(count):
        size = np.array([random.uniform(35, 55), random.uniform(70, 100)])
        corner = np.array([random.uniform(5, SIZE[1] - size[0] - 5), random.uniform(5, SIZE[0] - size[1] - 5)])
        keypoints = corner + FIGURE * size + random.uniform(-2, 2, (14, 2))
        file = f"{index:03}.png"
        draw_figure(keypoints, random).save(folder / "images" / file)
        images.append({"id": 10 + index, "file_name": file, "height": SIZE[0], "width": SIZE[1]})
        annotations.append(annotation(index, 10 + index, keypoints.round(2), [*corner.round(2), *size.round(2)]))
    path = folder / "people.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [CATEGORY]}))
    return path


def draw_figure(keypoints: np.ndarray, random: np.random.Generator) -> Image.Image:
    """Limbs in gray and each keypoint in a color of its own, on a smooth background."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    waves = [60 + 20 * np.sin(x / random.uniform(25, 45) + y / random.uniform(25, 45) + phase) for phase in range(3)]
    picture = Image.fromarray(np.stack(waves, axis=-1).round().astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    for first, second in LSP.limbs:
        pen.line([*keypoints[first], *keypoints[second]], fill=(150, 150, 150), width=4)
    for index, (x, y) in enumerate(keypoints):
        color = tuple(int(128 + 127 * np.cos(0.45 * index + phase)) for phase in (0, 2, 4))
        pen.ellipse([x - 4, y - 4, x + 4, y + 4], fill=color)
    return picture


CATEGORY: dict[str, Any] = {
    "id": 1,
    "name": "person",
    "keypoints": list(LSP.keypoints),
    "skeleton": [[first + 1, second + 1] for first, second in LSP.limbs],
}


def annotation(number: int, image: int, keypoints: np.ndarray, box: list[float]) -> dict[str, Any]:
    """A COCO record in which all keypoints are seen."""
    triples = np.concatenate((keypoints, np.full((len(keypoints), 1), 2)), axis=1)
    return {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": [float(value) for value in box],
        "area": float(box[2] * box[3]),
        "num_keypoints": len(keypoints),
        "keypoints": triples.ravel().tolist(),
    }
