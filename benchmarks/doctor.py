"""Does the data doctor find what it should? Plant faults in real data, and count findings in the untouched data.

Usage: python benchmarks/doctor.py TRAIN.json VAL.json OUTPUT.json IMAGES [IMAGES ...]

Plants COUNT of each kind of fault, one kind at a time, at seeded random places in a file with one person per image
(LSPET's 9,000), and counts how many of them the responsible check names. Prints a table of these, and one of each
check's findings in the untouched file; writes both as JSON.
"""

import io
import json
import sys
import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance

from tokenpose.data.sources import ImageSource
from tokenpose.doctor.check import CheckResult, check_data
from tokenpose.doctor.findings import CHECKS

COUNT = 100
Content = dict[str, Any]
Random = np.random.Generator


def points(annotation: Content) -> np.ndarray:
    return np.array(annotation["keypoints"], dtype=float).reshape(-1, 3)


def put(annotation: Content, triples: np.ndarray) -> None:
    annotation["keypoints"] = triples.ravel().tolist()


def labeled(annotation: Content, random: Random, count: int = 1) -> np.ndarray:
    """Some of the person's labeled keypoints."""
    return random.choice(np.flatnonzero(points(annotation)[:, 2] > 0), count, replace=False)


# Each changes an annotation, and may look at its image's record.


def box_without_area(annotation: Content, image: Content, random: Random) -> None:
    annotation["bbox"][random.integers(2, 4)] = 0


def box_of_somebody_else(annotation: Content, image: Content, random: Random) -> None:
    """Move the box by three quarters of its size, to the side where the image has room."""
    for axis, limit in enumerate((image["width"], image["height"])):
        position, side = annotation["bbox"][axis], annotation["bbox"][axis + 2]
        annotation["bbox"][axis] = position + 0.75 * side * (1 if position + side / 2 < limit / 2 else -1)


def box_as_corners(annotation: Content, image: Content, random: Random) -> None:
    x, y, width, height = annotation["bbox"]
    annotation["bbox"] = [x, y, x + width, y + height]


def loose_box(annotation: Content, image: Content, random: Random) -> None:
    x, y, width, height = annotation["bbox"]
    annotation["bbox"] = [x - 1.5 * width, y - 1.5 * height, 4 * width, 4 * height]


def keypoint_outside(annotation: Content, image: Content, random: Random) -> None:
    triples = points(annotation)
    triples[labeled(annotation, random), 0] = image["width"] * random.uniform(1.05, 1.5)
    put(annotation, triples)


def all_at_one_spot(annotation: Content, image: Content, random: Random) -> None:
    triples = points(annotation)
    triples[triples[:, 2] > 0, :2] = triples[labeled(annotation, random)[0], :2]
    put(annotation, triples)


def repeated_keypoint(annotation: Content, image: Content, random: Random) -> None:
    triples = points(annotation)
    first, second = labeled(annotation, random, 2)
    triples[first] = triples[second]
    put(annotation, triples)


def unknown_flag(annotation: Content, image: Content, random: Random) -> None:
    triples = points(annotation)
    triples[labeled(annotation, random), 2] = 3
    put(annotation, triples)


def labeled_at_origin(annotation: Content, image: Content, random: Random) -> None:
    triples = points(annotation)
    triples[labeled(annotation, random), :2] = 0
    put(annotation, triples)


def unlabeled_with_place(annotation: Content, image: Content, random: Random) -> None:
    triples = points(annotation)
    triples[labeled(annotation, random), 2] = 0
    put(annotation, triples)


def wrong_count(annotation: Content, image: Content, random: Random) -> None:
    annotation["num_keypoints"] += 1


def too_few_numbers(annotation: Content, image: Content, random: Random) -> None:
    del annotation["keypoints"][-3:]


def not_a_number(annotation: Content, image: Content, random: Random) -> None:
    annotation["keypoints"][3 * labeled(annotation, random)[0]] = float("nan")


def unlisted_image(annotation: Content, image: Content, random: Random) -> None:
    annotation["image_id"] = 10_000_000


def exchange(*pairs: str) -> Callable[[Content, Content, Random], None]:
    def change(annotation: Content, image: Content, random: Random) -> None:
        triples = points(annotation)
        for pair in pairs:
            both = [NAMES.index(f"left_{pair}"), NAMES.index(f"right_{pair}")]
            triples[both] = triples[both[::-1]]
        put(annotation, triples)

    change.pairs = pairs  # type: ignore[attr-defined]
    return change


