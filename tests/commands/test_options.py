"""Options that several commands share."""

import inspect

import pytest

from tokenpose.commands.options import DEFAULT_DETECTOR, read_value
from tokenpose.detection import detect

from .running import BOX, run

DETECT_USAGE = {
    "--detector and --detection-threshold need --detect": [
        ("--detector", "ssd300_vgg16"),
        ("--detection-threshold", 0),
    ],
    "give only one of --detect, --box and --boxes": [("--detect", "--box", BOX), ("--detect", "--boxes", "boxes.json")],
    "--detection-threshold": [("--detect", "--detection-threshold", "1.5"), ("--detect", "--detection-threshold", "x")],
}


@pytest.mark.parametrize("message", DETECT_USAGE)
def test_options_of_detection_that_contradict_are_wrong_usage(photos, weights, message):
    for arguments in DETECT_USAGE[message]:
        assert message in run("predict", "photos/a.png", *arguments, "--weights", weights, exit_code=2).stderr


def test_help_shows_the_defaults_of_detect():
    parameters, text = inspect.signature(detect).parameters, " ".join(run("predict", "--help").stdout.split())
    assert parameters["detector"].default == DEFAULT_DETECTOR
    assert f"[default: ({DEFAULT_DETECTOR})]" in text
    assert f"[default: ({parameters['threshold'].default}); 0<=x<=1]" in text


def test_wrong_boxes_on_the_command_line_are_wrong_usage(photos, weights):
    assert "a box is four numbers x1,y1,x2,y2; got '1,2,3'" in run(
        "predict", "photos/a.png", "--box", "1,2,3", exit_code=2
    ).stderr.replace("\n", " ")
    assert "--box is for a single image" in run("predict", photos, "--box", BOX, exit_code=2).stderr
    assert "not both" in run("predict", "photos/a.png", "--box", BOX, "--boxes", "b.json", exit_code=2).stderr


@pytest.mark.parametrize("text", ["1,2,3", "1,2,3,4,5", "1,2,3,x", "1 2 3 4", ""])
def test_box_is_four_numbers(text):
    message = f"a box is four numbers x1,y1,x2,y2; got {text!r}"
    assert message in " ".join(run("predict", "a.jpg", "--box", text, exit_code=2).stderr.split())


def test_value_of_a_field_is_json_or_text():
    assert [read_value(text) for text in ("6", "0.5", "[16, 12]", "null", "stem")] == [6, 0.5, (16, 12), None, "stem"]
