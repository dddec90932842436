"""What pretrained weights bring: fine-tuning on few people, compared with training from scratch.

Usage: python benchmarks/finetuning.py DATA OUTPUT --base EPOCHS [--people 50 100 200 500] [--size 64x48]
       python benchmarks/finetuning.py DATA OUTPUT --few

DATA holds LSPET (person_keypoints_train.json, person_keypoints_val.json, train-*.tar, val.tar). A TokenPose-S is
trained from scratch on the first half of the training persons (OUTPUT/base, resumable), then fine-tuned on persons of
the other half with the recipes "tokens" and "finetune": once on the 14 keypoints, once on wrists and ankles alone under
names that the weights don't know. For comparison, the recipe "lsp" trains for as many steps from scratch. Every score
is PCK@0.2 of the torso on the 500 validation persons, over the trained keypoints. Each run adds a line to
OUTPUT/results.jsonl; runs that are already there are skipped.

With --few: the first 60 training persons with five keypoints that the weights don't know by name (wrists, ankles and
neck as A to E), fine-tuned from the bundled weights by both recipes as they are, and for 20, 60 and 200 epochs. The
score is PCK@0.2 of the box's longer side, since five such keypoints make no torso. Lines go to OUTPUT/few.jsonl.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tokenpose.evaluation.units import choose_unit
from tokenpose.jobs.evaluation import measure_pck
from tokenpose.jobs.training import train_model
from tokenpose.jobs.training_data import read_training_data
from tokenpose.jobs.training_model import make_trainee
from tokenpose.models.create import read_model
from tokenpose.training.recipes import read_recipe

NEW_NAMES = {
    "right_wrist": "right_glove", "left_wrist": "left_glove", "right_ankle": "right_shoe", "left_ankle": "left_shoe",
}  # fmt: skip
STARTS = ("tokens", "finetune")
"""Recipes."""
ARCHITECTURE = "tokenpose_s_v1.lsp_256x192"

FEW = 60
FEW_NAMES = {"right_wrist": "A", "left_wrist": "B", "right_ankle": "C", "left_ankle": "D", "neck": "E"}
FEW_PAIRS = "A:B,C:D"


def subset(content: dict[str, Any], rows: slice, only: list[str] | None = None) -> dict[str, Any]:
    """Some of the people, with some of the keypoints, those renamed."""
    category = dict(content["categories"][0])
    kept = [index for index, name in enumerate(category["keypoints"]) if only is None or name in only]
    people = []
    for annotation in content["annotations"][rows]:
        triples = [annotation["keypoints"][3 * index : 3 * index + 3] for index in kept]
        flat = [value for triple in triples for value in triple]
        people.append({**annotation, "keypoints": flat, "num_keypoints": sum(triple[2] > 0 for triple in triples)})
    category["keypoints"] = [rename(category["keypoints"][index], only) for index in kept]
    category["skeleton"] = category.get("skeleton", []) if only is None else []
    return {"images": content["images"], "annotations": people, "categories": [category]}


def rename(name: str, only: list[str] | None) -> str:
    return name if only is None else NEW_NAMES.get(name, name)


def renamed(content: dict[str, Any]) -> dict[str, Any]:
    """All keypoints, four of them renamed. The torso, which PCK needs, keeps its names."""
    category = dict(content["categories"][0])
    category["keypoints"] = [NEW_NAMES.get(name, name) for name in category["keypoints"]]
    return {**content, "categories": [category]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--base", type=int, default=20, help="epochs of the base")
    parser.add_argument("--weights", type=Path, help="a base that is there already")
    parser.add_argument("--people", type=int, nargs="+", default=[50, 100, 200, 500])
    parser.add_argument("--size", default="64x48")
    parser.add_argument("--sets", nargs="+", default=["14", "4 renamed"])
    parser.add_argument("--starts", nargs="+", default=[*STARTS, "nothing"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--few", action="store_true", help="60 people and five new keypoints")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    if options.few:
        compare_few(options)
        return
    files = write_files(options.data, options.output)
    base = options.weights or train_base(options, files)
    measure_base(options, files, base)
    for keypoints in options.sets:
        for count in options.people:
            for start in options.starts:
                run(options, files, base, keypoints, count, start)


def compare_few(options: argparse.Namespace) -> None:
    """Both recipes on the first 60 people, as they are (epochs None) and for other numbers of epochs."""
    files = {}
    for name, rows in (("train", slice(FEW)), ("val", slice(None))):
        content = subset(json.loads((options.data / f"person_keypoints_{name}.json").read_text()), rows, [*FEW_NAMES])
        category = content["categories"][0]
        old = {new: FEW_NAMES[name] for name, new in ((name, rename(name, [])) for name in FEW_NAMES)}
        category["keypoints"] = [old[name] for name in category["keypoints"]]
        files[name] = options.output / f"few-{name}.json"
        files[name].write_text(json.dumps(content))
    data = read_training_data(files["train"], files["val"], places(options.data), flip_pairs=FEW_PAIRS)
    results = options.output / "few.jsonl"
    for epochs in (20, None, 60, 200):
        for name in STARTS:
            key = {"recipe": name, "epochs_given": epochs, "seed": options.seed}
            done = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
            if any(all(line[field] == value for field, value in key.items()) for line in done):
                continue
            changes: dict[str, Any] = {"seed": options.seed, "predictions": 0, "validate_every": 1000}
            changes |= {} if epochs is None else {"epochs": epochs}
            model, settings = make_trainee(
                read_recipe(name), changes, data.skeleton, ARCHITECTURE.partition(".")[0], pretrained=True
            )
            folder, began = options.output / f"few-{name}-{epochs}-{options.seed}", time.monotonic()
            resume = (folder / "checkpoint.pt").exists()
            trained = read_model(train_model(model, data, folder, settings, resume=resume))
            score = measure_pck(trained, data.held_out, data.held_out_source)
            log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
            line = {
                **key, "pck": round(score.mean, 2), "unit": score.unit, "epochs": log[-1]["epoch"],
                "steps": log[-1]["step"], "seconds": round(time.monotonic() - began),
                "threads": torch.get_num_threads(), "torch": torch.__version__,
            }  # fmt: skip
            with results.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(line, flush=True)


def write_files(data: Path, output: Path) -> dict[str, Path]:
    train, val = (json.loads((data / f"person_keypoints_{name}.json").read_text()) for name in ("train", "val"))
    half = len(train["annotations"]) // 2
    four = list(NEW_NAMES)
    contents = {"first": subset(train, slice(half)), "val": val, "val_renamed": renamed(val)}
    for count in (50, 100, 200, 500, 1000):
        contents[f"14 {count}"] = subset(train, slice(half, half + count))
        contents[f"4 renamed {count}"] = subset(train, slice(half, half + count), four)
    files = {}
    for name, content in contents.items():
        files[name] = output / f"{name.replace(' ', '-')}.json"
        text = json.dumps(content)
        if not files[name].exists() or files[name].read_text() != text:  # another process may be reading it
            files[name].write_text(text)
    return files


def common(options: argparse.Namespace) -> dict[str, Any]:
    height, width = map(int, options.size.split("x"))
    return {"image_size": (height, width), "head_hidden": 384, "sigma": 0.8}


def places(data: Path) -> list[str]:
    return [str(data / "train-*.tar"), str(data / "val.tar")]


def train_base(options: argparse.Namespace, files: dict[str, Path]) -> Path:
    data = read_training_data(files["first"], files["val"], places(options.data))
    changes = {
        "epochs": options.base, "batch_size": 32, "validate_every": 2, "scale": 0.2,
        "rotation": 20.0,
    }  # fmt: skip
    folder = options.output / "base"
    model, settings = make_trainee(read_recipe("lsp"), changes, data.skeleton, ARCHITECTURE, **common(options))
    return train_model(model, data, folder, settings, resume=(folder / "checkpoint.pt").exists())


def measure_base(options: argparse.Namespace, files: dict[str, Path], base: Path) -> None:
    """The base as it is: over all 14 keypoints, and over the four that are renamed elsewhere."""
    data = read_training_data(files["val"], files["val"], places(options.data))
    score, people = measure_pck(read_model(base), data.held_out, data.held_out_source), data.held_out
    counted = people.visible[np.isfinite(choose_unit(people).lengths)].sum(axis=0)
    labeled = dict(zip(people.skeleton.keypoints, counted.tolist(), strict=True))
    four = sum(score.per_keypoint[name] * labeled[name] for name in NEW_NAMES)
    four /= sum(labeled[name] for name in NEW_NAMES)
    print(f"base: {score.mean:.2f} over 14 keypoints, {four:.2f} over the four", flush=True)


def run(
    options: argparse.Namespace, files: dict[str, Path], base: Path, keypoints: str, count: int, start: str
) -> None:
    results = options.output / "results.jsonl"
    key = {"keypoints": keypoints, "people": count, "start": start, "seed": options.seed}
    done = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    if any(all(line[name] == value for name, value in key.items()) for line in done):
        return
    recipe = read_recipe(start if start in STARTS else "finetune")
    changes = {"validate_every": 1000, "seed": options.seed, "predictions": 0}
    data = read_training_data(
        files[f"{keypoints} {count}"], files["val" if keypoints == "14" else "val_renamed"], places(options.data)
    )
    folder = options.output / f"{keypoints}-{count}-{start}-{options.seed}".replace(" ", "-")
    began = time.monotonic()
    if start in STARTS:
        model, settings = make_trainee(recipe, changes, data.skeleton, ARCHITECTURE.partition(".")[0], weights=base)
    else:  # as many steps
        changes |= {name: recipe.training[name] for name in ("epochs", "batch_size", "average")}
        model, settings = make_trainee(read_recipe("lsp"), changes, data.skeleton, ARCHITECTURE, **common(options))
    fresh = (folder / "checkpoint.pt").exists()
    trained = read_model(train_model(model, data, folder, settings, resume=fresh))
    score = measure_pck(trained, data.held_out, data.held_out_source)
    line = {
        **key, "pck": round(score.mean, 2), "epochs": settings.epochs,
        "samples": settings.epochs * (count // settings.batch_size) * settings.batch_size,
        "keypoint_count": score.keypoint_count, "seconds": round(time.monotonic() - began),
        "threads": torch.get_num_threads(), "torch": torch.__version__,
    }  # fmt: skip
    with results.open("a") as file:
        file.write(json.dumps(line) + "\n")
    print(line, flush=True)


if __name__ == "__main__":
    main()
