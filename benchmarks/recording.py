"""What recording attention costs: time and memory of a forward pass with and without, side by side.

Usage: python benchmarks/recording.py [BATCH]

The two take turns, so that both see the same state of the machine; times are medians of 15. Memory is the size of the
recorded rows, next to the size of all rows of all tokens.
"""

import statistics
import sys
import time

import torch

import tokenpose

NAMES = ("tokenpose_t.coco_256x192", "tokenpose_s_v1.coco_256x192", "tokenpose_b.coco_256x192", "tokenpose_l_d24")


def milliseconds(model: torch.nn.Module, crops: torch.Tensor) -> float:
    start = time.perf_counter()
    model(crops)
    return 1000 * (time.perf_counter() - start)


@torch.inference_mode()
def main(batch: int) -> None:
    print(f"batch {batch}, {torch.get_num_threads()} threads\n")
    print("| model | without, ms | with, ms | ratio | rows, MB | all rows, MB |\n|---|---|---|---|---|---|")
    for name in NAMES:
        model = tokenpose.create_model(name)
        crops = torch.randn(batch, 3, *model.spec.image_size)
        plain, recorded = [], []
        for _ in range(15):
            plain.append(milliseconds(model, crops))
            with tokenpose.record_attention(model) as recording:
                recorded.append(milliseconds(model, crops))
        ratio = statistics.median(b / a for a, b in zip(plain, recorded, strict=True))
        held = sum(rows.numel() * rows.element_size() for rows in recording.rows) / 1e6
        everything = held * recording.rows[0].shape[-1] / len(model.spec.skeleton)
        times = f"{statistics.median(plain):.0f} | {statistics.median(recorded):.0f} | {ratio:.2f}"
        print(f"| {name} | {times} | {held:.1f} | {everything:.0f} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
