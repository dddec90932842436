"""Does attention tell the truth? Deletion curves: gray out patches of the image and measure how far the keypoint moves.

Usage: python benchmarks/faithfulness.py NAME VAL.json IMAGES [IMAGES ...] [--people N] [--json FILE] [--picture FILE]

For keypoints that the model finds (within 0.2 torso of the label), this grays out 1/32 to 1/4 of all patches: those
that a block's attention (mean over heads) ranks highest; as many that it ranks lowest; as many at random; and, as a
baseline without attention, as many nearest to the keypoint. A block's map tells the truth if its highest patches move
the keypoint farther than random ones, and its lowest move it less. Prints mean moves as percentages of the crop's
height and draws the curves.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tokenpose.attention.computation import attention_maps
from tokenpose.attention.maps import AttentionMaps
from tokenpose.data.coco import read_coco
from tokenpose.data.sources import ImageSource
from tokenpose.evaluation.units import torso_lengths
from tokenpose.geometry.boxes import xywh_to_xyxy
from tokenpose.geometry.decode import decode
from tokenpose.models.create import create_model
from tokenpose.models.tokenpose import TokenPose
from tokenpose.transforms import create_transform

SHARES = (1 / 32, 1 / 16, 1 / 8, 1 / 4)
KEYPOINTS_PER_PERSON = 4


def rankings(maps: AttentionMaps, keypoint: int, random: np.random.Generator) -> dict[str, np.ndarray]:
    """For each way to rank them, the patches, most important first."""
    by_block = [*maps.reduce().to_image[:, 0, keypoint], maps.rollout_to_image[-1, keypoint]]
    names = [*(str(block + 1) for block in range(maps.layers)), "rollout"]
    ranked = {name: np.argsort(-scores.ravel()) for name, scores in zip(names, by_block, strict=True)}
    lowest = {f"{name}, lowest": order[::-1] for name, order in ranked.items()}
    others = {"random": random.permutation(by_block[0].size), "nearest": np.argsort(distances(maps, keypoint).ravel())}
    return {**ranked, **lowest, **others}


def distances(maps: AttentionMaps, keypoint: int) -> np.ndarray:
    """From the found keypoint to the centers of the patches, in crop pixels."""
    x, y = maps.matrix @ [*maps.pose.keypoints[0, keypoint], 1]
    (rows, columns), (height, width) = maps.grid_size, maps.crop.shape[:2]
    down = (np.arange(rows) + 0.5) * height / rows - 0.5 - y
    across = (np.arange(columns) + 0.5) * width / columns - 0.5 - x
    return np.hypot(down[:, None], across)


def gray_out(crop: Tensor, patches: np.ndarray, grid: tuple[int, int]) -> Tensor:
    """A copy whose patches hold the mean color, which is 0 after normalization."""
    keep = torch.ones(grid[0] * grid[1])
    keep[patches.copy()] = 0
    mask = torch.nn.functional.interpolate(keep.view(1, 1, *grid), size=crop.shape[-2:], mode="nearest")[0]
    return crop * mask


@torch.inference_mode()
def moves(model: TokenPose, crop: Tensor, maps: AttentionMaps, keypoint: int, random: np.random.Generator) -> dict:
    """How far the keypoint moves, as a share of the crop's height, by ranking and share of patches."""
    ranked = rankings(maps, keypoint, random)
    counts = [max(1, round(share * len(ranked["random"]))) for share in SHARES]
    crops = [gray_out(crop, order[:count], maps.grid_size) for order in ranked.values() for count in counts]
    heatmaps = torch.cat([model(torch.stack(crops[start : start + 64])) for start in range(0, len(crops), 64)])
    found = decode(heatmaps[:, keypoint : keypoint + 1]).keypoints[:, 0]
    before = decode(model(crop[None])[:, keypoint : keypoint + 1]).keypoints[0, 0]
    distance = (found - before).norm(dim=-1) / heatmaps.shape[-2]
    return dict(zip(ranked, distance.view(len(ranked), len(SHARES)).numpy(), strict=True))


