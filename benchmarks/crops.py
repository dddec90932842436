"""What crops show of large people: how far keypoints move between copies of a photograph, gradients, and time.

Usage: python benchmarks/crops.py ANNOTATIONS.json IMAGES [--model tokenpose_s_v1] [--over 300] [--output crops.json]

For people whose box is longer than OVER pixels, and for each of the spec's crop filters, the share of keypoints that
move by more than a tenth of the box's longer side between the photograph and its copy of half the size (by Pillow's
bicubic and area filters), and if the box becomes one pixel larger: at its right and bottom, or by half a pixel at each
side. "sure": keypoints whose score is above 0.3 in both. "labeled": those that the annotations have. Then the time that
one crop takes on one thread.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from PIL import Image
from speed import describe_machine

import tokenpose
from tokenpose.data.combine import read_datasets, read_image_of
from tokenpose.geometry.affine import crop_matrices
from tokenpose.geometry.crops import crop_image
from tokenpose.shapes import CropFilter

FILTERS = get_args(CropFilter)
FAR = 0.1  # of the box's longer side
SURE = 0.3
SIDES = (150, 300, 1000, 3000)

Photograph = np.ndarray
Boxes = np.ndarray
Change = Callable[[Photograph, Boxes], tuple[Photograph, Boxes, Callable[[np.ndarray], np.ndarray]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("annotations", type=Path)
    parser.add_argument("images")
    parser.add_argument("--model", default="tokenpose_s_v1")
    parser.add_argument("--over", type=float, default=300.0)
    parser.add_argument("--output", type=Path, default=Path("crops.json"))
    options = parser.parse_args()
    people, source = read_datasets(options.annotations, options.images)
    people = people.take(people.boxes[:, 2:].max(axis=1) > options.over)
    photographs = [
        read_image_of(source, people, int(image)).permute(1, 2, 0).contiguous().numpy() for image in people.image_index
    ]
    print(f"{len(people)} people whose box is longer than {options.over:.0f} pixels; keypoints that stay, in percent\n")
    stability = measure_stability(options.model, people, photographs)
    print("\nmilliseconds a crop of 256x192, one thread\n")
    times = measure_times()
    found = {"machine": describe_machine(), "model": options.model, "stability": stability, "times": times}
    options.output.write_text(json.dumps(found, indent=1) + "\n")


def measure_stability(name: str, people: Any, photographs: list[Photograph]) -> list[dict[str, Any]]:
    rows = []
    print("| filter | change | all | sure | labeled | median shift |\n" + "|---" * 6 + "|")
    for crop_filter in FILTERS:
        model = tokenpose.create_model(name, pretrained=True, crop_filter=crop_filter)
        predictor = tokenpose.PosePredictor(model)
        labeled = is_labeled(people, model.spec.skeleton)
        for change, make in CHANGES.items():
            shifts, sure = measure_shifts(predictor, people.boxes, photographs, make)
            row = {"filter": crop_filter, "change": change, "keypoints": int(shifts.size)}
            row |= {
                kind: float((shifts[counted] <= FAR).mean())
                for kind, counted in (("all", np.full_like(sure, True)), ("sure", sure), ("labeled", labeled))
            }
            row |= {"sure_keypoints": int(sure.sum()), "labeled_keypoints": int(labeled.sum())}
            rows.append(row | {"median": float(np.median(shifts))})
            print(write_row(rows[-1]), flush=True)
    return rows


def write_row(row: dict[str, Any]) -> str:
    shares = " | ".join(f"{row[kind]:.1%}" for kind in ("all", "sure", "labeled"))
    return f"| {row['filter']} | {row['change']} | {shares} | {row['median']:.4f} |"


def is_labeled(people: Any, skeleton: tokenpose.Skeleton) -> np.ndarray:
    """(people, keypoints): whether the annotations have each of the model's keypoints."""
    known = people.skeleton.keypoints
    columns = [people.visible[:, known.index(name)] if name in known else np.zeros(len(people), bool)
               for name in skeleton.keypoints]  # fmt: skip
    return np.stack(columns, axis=1)


def measure_shifts(
    predictor: tokenpose.PosePredictor, boxes: Boxes, photographs: list[Photograph], make: Change
) -> tuple[np.ndarray, np.ndarray]:
    """(people, keypoints): shifts as shares of the box's longer side, and whether both scores are high."""
    shifts, sure = [], []
    for box, photograph in zip(boxes, photographs, strict=True):
        before = predictor(photograph, box[None], "xywh")
        changed, changed_box, back = make(photograph, box[None])
        after = predictor(changed, changed_box, "xywh")
        shifts.append(np.linalg.norm(before.keypoints[0] - back(after.keypoints[0]), axis=-1) / box[2:].max())
        sure.append(np.minimum(before.scores[0], after.scores[0]) > SURE)
    return np.stack(shifts), np.stack(sure)


def halve(resample: Image.Resampling) -> Change:
    def make(photograph: Photograph, boxes: Boxes) -> tuple[Photograph, Boxes, Callable[[np.ndarray], np.ndarray]]:
        height, width = photograph.shape[:2]
        half = Image.fromarray(photograph).resize((width // 2, height // 2), resample)
        factor = np.array([half.width / width, half.height / height])
        smaller = (boxes * np.tile(factor, 2)).astype(boxes.dtype)
        # pixel centers are at integers: the image begins at -0.5
        return np.asarray(half), smaller, lambda keypoints: (keypoints + 0.5) / factor - 0.5

    return make


def enlarge(by: list[float]) -> Change:
    return lambda photograph, boxes: (photograph, boxes + np.array(by, dtype=boxes.dtype), lambda keypoints: keypoints)


CHANGES: dict[str, Change] = {
    "half the size, bicubic": halve(Image.Resampling.BICUBIC),
    "half the size, area": halve(Image.Resampling.BOX),
    "one pixel wider and higher": enlarge([0, 0, 1, 1]),
    "half a pixel at each side": enlarge([-0.5, -0.5, 1, 1]),
}


def measure_times() -> list[dict[str, Any]]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rows = []
    print("| box's height | " + " | ".join(FILTERS) + " |\n" + "|---" * (1 + len(FILTERS)) + "|")
    for side in SIDES:
        height, width = int(side * 1.3), int(side * 1.04)
        image = torch.randint(0, 256, (height, width, 3), dtype=torch.uint8).permute(2, 0, 1)  # as Pillow's images lie
        scale = torch.tensor([[side * 1.25 * 0.75, side * 1.25]])
        matrices = crop_matrices(torch.tensor([[width / 2, height / 2]]), scale, (256, 192))
        row = {name: time_of(partial(crop_image, image, matrices, (256, 192), name)) for name in FILTERS}
        rows.append({"side": side, **row})
        print(f"| {side} | " + " | ".join(f"{row[name]:.1f}" for name in FILTERS) + " |", flush=True)
    torch.set_num_threads(threads)
    return rows


def time_of(call: Callable[[], Any], repeats: int = 15) -> float:
    """The median in milliseconds."""
    call()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds)


if __name__ == "__main__":
    main()
