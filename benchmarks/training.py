"""How fast models train, how long they wait for data, and how much memory they need.

Usage: python benchmarks/training.py ANNOTATIONS.json IMAGES [--people 48] [--batch-size 16] [--epochs 3]
           [--models tokenpose_t tokenpose_s_v1 tokenpose_b] [--output training.json]

Each row is a run and a process of its own, by `tokenpose.jobs.training.train_model` with the recipe "lsp" at 256x192:
images decoded each time by no or one worker process, or cached in memory (on a GPU: also on it). The first epoch warms
up; the others are timed. On a GPU in bf16, with torch.compile and as a CUDA graph too. "of peak": floating-point
operations of forward and backward (three times those of the forward pass, counted by torch) as a share of what a large
matrix product reaches here in the same precision.
"""

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from speed import describe_machine

ROWS = {
    "cpu": [
        {"cache": "none", "workers": 0},
        {"cache": "none", "workers": 1},
        {"cache": "ram", "workers": 0},
        {"cache": "ram", "workers": 0, "precision": "bf16"},
    ],
    "cuda": [
        {"cache": "none", "workers": 1, "precision": "bf16"},
        {"cache": "none", "workers": 8, "precision": "bf16"},
        {"cache": "ram", "workers": 0, "precision": "bf16"},
        {"cache": "device", "workers": 0, "precision": "bf16"},
        {"cache": "device", "workers": 0, "precision": "bf16", "compile": True},
        {"cache": "device", "workers": 0, "precision": "bf16", "compile": True, "graph": True},
        {"cache": "device", "workers": 0, "precision": "fp32"},
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("annotations", type=Path)
    parser.add_argument("images")
    parser.add_argument("--people", type=int, default=48)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--models", nargs="+", default=["tokenpose_t", "tokenpose_s_v1", "tokenpose_b"])
    parser.add_argument("--output", type=Path, default=Path("training.json"))
    parser.add_argument("--row", help=argparse.SUPPRESS)  # a single run, in a process of its own
    options = parser.parse_args()
    if options.row:
        print(json.dumps(measure(options, json.loads(options.row))))
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows = [{"model": model, **row} for model in options.models for row in ROWS[device]]
    results = []
    print("| model | cache | workers | precision | images/s | waiting | peak memory | of peak |\n|" + "---|" * 8)
    for row in rows:
        command = [sys.executable, __file__, *sys.argv[1:], "--row", json.dumps(row)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        results.append(json.loads(done.stdout.splitlines()[-1]))
        print(write_row(results[-1]), flush=True)
    chosen = {name: getattr(options, name) for name in ("people", "batch_size", "epochs")}
    found = {"machine": describe_machine(), "options": chosen, "rows": results}
    options.output.write_text(json.dumps(found, indent=1) + "\n")


def write_row(row: dict[str, Any]) -> str:
    precision = row["precision"] + "".join(
        f", {name}" for key, name in (("compile", "compiled"), ("graph", "recorded")) if row.get(key)
    )
    return (
        f"| {row['model']} | {row['cache']} | {row['workers']} | {precision} | {row['images_per_second']:.1f} | "
        f"{row['waiting']:.1%} | {row['memory_gb']:.2f} GB | {row['share_of_peak']:.0%} |"
    )


def measure(options: argparse.Namespace, row: dict[str, Any]) -> dict[str, Any]:
    from tokenpose.data.combine import read_datasets
    from tokenpose.jobs.training import train_model
    from tokenpose.jobs.training_data import TrainingData
    from tokenpose.jobs.training_model import make_trainee
    from tokenpose.training.recipes import read_recipe

    samples, source = read_datasets(options.annotations, options.images)
    people, one = samples.take(slice(options.people)), samples.take(slice(1))
    data = TrainingData(people=people, source=source, held_out=one, held_out_source=source)
    row = {"precision": "fp32", **row}
    changes = {key: value for key, value in row.items() if key != "model"} | {
        "epochs": options.epochs, "batch_size": options.batch_size, "predictions": 0, "validate_every": 10_000,
        "checkpoint_seconds": 1e9,
    }  # fmt: skip
    model, settings = make_trainee(
        read_recipe("lsp"), changes, data.skeleton, row["model"], image_size=(256, 192), heatmap_size=None
    )
    flops = count_flops(model)
    with tempfile.TemporaryDirectory() as folder:
        train_model(model, data, folder, settings)
        log = [json.loads(line) for line in (Path(folder) / "log.jsonl").read_text().splitlines()]
    seconds = log[-1]["seconds"] - log[0]["seconds"]
    images = log[-1]["samples"] - log[0]["samples"]
    waited = sum(line["waiting"] for line in log[1:])
    on_gpu = torch.cuda.is_available()
    memory = torch.cuda.max_memory_allocated() if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        **row,
        "images_per_second": images / seconds,
        "waiting": waited / seconds,
        "memory_gb": memory / 1e9,
        "share_of_peak": 3 * flops * images / seconds / peak(row["precision"]),
    }


def count_flops(model: torch.nn.Module) -> int:
    """Floating-point operations of a forward pass of one crop."""
    from torch.utils.flop_counter import FlopCounterMode

    on_cpu = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: count_attention}
    with FlopCounterMode(display=False, custom_mapping=on_cpu) as counter, torch.no_grad():
        model.eval()(torch.zeros(1, 3, *model.spec.image_size))
    return counter.get_total_flops()


def count_attention(query: tuple[int, ...], key: tuple[int, ...], *_: Any, **__: Any) -> int:
    """Both products, by the shapes (..., tokens, channels): torch leaves out the CPU's fused kernel."""
    return 4 * math.prod(query) * key[-2]


def peak(precision: str, size: int = 2048, seconds: float = 2.0) -> float:
    """Floating-point operations a second of a large matrix product."""
    on_gpu = torch.cuda.is_available()
    size = 8192 if on_gpu else size
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    first, second = (torch.randn(size, size, device="cuda" if on_gpu else "cpu", dtype=dtype) for _ in range(2))
    best, ends = 0.0, time.monotonic() + seconds
    while time.monotonic() < ends:
        started = time.monotonic()
        first @ second
        if on_gpu:
            torch.cuda.synchronize()
        best = max(best, 2 * size**3 / (time.monotonic() - started))
    return best


if __name__ == "__main__":
    main()
