"""Runs the tests with every annotated shape checked; what the tests share."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from jaxtyping import install_import_hook

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when huggingface_hub is first imported: no test needs the network

# Before anything imports tokenpose. TOKENPOSE_TYPE_CHECK=0 runs without it. torch.compile and torch.export need code
# without the hook, which breaks the graph: such tests use run_python.
if os.environ.get("TOKENPOSE_TYPE_CHECK", "1") != "0":
    install_import_hook("tokenpose", "beartype.beartype")

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


@pytest.fixture
def run_python(tmp_path: Path) -> RunPython:
    """Run code in an interpreter of its own, without the import hook, in an empty folder; fails unless it exits with 0.

    Flags go to the interpreter: ``run_python("import tokenpose", "-W", "error").stdout``.
    """

    def run(code: str, *flags: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        process = subprocess.run(
            [sys.executable, *flags, "-c", code],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if process.returncode != 0:
            pytest.fail(f"exit code {process.returncode}\n{process.stdout}{process.stderr}", pytrace=False)
        return process

    return run
