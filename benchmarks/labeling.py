"""The story of docs/label.md with drawn flies: labels of a tool, import, check, split, training, pre-labels.

Usage: python benchmarks/labeling.py FOLDER
FOLDER gets the flies, every file on the way, and the pictures of the page. Draws, because a drawing's truth is known
and it belongs to nobody. A folder that has a finished run is not trained again. Needs Debian's chromium and playwright
for the picture of the check.
"""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from typer.testing import CliRunner

from tokenpose.cli import app
from tokenpose.poses import Poses
from tokenpose.skeletons import Skeleton
from tokenpose.visualize import draw_poses

SIZE = 192
COUNT = 90
SWAPPED = (11, 52)
"""Pictures in which the person who labeled took left for right."""
NAMES = ("head", "left_foot", "right_foot", "left_wing", "right_wing", "tail")
ALONG = {
    "head": (0.42, 0.0), "left_foot": (0.3, -0.36), "right_foot": (0.3, 0.36), "left_wing": (-0.42, -0.42),
    "right_wing": (-0.42, 0.42), "tail": (-0.5, 0.0),
}  # fmt: skip
"""Where keypoints are in a fly of length 1: forward, and to its right."""
TRAINING = ("--recipe", "finetune", "--image-size", "128x96")


def main() -> None:
    folder = Path(sys.argv[1])
    label(folder / "flies")
    run("import", folder / "flies", "--output", folder / "data.json")
    run(
        "check", folder / "data.json", "--images", folder / "flies", "--sheet", folder / "suspects.html",
        "--swap-score", "4",
    )  # fmt: skip
    draw_labels(folder / "data.json", folder / "flies", folder / "label-people.jpg")
    take_screenshot(folder / "suspects.html", folder / "label-check.png")
    label(folder / "flies", swapped=())  # the two are corrected
    run("import", folder / "flies", "--output", folder / "data.json")
    if not (folder / "run" / "model.safetensors").exists():
        run("train", "--train", folder / "data.json", "--val", "0.2", "--images", folder / "flies", *TRAINING,
            "--output", folder / "run")  # fmt: skip
    run("split", folder / "data.json", "--val", "0.2")
    run("evaluate", "--weights", folder / "run" / "model.safetensors", "--data", folder / "data.val.json", "--images",
        folder / "flies", "--metric", "pck")  # fmt: skip
    sheets = sorted((folder / "run" / "predictions").glob("*.jpg"))
    Image.open(sheets[-1]).convert("RGB").save(folder / "label-predictions.jpg", quality=88)


def run(*arguments: object) -> None:
    """A command, with what it prints."""
    print("$ tokenpose", *arguments, flush=True)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    print(result.output, flush=True)
    if result.exit_code and arguments[0] != "check":
        raise SystemExit(result.exit_code)


# Flies, and their labels as labelme writes them


