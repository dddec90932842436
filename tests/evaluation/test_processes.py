"""Evaluation in several processes, launched as a user would."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tokenpose.evaluation.processes import Processes, join_processes
from tokenpose.models.spec import ModelSpec
from tokenpose.models.tokenpose import TokenPose
from tokenpose.models.weights import write_weights
from tokenpose.skeletons import LSP

from ..drawing import draw_people

ROOT = Path(__file__).parents[2]
TINY = ModelSpec(
    backbone="pixels", backbone_stride=1, image_size=(64, 48), patch_size=(16, 12), width=48, heads=4, depth=1,
    skeleton=LSP,
)  # fmt: skip


def test_a_process_of_its_own_is_main_and_alone(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert join_processes() == Processes(rank=0, count=1)
    assert join_processes().is_main
    assert Processes().gather(lambda: 3) == [3]


def test_launch_without_accelerate_says_what_to_install(run_python):
    code = (
        "import sys\nsys.modules['accelerate'] = None\n"
        "from tokenpose.evaluation.processes import join_processes\n"
        "try: join_processes()\nexcept ModuleNotFoundError as error: print(error)"
    )
    said = run_python(code, environment={"WORLD_SIZE": "2", "RANK": "0"}).stdout
    assert said == 'evaluation in several processes needs accelerate: pip install "tokenpose[train]"\n'


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    """A folder with seven drawn people, people.json, and the weights of a small model, random."""
    folder = tmp_path_factory.mktemp("drawn")
    draw_people(folder, 7)
    torch.manual_seed(0)
    write_weights(TokenPose(TINY), folder / "tiny.safetensors")
    return folder


def evaluate(folder: Path, launcher: tuple[str, ...], output: str) -> subprocess.CompletedProcess[str]:
    """`tokenpose evaluate` on one thread, in batches of two, so that there are four portions to share."""
    given = ("--data", "people.json", "--images", ".", "--weights", "tiny.safetensors", "--batch-size", "2")
    return subprocess.run(
        [sys.executable, *launcher, "-m", "tokenpose", "evaluate", *given, "--device", "cpu", "--output", output],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )


TWO = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


@pytest.mark.slow
def test_two_processes_give_the_figures_of_one_and_print_them_once(drawn):
    alone, shared = evaluate(drawn, (), "one.json"), evaluate(drawn, TWO, "two.json")
    assert (alone.returncode, shared.returncode) == (0, 0), shared.stderr
    assert shared.stdout == alone.stdout
    assert (drawn / "two.json").read_text() == (drawn / "one.json").read_text()
    assert json.loads((drawn / "two.json").read_text())["people"] == 7


@pytest.mark.slow
def test_error_of_one_process_ends_all_of_them_with_its_message(drawn):
    (drawn / "images" / "006.png").write_bytes(b"no image")  # of the last portion: one process alone meets it
    result = evaluate(drawn, TWO, "broken.json")
    assert result.returncode != 0
    assert result.stderr.count("error: 006.png is not an image that can be read") == 2
    assert not (drawn / "broken.json").exists()
