"""Turn a trained weights file into bundled weights: half precision, evaluated, with the card inside.

Usage: python benchmarks/release.py NAME TRAINED.safetensors CARD.json VAL.json IMAGES [IMAGES ...]

Writes tokenpose/checkpoints/NAME.safetensors (float16, batch-norm statistics float32); its card holds CARD.json and the
scores of the rounded weights on VAL.json, with and without flip test. Also writes the outputs that the tests compare
to tests/models/pretrained_outputs.json, and prints the scores and the SHA-256 for the zoo's table.
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tokenpose.data.coco import read_coco
from tokenpose.data.sources import ImageSource
from tokenpose.jobs.evaluation import measure_pck
from tokenpose.models.create import read_model
from tokenpose.models.tokenpose import TokenPose
from tokenpose.models.weights import write_weights

ROOT = Path(__file__).parent.parent
OUTPUTS = ROOT / "tests" / "models" / "pretrained_outputs.json"


def stored_outputs(model: TokenPose) -> dict[str, list[Any]]:
    """Peaks of the heatmaps on the fixed input of the tests, and means over 4 x 3 parts of each, row by row."""
    noise = np.random.RandomState(1234).standard_normal((1, 3, *model.spec.image_size))
    with torch.no_grad():
        heatmaps = model(torch.from_numpy(noise.astype(np.float32)))[0]
    parts = torch.nn.functional.adaptive_avg_pool2d(heatmaps, (4, 3)).flatten(1)
    return {"peaks": heatmaps.flatten(1).amax(dim=1).tolist(), "parts": parts.tolist()}


def main(name: str, trained: Path, card_file: Path, val: Path, places: list[str]) -> None:
    file = ROOT / "tokenpose" / "checkpoints" / f"{name}.safetensors"
    file.parent.mkdir(exist_ok=True)
    write_weights(read_model(trained), file, half=True)
    model, people, source = read_model(file), read_coco(val), ImageSource(places)
    card = {"name": name, **json.loads(card_file.read_text()), "scores": {}}
    for label, flip_test in (("PCK@0.2", False), ("PCK@0.2, flip test", True)):
        result = measure_pck(model, people, source, flip_test=flip_test)
        print(f"{label}\n{result}\n")
        card["scores"][label] = {"mean": round(result.mean, 2), "people": result.people}
        card["scores"][label] |= {point: round(value, 2) for point, value in result.per_keypoint.items()}
    write_weights(read_model(trained), file, card, half=True)
    stored = json.loads(OUTPUTS.read_text()) if OUTPUTS.exists() else {}
    first = measure_pck(model, people.take(slice(0, 100)), source).mean
    stored[name] = {**stored_outputs(read_model(file)), "pck_of_first_100": round(first, 2)}
    OUTPUTS.write_text(json.dumps(stored, indent=1) + "\n")
    print(f"{file.name}: {file.stat().st_size / 2**20:.1f} MiB, sha256 {hashlib.sha256(file.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]), sys.argv[5:])
