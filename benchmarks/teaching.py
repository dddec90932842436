"""What a teacher, people without labels, scores of labels and growth bring, with two seeds.

Usage: python benchmarks/teaching.py DATA OUTPUT [--only KIND ...] [--seeds 0 1] [--rehearse]

DATA holds lspet/, people/ and coco-mini/. Each run sees 4,000 crops in batches of 32 (recipe "finetune").

"teacher": TokenPose-S at 64x48, from the bundled weights of 256x192, which also teach: the first 100 or 1,000 people of
LSPET's training file, with their labels or without. Scores are PCK@0.2 on the 500 validation people.

"scores": TokenPose-S at 128x96 on the first 1,000 people of Clothing Co-Parsing, whose labels are a model's, with and
without their scores, and with all labels of a score below 0.5 left out. Scores are PCK@0.2 on the 86 people of
coco-mini with labels.

"growth": TokenPose-B at 64x48 from TokenPose-S, with and without the first stage, on 1,000 people of LSPET.

Each run adds a line to OUTPUT/teaching.jsonl; runs that are already there are skipped, and one that was interrupted is
resumed: repeat the command. ``--rehearse``: 32 people, one epoch, and OUTPUT/rehearsal instead of OUTPUT. Prints the
tables.
"""

import argparse
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trials import print_table

import tokenpose
from tokenpose.models.create import find_bundled_file

TEACHER = "tokenpose_s_v1.lsp_256x192"
CROPS, BATCH = 4_000, 32
UNSURE = 0.5
TRIALS: dict[str, dict[str, dict[str, Any]]] = {
    "teacher": {
        "100 people": {"labeled": 100, "people": 100},
        "100 people, teacher": {"labeled": 100, "people": 100, "teacher": TEACHER},
        "100 people and 900 without labels, teacher": {"labeled": 100, "people": 1_000, "teacher": TEACHER},
        "1,000 people": {"labeled": 1_000, "people": 1_000},
        "1,000 people, teacher": {"labeled": 1_000, "people": 1_000, "teacher": TEACHER},
        "1,000 people, teacher, its tokens too": {
            "labeled": 1_000, "people": 1_000, "teacher": TEACHER, "settings": {"token_distillation": 0.1},
        },
    },
    "scores": {
        "all labels count fully": {"labels": "without scores"},
        "labels count by their scores": {"labels": "with scores"},
        "scores below 0.5 are left out": {"labels": "the sure ones"},
    },
    "growth": {
        "copied, everything learns": {"settings": {"grow_epochs": 0}},
        "the trunk learns visual tokens first": {"settings": {"grow_epochs": 4}},
    },
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--only", nargs="+", choices=list(TRIALS), default=list(TRIALS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--rehearse", action="store_true", help="32 people, one epoch")
    options = parser.parse_args()
    folder = options.output / "rehearsal" if options.rehearse else options.output
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "teaching.jsonl"
    for kind in options.only:
        for seed in options.seeds:
            for name, trial in TRIALS[kind].items():
                if not any((line["kind"], line["trial"], line["seed"]) == (kind, name, seed) for line in read(log)):
                    line = {"kind": kind, "trial": name, "seed": seed}
                    line |= run(options, folder / re.sub(r"\W+", "-", f"{kind} {name} {seed}"), kind, seed, trial)
                    with log.open("a") as file:
                        file.write(json.dumps(line) + "\n")
                    print(line, flush=True)
    print_table(read(log))


def read(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def run(options: argparse.Namespace, output: Path, kind: str, seed: int, trial: dict[str, Any]) -> dict[str, Any]:
    """Train one trial. Returns its PCK and how long it took."""
    began = time.monotonic()
    given = PREPARE[kind](options.data, output.parent, options.rehearse, **trial)
    settings = {"seed": seed, "validate_every": 1000, "predictions": 0, "min_steps": 0, "batch_size": BATCH}
    given["settings"] = (
        settings | trial.get("settings", {}) | {"epochs": 1 if options.rehearse else given.pop("epochs", 4)}
    )
    begun = any((output / place).exists() for place in ("checkpoint.pt", "growth/checkpoint.pt"))
    tokenpose.finetune(**given, output=output, recipe="finetune", resume=begun)
    last = json.loads((output / "log.jsonl").read_text().splitlines()[-1])
    return {"pck": round(last["pck"], 2), "samples": last["samples"], "seconds": round(time.monotonic() - began)}


def prepare_teacher(
    data: Path, folder: Path, rehearse: bool, labeled: int, people: int, teacher: str | None = None, **_: Any
) -> dict[str, Any]:
    labeled, people = (min(count, 32) for count in (labeled, people)) if rehearse else (labeled, people)
    lspet = data / "lspet"

    def change(position: int, person: dict[str, Any]) -> None:
        if position >= labeled:
            person["keypoints"] = [0] * len(person["keypoints"])

    train = write_first(lspet / "person_keypoints_train.json", folder / f"{labeled}-of-{people}.json", people, change)
    return {
        "name": TEACHER, "train": train, "val": lspet / "person_keypoints_val.json", "images": str(lspet / "*.tar"),
        "teacher": teacher, "image_size": (64, 48), "sigma": 0.8, "epochs": CROPS // people,
    }  # fmt: skip


def prepare_scores(data: Path, folder: Path, rehearse: bool, labels: str) -> dict[str, Any]:
    def change(_: int, person: dict[str, Any]) -> None:
        if labels == "the sure ones":
            scores = person["scores"]
            person["keypoints"][2::3] = [
                v if s >= UNSURE else 0 for v, s in zip(person["keypoints"][2::3], scores, strict=True)
            ]
        if labels != "with scores":
            del person["scores"]

    people, mini = data / "people", data / "coco-mini"
    count = 32 if rehearse else 1_000
    train = write_first(people / "ccp.json", folder / f"{labels.replace(' ', '-')}-{count}.json", count, change)
    (val,) = mini.glob("*keypoints*.json")
    return {
        "name": TEACHER, "train": f"{train}={people}/people-*.tar", "val": val, "images": mini,
        "image_size": (128, 96), "sigma": 1.0,
    }  # fmt: skip


def prepare_growth(data: Path, folder: Path, rehearse: bool, **_: Any) -> dict[str, Any]:
    given = prepare_teacher(data, folder, rehearse, labeled=1_000, people=1_000)
    return given | {"name": "tokenpose_b", "grow": find_bundled_file(TEACHER)}


PREPARE: dict[str, Callable[..., dict[str, Any]]] = {
    "teacher": prepare_teacher, "scores": prepare_scores, "growth": prepare_growth
}  # fmt: skip


def write_first(source: Path, path: Path, count: int, change: Callable[[int, dict[str, Any]], None]) -> Path:
    """Write the first ``count`` annotations of a COCO file, each changed."""
    content = json.loads(source.read_text())
    people = content["annotations"][:count]
    for position, person in enumerate(people):
        change(position, person)
    used = {person["image_id"] for person in people}
    images = [image for image in content["images"] if image["id"] in used]
    path.write_text(json.dumps({**content, "images": images, "annotations": people}))
    return path


if __name__ == "__main__":
    main()
