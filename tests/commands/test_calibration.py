"""`tokenpose calibrate`."""

import shutil
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file

from tokenpose.models.weights import read_weights

from .running import run

DATA = ("--data", "labeled.json", "--images", "photos")


def test_weights_file_is_calibrated_in_place_and_evaluated_with_a_plot(labeled, photos, weights):
    shutil.copy(weights, "own.safetensors")
    result = run("calibrate", "--weights", "own.safetensors", *DATA)
    assert result.stdout.splitlines()[0].startswith("labeled.json: 3 people; a score is the probability")
    assert result.stdout.splitlines()[-1] == "own.safetensors"
    before, after = load_file(weights), load_file("own.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert read_weights("own.safetensors").calibration.describe() == "64x48, 64x48 with flip test"
    measured = run("evaluate", "--weights", "own.safetensors", *DATA, "--plot", "out/plot.png", "--metric", "ece")
    assert "scores are probabilities to lie within 0.2 torsos" in measured.stdout
    with Image.open("out/plot.png") as picture:
        assert picture.format == "PNG"


def test_output_gets_the_sizes_that_are_named_and_the_weights_stay(labeled, photos, weights):
    before = Path(weights).read_bytes()
    sizes = ("--image-size", "64x48", "--image-size", "128x96")
    run("calibrate", "--weights", weights, *DATA, *sizes, "--output", "new/own.safetensors")
    described = "64x48, 64x48 with flip test, 128x96, 128x96 with flip test"
    assert read_weights("new/own.safetensors").calibration.describe() == described
    assert Path(weights).read_bytes() == before


def test_bundled_weights_need_an_output(labeled, photos):
    result = run("calibrate", *DATA, exit_code=2)
    assert "bundled weights stay as they are: give a file to write" in " ".join(result.stderr.split())


def test_plot_of_a_model_that_is_not_calibrated_is_an_error_in_one_line(labeled, photos, weights):
    result = run("evaluate", "--weights", weights, *DATA, "--plot", "plot.png", exit_code=1)
    assert result.stderr.splitlines()[-1].startswith("error: ECE needs scores that are probabilities")
    result = run("evaluate", "--weights", weights, *DATA, "--plot", "plot.jpg", exit_code=2)
    assert "a plot is a .png file; got plot.jpg" in " ".join(result.stderr.split())