def label(folder: Path, swapped: tuple[int, ...] = SWAPPED) -> None:
    """Pictures of one or two flies, with a JSON file beside each."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(7)
    for index in range(COUNT):
        picture, flies = draw(random)
        picture.save(folder / f"fly{index:03}.png")
        shapes = [shape for number, fly in enumerate(flies, 1) for shape in shapes_of(fly, number, index in swapped)]
        content = {
            "version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": f"fly{index:03}.png", "imageData": None,
            "imageHeight": SIZE, "imageWidth": SIZE,
        }  # fmt: skip
        (folder / f"fly{index:03}.json").write_text(json.dumps(content, indent=2))


Fly = dict[str, tuple[float, float]]


def draw(random: np.random.Generator) -> tuple[Image.Image, list[Fly]]:
    """A leaf with flies on it, seen from above."""
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    slope, shift = random.uniform(-1, 1, 2)
    shade = 0.5 + 0.5 * np.sin(9 * (x + slope * y) + 6 * shift)
    base = np.array([random.uniform(95, 150), random.uniform(140, 185), random.uniform(80, 120)])
    ground = base * (0.8 + 0.2 * shade[..., None]) + random.normal(0, 5, (SIZE, SIZE, 3))
    picture = Image.fromarray(ground.clip(0, 255).astype(np.uint8))
    flies = []
    for center in ((0.3, 0.35), (0.7, 0.68))[: random.integers(1, 3)]:
        middle = np.array(center) * SIZE + random.uniform(-9, 9, 2)
        angle, length = random.uniform(0, 2 * np.pi), random.uniform(52, 76)
        picture = draw_fly(picture, middle, angle, length, random)
        flies.append({name: place(middle, angle, length, *where) for name, where in ALONG.items()})
    return picture.filter(ImageFilter.GaussianBlur(0.6)), flies


def place(middle: np.ndarray, angle: float, length: float, forward: float, right: float) -> tuple[float, float]:
    """A point of the fly in pixels; y points down, so that right is a quarter turn clockwise from forward."""
    ahead, aside = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    x, y = middle + length * (forward * ahead + right * aside)
    return float(x), float(y)


def draw_fly(
    picture: Image.Image, middle: np.ndarray, angle: float, length: float, random: np.random.Generator
) -> Image.Image:
    """Six legs, a body, a head with eyes, and two wings that show through."""
    scale = 4  # drawn large and made smaller: smooth edges
    layer = Image.new("RGBA", (SIZE * scale, SIZE * scale))
    pen = ImageDraw.Draw(layer)
    dark = tuple(int(value) for value in random.uniform(20, 60, 3))

    def spot(forward: float, right: float) -> tuple[float, float]:
        x, y = place(middle, angle, length, forward, right)
        return x * scale, y * scale

    def oval(at: tuple[float, float], reach: tuple[float, float], turn: float, color: tuple[int, ...]) -> None:
        around = np.linspace(0, 2 * np.pi, 60)
        along, across = reach[0] * np.cos(around), reach[1] * np.sin(around)
        forward, right = along * np.cos(turn) - across * np.sin(turn), along * np.sin(turn) + across * np.cos(turn)
        pen.polygon([spot(at[0] + a, at[1] + b) for a, b in zip(forward, right, strict=True)], fill=color)

    for forward, out in ((0.3, 0.36), (0.05, 0.42), (-0.15, 0.38)):
        for side in (-1, 1):
            pen.line([spot(forward * 0.6, 0), spot(forward, side * out)], fill=(*dark, 255), width=2 * scale)
    oval((-0.22, 0), (0.28, 0.13), 0, (*dark, 255))
    oval((0.12, 0), (0.2, 0.14), 0, (*dark, 255))
    oval((0.36, 0), (0.08, 0.11), 0, (*dark, 255))
    for side in (-1, 1):
        oval((0.38, side * 0.08), (0.05, 0.04), 0, (150, 30, 30, 255))
        oval((-0.18, side * 0.24), (0.32, 0.11), -side * 0.67, (225, 232, 240, 165))
    small = layer.resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    return Image.alpha_composite(picture.convert("RGBA"), small).convert("RGB")


def shapes_of(fly: Fly, group: int, swapped: bool) -> Iterator[dict[str, object]]:
    """Points, and a rectangle around them, of one group."""
    other = {
        "left_wing": "right_wing",
        "right_wing": "left_wing",
    }  # a whole fly the other way can't be told from labels
    for name, (x, y) in fly.items():
        yield shape(other.get(name, name) if swapped else name, [(round(x, 2), round(y, 2))], "point", group)
    left, top = (min(point[axis] for point in fly.values()) - 6 for axis in (0, 1))
    right, bottom = (max(point[axis] for point in fly.values()) + 6 for axis in (0, 1))
    yield shape("fly", [(round(left, 2), round(top, 2)), (round(right, 2), round(bottom, 2))], "rectangle", group)


def shape(name: str, points: list[tuple[float, float]], kind: str, group: int) -> dict[str, object]:
    return {"label": name, "points": points, "group_id": group, "description": "", "shape_type": kind, "flags": {}}


# Pictures


def draw_labels(data: Path, images: Path, output: Path, most: int = 4) -> None:
    """The labels of the first pictures with two flies, side by side."""
    content = json.loads(data.read_text())
    skeleton = Skeleton(name="fly", keypoints=NAMES, limbs=((0, 5), (0, 1), (0, 2), (0, 3), (0, 4)))
    pictures = []
    for image in content["images"]:
        people = [person for person in content["annotations"] if person["image_id"] == image["id"]]
        if len(people) < 2 or len(pictures) == most:
            continue
        triples = np.array([person["keypoints"] for person in people], np.float32).reshape(-1, len(NAMES), 3)
        boxes = np.array([person["bbox"] for person in people], np.float32)
        boxes[:, 2:] += boxes[:, :2]
        poses = Poses(keypoints=triples[..., :2], scores=triples[..., 2] / 2, boxes=boxes, skeleton=skeleton)
        with Image.open(images / image["file_name"]) as opened:
            pictures.append(draw_poses(np.asarray(opened), poses, boxes=True, scale=2))
    Image.fromarray(np.concatenate(pictures, axis=1)).save(output, quality=88)


def take_screenshot(page: Path, output: Path) -> None:
    """The people whom the check's page shows."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = shutil.which("chromium") or "chromium"
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page(viewport={"width": 1000, "height": 900})
        tab.goto(page.resolve().as_uri())
        tab.locator(".cards").first.screenshot(path=output)
        browser.close()
    with Image.open(output) as opened:
        opened.convert("RGB").quantize(256, kmeans=2).save(output, optimize=True)


if __name__ == "__main__":
    main()