def measure(name: str, val: Path, places: list[str], people: int) -> tuple[dict[str, np.ndarray], int]:
    model, samples, source = create_model(name, pretrained=True), read_coco(val), ImageSource(places)
    transform, random = create_transform(model), np.random.default_rng(0)
    torsos = torso_lengths(samples.keypoints, samples.visible, samples.skeleton)
    found: list[dict] = []
    persons = 0
    for index in random.permutation(len(samples)):
        if persons == people:
            break
        image = source.read(samples.file_of(int(index)))
        box = xywh_to_xyxy(torch.from_numpy(samples.boxes[index : index + 1]))
        maps = attention_maps(model, image, box)
        errors = np.linalg.norm(maps.pose.keypoints[0] - samples.keypoints[index], axis=-1)
        right = np.flatnonzero((errors < 0.2 * torsos[index]) & samples.visible[index])
        if len(right) < KEYPOINTS_PER_PERSON:
            continue
        crop = transform(image, box).crops[0]
        chosen = random.choice(right, KEYPOINTS_PER_PERSON, replace=False)
        found += [moves(model, crop, maps, int(keypoint), random) for keypoint in chosen]
        persons += 1
    return {ranking: np.mean([entry[ranking] for entry in found], axis=0) for ranking in found[0]}, len(found)


def looks(curves: dict[str, np.ndarray]) -> list[str]:
    """The attention maps to test: blocks and rollout."""
    return [name for name in curves if f"{name}, lowest" in curves]


def gain(curves: dict[str, np.ndarray], ranking: str) -> float:
    """Mean over the curve: the highest patches' move less the random ones'."""
    return float((curves[ranking] - curves["random"]).mean())


def draw(curves: dict[str, np.ndarray], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    percent = [100 * share for share in SHARES]
    ways = looks(curves)
    best = ways[-3]  # the last block but one, shown by default; rollout is last
    for name in ways:
        if name not in (best, "rollout"):
            axes.plot(percent, 100 * curves[name], color="0.75", linewidth=1)
    axes.plot([], [], color="0.75", label="other blocks, highest")
    axes.plot(percent, 100 * curves[best], "o-", color="#d55e00", label=f"block {best}, highest")
    axes.plot(percent, 100 * curves["rollout"], "s-", color="#0072b2", label="rollout, highest")
    axes.plot(percent, 100 * curves["nearest"], "k:", label="nearest to the keypoint")
    axes.plot(percent, 100 * curves["random"], "k--", label="random")
    axes.plot(percent, 100 * curves[f"{best}, lowest"], "v-", color="#009e73", label=f"block {best}, lowest")
    axes.set(xlabel="patches grayed out, %", ylabel="mean move, % of the crop's height", ylim=(0, None))
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("val", type=Path)
    parser.add_argument("images", nargs="+")
    parser.add_argument("--people", type=int, default=60)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    curves, count = measure(options.name, options.val, options.images, options.people)
    header = " | ".join(f"{share:.0%}" for share in SHARES)
    print(f"{count} keypoints of {options.people} people; mean move in % of the crop's height\n")
    print(f"| block | highest: {header} | lowest: {header} | highest less random |")
    print("|---" * (2 * len(SHARES) + 2) + "|")
    for name in looks(curves):
        both = [*curves[name], *curves[f"{name}, lowest"]]
        moved = " | ".join(f"{100 * move:.1f}" for move in both)
        print(f"| {name} | {moved} | {100 * gain(curves, name):+.1f} |")
    for name in ("nearest", "random"):
        moved = " | ".join(f"{100 * move:.1f}" for move in curves[name])
        print(f"| {name} | {moved} |" + " |" * len(SHARES) + f" {100 * gain(curves, name):+.1f} |")
    if options.json:
        options.json.write_text(json.dumps({name: curve.tolist() for name, curve in curves.items()}, indent=1) + "\n")
    if options.picture:
        draw(curves, options.picture)


if __name__ == "__main__":
    main()
