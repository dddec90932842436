import json
import logging
import os
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tokenpose.training.checkpoints import read_checkpoint, write_checkpoint
from tokenpose.training.folder import RunFolder, check_output

from .small import SETTINGS, log_of

STATE = {
    "network": {}, "average": {}, "optimizer": {}, "step": 7, "epochs_done": 2, "extensions": [], "seconds": 1.5,
}  # fmt: skip
IDENTITY = {"spec": "one", "data": "ab12", "weights": None}


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    return RunFolder(tmp_path / "new" / "run", SETTINGS, IDENTITY, {"model": {"name": "tiny"}})


@pytest.fixture
def begun(folder) -> RunFolder:
    """A run that got as far as a checkpoint and two epochs."""
    folder.start(epochs_done=0)
    for epoch in (1, 2):
        folder.write_epoch({"epoch": epoch, "step": 3 * epoch, "loss": 2.0 / epoch, "rate": 0.1})
    folder.write_state(STATE)
    return folder


# Its beginning


def test_nothing_is_made_before_the_start(folder):
    folder.refuse_earlier()
    assert not folder.path.parent.exists()


def test_settings_file_has_the_settings_and_what_the_run_is_made_of(folder):
    folder.start(epochs_done=0)
    saved = json.loads(folder.settings_file.read_text())
    assert saved["batch_size"] == 4
    assert saved["augmentation"]["rotation"] == 10
    assert saved["model"] == {"name": "tiny"}
    assert [entry.name for entry in folder.path.iterdir()] == ["settings.json"]


@pytest.mark.parametrize("name", ["model.safetensors", "best.safetensors", "log.jsonl", "settings.json"])
def test_what_an_earlier_run_left_without_its_checkpoint_is_refused(tmp_path, name):
    (tmp_path / name).write_text("earlier")
    with pytest.raises(FileExistsError, match=rf"{name} belongs to an earlier run that has no checkpoint"):
        RunFolder(tmp_path, SETTINGS).refuse_earlier()


def test_checkpoint_of_an_earlier_run_is_refused(begun):
    with pytest.raises(
        FileExistsError, match=r"checkpoint\.pt belongs to an earlier run: resume it, or use another output"
    ):
        begun.refuse_earlier()


def test_the_same_settings_alone_are_no_earlier_run(folder):
    folder.start(epochs_done=0)
    folder.refuse_earlier()
    with pytest.raises(FileExistsError, match=r"settings\.json belongs to an earlier run"):
        RunFolder(folder.path, replace(SETTINGS, epochs=5), IDENTITY, folder.made_of).refuse_earlier()


def test_a_start_keeps_the_lines_of_the_epochs_that_are_done(begun):
    begun.start(epochs_done=1)
    assert [line["epoch"] for line in log_of(begun.path)] == [1]


def test_files_in_the_outputs_place_and_missing_checkpoints_are_refused(tmp_path):
    check_output(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="file is a file, but a run needs a folder"):
        check_output(tmp_path / "file")
    with pytest.raises(FileNotFoundError, match=r"there is no checkpoint .*none/checkpoint\.pt to resume from"):
        check_output(tmp_path / "none", resume=True)


@pytest.mark.skipif(os.name != "posix", reason="there are no such locks elsewhere")
def test_the_folder_is_for_one_run_at_a_time(folder, run_python):
    code = (
        "import sys\nfrom pathlib import Path\nfrom tokenpose.training.folder import RunFolder\n"
        "from tokenpose.training.settings import TrainingSettings\n"
        f"with RunFolder(Path({str(folder.path)!r}), TrainingSettings()).held(): pass\n"
    )
    with folder.held():
        second = run_python(f"try:\n    exec({code!r})\nexcept BlockingIOError as error: print(error)\n").stdout
    assert second == f"another run uses {folder.path}: wait until it ends, or give another output\n"


def test_a_new_folder_is_removed_if_the_run_left_nothing(folder, tmp_path):
    with folder.held():
        assert folder.path.is_dir()
    assert not folder.path.exists()
    with folder.held():
        (folder.path / "file").touch()
    assert (folder.path / "file").exists()
    (tmp_path / "empty").mkdir()
    with RunFolder(tmp_path / "empty", SETTINGS).held():
        pass
    assert (tmp_path / "empty").exists()  # it was there before


# The checkpoint


def test_state_is_read_back_with_settings_and_identity(begun):
    state = begun.read_state()
    assert {name: state[name] for name in STATE} == STATE
    assert state["identity"] == IDENTITY
    assert state["settings"]["learning_rate"] == SETTINGS.learning_rate


