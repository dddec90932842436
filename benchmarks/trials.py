"""What each option brings on its own, with two seeds.

Usage: python benchmarks/trials.py DATA OUTPUT [--weights BASE.safetensors] [--only KIND ...] [--trials NAME ...]
           [--seeds 0 1] [--jobs 1] [--rehearse]

DATA holds LSPET. Fine-tuning starts from BASE, a TokenPose-S at 64x48 that benchmarks/finetuning.py trained on the
first half of the persons, and uses 100 persons of the other half, at a learning rate of 2e-4 for everything unless the
trial is about the rate, as in the recipe "finetune" when the trials began. "fine-tuning": wrists and ankles, under new
names, with one more augmentation or one part of the optimizer exchanged; "negatives": the same on photographs with
inverted colors; "half bodies" and "14 keypoints": all 14 keypoints; "longer fine-tuning": all 14, for 100 epochs.

"start": from scratch on all 9,000 persons at 64x48, one epoch, without an auxiliary loss or with one part of the
optimizer exchanged; "longer start": three epochs; "start of HRNet": with TokenPose-B, one epoch. "long start": at
128x96, batches of 128, 10 epochs, which needs a GPU (there: bf16, compiled). Gradients are clipped at 1 unless the
trial is about that, as in the recipe "lsp" at the time.

"robustness": the first 3,000 persons for two epochs at 128x96 in batches of 32, from the bundled weights or BASE, with
one more augmentation, crop filter "area", or crops of three sizes. Each run is also measured by the rows of
benchmarks/robustness.py, and a second table says what is kept: an option whose gain in the mean of the seeds is larger
than the seeds differ, or that gains 3 in one row and doesn't lose 0.3 in any.

Scores are PCK@0.2 on the 500 validation persons. Each run adds a line to OUTPUT/trials.jsonl; runs that are already
there are skipped, and a run that was interrupted is resumed: repeat the command, which is printed before each run.
``--jobs`` processes run in parallel. ``--rehearse``: a few persons, one step, and OUTPUT/rehearsal instead of OUTPUT.
Prints the tables.
"""

import argparse
import json
import re
import shlex
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from finetuning import ARCHITECTURE, places, write_files
from jaxtyping import UInt8
from robustness import AS_IS, Data, measure_rows
from torch import Tensor

from tokenpose.data.sources import Source
from tokenpose.evaluation.units import choose_unit
from tokenpose.jobs.training import train_model
from tokenpose.jobs.training_data import TrainingData, read_training_data
from tokenpose.jobs.training_model import make_trainee
from tokenpose.models.create import create_model
from tokenpose.models.tokenpose import TokenPose
from tokenpose.training.recipes import read_recipe
from tokenpose.training.settings import TrainingSettings

