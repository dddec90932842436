"""Options that several commands share."""

import inspect

import pytest
import torch

from tokenpose.commands.options import DEFAULT_DETECTOR
from tokenpose.detection import detect

from .running import BOX, run

DETECT_USAGE = {
    "--detector and --detection-threshold need --detect": [
        ("--detector", "ssd300_vgg16"),
        ("--detection-threshold", 0),
    ],
    "give --detect, --box or --boxes, only one": [("--detect", "--box", BOX), ("--detect", "--boxes", "boxes.json")],
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


def test_model_that_contradicts_the_weights_is_an_error(photos, weights):
    result = run("predict", "photos/a.png", "--box", BOX, "--weights", weights, "--model", "tokenpose_b", exit_code=1)
    assert "model.safetensors is not a tokenpose_b" in result.stderr


def test_unknown_device_is_wrong_usage(photos):
    assert (
        "unknown device 'abacus'; give cpu, cuda"
        in run("predict", "photos/a.png", "--box", BOX, "--device", "abacus", exit_code=2).stderr
    )
    if not torch.cuda.is_available():
        result = run("predict", "photos/a.png", "--box", BOX, "--device", "cuda:1", exit_code=2)
        assert "there is no cuda device on this machine; use cpu" in result.stderr
