"""PCK@0.2 of bundled weights carried over to other image sizes, before any training.

Usage: python benchmarks/carry_over.py NAME VAL.json IMAGES [IMAGES ...]

Prints a Markdown table: heights from half to twice the size that the weights were made for.
"""

import sys
import warnings
from pathlib import Path

from tokenpose.data.coco import read_coco
from tokenpose.data.sources import ImageSource
from tokenpose.jobs.evaluation import measure_pck
from tokenpose.models.create import create_model

FACTORS = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0)


def main(name: str, val: Path, places: list[str]) -> None:
    people, source = read_coco(val), ImageSource(places)
    height, width = create_model(name, pretrained=True).spec.image_size
    print("| size | image | visual tokens | PCK@0.2 |\n|---|---|---|---|")
    for factor in FACTORS:
        size = round(height * factor), round(width * factor)
        model = create_model(name, pretrained=True, image_size=size)
        rows, columns = model.spec.grid_size
        score = measure_pck(model, people, source).mean
        print(f"| {factor:g}x | {size[0]}x{size[1]} | {rows} x {columns} | {score:.1f} |", flush=True)


if __name__ == "__main__":
    warnings.simplefilter("error")
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