ROBUSTNESS = "robustness"
HELPERS: dict[str, dict[str, Any]] = {
    "both helpers": {},
    "no guidance": {"guidance": 0.0},
    "no patch heatmaps": {"patches": 0.0},
    "no helper": {"guidance": 0.0, "patches": 0.0},
}
PARTS: dict[str, dict[str, Any]] = {
    "squared error": {"loss": "squared_error"},
    "published start": {"start": "published"},
    "no moving average": {"average": 0.0},
    "no clipping": {"clip": 0.0},
    "Adam for AdamW": {"optimizer": "adam", "weight_decay": 1e-4},
}
OF_TOKENS = read_recipe("tokens").training
LIKE_TOKENS = {name: OF_TOKENS[name] for name in ("learning_rate", "token_rate", "freeze_backbone", "guidance")}
TOKENS: dict[str, dict[str, Any]] = {
    "recipe tokens": LIKE_TOKENS,
    "recipe tokens with guidance": {**LIKE_TOKENS, "guidance": 0.5},
    "nothing but the tokens, at 2e-2": {**LIKE_TOKENS, "learning_rate": 1e-12, "token_rate": 2e10},
}
TRIALS: dict[str, dict[str, dict[str, Any]]] = {
    "fine-tuning": {
        "as it is: zoom, turn, flip; AdamW, cosine, average": {},
        "+ color 0.2": {"color": 0.2},
        "+ blur 0.3": {"blur": 0.3},
        "Adam for AdamW": {"optimizer": "adam", "weight_decay": 1e-4},
        "milestones for the cosine": {"schedule": "multi_step", "milestones": [13, 17]},
        "no moving average": {"average": 0.0},
        "frozen backbone": {"freeze_backbone": True},
        "a tenth of the rate for the backbone": {"backbone_rate": 0.1},
        "half the rate": {"learning_rate": 1e-4},
        "half the rate, a twentieth for the backbone": {"learning_rate": 1e-4, "backbone_rate": 0.1},
        "no guidance": {"guidance": 0.0},
        "no clipping": {"clip": 0.0},
        **TOKENS,
    },
    "half bodies": {
        "none": {},
        "half body 0.3, published coin": {"half_body": 0.3},
    },
    "14 keypoints": {
        "as it is": {},
        "a tenth of the rate for the backbone": {"backbone_rate": 0.1},
        "half the rate": {"learning_rate": 1e-4},
        "half the rate, a twentieth for the backbone": {"learning_rate": 1e-4, "backbone_rate": 0.1},
        **TOKENS,
    },
    "negatives": {
        "as it is": {},
        "a tenth of the rate for the backbone": {"backbone_rate": 0.1},
        "2.5 times the rate": {"learning_rate": 5e-4},
        **TOKENS,
    },
    "longer fine-tuning": {
        "zoom, turn, flip": {},
        "+ blur 0.3": {"blur": 0.3},
        "+ half body 0.3, published coin": {"half_body": 0.3},
    },
    "start": {
        **HELPERS,
        **PARTS,
        "twice the rate, no clipping": {"learning_rate": 2e-3, "clip": 0.0},
        "half the rate, no clipping": {"learning_rate": 5e-4, "clip": 0.0},
    },
    "longer start": {**HELPERS, **PARTS},
    "start of HRNet": {
        "both helpers": {},
    },
    "long start": {
        **HELPERS,
        **PARTS,
        "twice the rate": {"learning_rate": 2e-3},
        "zoom 0.35, turns of 45 degrees": {"scale": 0.35, "rotation": 45.0},
    },
    ROBUSTNESS: {
        "as it is": {},
        "+ gray 0.2": {"gray": 0.2},
        "+ JPEG 0.3": {"jpeg": 0.3},
        "+ lower resolution 0.3": {"downscale": 0.3},
        "+ box jitter 0.1": {"box_jitter": 0.1},
        "+ box jitter 0.2": {"box_jitter": 0.2},
        "+ cut off 0.3": {"cut_off": 0.3},
        "crop filter area": {"crop_filter": "area"},
        "three sizes": {"sizes": [[64, 48], [96, 72], [128, 96]]},
    },
}

HRNET = "tokenpose_b.lsp_256x192"
FINE_TUNING = {
    "fine-tuning": ("4 renamed 100", "val_renamed"),
    "half bodies": ("14 100", "val"),
    "14 keypoints": ("14 100", "val"),
    "negatives": ("4 renamed 100", "val_renamed"),
    "longer fine-tuning": ("14 100", "val"),
}
LARGER = {"scale": 0.25, "rotation": 30.0}
EPOCHS = {"longer fine-tuning": 100, "longer start": 3}
OF_MODEL = {"crop_filter"}
"""Changes of the model's spec, not of the settings."""
SHOWN_ROW, LOST_ROW = 3.0, 0.3
"""A row gains or loses as much in points of PCK."""