NAMES: list[str] = []
PAIRS = ("ankle", "knee", "hip", "shoulder", "elbow", "wrist")
RECORDS = {
    "keypoint list too short": (too_few_numbers, "records"),
    "a coordinate that is no number": (not_a_number, "records"),
    "annotation of an unlisted image": (unlisted_image, "records"),
    "box without area": (box_without_area, "boxes"),
    "box moved off the person": (box_of_somebody_else, "boxes"),
    "box as corners instead of sizes": (box_as_corners, "boxes"),
    "box four times too large": (loose_box, "boxes"),
    "keypoint outside the image": (keypoint_outside, "keypoints outside"),
    "all keypoints at one spot": (all_at_one_spot, "repeated keypoints"),
    "one keypoint on another": (repeated_keypoint, "repeated keypoints"),
    "v = 3": (unknown_flag, "visibility flags"),
    "labeled at (0, 0)": (labeled_at_origin, "visibility flags"),
    "v = 0 with a place": (unlabeled_with_place, "visibility flags"),
    "num_keypoints off by one": (wrong_count, "visibility flags"),
    **{f"{pair}s exchanged": (exchange(pair), "left and right") for pair in PAIRS},
    "knees and ankles exchanged": (exchange("knee", "ankle"), "left and right"),
    "whole legs exchanged": (exchange("hip", "knee", "ankle"), "left and right"),
    "elbows and wrists exchanged": (exchange("elbow", "wrist"), "left and right"),
    "whole arms exchanged": (exchange("shoulder", "elbow", "wrist"), "left and right"),
}


def fits(annotation: Content, change: Any) -> bool:
    """Whether the fault can be planted there: exchanged keypoints have to be labeled."""
    flags = points(annotation)[:, 2]
    names = [f"{side}_{pair}" for pair in getattr(change, "pairs", ()) for side in ("left", "right")]
    return all(flags[NAMES.index(name)] > 0 for name in names)


def diagnose(folder: Path, content: Content, **options: Any) -> tuple[CheckResult, float]:
    path = folder / "planted.json"
    path.write_text(json.dumps(content))
    start = time.perf_counter()
    return check_data(path, **options), time.perf_counter() - start


def row(fault: str, check: str, planted: int, found: int, seconds: float) -> Content:
    print(f"| {fault} | {check} | {planted} | {found} | {found / planted:.0%} |", flush=True)
    return {"fault": fault, "check": check, "planted": planted, "found": found, "seconds": round(seconds, 2)}


def plant_in_records(clean: Content, folder: Path, random: Random) -> list[Content]:
    rows = []
    for fault, (change, check) in RECORDS.items():
        content = deepcopy(clean)
        images = {image["id"]: image for image in content["images"]}
        fitting = [one for one in content["annotations"] if fits(one, change)]
        chosen = [fitting[index] for index in random.choice(len(fitting), COUNT, replace=False)]
        for annotation in chosen:
            change(annotation, images[annotation["image_id"]], random)
        diagnosis, seconds = diagnose(folder, content)
        named = {identity for finding in diagnosis.of_check(check) for identity in finding.annotations}
        rows.append(row(fault, check, COUNT, sum(one["id"] in named for one in chosen), seconds))
    content = deepcopy(clean)
    twins = [dict(content["annotations"][index]) for index in random.choice(len(content["annotations"]), COUNT)]
    for number, twin in enumerate(twins):
        twin["id"] = 20_000_000 + number
        shift = np.where(points(twin)[:, 2:] > 0, random.uniform(-1, 1, (len(NAMES), 3)) * (1, 1, 0), 0)
        put(twin, points(twin) + shift)
    content["annotations"] += twins
    diagnosis, seconds = diagnose(folder, content)
    named = {identity for finding in diagnosis.of_check("duplicate people") for identity in finding.annotations}
    rows.append(row("person annotated twice", "duplicate people", COUNT, sum(t["id"] in named for t in twins), seconds))
    return rows


