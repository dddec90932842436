"""What other precisions and the optimized copy change: keypoints in heatmap cells, and PCK, of bundled weights.

Usage: python benchmarks/precision.py ANNOTATIONS.json IMAGES [--model tokenpose_s_v1] [--weights FILE] [--people 500]
           [--device cuda]

All of them get the same crops. "moved" is the distance of keypoints from those of the float32 model, with DARK
decoding, over all people and keypoints. If a heatmap has two peaks of nearly equal height, the last bit decides.
"""

import argparse

import torch

import tokenpose
from tokenpose.data.annotations import read_annotations
from tokenpose.data.sources import ImageSource
from tokenpose.jobs.evaluation import measure_pck


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("annotations")
    parser.add_argument("images")
    parser.add_argument("--model", default="tokenpose_s_v1")
    parser.add_argument("--weights", help="a weights file, instead of the bundled weights")
    parser.add_argument("--people", type=int, default=500)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    samples, source = read_annotations(options.annotations).take(slice(options.people)), ImageSource(options.images)
    start = {"weights": options.weights} if options.weights else {"pretrained": True}
    model = tokenpose.create_model(options.model, device=options.device, **start)
    transform = tokenpose.create_transform(model)
    photographs = (source.read(samples.file_of(person)) for person in range(len(samples)))
    pairs = zip(photographs, samples.boxes, strict=True)
    crops = torch.cat([transform(photograph, box[None], "xywh").crops for photograph, box in pairs])
    expected = run(model, crops)
    print(
        "| precision | way | moved, median | 99 % | most | beyond 0.3 cells | PCK@0.2 |\n|---|---|---|---|---|---|---|"
    )
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)):
        for way in ("eager", "optimized"):
            other = tokenpose.create_model(options.model, device=options.device, dtype=dtype, **start)
            if way == "optimized":
                other = tokenpose.optimize(other)
            moved = (run(other, crops.to(dtype)) - expected).norm(dim=-1).flatten()
            score = measure_pck(other, samples, source).mean
            figures = [moved.quantile(share).item() for share in (0.5, 0.99, 1.0)]
            print(
                f"| {precision} | {way} | " + " | ".join(f"{figure:.4f}" for figure in figures)
                + f" | {(moved > 0.3).float().mean():.2%} | {score:.2f} |"
            , flush=True)  # fmt: skip


def run(model: torch.nn.Module, crops: torch.Tensor) -> torch.Tensor:
    """Keypoints in heatmap cells, on the CPU."""
    with torch.inference_mode():
        return torch.cat([tokenpose.decode(model(some)).keypoints for some in crops.split(16)]).cpu()


if __name__ == "__main__":
    main()
