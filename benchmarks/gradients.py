"""How sharp training crops are: their gradient energy as a share of that of crops made directly from the photograph.

Usage: python benchmarks/gradients.py ANNOTATIONS.json IMAGES [ANNOTATIONS.json IMAGES ...] [--people 50]
           [--half-body 0.3] [--crop-filter area] [--output gradients.json]

Gradient energy: the mean square of the differences between neighboring pixels. Each row is a zoom (the box is
multiplied by it) or a rotation; each column is a data set, of which the first PEOPLE are taken. Then the speed of
`TrainingBatches` on one thread with the published augmentation, at 256x192 in batches of 32, without the network, and
the memory that a kept person takes.
"""

import argparse
import json
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from speed import describe_machine
from torch import Tensor

from tokenpose.data import batches as batches_module
from tokenpose.data.augment import Draws, draw, draw_matrices
from tokenpose.data.batches import ShuffledBatches, TrainingBatches
from tokenpose.data.combine import read_datasets, read_image_of
from tokenpose.data.settings import Augmentation
from tokenpose.data.windows import WindowDataset
from tokenpose.geometry.boxes import center_and_scale
from tokenpose.geometry.crops import crop_image
from tokenpose.models.zoo import find_tag

CASES = {"zoom 0.65": (0.65, 0.0), "zoom 1": (1.0, 0.0), "zoom 1.35": (1.35, 0.0), "turned by 30 degrees": (1.0, 30.0)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="+", help="ANNOTATIONS IMAGES, as often as there are data sets")
    parser.add_argument("--people", type=int, default=86)
    parser.add_argument("--half-body", type=float, default=0.0)
    parser.add_argument("--crop-filter", choices=["bilinear", "area"], default="bilinear")
    parser.add_argument("--output", type=Path, default=Path("gradients.json"))
    options = parser.parse_args()
    spec = find_tag("tokenpose_s_v1")[2].replace(crop_filter=options.crop_filter)
    augmentation = Augmentation(half_body=options.half_body)
    torch.set_num_threads(1)
    rows = []
    for annotations, images in pairwise(options.data):
        if not annotations.endswith(".json"):
            continue
        people, source = read_datasets(Path(annotations), images)
        row = {"data": annotations, "people": min(options.people, len(people)), "crop_filter": options.crop_filter}
        framing = spec.replace(skeleton=people.skeleton)
        some = people.take(slice(options.people))
        row |= {case: measure_share(some, source, framing, augmentation, *drawn) for case, drawn in CASES.items()}
        rows.append(row | measure_speed(people.take(slice(1024)), source, framing, augmentation))
        print(json.dumps(rows[-1], indent=1), flush=True)
    options.output.write_text(json.dumps({"machine": describe_machine(), "rows": rows}, indent=1) + "\n")


def measure_share(
    people: Any, source: Any, framing: Any, augmentation: Augmentation, zoom: float, rotation: float
) -> float:
    """Gradient energy of the training crops, by that of direct crops."""
    drawn = fix_draws(len(people), zoom, rotation)
    made = crops_of_training(people, source, framing, augmentation, drawn)
    center, scale = center_and_scale(torch.from_numpy(people.boxes), framing.image_size, framing.box_padding)
    matrices = draw_matrices(center, scale, drawn, framing.image_size)
    direct = [
        crop_image(read_image_of(source, people, int(image)), matrix[None], framing.image_size, framing.crop_filter)[0]
        for image, matrix in zip(people.image_index, matrices, strict=True)
    ]
    return energy(made) / energy(torch.stack(direct))


def fix_draws(people: int, zoom: float, rotation: float) -> Draws:
    """The same zoom and rotation for everybody, and no other augmentation."""
    none = Augmentation(scale=0.0, rotation=0.0, flip=0.0)
    drawn = draw(none, people, torch.Generator().manual_seed(0))
    return drawn._replace(scale=torch.full((people,), zoom), rotation=torch.full((people,), rotation))


def crops_of_training(people: Any, source: Any, framing: Any, augmentation: Augmentation, drawn: Draws) -> Tensor:
    """The crops that training would make of these draws, in gray levels and the order of the people."""
    dataset = WindowDataset(people, source, framing, augmentation)
    batches = TrainingBatches(dataset, augmentation, batch_size=len(people), seed=0)
    really_draw, batches_module.draw = batches_module.draw, lambda *_: drawn
    try:
        (batch,) = batches.epoch(0)
    finally:
        batches_module.draw = really_draw
    (order,) = ShuffledBatches(len(people), len(people), 0, 0)
    std, mean = (torch.tensor(values).view(3, 1, 1) for values in (framing.std, framing.mean))
    return ((batch.crops * std + mean) * 255)[torch.tensor(order).argsort()]


def energy(crops: Tensor) -> float:
    """The mean square of the differences between neighbors."""
    return float(sum(crops.diff(dim=axis).double().square().mean() for axis in (2, 3)))


def measure_speed(people: Any, source: Any, framing: Any, augmentation: Augmentation) -> dict[str, float]:
    dataset = WindowDataset(people, source, framing, augmentation)
    start = time.perf_counter()
    dataset.load()
    loaded = time.perf_counter()
    batches = TrainingBatches(dataset, augmentation, batch_size=32, seed=0)
    rates = []
    for epoch in range(5 if len(people) > 256 else 20):
        begin = time.perf_counter()
        count = sum(len(batch.crops) for batch in batches.epoch(epoch))
        rates.append(count / (time.perf_counter() - begin))
    return {
        "decoding_seconds": loaded - start,
        "kilobytes_a_person": sum(window.numel() for window in dataset.windows or ()) / len(people) / 1e3,
        "images_per_second": float(np.median(rates)),
    }


if __name__ == "__main__":
    main()