def plant_many(clean: Content, folder: Path, random: Random) -> list[Content]:
    """Exchanged sides that aren't rare: COUNT of each kind in one file, and the same elbows of 15 in a file of 60."""
    rows = []
    content = deepcopy(clean)
    changes = [change for change, check in RECORDS.values() if check == "left and right"]
    free = [content["annotations"][index] for index in random.permutation(len(content["annotations"]))]
    chosen = []
    for change in changes:
        fitting = [one for one in free if fits(one, change)][:COUNT]
        free = [one for one in free if one not in fitting]
        for annotation in fitting:
            change(annotation, {}, random)
        chosen += fitting
    few = deepcopy(clean)
    change = RECORDS["elbows exchanged"][0]
    few["annotations"] = [one for one in few["annotations"] if fits(one, change)][:60]
    for annotation in few["annotations"][::4]:
        change(annotation, {}, random)
    for fault, file, faulty in (
        (f"all ten kinds of exchange at once, in {len(chosen)} of {len(content['annotations'])}", content, chosen),
        ("elbows exchanged, in 15 of 60", few, few["annotations"][::4]),
    ):
        diagnosis, seconds = diagnose(folder, file)
        named = {identity for finding in diagnosis.of_check("left and right") for identity in finding.annotations}
        rows.append(
            row(fault, "left and right", len(faulty), sum(one["id"] in named for one in faulty), seconds)
            | {"falsely": len(named - {one["id"] for one in faulty})}
        )
    return rows


def plant_in_file(clean: Content, folder: Path) -> list[Content]:
    """Faults that concern a whole file: for each kind, every way to plant it gets its own copy of the file."""
    count = len(NAMES)

    def renamed(names: list[str]) -> Content:
        return {**clean, "categories": [{**clean["categories"][0], "keypoints": names}]}

    def swapped(first: int, second: int) -> list[str]:
        names = NAMES.copy()
        names[first], names[second] = names[second], names[first]
        return names

    def never(keypoint: int) -> Content:
        content = deepcopy(clean)
        for annotation in content["annotations"]:
            annotation["keypoints"][3 * keypoint : 3 * keypoint + 3] = [0, 0, 0]
        return content

    def always_flagged() -> Content:
        content = deepcopy(clean)
        for annotation in content["annotations"]:
            annotation["keypoints"][2::3] = [2] * count
        return content

    def corners() -> Content:
        content = deepcopy(clean)
        for annotation in content["annotations"]:
            box_as_corners(annotation, {}, np.random.default_rng(0))
        return content

    sides = [(NAMES.index(f"left_{pair}"), NAMES.index(f"right_{pair}")) for pair in PAIRS]
    others = [both for both in combinations(range(count), 2) if both not in sides and both[::-1] not in sides]
    unsided = [both for both in others if any(NAMES[index] in ("neck", "head_top") for index in both)]
    kinds = {
        ("left and right named the other way", "left and right"): [renamed(swapped(*both)) for both in sides],
        ("two keypoints' names exchanged, both with a side", "flip pairs"): [
            renamed(swapped(*one)) for one in others if one not in unsided
        ],
        ("two keypoints' names exchanged, one without a side", "flip pairs"): [
            renamed(swapped(*one)) for one in unsided if one != (NAMES.index("neck"), NAMES.index("head_top"))
        ],
        ("a name without partner", "flip pairs"): [
            renamed([*NAMES[:index], NAMES[index] + "_2", *NAMES[index + 1 :]]) for both in sides for index in both
        ],
        ("all boxes as corners instead of sizes", "boxes"): [corners()],
        ("keypoint never labeled", "never labeled"): [never(index) for index in range(count)],
        ("v never 0, (0, 0) instead", "visibility flags"): [always_flagged()],
    }
    rows = []
    for (fault, check), contents in kinds.items():
        results = [diagnose(folder, content) for content in contents]
        found = sum(any(not one.annotations for one in diagnosis.of_check(check)) for diagnosis, _ in results)
        rows.append(row(fault, check, len(contents), found, sum(seconds for _, seconds in results)))
    return rows


def encode(picture: Image.Image, quality: int = 60, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "JPEG", quality=quality, **options)
    return buffer.getvalue()


def cropped(picture: Image.Image) -> Image.Image:
    width, height = picture.size
    return picture.crop((round(0.03 * width), round(0.02 * height), round(0.98 * width), round(0.97 * height)))


def turned(content: bytes) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encode(Image.open(io.BytesIO(content)), exif=exif)


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content)).convert("RGB")


