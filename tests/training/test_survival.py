"""Runs that are killed, stopped, or find the disk full, in processes of their own."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tokenpose.training.checkpoints import read_checkpoint, write_checkpoint

from ..drawing import draw_people

ROOT = Path(__file__).parents[2]
MODEL = (
    *("--model", "tokenpose_t", "--image-size", "64x48", "--spec", "depth=2", "--spec", "heads=4"),
    *("--spec", "width=48", "--spec", "patch_size=[16,12]"),
    *("--batch-size", "4", "--color", "0.2"),
)

# Everything is imported once, then a process is forked for each life of a run. A run that ends is compared with one
# that nobody killed, and another is begun.
LIVES = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from tokenpose.models.spec import ModelSpec
from tokenpose.models.tokenpose import TokenPose
from tokenpose.models.weights import read_weights
from tokenpose.jobs.training import train_model
from tokenpose.jobs.training_data import read_training_data
from tokenpose.skeletons import LSP
from tokenpose.training.checkpoints import read_checkpoint
from tokenpose.training.progress import read_log
from tokenpose.training.settings import TrainingSettings
import accelerate, matplotlib.figure, tokenpose.jobs.sheets

torch.set_num_threads(1)
people, kills = sys.argv[1], int(sys.argv[2])
spec = ModelSpec(
    backbone="pixels", backbone_stride=1, image_size=(64, 48), patch_size=(16, 12), width=48, heads=4, depth=2,
    heatmap_activation="softmax", sigma=1.0, skeleton=LSP,
)
settings = TrainingSettings(
    epochs=12, batch_size=4, average=0.5, validate_every=3,
    checkpoint_seconds=0.0, predictions=1,
)

def live(output):
    child = os.fork()
    if child == 0:
        try:
            torch.manual_seed(0)
            data = read_training_data(people, people, str(Path(people).parent))
            resume = (output / "checkpoint.pt").exists()
            train_model(TokenPose(spec), data, output, settings, resume)
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    return child

def outcome(output):
    log = [(line["epoch"], line["step"], line.get("pck")) for line in read_log(output / "log.jsonl")]
    return log, read_weights(output / "model.safetensors").tensors

started = time.monotonic()
assert os.waitpid(live(Path("whole")), 0)[1] == 0
seconds = time.monotonic() - started
log, tensors = outcome(Path("whole"))
assert [line[0] for line in log] == list(range(1, 13))
moments, killed, ended, before = random.Random(5), 0, 0, 0
while killed < kills or before:
    parts = Path(f"parts-{ended}")
    child = live(parts)
    if killed < kills:
        time.sleep(moments.uniform(0, 0.5) * seconds)
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if status == signal.SIGKILL:
        killed += 1
        step = read_checkpoint(parts / "checkpoint.pt")["step"] if (parts / "checkpoint.pt").exists() else 0
        assert step >= before, f"a checkpoint was lost: step {step} after {before}"
        before = step
    else:
        assert status == 0, status
        their_log, their_tensors = outcome(parts)
        assert their_log == log
        assert all(torch.equal(their_tensors[name], tensors[name]) for name in tensors)
        ended, before = ended + 1, 0
print(f"killed {killed} times, {ended} runs ended alike")
"""


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Path:
    return draw_people(tmp_path_factory.mktemp("drawn"), 12)


@pytest.mark.slow
def test_runs_killed_at_ten_random_moments_end_as_one_that_was_not(people, tmp_path):
    process = subprocess.run(
        [sys.executable, "-c", LIVES, str(people), "10"], cwd=tmp_path, env=environment(), text=True,
        capture_output=True, timeout=500,
    )  # fmt: skip
    assert process.returncode == 0, process.stdout + process.stderr
    assert re.search(r"^killed 10 times, [1-9]\d* runs ended alike$", process.stdout, re.MULTILINE), process.stdout


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def start(people: Path, folder: Path, *options: str, start_new_session: bool = False) -> subprocess.Popen[str]:
    data = ("--train", str(people), "--val", str(people), "--images", str(people.parent))
    return subprocess.Popen(
        [sys.executable, "-m", "tokenpose", "train", *data, "--output", "run", *MODEL, *options],
        cwd=folder, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=start_new_session,
    )  # fmt: skip


