"""Runs the tests with every annotated shape checked; what the tests share."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import jaxtyping
import pytest
import torch

_workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if _workers > 1:  # PyTorch, here and in the programs that tests start, shares the cores with the other workers
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // _workers))
    os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when huggingface_hub is first imported: no test needs the network

# Before anything imports tokenpose. TOKENPOSE_TYPE_CHECK=0 runs without it. torch.compile and torch.export need code
# without the hook, which breaks the graph: such tests use run_python.
if os.environ.get("TOKENPOSE_TYPE_CHECK", "1") != "0":
    jaxtyping.install_import_hook("tokenpose", "beartype.beartype")

RunPython = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def generator() -> torch.Generator:
    """Seeded anew for each test, on the CPU."""
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The real photographs and annotations (lspet/, coco-mini/); read-only."""
    named = os.environ.get("TOKENPOSE_DATA")
    if not named:
        pytest.skip("set TOKENPOSE_DATA to the folder that holds lspet/ and coco-mini/")
    if not Path(named).is_dir():
        pytest.skip(f"TOKENPOSE_DATA={named} is not a folder")
    return Path(named).resolve()


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of golden files; its README says how their weights are made."""
    return Path(__file__).parent / "golden"


@pytest.fixture(scope="session")
def detector_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What TORCH_HOME may name: weights of ssdlite320_mobilenet_v3_large, random, that see big people anywhere."""
    from torchvision.models import get_model, get_model_weights

    torch.manual_seed(0)
    name = "ssdlite320_mobilenet_v3_large"
    module = get_model(name, weights=None, weights_backbone=None)
    labels = module.head.classification_head.module_list[-1][-1]  # of the last map: 1 cell, 6 boxes, 91 labels
    with torch.no_grad():
        labels.bias.view(6, 91)[:, 1] += 6
    folder = tmp_path_factory.mktemp("torch")
    path = folder / "hub" / "checkpoints" / get_model_weights(name).DEFAULT.url.rpartition("/")[2]
    path.parent.mkdir(parents=True)
    torch.save(module.state_dict(), path)
    return folder


@pytest.fixture
def detector_weights(detector_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of the one detector whose weights are there; no other's are, and none is in memory."""
    from tokenpose import detection

    monkeypatch.setenv("TORCH_HOME", str(detector_folder))
    detection._load.cache_clear()
    yield "ssdlite320_mobilenet_v3_large"
    detection._load.cache_clear()


@pytest.fixture
def unchecked() -> Iterator[None]:
    """No checks of annotations: torch.fx and torch.export hand stand-ins for tensors through the code."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def run_python(tmp_path: Path) -> RunPython:
    """Run code in an interpreter of its own, without the import hook, in an empty folder; fails unless it exits with 0.

    Flags go to the interpreter: ``run_python("import tokenpose", "-W", "error").stdout``. The environment is this
    process's, with what is given.
    """

    def run(
        code: str, *flags: str, timeout: float = 300, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        process = subprocess.run(
            [sys.executable, *flags, "-c", code],
            cwd=tmp_path,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if process.returncode != 0:
            pytest.fail(f"exit code {process.returncode}\n{process.stdout}{process.stderr}", pytrace=False)
        return process

    return run