COPIES: dict[str, Callable[[bytes], bytes]] = {
    "the same bytes": lambda content: content,
    "compressed again": lambda content: encode(opened(content)),
    "0.6 of the size": lambda content: encode(opened(content).resize([round(0.6 * s) for s in opened(content).size])),
    "gray": lambda content: encode(opened(content).convert("L")),
    "1.3 times as bright": lambda content: encode(ImageEnhance.Brightness(opened(content)).enhance(1.3)),
    "cropped by 5 %": lambda content: encode(cropped(opened(content))),
}


def plant_in_images(clean: Content, val: Content, folder: Path, source: ImageSource, places: list[str], random: Random):
    """All kinds at once, so that the images are read only once."""
    content, held_out = deepcopy(clean), deepcopy(val)
    (folder / "planted").mkdir()
    free = iter(random.permutation(len(content["images"])).tolist())
    planted: dict[tuple[str, str], list[str]] = {}

    def save(name: str, data: bytes) -> str:
        (folder / "planted" / name).write_bytes(data)
        return f"planted/{name}"

    def some(count: int = COUNT) -> list[Content]:
        return [content["images"][next(free)] for _ in range(count)]

    for fault, check in (("image missing", "missing images"), ("image cut short", "unreadable images"),
                         ("image of another size", "image sizes"), ("turned by EXIF", "image sizes")):  # fmt: skip
        chosen = [image for image in some(2 * COUNT) if image["width"] != image["height"]][:COUNT]
        for image in chosen:
            data, name = source.read_bytes(image["file_name"]), image["file_name"]
            if fault == "image missing":
                image["file_name"] = f"planted/{name}"
            elif fault == "image cut short":
                image["file_name"] = save(name, data[: len(data) // 2])
            elif fault == "image of another size":
                image["width"], image["height"] = 2 * image["width"], 2 * image["height"]
            else:
                image["width"], image["height"] = image["height"], image["width"]
                image["file_name"] = save(name, turned(data))
        planted[fault, check] = [image["file_name"] for image in chosen]
    for target, check in ((content, "duplicate images"), (held_out, "train and validation")):
        for kind, copy in COPIES.items():
            names = []
            for number, image in enumerate(some()):
                name = save(
                    f"{check[0]}_{kind[:8]}_{number}.jpg".replace(" ", "_"), copy(source.read_bytes(image["file_name"]))
                )
                width, height = Image.open(folder / name).size
                target["images"].append(
                    {"id": 30_000_000 + len(target["images"]), "file_name": name, "width": width, "height": height}
                )
                names.append(name)
            planted[f"{'copy in the file' if target is content else 'copy in validation'}: {kind}", check] = names
    (folder / "val.json").write_text(json.dumps(held_out))
    diagnosis, seconds = diagnose(folder, content, images=[*places, folder], val=folder / "val.json")
    rows = []
    for (fault, check), names in planted.items():
        named = {name for finding in diagnosis.of_check(check) for name in finding.images}
        rows.append(row(fault, check, COUNT, sum(name in named for name in names), seconds))
    return rows


def count_alarms(train: Path, val: Path, places: list[str], people: int) -> dict[str, Any]:
    start = time.perf_counter()
    diagnosis = check_data(train, places, val=val)
    seconds = time.perf_counter() - start
    print(f"\nThe untouched file, {people:,} people with validation: {seconds:.1f} seconds\n")
    print("| check | false alarms, or true ones | per 1,000 people |\n|---|---|---|")
    alarms = {}
    for check in CHECKS:
        alarms[check] = len({(one.file, one.record) for one in diagnosis.of_check(check)})
        print(f"| {check} | {alarms[check]} | {1000 * alarms[check] / people:.1f} |")
    return {"seconds": round(seconds, 1), "alarms": alarms}


def main(train: Path, val: Path, output: Path, places: list[str]) -> None:
    clean, held_out = json.loads(train.read_text()), json.loads(val.read_text())
    NAMES.extend(clean["categories"][0]["keypoints"])
    random = np.random.default_rng(0)
    print("| fault | check | planted | found | recall |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = plant_in_records(clean, folder, random) + plant_many(clean, folder, np.random.default_rng(0))
        rows += plant_in_file(clean, folder)
        rows += plant_in_images(clean, held_out, folder, ImageSource(places), places, random)
    untouched = count_alarms(train, val, places, len(clean["annotations"]) + len(held_out["annotations"]))
    output.parent.mkdir(parents=True, exist_ok=True)
    report = {"people": len(clean["annotations"]), "faults": rows, "untouched": untouched}
    output.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