def read_log(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def wait_for_epoch(process: subprocess.Popen[str], folder: Path, epoch: int) -> None:
    log, deadline = folder / "run" / "log.jsonl", time.monotonic() + 120
    while not (log.exists() and len(log.read_text().splitlines()) >= epoch):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "exit_code", "reason"),
    [(signal.SIGINT, 130, "Ctrl-C"), (signal.SIGTERM, 143, "a signal"), (signal.SIGHUP, 129, "a signal")],
)
def test_signal_ends_the_run_after_its_step_with_a_line_and_resuming_completes_it(
    people, tmp_path, number, exit_code, reason
):
    options = ("--epochs", "60", "--validate-every", "1000", "--checkpoint-seconds", "1000", "--predictions", "0")
    process = start(people, tmp_path, *options)
    wait_for_epoch(process, tmp_path, 3)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == exit_code
    step = read_checkpoint(tmp_path / "run" / "checkpoint.pt")["step"]
    assert 9 <= step < 180
    assert errors.splitlines()[-1] == (
        f"warning: stopped by {reason} at step {step} of 180; the checkpoint has step {step}: the same "
        "command with --resume continues"
    )
    process = start(people, tmp_path, *options, "--resume")
    output, errors = process.communicate(timeout=300)
    assert (process.returncode, output) == (0, "run/model.safetensors\n")
    assert f"resumed at step {step} of 180" in errors
    assert "warning" not in errors
    assert [line["epoch"] for line in read_log(tmp_path / "run" / "log.jsonl")] == list(range(1, 61))


@pytest.mark.slow
def test_a_run_whose_terminal_is_closed_saves_its_state(people, tmp_path):
    data = ("--train", str(people), "--val", str(people), "--images", str(people.parent), "--epochs", "2000")
    options = ("--validate-every", "1000", "--checkpoint-seconds", "1000", "--predictions", "0")
    process, terminal = pty.fork()
    if process == 0:  # the terminal is its standard input, output and error, and that it is controlled by
        os.chdir(tmp_path)
        command = [sys.executable, "-m", "tokenpose", "train", *data, "--output", "run", *MODEL, *options]
        os.execve(sys.executable, command, environment())
    log, deadline = tmp_path / "run" / "log.jsonl", time.monotonic() + 120
    while not (log.exists() and log.read_text()):
        assert time.monotonic() < deadline
        if select.select([terminal], [], [], 0.05)[0]:
            os.read(terminal, 100_000)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 129
    assert read_checkpoint(tmp_path / "run" / "checkpoint.pt")["step"] >= 3
    assert not (tmp_path / "run" / ".lock").exists()


def test_checkpoint_that_finds_no_room_leaves_the_older_one_and_no_remains(tmp_path):
    path = tmp_path / "checkpoint.pt"
    write_checkpoint(path, {"step": 3, "settings": {}})
    code = (
        "import resource, torch\n"
        "from pathlib import Path\n"
        "from tokenpose.training.checkpoints import write_checkpoint\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"  # as a full disk: writing more fails
        "state = {'step': 4, 'settings': {}, 'weights': torch.zeros(1_000_000)}\n"
        f"try: write_checkpoint(Path({str(path)!r}), state)\n"
        "except OSError as error: print(error)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, env=environment(), check=True)
    assert found.stdout == (
        f"the checkpoint {path} can't be written ([Errno 27] File too large); the one before it is whole\n"
    )
    assert read_checkpoint(path)["step"] == 3
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint.pt"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("room", "first"), [(60_000, "run/model.safetensors"), (600_000, "the checkpoint run/checkpoint.pt")]
)
def test_full_disk_ends_the_run_with_a_line(people, tmp_path, room, first):
    # no file may grow beyond the room: 60 KB hold neither weights nor checkpoint, 600 KB only the weights
    code = (
        f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))\n"
        "from tokenpose.cli import main\nmain()"
    )
    data = ("--train", str(people), "--val", str(people), "--images", str(people.parent))
    full = subprocess.run(
        [sys.executable, "-c", code, "train", *data, "--output", "run", *MODEL, "--epochs", "2", "--predictions", "0"],
        cwd=tmp_path, env=environment(), text=True, capture_output=True,
    )  # fmt: skip
    assert full.returncode == 1
    assert f"error: {first} can't be written (" in full.stderr
    assert "File too large" in full.stderr
    assert "Traceback" not in full.stderr
    assert not list((tmp_path / "run").glob("*.partial"))


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    return [int(number) for number in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="Linux tells the children of a process")
@pytest.mark.parametrize("whom", ["everybody", "the worker"])
def test_killed_reading_process_ends_the_run_with_a_checkpoint_and_a_line(people, tmp_path, whom):
    options = ("--epochs", "60", "--validate-every", "1000", "--checkpoint-seconds", "1000", "--predictions", "0")
    process = start(people, tmp_path, *options, "--cache", "none", "--workers", "1", start_new_session=True)
    wait_for_epoch(process, tmp_path, 3)
    if whom == "everybody":
        os.killpg(process.pid, signal.SIGTERM)
    else:
        while not workers_of(process):  # between two epochs there is none
            time.sleep(0.01)
        os.kill(workers_of(process)[-1], signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    step = read_checkpoint(tmp_path / "run" / "checkpoint.pt")["step"]
    assert 9 <= step < 180
    reason = {"everybody": "a signal", "the worker": "an error"}[whom]
    assert f"stopped by {reason} at step {step} of 180; the checkpoint has step {step}: the same command" in errors
    assert "Traceback" not in errors
    if whom == "everybody":
        assert process.returncode == 143
    else:
        assert process.returncode == 1
        assert errors.splitlines()[-1].startswith(
            "error: a process that reads images was killed, perhaps for lack of memory"
        )
