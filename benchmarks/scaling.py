"""What a pass costs as batch, tokens, keypoints and people grow: time and memory, TokenPose-S, as tables and curves.

Usage: python benchmarks/scaling.py [--output scaling.json] [--picture scaling.png] [--seconds 1]

The published computation (benchmarks/published.py) and the optimized model take turns. Memory is what a pass needs
besides weights and crops. Both share a process, and with it the memory that `optimize` makes glibc keep, which helps
both. For tokens the patch shrinks: from 8x6 backbone cells (64 visual tokens) to 1x2 (1,536); S-v1 has 256 and S-v2
768. "people" is the whole predictor, stage by stage, for that many people on one photograph of 640x480. Values that
OUTPUT already holds are not measured again; an OUTPUT from another machine or other versions is refused.
"""

import argparse
import json
import logging
import tempfile
from pathlib import Path
from typing import Any

import torch
from published import Published
from speed import (
    choose_device,
    draw_boxes,
    draw_photograph,
    make_stages,
    measure_memory,
    read_output,
    take_turns,
    with_weights,
)

BATCHES = (1, 2, 4, 8, 16, 32, 64)
PATCHES = ((8, 6), (8, 3), (4, 3), (2, 3), (2, 2), (1, 2))
KEYPOINTS = (17, 133, 500)
PEOPLE = (1, 2, 4, 8, 16, 32, 64)
STAGES = ("crop", "forward", "decode heatmaps", "map back")
WAYS = ("published", "optimized")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("scaling.json"))
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each point, at least")
    options = parser.parse_args()
    found = read_output(options.output, {})
    measures = {"batch": by_batch, "tokens": by_tokens, "keypoints": by_keypoints, "people": by_people}
    for name, measure in measures.items():
        if name not in found:
            with torch.inference_mode():
                found[name] = measure(options.seconds)
            options.output.write_text(json.dumps(found, indent=1) + "\n")
        print_table(name, found[name])
    if options.picture:
        draw(found, options.picture)


def by_batch(seconds: float) -> list[dict[str, Any]]:
    ways = make_ways()
    return [compare(ways, batch, {"batch": batch}, seconds) for batch in BATCHES]


def by_tokens(seconds: float) -> list[dict[str, Any]]:
    rows = []
    for patch in PATCHES:
        ways = make_ways(patch_size=patch)
        rows.append(compare(ways, 1, {"tokens": (64 // patch[0]) * (48 // patch[1])}, seconds))
    return rows


def by_keypoints(seconds: float) -> list[dict[str, Any]]:
    return [compare(make_ways(keypoints=count), 1, {"keypoints": count}, seconds) for count in KEYPOINTS]


def by_people(seconds: float) -> list[dict[str, Any]]:
    from tokenpose.images import read_image

    model = make_ways()["optimized"]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        photograph = draw_photograph(Path(folder) / "photograph.jpg")
        pixels = read_image(photograph)
        for people in PEOPLE:
            stages = make_stages(model, photograph, pixels, draw_boxes(people, pixels.shape[1], pixels.shape[2]))
            spent = take_turns({name: stages[name] for name in (*STAGES, "predictor, from pixels")}, seconds)
            rows.append({"people": people, **{name: 1000 * value / people for name, value in spent.items()}})
    return rows


def make_ways(**changes: Any) -> dict[str, Any]:
    import tokenpose

    torch.manual_seed(0)
    model = with_weights(tokenpose.create_model("tokenpose_s_v1.coco_256x192", **changes)).to(choose_device())
    return {"published": Published(model), "optimized": tokenpose.optimize(model)}


def compare(ways: dict[str, Any], batch: int, row: dict[str, int], seconds: float) -> dict[str, Any]:
    crops = torch.randn(batch, 3, 256, 192, device=choose_device())
    for way in ways.values():
        way(crops)
    memory = {name: measure_memory(lambda way=way: way(crops))[0] / 1e6 for name, way in ways.items()}
    spent = take_turns({name: lambda way=way: way(crops) for name, way in ways.items()}, seconds)
    return {
        **row,
        **{f"{name} ms": 1000 * value / batch for name, value in spent.items()},
        **{f"{name} MB": value for name, value in memory.items()},
    }


def print_table(name: str, rows: list[dict[str, Any]]) -> None:
    print(f"\n| {' | '.join(rows[0])} |\n|{'---|' * len(rows[0])}")
    for row in rows:
        print("| " + " | ".join(f"{value:.4g}" for value in row.values()) + " |")


def draw(found: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 4, figsize=(15, 6.5), layout="constrained")
    for column, name in enumerate(("batch", "tokens", "keypoints")):
        for row, unit in enumerate(("ms", "MB")):
            axis, rows = axes[row][column], found[name]
            for way in WAYS:
                axis.plot(
                    [line[name] for line in rows], [line[f"{way} {unit}"] for line in rows], marker="o", label=way
                )
            axis.set(xlabel=name, ylabel="ms an image" if unit == "ms" else "MB a pass", ylim=(0, None))
            axis.legend()
    rows = found["people"]
    for axis, names in (
        (axes[0][3], ("forward", "predictor, from pixels")),
        (axes[1][3], ("crop", "decode heatmaps", "map back")),
    ):
        for name in names:
            axis.plot([line["people"] for line in rows], [line[name] for line in rows], marker="o", label=name)
        axis.set(xlabel="people on a photograph", ylabel="ms a person", ylim=(0, None))
        axis.legend()
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    logging.getLogger("tokenpose").setLevel(logging.ERROR)
    main()
