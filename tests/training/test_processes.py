"""Several processes on the same samples: launched as users launch them, against one process."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tokenpose.training.checkpoints import read_checkpoint

from ..drawing import draw_people

ROOT = Path(__file__).parents[2]
MODEL = (  # without batch norm, whose statistics are each process's own
    *("--model", "tokenpose_t", "--image-size", "64x48", "--spec", "depth=2", "--spec", "heads=4"),
    *("--spec", "width=48", "--spec", "patch_size=[16,12]"),
)
RUN = (
    *("--epochs", "3", "--batch-size", "5", "--validate-every", "1", "--predictions", "2"),
    *("--color", "0.2", "--blur", "0.3", "--half-body", "0.3", "--average", "0.9"),
)
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
LAUNCHERS = {
    "torchrun": ("-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "tokenpose"),
    "accelerate": ("-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "-m", "tokenpose"),
}


def launch(folder: Path, launcher: tuple[str, ...], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *launcher, *arguments], cwd=folder, text=True, capture_output=True, timeout=300,
        env=ENVIRONMENT,
    )  # fmt: skip


def train(people: Path, folder: Path, output: str, *options: str, launcher: tuple[str, ...] = ("-m", "tokenpose")):
    data = ("--train", str(people), "--val", str(people), "--images", str(people.parent))
    process = launch(folder, launcher, "-v", "train", *data, "--output", output, *MODEL, *RUN, *options)
    assert process.returncode == 0, process.stdout + process.stderr
    log = [json.loads(line) for line in (folder / output / "log.jsonl").read_text().splitlines()]
    return process, log


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Path:
    return draw_people(tmp_path_factory.mktemp("drawn"), 12)


@pytest.fixture(scope="module")
def alone(people, tmp_path_factory):
    return train(people, tmp_path_factory.mktemp("alone"), "run")[1]


def assert_same_losses(log, other) -> None:
    assert [line["epoch"] for line in log] == [line["epoch"] for line in other] == [1, 2, 3]
    for line, its in zip(log, other, strict=True):
        for name in ("loss", "heatmaps", "patches", "guidance"):
            assert line[name] == pytest.approx(its[name], abs=1e-5), (line["epoch"], name)
        assert line["pck"] == its["pck"]
        assert line["samples"] == its["samples"]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_two_processes_have_the_losses_of_one(people, alone, tmp_path, launcher):
    process, log = train(people, tmp_path, "run", launcher=LAUNCHERS[launcher])
    assert_same_losses(log, alone)
    assert process.stdout == "run/model.safetensors\n"  # the main process speaks, the other is silent
    assert process.stderr.count("epoch 3, step 9") == 1
    assert {entry.name for entry in (tmp_path / "run").iterdir()} == {
        "checkpoint.pt", "curve.png", "log.jsonl", "model.safetensors", "predictions", "settings.json",
    }  # fmt: skip


@pytest.mark.slow
def test_two_processes_learn_from_a_teacher_and_from_shares_as_one_does(people, tmp_path):
    train(people, tmp_path, "teacher", "--epochs", "1")
    data = ("--train", f"{people}@0.5", "--teacher", "teacher/model.safetensors", "--epochs", "2")
    process, alone = train(people, tmp_path, "alone", *data)
    assert "shares of every batch" in process.stderr
    _, together = train(people, tmp_path, "together", *data, launcher=LAUNCHERS["torchrun"])
    for line, its in zip(alone, together, strict=True):
        for name in ("loss", "heatmaps", "distillation"):
            assert line[name] == pytest.approx(its[name], abs=1e-5), (line["epoch"], name)
        assert line["samples"] == its["samples"] == 24 * line["epoch"]


@pytest.mark.slow
def test_two_processes_grow_a_model_in_both_stages(people, tmp_path):
    train(people, tmp_path, "small", "--epochs", "1")
    stem = ("--model", "tokenpose_s_v1", "--spec", "patch_size=[4,3]")
    grow = (*stem, "--grow", "small/model.safetensors", "--grow-epochs", "2", "--epochs", "1")
    process, log = train(people, tmp_path, "run", *grow, launcher=LAUNCHERS["torchrun"])
    growth = [json.loads(line) for line in (tmp_path / "run" / "growth" / "log.jsonl").read_text().splitlines()]
    assert [line["samples"] for line in growth] == [12, 24]
    assert growth[1]["visual"] < growth[0]["visual"]
    assert log[0]["samples"] == 12
    assert process.stdout == "run/model.safetensors\n"


@pytest.mark.slow
def test_run_of_two_processes_is_resumed_by_one(people, alone, tmp_path):
    train(people, tmp_path, "run", "--checkpoint-seconds", "0", launcher=LAUNCHERS["torchrun"])
    log = tmp_path / "run" / "log.jsonl"
    before = log.read_text()
    _, again = train(people, tmp_path, "run", "--resume", "--workers", "1", "--cache", "none")
    assert log.read_text() == before  # nothing was left to do
    assert_same_losses(again, alone)


@pytest.mark.slow
def test_signal_stops_both_after_the_same_step_and_one_process_goes_on(people, tmp_path):
    options = ("--epochs", "30", "--validate-every", "1000", "--checkpoint-seconds", "1000", "--predictions", "0")
    alone = train(people, tmp_path, "alone", *options)[1]
    data = ("--train", str(people), "--val", str(people), "--images", str(people.parent))
    log = tmp_path / "run" / "log.jsonl"
    process = subprocess.Popen(
        [sys.executable, *LAUNCHERS["torchrun"], "-v", "train", *data, "--output", "run", *MODEL, *RUN, *options],
        cwd=tmp_path, env=ENVIRONMENT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    while process.poll() is None and not (log.exists() and log.read_text().count("\n") > 2):
        time.sleep(0.05)
    process.terminate()  # the launcher passes it on
    _, errors = process.communicate(timeout=60)
    step = read_checkpoint(tmp_path / "run" / "checkpoint.pt")["step"]
    assert 9 <= step < 90  # of three steps an epoch
    assert errors.count(f"stopped by a signal at step {step} of 90; the checkpoint has step {step}") == 1
    _, resumed = train(people, tmp_path, "run", "--resume", *options)
    assert [line["epoch"] for line in resumed] == list(range(1, 31))
    for line, its in zip(alone, resumed, strict=True):
        if "resumed_at" not in its:  # its means are those of the rest of the epoch
            assert its["loss"] == pytest.approx(line["loss"], abs=1e-4), line["epoch"]


@pytest.mark.slow
def test_accumulated_parts_have_the_losses_of_the_whole(people, alone, tmp_path):
    assert_same_losses(train(people, tmp_path, "run", "--accumulate", "3")[1], alone)


@pytest.mark.slow
def test_image_that_one_process_cannot_read_stops_both_with_a_line_each(people, tmp_path):
    broken = draw_people(tmp_path / "broken", 12)
    picture = broken.parent / "images" / "007.png"
    picture.write_bytes(picture.read_bytes()[:3000])
    data = ("--train", f"{broken}={broken.parent}", "--val", f"{people}={people.parent}", "--cache", "none")
    process = launch(tmp_path, LAUNCHERS["torchrun"], "train", *data, "--output", "run", *MODEL, *RUN)
    assert process.returncode == 1
    said = [line for line in process.stderr.splitlines() if line.startswith("error: ")]
    assert sorted(said) == [
        f"error: 007.png can't be decoded: image file is truncated (annotation 7 of {broken})",
        "error: another process can't go on: its message says why",
    ]
    assert "[rank" not in process.stderr  # no traceback of theirs


@pytest.mark.slow
def test_loss_that_is_not_finite_stops_both(people, tmp_path):
    data = ("--train", str(people), "--val", str(people), "--images", str(people.parent))
    options = ("--learning-rate", "1e30", "--clip", "0")
    process = launch(tmp_path, LAUNCHERS["torchrun"], "train", *data, "--output", "run", *MODEL, *RUN, *options)
    assert process.returncode == 1
    said = [line for line in process.stderr.splitlines() if line.startswith("error: ")]
    assert len(said) == 2
    assert all("not finite at step" in line for line in said)
    assert "[rank" not in process.stderr
