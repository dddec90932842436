"""Profile a pass of an optimized model: time, operations and bytes of each operator, and a lower bound of its time.

Usage: python benchmarks/operators.py [--models tokenpose_s_v1 ...] [--batches 1 8] [--output operators.json]

Times are the profiler's self times of each operator, averaged over several passes. "alone" repeats the same calls on
the same data, which then lies in the caches, and takes each one's shortest. Operations, exponentials and bytes (of
input and output tensors) are counted from shapes. "floor" is the time of the operations at the rate of a matrix
product of 2048, and of exponentials and GELUs at the rate of a tensor of half a million values, both measured in the
same process; operators without countable work have no floor.
"""

import argparse
import json
import logging
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from speed import choose_device, describe_machine, measure_peak, timed, with_weights
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

PASSES, REPETITIONS = 10, 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--models",
        nargs="+",
        default=["tokenpose_t", "tokenpose_s_v1", "tokenpose_b", "tokenpose_l_d6", "tokenpose_l_d24"],
    )
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--output", type=Path, default=Path("operators.json"))
    options = parser.parse_args()
    found: dict[str, Any] = {"machine": describe_machine(), "passes": []}
    for name in options.models:
        for batch in options.batches:
            with torch.inference_mode():
                measured = measure(name, batch)
            found["passes"].append(measured)
            print_table(measured)
    options.output.write_text(json.dumps(found, indent=1) + "\n")


class Counter(TorchDispatchMode):
    """Counts calls, operations and bytes of every operator."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[str, dict[str, float]] = defaultdict(lambda: dict.fromkeys(COUNTED, 0))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        count = self.counts[func.overloadpacket._qualified_op_name]
        count["calls"] += 1
        count["operations"] += count_operations(func.overloadpacket, args, kwargs or {}, result)
        count["exponentials"] += count_exponentials(func.overloadpacket, args)
        count["gelus"] += args[0].numel() if func.overloadpacket.__name__ == "gelu" else 0
        if not func.is_view:  # what works in place goes on adding to the same map
            count["alone"] += min(timed(lambda: func(*args, **(kwargs or {}))) for _ in range(REPETITIONS))
            results = result if isinstance(result, tuple | list) else (result,)
            tensors = [part for part in (*args, *results) if isinstance(part, torch.Tensor)]
            count["bytes"] += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return result


COUNTED = ("calls", "operations", "exponentials", "gelus", "bytes", "alone")


def count_exponentials(operator: Any, args: Any) -> float:
    """One for each value of a softmax, inside attention too."""
    if "scaled_dot_product" in operator.__name__:
        query, key = args[0], args[1]
        return query.numel() / query.shape[-1] * key.shape[-2]
    return args[0].numel() if operator.__name__ == "_softmax" else 0


def count_operations(operator: Any, args: Any, kwargs: Any, result: Any) -> float:
    if "_convolution_pointwise" in operator.__name__:  # its weights have oneDNN's layout, but their usual shape
        weight = next(part for part in args[1:] if isinstance(part, torch.Tensor) and part.is_mkldnn)
        return 2 * result.numel() * weight.numel() / weight.shape[0]
    if "scaled_dot_product" in operator.__name__:
        query, key = args[0], args[1]
        return 4 * query.numel() * key.shape[-2]
    return flop_registry[operator](*args, **kwargs, out_val=result) if operator in flop_registry else 0


def measure(name: str, batch: int) -> dict[str, Any]:
    import tokenpose

    torch.manual_seed(0)
    model = tokenpose.optimize(with_weights(tokenpose.create_model(f"{name}.coco_256x192")).to(choose_device()))
    crops = torch.randn(batch, 3, *model.spec.image_size, device=choose_device())
    for _ in range(3):
        model(crops)
    with torch.inference_mode(False), torch.no_grad(), Counter() as counter:  # inference mode would hide the operators
        model(crops.clone())
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(PASSES):
            model(crops)
    peak = measure_peak(torch.float32, choose_device())
    values = torch.randn(500_000, device=choose_device())
    exponential, gelu = (
        min(timed(partial(function, values)) for _ in range(50)) / len(values)
        for function in (partial(torch.exp, out=torch.empty_like(values)), torch.nn.functional.gelu)
    )
    rows = []
    for event in profiler.key_averages():
        counts = counter.counts.get(event.key, dict.fromkeys(COUNTED, 0) | {"calls": event.count / PASSES})
        rows.append({
            "operator": event.key, "calls": counts["calls"], "ms": event.self_cpu_time_total / PASSES / 1000,
            "gflop": counts["operations"] / 1e9, "mb": counts["bytes"] / 1e6,
            "alone_ms": 1000 * counts["alone"],
            "floor_ms": 1000
            * (counts["operations"] / peak + counts["exponentials"] * exponential + counts["gelus"] * gelu),
        })  # fmt: skip
    rows.sort(key=lambda row: -row["ms"])
    return {"model": name, "batch": batch, "chunk": model.runner.chunk, "peak_gflops": peak / 1e9, "rows": rows}


def print_table(measured: dict[str, Any], most: int = 9) -> None:
    rows = measured["rows"]
    keys = ("ms", "alone_ms", "gflop", "mb", "floor_ms")
    others = {"operator": f"{len(rows) - most} others", "calls": sum(row["calls"] for row in rows[most:])}
    others |= {key: sum(row[key] for row in rows[most:]) for key in keys}
    total = {"operator": "all", "calls": sum(row["calls"] for row in rows)}
    total |= {key: sum(row[key] for row in rows) for key in keys}
    print(f"\n{measured['model']}, batch {measured['batch']}, matrix product {measured['peak_gflops']:.0f} GFLOP/s\n")
    print("| operator | calls | ms | alone, ms | GFLOP | GFLOP/s | MB | floor, ms |\n|---|---|---|---|---|---|---|---|")
    for row in (*rows[:most], others, total):
        rate = f"{1000 * row['gflop'] / row['ms']:.0f}" if row["gflop"] else ""
        floor = f"{row['floor_ms']:.2f}" if row["floor_ms"] else ""
        print(
            f"| {row['operator']} | {row['calls']:.0f} | {row['ms']:.2f} | {row['alone_ms']:.2f} | "
            f"{row['gflop']:.2f} | {rate} | {row['mb']:.0f} | {floor} |"
        )


if __name__ == "__main__":
    logging.getLogger("tokenpose").setLevel(logging.ERROR)
    main()
