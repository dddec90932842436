"""`tokenpose check`: what it prints and writes, and its exit codes."""

import json
from pathlib import Path
from typing import Any

import pytest

from tokenpose.doctor.swaps import SWAP_SCORE
from tokenpose.models.create import create_model
from tokenpose.models.weights import write_weights
from tokenpose.skeletons import LSP

from ..drawing import draw_people
from .running import run


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The working folder, with people.json and images/ of drawn people."""
    monkeypatch.chdir(tmp_path)
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    draw_people(tmp_path, 30)
    return tmp_path


def change(*faults: tuple[str, int, dict[str, Any]], name: str = "people.json") -> None:
    content = json.loads(Path("people.json").read_text())
    for kind, row, values in faults:
        content[kind][row].update(values)
    Path(name).write_text(json.dumps(content))


ERROR = ("annotations", 5, {"bbox": [20, 30, 0, 50]})
WARNING = ("annotations", 6, {"num_keypoints": 3})


def rows(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in text.splitlines() if line.startswith("│")]


def test_file_without_a_fault_exits_with_0(folder):
    result = run("check", "people.json", "--images", "images", "--strict")
    assert result.stdout.startswith("people.json: 30 people in 30 images, 14 keypoints, 6 flip pairs\n")
    assert result.stdout.endswith("0 errors, 0 warnings, 0 notes\n")
    assert result.stderr == ""
    assert ["boxes", "none", "", ""] in rows(result.stdout)
    assert ["train and validation", "not looked at", "", ""] in rows(result.stdout)
    assert ["left_hip", "30", "0.107", "COCO, by name"] in rows(result.stdout)


def test_errors_exit_with_1_and_name_the_record(folder):
    change(ERROR)
    result = run("check", "people.json", "--images", "images", exit_code=1)
    assert ["boxes", "error", "1", "annotation 5 in 005.png: its box 0 x 50 at (20, 30) has no area"] in rows(
        result.stdout
    )
    assert result.stdout.endswith("1 error, 0 warnings, 0 notes\n")


def test_warnings_exit_with_1_only_if_strict(folder):
    change(WARNING)
    assert run("check", "people.json", "--images", "images").stdout.endswith("0 errors, 1 warning, 0 notes\n")
    run("check", "people.json", "--images", "images", "--strict", exit_code=1)


def test_every_finding_goes_to_the_report_and_suspects_to_the_sheet(folder):
    change(ERROR, WARNING)
    given = ("--output", "out/report.json", "--sheet", "out/suspects.html")
    run("check", "people.json", "--images", "images", *given, exit_code=1)
    report = json.loads(Path("out/report.json").read_text())
    assert [(one["check"], one["severity"], one["annotations"]) for one in report["findings"]] == [
        ("boxes", "error", [5]),
        ("visibility flags", "warning", [6]),
    ]
    assert report["findings"][0]["images"] == ["005.png"]
    assert Path("out/suspects.html").read_text().count("<article") == 2


def test_images_of_training_in_validation_are_errors(folder):
    content = json.loads(Path("people.json").read_text())
    Path("val.json").write_text(json.dumps({**content, "images": content["images"][:2], "annotations": []}))
    result = run("check", "people.json", "--val", "val.json", "--images", "images", exit_code=1)
    assert ["train and validation", "error", "2"] in [row[:3] for row in rows(result.stdout)]
    assert "val.json: image 10 (000.png): it is the same as 000.png of people.json, byte for byte" in " ".join(
        row[3] for row in rows(result.stdout) if len(row) == 4
    )


def test_file_of_mpii_is_checked_and_its_suspects_are_shown(folder):
    joints = [[20 + 5 * row, 30 + 4 * row] for row in range(16)]
    record = {"image": "005.png", "center": [60, 70], "scale": 0.4, "joints": joints, "joints_vis": [1] * 16}
    Path("valid.json").write_text(json.dumps([{**record, "joints": [[60, 70]] * 16}, {**record, "scale": "x"}]))
    result = run("check", "valid.json", "--images", "images", "--sheet", "suspects.html", exit_code=1)
    assert result.stdout.startswith("valid.json: 1 person in 1 image, 16 keypoints, 6 flip pairs\n")
    found = rows(result.stdout)
    assert ["records", "error", "1"] in [row[:3] for row in found]
    assert ["image sizes", "not looked at", "", ""] in found
    assert "annotation 0 in 005.png" in Path("suspects.html").read_text()


def test_without_images_labels_are_looked_at(folder):
    result = run("check", "people.json")
    assert ["missing images", "not looked at", "", ""] in rows(result.stdout)


def test_flip_pairs_are_given_where_names_do_not_tell(folder):
    content = json.loads(Path("people.json").read_text())
    content["categories"][0]["keypoints"] = [f"point{index}" for index in range(14)]
    Path("people.json").write_text(json.dumps(content))
    unknown = run("check", "people.json", exit_code=1).stdout  # as training refuses it
    assert "14 keypoints, flip pairs unknown" in unknown
    examples = " ".join(row[3] for row in rows(unknown) if len(row) == 4)
    assert "the names don't say which keypoints change sides" in examples
    given = run("check", "people.json", "--flip-pairs", "point0:point5, point1:point4")
    assert "14 keypoints, 2 flip pairs" in given.stdout
    assert run("check", "people.json", "--flip-pairs", "point0:wing", exit_code=1).stderr.startswith(
        "error: skeleton 'person' has no keypoint 'wing'; it has point0, "
    )
    assert "write flip pairs as left_eye" in run("check", "people.json", "--flip-pairs", "point0", exit_code=2).stderr
    assert "14 keypoints, 0 flip pairs" in run("check", "people.json", "--flip-pairs", "none").stdout


def test_names_of_a_file_are_neither_markup_nor_commands_to_the_terminal(folder):
    change(("images", 5, {"file_name": "[bold red]a[/bold red]\x1b[2J.png"}))
    result = run("check", "people.json", "--images", "images", exit_code=1)
    assert "[bold red]a[/bold red]" in result.stdout
    assert "\x1b" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere.json",), "error: there is no annotation file nowhere.json\n"),
        (("people.json", "--images", ""), "error: a place of images is a folder, a tar or zip file, or a pattern; got"
         " an empty text\n"),
        (("people.json", "--images", "nowhere"), "error: there is no folder, tar or zip of images nowhere\n"),
        (("people.json", "people.json"), "error: people.json is given twice; check each annotation file once\n"),
        (("people.json", "--category", "fly"), "error: people.json must have one category 'fly' with keypoints; with"
         " keypoints it has: person\n"),
    ],
)  # fmt: skip
def test_what_cannot_be_checked_is_an_error_of_one_line(folder, arguments, message):
    assert run("check", *arguments, exit_code=1).stderr == message


def test_one_of_several_categories_is_checked(folder):
    content = json.loads(Path("people.json").read_text())
    content["categories"].append({"id": 9, "name": "dog", "keypoints": ["nose"]})
    Path("two.json").write_text(json.dumps(content))
    assert run("check", "two.json", exit_code=1).stderr == (
        "error: two.json must have exactly one category with keypoints; with keypoints it has: person, dog; say which:"
        " --category NAME, in Python category=NAME\n"
    )
    assert "30 people in 30 images" in run("check", "two.json", "--category", "person").stdout


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--sheet-count", "3"), "--sheet-count: it needs --sheet"),
        (("--swap-score", "nan"), "--swap-score: a score is a finite number; got nan"),
    ],
)
def test_options_without_effect_are_wrong_usage(folder, given, message):
    assert message in run("check", "people.json", *given, exit_code=2).stderr


@pytest.mark.parametrize(("option", "file"), [("--output", "report.txt"), ("--sheet", "suspects.png")])
def test_outputs_of_another_kind_are_wrong_usage(folder, option, file):
    assert option in run("check", "people.json", option, file, exit_code=2).stderr
    assert not Path(file).exists()


def test_help_shows_the_default_score_of_swapped_sides():
    assert f"[default: {SWAP_SCORE}]" in " ".join(run("check", "--help").stdout.split())


def test_weights_are_a_second_opinion_that_needs_the_images(folder, tmp_path):
    model = create_model("tokenpose_t", keypoints=list(LSP.keypoints), image_size=(64, 48), depth=1)
    write_weights(model, tmp_path / "w.safetensors")
    assert "it needs --images" in run("check", "people.json", "--weights", "w.safetensors", exit_code=2).stderr
    refused = run("check", "people.json", "--images", "images", "--device", "cpu", exit_code=2)
    assert "it needs --weights" in refused.stderr
    options = ("--images", "images", "--weights", "w.safetensors", "--device", "cpu")
    assert run("check", "people.json", *options).stdout.startswith(
        "people.json: 30 people in 30 images, 14 keypoints, 6 flip pairs\n"
    )
