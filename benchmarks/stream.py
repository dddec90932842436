"""Memory and speed of PosePredictor.many over thousands of photographs.

Usage: python benchmarks/stream.py [COUNT [NAME]]

Writes 64 made-up JPEGs of 1280x960 into a temporary folder and streams COUNT (5000) of them, two people each, from
their paths. Prints images per second with reading ahead and without, in turns, and the process's memory every tenth of
the way.
"""

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from PIL import Image

import tokenpose

BOXES = [[100, 80, 500, 900], [600, 100, 1100, 950]]


def write_photographs(folder: Path, count: int = 64) -> list[Path]:
    random = np.random.default_rng(0)
    for index in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (48, 64, 3), dtype=np.uint8))
        coarse.resize((1280, 960), Image.Resampling.BICUBIC).save(folder / f"{index}.jpg", quality=90)
    return sorted(folder.iterdir())


def megabytes() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def stream(
    predictor: tokenpose.PosePredictor, paths: list[Path], count: int, readers: int
) -> Iterator[tokenpose.Poses]:
    return predictor.many(islice(cycle(paths), count), [BOXES] * count, readers=readers)


def main(count: int, name: str) -> None:
    predictor = tokenpose.PosePredictor(tokenpose.create_model(name, pretrained=True))
    with tempfile.TemporaryDirectory() as folder:
        paths = write_photographs(Path(folder))
        rates: dict[int, list[float]] = {0: [], 4: []}
        for _ in range(3):
            for readers, measured in rates.items():
                start = time.perf_counter()
                people = sum(len(poses) for poses in stream(predictor, paths, 128, readers))
                measured.append(people / 2 / (time.perf_counter() - start))
        for readers, measured in rates.items():
            print(f"readers={readers}: {sorted(measured)[1]:.1f} images/s (median of three, in turns)")
        print("| photographs | memory, MB |\n|---|---|")
        for done, _ in enumerate(stream(predictor, paths, count, readers=4), 1):
            if done % (count // 10) == 0:
                print(f"| {done} | {megabytes():.0f} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5000, sys.argv[2] if len(sys.argv) > 2 else "tokenpose_s_v1")
