"""Which of timm's families can be TokenPose's backbone, at which strides and sizes.

Usage: python benchmarks/timm_families.py [RESULTS.json]

Takes the smallest member of each of timm's modules (except those named test_...). Each stride that timm states for it
is built for 256x192 (rounded up to the stride) without data; if only another size works, for that size. Then one
whole model, at the coarsest of these strides, gets two random images, and every parameter must receive a finite
gradient. Prints the table of docs/extend.md; nothing is downloaded.
"""

import json
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import timm
import torch

from tokenpose.models.backbones import make_backbone
from tokenpose.models.create import create_model
from tokenpose.models.spec import ModelSpec

HEIGHT, WIDTH = 256, 192


def smallest_member(module: str) -> tuple[str, float]:
    """Its name, and its parameters in millions."""
    sizes = {}
    for name in timm.list_models(module=module, exclude_filters="test_*"):
        with torch.device("meta"):
            sizes[name] = sum(parameter.numel() for parameter in timm.create_model(name).parameters()) / 1e6
    name = min(sizes, key=lambda name: (sizes[name], name))
    return name, round(sizes[name], 1)


def try_stride(name: str, stride: int) -> tuple[tuple[int, int] | None, str]:
    """The image size that works, and why 256x192 doesn't."""
    size = (-(-HEIGHT // stride) * stride, -(-WIDTH // stride) * stride)
    spec = ModelSpec(backbone=f"timm/{name}", backbone_stride=stride, image_size=size, patch_size=(1, 1))
    try:
        with torch.device("meta"):
            make_backbone(spec)
    except ValueError as error:
        advised = re.search(r"image_size=\((\d+), (\d+)\) would do", str(error))
        reason = re.sub(rf"^timm/{name} can't read images of .*? at stride {stride}: ", "", str(error))
        reason = re.split(r"; (?:image_size=|no other size)", reason)[0]
        return (int(advised[1]), int(advised[2])) if advised else None, reason
    return size, ""


def learns(name: str, stride: int, size: tuple[int, int]) -> bool:
    """Forward and backward of a whole model, in training mode: heatmaps and gradients are finite, none is missing."""
    torch.manual_seed(0)
    changes: dict[str, Any] = {"backbone": f"timm/{name}", "backbone_stride": stride, "image_size": size}
    model = create_model("tokenpose_b", **changes, patch_size=(1, 1), keypoints=3, width=16, heads=2, depth=1).train()
    heatmaps = model(torch.randn(2, 3, *size))
    heatmaps.square().mean().backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.requires_grad]
    tensors = [heatmaps, *gradients]
    return all(tensor is not None and bool(tensor.isfinite().all()) for tensor in tensors)


def measure(module: str) -> dict[str, Any]:
    name, parameters = smallest_member(module)
    with torch.device("meta"):
        strides = sorted(set(timm.create_model(name, features_only=True).feature_info.reduction()))
    tried = {stride: try_stride(name, stride) for stride in strides}
    sizes = {stride: size for stride, (size, _) in tried.items() if size}
    reasons = {stride: reason for stride, (_, reason) in tried.items() if reason}
    works = bool(sizes) and learns(name, max(sizes), sizes[max(sizes)])
    return {
        "family": module, "model": name, "parameters": parameters, "strides": strides, "works": works,
        "sizes": sizes, "reasons": reasons,
    }  # fmt: skip


def row(result: dict[str, Any]) -> str:
    sizes, reasons = result["sizes"], result["reasons"]
    plain = ", ".join(str(stride) for stride in sizes if stride not in reasons)
    remarks: dict[str, list[str]] = {}
    for stride, reason in reasons.items():
        why_not = "its map has another size" if reason.startswith("its map is") else "no size that would do was found"
        remark = f"needs {sizes[stride][0]}x{sizes[stride][1]}" if stride in sizes else why_not
        remarks.setdefault(remark, []).append(str(stride))
    text = "; ".join(f"{', '.join(strides)}: {remark}" for remark, strides in remarks.items())
    return f"| {result['family']} | {result['model']} | {result['parameters']} | {plain or 'none'} | {text} |"


def main(output: Path | None) -> None:
    results = []
    for module in timm.list_modules():
        results.append(measure(module))
        print(row(results[-1]), file=sys.stderr, flush=True)
    working = [result for result in results if result["works"]]
    print(f"timm {timm.__version__}: {len(working)} of {len(results)} families work.\n")
    print("| timm's module | smallest model | M parameters | strides | other strides |")
    print("|---|---|---|---|---|")
    print("\n".join(row(result) for result in results))
    if output is not None:
        output.write_text(json.dumps({"timm": timm.__version__, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    warnings.simplefilter("error")
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
