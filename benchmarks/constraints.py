"""Which keypoints attend to which: the two strongest constraints of each, as in the paper's table.

Usage: python benchmarks/constraints.py NAME VAL.json IMAGES [IMAGES ...]

Prints, for each keypoint, the two other keypoints that get most of its attention (mean over heads and over the first
100 people, in the block shown by default), and the two whose learned tokens are most like its own.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from tokenpose.attention.computation import attention_maps, keypoint_similarity
from tokenpose.data.coco import read_coco
from tokenpose.data.sources import ImageSource
from tokenpose.geometry.boxes import xywh_to_xyxy
from tokenpose.models.create import create_model


def main(name: str, val: Path, places: list[str], people: int = 100) -> None:
    model, samples, source = create_model(name, pretrained=True), read_coco(val), ImageSource(places)
    found = []
    for index in range(people):
        box = xywh_to_xyxy(torch.from_numpy(samples.boxes[index : index + 1]))
        found.append(attention_maps(model, source.read(samples.file_of(index)), box).reduce())
    mean = replace(found[0], to_keypoints=np.mean([maps.to_keypoints for maps in found], axis=0))
    attended = mean.top_constraints(2)
    similar = keypoint_similarity(model)
    np.fill_diagonal(similar, 0)
    print(f"block {mean.default_layer + 1} of {mean.layers}, {people} people\n")
    print("| keypoint | attends to | its token is most like |\n|---|---|---|")
    for row, keypoint in zip(similar, mean.names, strict=True):
        shares = ", ".join(f"{other} {share:.1%}" for other, share in attended[keypoint])
        alike = ", ".join(f"{mean.names[index]} {row[index]:.1%}" for index in np.argsort(-row)[:2])
        print(f"| {keypoint} | {shares} | {alike} |")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