@dataclass
class Negatives:
    """Photographs with inverted colors, which the base has not seen."""

    source: Source

    def read(self, file: str) -> UInt8[Tensor, "3 height width"]:
        return 255 - self.source.read(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--weights", type=Path, help="the base of the fine-tuning kinds")
    parser.add_argument("--only", nargs="+", choices=list(TRIALS), default=list(TRIALS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--trials", nargs="+", help="these only, by name")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--rehearse", action="store_true", help="a few persons, one step")
    options = parser.parse_args()
    if options.weights is None and set(options.only) & FINE_TUNING.keys():
        parser.error(f"{', '.join(sorted(set(options.only) & FINE_TUNING.keys()))} need --weights")
    folder = options.output / "rehearsal" if options.rehearse else options.output
    folder.mkdir(parents=True, exist_ok=True)
    files = write_files(options.data, folder)
    chosen = [
        (kind, name, seed)
        for kind in options.only
        for seed in options.seeds
        for name in TRIALS[kind]
        if options.trials is None or name in options.trials
    ]
    if options.jobs > 1:
        with ThreadPoolExecutor(options.jobs) as pool:
            list(pool.map(lambda trial: run_beside(options, *trial), chosen))
    else:
        done = [(line["kind"], line["trial"], line["seed"]) for line in read_lines(folder / "trials.jsonl")]
        left = [trial for trial in chosen if trial not in done]
        for number, trial in enumerate(left):
            print_command(len(left) - number)
            run(options, folder, files, *trial)
    lines = read_lines(folder / "trials.jsonl")
    print_table(lines)
    print_robustness([line for line in lines if line["kind"] == ROBUSTNESS])


def print_command(left: int) -> None:
    print(
        f"runs to go: {left}; to continue after an interruption: {shlex.join([sys.executable, *sys.argv])}", flush=True
    )


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def run_beside(options: argparse.Namespace, kind: str, name: str, seed: int) -> None:
    given = [] if options.weights is None else ["--weights", str(options.weights)]
    given += ["--rehearse"] if options.rehearse else []
    chosen = ["--only", kind, "--trials", name, "--seeds", str(seed)]
    command = [sys.executable, __file__, str(options.data), str(options.output), *given, *chosen]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def run(options: argparse.Namespace, output: Path, files: dict[str, Path], kind: str, name: str, seed: int) -> None:
    began = time.monotonic()
    data, model, settings = prepare(options, files, kind, TRIALS[kind][name], seed)
    folder = output / re.sub(r"\W+", "-", f"{kind} {name} {seed}")
    written = train_model(model, data, folder, settings, resume=(folder / "checkpoint.pt").exists())
    log = [json.loads(line) for line in (written.parent / "log.jsonl").read_text().splitlines()]
    line = {
        "kind": kind, "trial": name, "seed": seed, "pck": round(log[-1]["pck"], 2), "samples": log[-1]["samples"],
        "seconds": round(time.monotonic() - began),
    }  # fmt: skip
    if kind == ROBUSTNESS:
        line["rows"] = measure_robustness(written, data)
    with (output / "trials.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    print(line, flush=True)


def prepare(
    options: argparse.Namespace, files: dict[str, Path], kind: str, changes: dict[str, Any], seed: int
) -> tuple[TrainingData, TokenPose, TrainingSettings]:
    """What a trial trains: people, model and settings."""
    shared = {"seed": seed, "validate_every": 1000, "predictions": 0, "scale": 0.2, "rotation": 20.0, "color": 0.0}
    start: dict[str, Any] = {"weights": options.weights}
    if kind in FINE_TUNING:
        train, val = FINE_TUNING[kind]
        recipe, architecture, people = "finetune", "tokenpose_s_v1", files[train]
        shared |= {"learning_rate": 2e-4, "backbone_rate": 1.0} | ({"epochs": EPOCHS[kind]} if kind in EPOCHS else {})
    elif kind == ROBUSTNESS:
        recipe, architecture, val, people = "finetune", "tokenpose_s_v1", "val", files["first"]
        shared |= {"epochs": 2, "batch_size": 32}
        start = {"image_size": (128, 96), "sigma": 1.0}
        start |= {"weights": options.weights} if options.weights else {"pretrained": True}
    else:
        recipe, val, people = "lsp", "val", options.data / "person_keypoints_train.json"
        architecture = HRNET if kind == "start of HRNet" else ARCHITECTURE
        shared |= {"epochs": EPOCHS.get(kind, 1), "batch_size": 32, "color": 0.2, "average": 0.99, "clip": 1.0}
        start = {"image_size": (64, 48), "head_hidden": 384, "sigma": 0.8}
        if kind == "long start":
            shared |= {"epochs": 10, "batch_size": 128, "average": 0.999} | LARGER
            start |= {"image_size": (128, 96), "sigma": 1.0}
            if torch.cuda.is_available():
                shared |= {"precision": "bf16", "compile": True, "graph": True, "cache": "device"}
    data = read_training_data(people, files[val], places(options.data))
    if kind == ROBUSTNESS:
        data = replace(data, people=data.people.take(slice(3000)))
    if kind == "negatives":
        data = replace(data, source=Negatives(data.source), held_out_source=Negatives(data.held_out_source))
    if options.rehearse:
        data = replace(data, people=data.people.take(slice(32)), held_out=data.held_out.take(slice(32)))
        shared |= {"epochs": 1, "batch_size": 32}
    start |= {field: value for field, value in changes.items() if field in OF_MODEL}
    changes = {field: value for field, value in changes.items() if field not in OF_MODEL}
    model, settings = make_trainee(read_recipe(recipe), {**shared, **changes}, data.skeleton, architecture, **start)
    return data, model, settings


def measure_robustness(weights: Path, data: TrainingData) -> dict[str, float]:
    """PCK by the rows of benchmarks/robustness.py."""
    rows = measure_rows(
        lambda size: create_model("tokenpose_s_v1", weights=weights, **({} if size is None else {"image_size": size})),
        Data(data.held_out, data.held_out_source, choose_unit(data.held_out)),
    )
    return {name: round(row["pck"], 2) for name, row in rows.items()}


def print_table(lines: list[dict[str, Any]]) -> None:
    for kind in dict.fromkeys(line["kind"] for line in lines):
        print(f"\n| {kind} | PCK@0.2, seed by seed | mean |\n|---|---|---|")
        of_kind = [line for line in lines if line["kind"] == kind]
        for name in dict.fromkeys(line["trial"] for line in of_kind):
            scores = [line["pck"] for line in of_kind if line["trial"] == name]
            print(f"| {name} | {', '.join(map(str, scores))} | {sum(scores) / len(scores):.2f} |")


def print_robustness(lines: list[dict[str, Any]]) -> None:
    """The mean of each row over the seeds, the gain of each trial, and whether it is kept."""
    trials = {name: [line for line in lines if line["trial"] == name] for name in TRIALS[ROBUSTNESS]}
    base = trials.pop("as it is")
    if not base:
        return
    before = mean_rows(base)
    names = [name for name in before if name != AS_IS]
    print(f"\n| {ROBUSTNESS} | {' | '.join([AS_IS, *names])} | kept |\n|---{'|---' * (len(before) + 1)}|")
    print(f"| as it is | {' | '.join(f'{before[name]:.1f}' for name in (AS_IS, *names))} | |")
    for trial, of_trial in trials.items():
        if of_trial:
            after = mean_rows(of_trial)
            gains = " | ".join(f"{after[name] - before[name]:+.1f}" for name in (AS_IS, *names))
            print(f"| {trial} | {gains} | {judge(base, of_trial)} |")


def mean_rows(lines: list[dict[str, Any]]) -> dict[str, float]:
    return {name: sum(line["rows"][name] for line in lines) / len(lines) for name in lines[0]["rows"]}


def judge(base: list[dict[str, Any]], trial: list[dict[str, Any]]) -> str:
    """Whether a trial is kept, by the mean of its seeds or by its rows; open until it has the seeds of the base."""
    if len(base) < 2 or {line["seed"] for line in base} != {line["seed"] for line in trial}:
        return "open: a seed is missing"
    before, after = ([line["pck"] for line in lines] for lines in (base, trial))
    distance = max(max(scores) - min(scores) for scores in (before, after))
    if sum(after) / len(after) - sum(before) / len(before) > distance:
        return f"yes: gains more than the seeds' distance, {distance:.2f}"
    rows = mean_rows(base)
    gains = {name: figure - rows[name] for name, figure in mean_rows(trial).items()}
    best = max(gains, key=gains.__getitem__)
    if gains[best] >= SHOWN_ROW and min(gains.values()) > -LOST_ROW:
        return f"yes: {best} gains {gains[best]:.1f}"
    return "no"


if __name__ == "__main__":
    main()
