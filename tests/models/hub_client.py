"""A process for the hub's clients: huggingface_hub reads its settings when it is imported, so tests run code over here.

A line of JSON on standard input says what to run, with which cache and token; one on standard output says what was
printed and raised.
"""

import contextlib
import hashlib
import io
import json
import os
import sys
import time
from typing import Any

import huggingface_hub
import torch

import tokenpose
from tokenpose.models.tokenpose import TokenPose


@torch.no_grad()
def digest(model: TokenPose) -> str:
    """Equal for models whose heatmaps are equal to the bit."""
    images = torch.linspace(-2, 2, 3 * model.spec.image_size[0] * model.spec.image_size[1])
    return hashlib.sha256(model(images.reshape(1, 3, *model.spec.image_size)).numpy().tobytes()).hexdigest()


def run(code: str, cache: str, token: str) -> dict[str, Any]:
    huggingface_hub.constants.HF_HUB_CACHE = cache  # what HF_HOME would set, anew for each test
    os.environ["HF_TOKEN"] = token
    printed, error = io.StringIO(), None
    try:
        with contextlib.redirect_stdout(printed):
            exec(code, {"digest": digest, "huggingface_hub": huggingface_hub, "tokenpose": tokenpose})
    except Exception as raised:
        error = {"type": type(raised).__name__, "message": str(raised), "cause": type(raised.__cause__).__module__}
    return {"printed": printed.getvalue().splitlines(), "error": error}


if __name__ == "__main__":
    time.sleep = lambda seconds: None  # between huggingface_hub's attempts: half a minute for a hub that is down
    for line in sys.stdin:
        print(json.dumps(run(**json.loads(line))), flush=True)