def test_other_settings_are_refused_by_name_and_value(begun):
    changed = RunFolder(begun.path, replace(SETTINGS, learning_rate=1e-4, epochs=5), IDENTITY)
    message = (
        r"checkpoint\.pt belongs to a run with other settings \(epochs 4, not 5; learning_rate 0\.002, not 0\.0001\): "
        "use another output"
    )
    with pytest.raises(ValueError, match=message):
        changed.read_state()


def test_setting_that_no_longer_exists_is_refused_by_name(begun):
    state = read_checkpoint(begun.checkpoint)
    write_checkpoint(begun.checkpoint, {**state, "settings": {**state["settings"], "momentum": 0.9}})
    with pytest.raises(
        ValueError, match=r"belongs to a run with other settings \(momentum 0\.9, not None\): use another"
    ):
        begun.read_state()


def test_another_identity_is_refused_without_the_values_that_say_nothing(begun):
    other = RunFolder(begun.path, SETTINGS, {"spec": "two", "data": "cd34", "weights": "some.safetensors"})
    with pytest.raises(ValueError, match=r"\(spec; data; weights None, not 'some\.safetensors'\)"):
        other.read_state()


def test_settings_without_effect_on_the_result_may_differ(begun):
    free = replace(SETTINGS, workers=2, cache="none", checkpoint_seconds=5.0, predictions=0, trackers=("some",))
    assert RunFolder(begun.path, free, IDENTITY).read_state()["step"] == 7


@pytest.mark.parametrize("missing", ["network", "epochs_done", "identity"])
def test_checkpoint_that_lacks_a_part_is_refused(begun, missing):
    state = read_checkpoint(begun.checkpoint)
    write_checkpoint(begun.checkpoint, {name: value for name, value in state.items() if name != missing})
    message = rf"^{re.escape(str(begun.checkpoint))} is damaged \(it lacks {missing}\): "
    with pytest.raises(ValueError, match=message):
        begun.read_state()


def test_state_that_does_not_fit_is_refused_in_one_line(begun):
    error = begun.refuse_state(RuntimeError("size mismatch\n\tfor weight: 3\n"))
    assert str(error).startswith(f"{begun.checkpoint} is damaged (size mismatch for weight: 3): ")


# The log


@pytest.mark.parametrize("line", [b"{epoch\n", b"[1]\n", b"\xff\xfe\n", b'{"step": 3}\n'])
def test_damaged_line_of_the_log_is_refused_by_its_number(begun, line):
    begun.log.write_bytes(begun.log.read_bytes() + line)
    with pytest.raises(ValueError, match=r"log\.jsonl: line 3 is damaged: "):
        begun.read_state()


def test_epochs_are_appended_and_drawn(begun):
    assert [line["loss"] for line in log_of(begun.path)] == [2.0, 1.0]
    assert not begun.curve.exists()
    begun.write_epoch({"epoch": 3, "step": 9, "loss": 0.5, "rate": 0.1, "pck": 50.0})
    begun.draw_curve()
    assert begun.curve.read_bytes().startswith(b"\x89PNG")
    assert len(log_of(begun.path)) == 3


def test_missing_matplotlib_and_damaged_logs_cost_the_curve_alone(begun, monkeypatch, caplog):
    line = {"epoch": 3, "step": 9, "loss": 0.5, "rate": 0.1}
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with caplog.at_level(logging.INFO, logger="tokenpose"):
        begun.draw_curve()
    assert 'no curve.png: it needs matplotlib, pip install "tokenpose[plot]"' in caplog.text
    begun.log.write_text("damaged\n")
    begun.write_epoch(line)
    begun.draw_curve()
    assert "line 1 is damaged" in caplog.text
    assert log_of_last(begun.log) == line
    assert not begun.curve.exists()


def log_of_last(path: Path) -> dict[str, float]:
    return json.loads(path.read_text().splitlines()[-1])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a device that is always full")
def test_full_disk_is_reported_with_the_logs_name(folder):
    folder.start(epochs_done=0)
    folder.log.symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"log\.jsonl can't be written \(No space left on device\)"):
        folder.write_epoch({"epoch": 1})


# What it tells


def test_advice_about_a_broken_loss_names_the_weights_that_are_there(tmp_path):
    folder = RunFolder(tmp_path, SETTINGS)
    assert folder.advise() == "try a lower one, in another output"
    assert RunFolder(tmp_path, replace(SETTINGS, precision="bf16")).advise() == (
        "try a lower one, or precision fp32, in another output"
    )
    folder.weights.touch()
    assert folder.advise() == (
        f"try a lower one: --weights {tmp_path}/model.safetensors --output ANOTHER, without --resume, continues from "
        "the last validation"
    )


def test_trackers_get_settings_as_numbers_and_text(folder):
    values = folder.flat_settings()
    assert (values["learning_rate"], values["rotation"], values["milestones"]) == (2e-3, 10.0, "(200, 260)")
    assert all(isinstance(value, int | float | str) for value in values.values())
