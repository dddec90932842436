"""The `tokenpose` command as a whole: help, version, log, errors, progress."""

import json
import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tokenpose.cli import app
from tokenpose.models.zoo import list_models

from .running import BOX, BOXES_FILES, run

COMMANDS = [
    "predict", "attention", "train", "evaluate", "calibrate", "check", "import", "export-labels", "split", "list",
    "convert", "export",
]  # fmt: skip


def test_help_names_all_commands():
    result = run("--help")
    assert result.stderr == ""
    for command in COMMANDS:
        assert f"\n  {command} " in result.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command_has_an_example(command):
    assert f"  tokenpose {command} " in run(command, "--help").stdout


def test_commands_are_listed_in_the_order_of_their_use():
    _, _, listed = run("--help").stdout.partition("Commands:\n")
    assert [line.split()[0] for line in listed.splitlines() if line] == COMMANDS


def test_options_are_grouped_in_plain_text_on_a_terminal_too(monkeypatch):
    piped = run("predict", "--help").stdout
    headings = [line for line in piped.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert headings == ["Arguments:", "People:", "Model:", "Output:", "Options:"]
    assert "\n  --detect " in piped.partition("People:")[2].partition("Model:")[0]
    assert "\n  --batch-size N " in piped.partition("Model:")[2].partition("Output:")[0]
    assert " predict [OPTIONS] IMAGES...\n" in piped.partition("Find")[0]
    monkeypatch.setenv("FORCE_COLOR", "1")  # what rich takes for a terminal
    assert run("predict", "--help").stdout == piped


@pytest.mark.parametrize("command", ["list", "predict", "attention", "check", "convert", "export"])
def test_help_shows_no_type_of_python(command):
    assert not re.search(r"<[a-z]", run(command, "--help").stdout)


def complete(words: str) -> list[str]:
    """What bash would offer for the last of the words."""
    environment = {"_TOKENPOSE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    return CliRunner().invoke(app, [], env=environment, prog_name="tokenpose").stdout.split()


def test_shell_completes_commands_options_and_model_names():
    assert complete("tokenpose pre") == ["predict"]
    assert complete("tokenpose predict --flip") == ["--flip-test"]
    assert complete("tokenpose predict --model tokenpose_l_d24") == list_models("tokenpose_l_d24*")


def test_version_is_printed():
    from tokenpose import __version__

    assert run("--version").stdout == f"tokenpose {__version__}\n"


def test_without_arguments_help_is_shown_with_the_exit_code_of_wrong_usage():
    assert "Usage: " in run(exit_code=2).output


def test_unknown_command_and_option_are_wrong_usage():
    assert "No such command 'predcit'" in run("predcit", exit_code=2).stderr
    assert "--boxen" in run("predict", "a.jpg", "--boxen", "b", exit_code=2).stderr


def test_help_is_fast_because_it_does_not_import_torch(run_python):
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom tokenpose.cli import app\n"
        "for arguments in (['--help'], ['predict', '--help'], ['list']):\n"
        "    assert CliRunner().invoke(app, arguments).exit_code == 0\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    run_python(code)


def test_module_runs_as_the_command(tmp_path):
    process = subprocess.run(
        [sys.executable, "-m", "tokenpose", "list", "tokenpose_l_d24*"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=True,
    )
    assert process.stdout == "tokenpose_l_d24.coco_256x192\ntokenpose_l_d24.coco_384x288\n"
    assert process.stderr == ""


def test_error_is_one_line_on_standard_error_and_debug_shows_more(photos):
    result = run("predict", "missing.jpg", exit_code=1)
    assert (result.stdout, result.stderr) == ("", "error: there is no image or folder missing.jpg\n")
    debugged = CliRunner().invoke(app, ["--debug", "predict", "missing.jpg"])
    assert isinstance(debugged.exception, FileNotFoundError)


def test_bugs_are_not_swallowed(photos, weights, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise KeyError("bug")

    monkeypatch.setattr("tokenpose.jobs.photographs.draw_poses", fail)
    result = CliRunner().invoke(app, ["predict", "photos/a.png", "--weights", str(weights), "--box", BOX])
    assert isinstance(result.exception, KeyError)


def test_verbose_says_what_is_done_and_logging_is_restored(photos, weights):
    before = logging.getLogger("tokenpose").level, list(logging.getLogger("tokenpose").handlers)
    quiet, verbose = (
        run(*flags, "predict", "photos/a.png", "--weights", weights, "--box", BOX) for flags in ((), ("-v",))
    )
    assert quiet.stderr == ""
    assert "read" in verbose.stderr
    assert "lsp, image_size (64, 48)" in verbose.stderr
    assert "wrote poses/a.poses.png and poses/a.json\n" in verbose.stderr
    assert (logging.getLogger("tokenpose").level, logging.getLogger("tokenpose").handlers) == before


def test_no_progress_bar_where_standard_error_is_no_terminal(photos, weights):
    Path("boxes.json").write_text(json.dumps(BOXES_FILES["names"]))
    assert run("predict", photos, "--boxes", "boxes.json", "--weights", weights).stderr == ""


def test_progress_bar_over_several_images_on_a_terminal(photos, weights, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # what rich takes for a terminal
    monkeypatch.setenv("TERM", "xterm")
    Path("boxes.json").write_text(json.dumps(BOXES_FILES["names"]))
    result = run("predict", photos, "--boxes", "boxes.json", "--weights", weights)
    assert "3/3" in result.stderr
    assert result.stdout == "3 people in 3 images: poses\n"
    assert run("predict", "photos/a.png", "--box", BOX, "--weights", weights).stderr == ""


def test_only_the_main_process_warns(photos, weights, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert run("predict", "photos/a.png", "--weights", weights).stderr == ""
    monkeypatch.setenv("RANK", "0")
    assert run("predict", "photos/a.png", "--weights", weights).stderr.startswith("warning: no boxes given")
