"""`tokenpose attention`."""

import json
from pathlib import Path

import numpy as np
import pytest

from tokenpose.attention.computation import attention_maps
from tokenpose.attention.maps import AttentionMaps
from tokenpose.detection import detect
from tokenpose.models.create import create_model
from tokenpose.skeletons import LSP

from .running import BOX, names, run


def panels_of(path: str) -> list[dict]:
    _, _, rest = Path(path).read_text("utf-8").partition('<script type="application/json" id="people">')
    return json.loads(rest.partition("</script>")[0])


def test_attention_writes_a_page_of_what_the_library_says(photos, weights, model):
    given = ("--box", BOX, "--weights", weights, "--maps", "maps", "--output", "out/report.html")
    result = run("attention", "photos/b.jpg", *given)
    assert (result.stdout, result.stderr) == ("1 person in 1 image: out/report.html\n", "")
    (panel,) = panels_of("out/report.html")
    maps = attention_maps(model, "photos/b.jpg", [5, 5, 50, 50])
    assert panel["title"] == f"b.jpg, {weights}"
    assert panel["evidence"][0][0] == [maps.evidence(name, 0) for name in LSP.keypoints]
    assert names("maps") == ["b.1.npz"]
    np.testing.assert_allclose(AttentionMaps.load("maps/b.1.npz").to_image, maps.to_image, atol=1e-6)


def test_two_photographs_are_shown_side_by_side_and_whole_without_boxes(photos, weights):
    result = run("attention", "photos/a.png", "photos/b.jpg", "--weights", weights, "--output", "report.html")
    assert result.stdout == "2 people in 2 images: report.html\n"
    assert result.stderr.startswith("warning: no boxes given: the whole image is taken as one person")
    assert [panel["title"] for panel in panels_of("report.html")] == [f"a.png, {weights}", f"b.jpg, {weights}"]


def test_two_models_are_shown_side_by_side(photos, weights):
    given = ("--box", BOX, "--box", "0,0,80,60", "--weights", weights, "--compare-model", "tokenpose_s_v1")
    run("attention", "photos/a.png", *given, "--maps", "maps", "--output", "report.html")
    shipped = create_model("tokenpose_s_v1", pretrained=True).card["name"]
    assert [panel["title"] for panel in panels_of("report.html")] == [
        f"a.png, person {person} of 2, {name}" for person in (1, 2) for name in (weights, shipped)
    ]
    assert names("maps") == [f"a.{number}.npz" for number in (1, 2, 3, 4)]


def test_people_that_are_found_get_panels(photos, weights, detector_weights):
    count = len(detect("photos/a.png", detector_weights))
    given = ("--detect", "--detector", detector_weights, "--weights", weights, "--output", "report.html")
    assert run("attention", "photos/a.png", *given).stdout == f"{count} people in 1 image: report.html\n"
    assert len(panels_of("report.html")) == count
    result = run("attention", "photos/a.png", *given, "--detection-threshold", 1, exit_code=1)
    assert result.stderr == "error: there is nobody to show in photos/a.png; give a box with --box\n"


ATTENTION_ERRORS = {
    "a page has room for 4 panels, and there are 5 people; choose some with --box or --boxes": ("--box", BOX) * 5,
    "a page has room for 4 panels, and there are 3 people times 2 models;": (
        *("--box", BOX) * 3,
        *("--compare-model", "tokenpose_s_v1"),
    ),
    "photos/a.png: box 0 is [10.0, 10.0, 5.0, 50.0] (xyxy); it must be": ("--box", "10,10,5,50"),
    "photos/a.png: box 0 is [100.0, 5.0, 140.0, 50.0] (xyxy), wholly outside": ("--box", "100,5,140,50"),
    "there is no weights file none.safetensors": ("--box", BOX, "--compare-weights", "none.safetensors"),
    "there is no decoder 'best'; there are argmax": ("--box", BOX, "--decoder", "best"),
    "there is no boxes file none.json": ("--boxes", "none.json"),
}


@pytest.mark.parametrize("message", ATTENTION_ERRORS)
def test_error_of_attention_is_one_line_and_writes_nothing(photos, weights, message):
    given = (*ATTENTION_ERRORS[message], "--weights", weights, "--output", "report.html")
    result = run("attention", "photos/a.png", *given, exit_code=1)
    assert result.stderr.startswith(f"error: {message}")
    assert (result.stderr.count("\n"), result.stdout) == (1, "")
    assert not Path("report.html").exists()


def test_wrong_use_of_attention_is_wrong_usage(photos, weights):
    image = ("attention", "photos/a.png")
    assert "Missing option '--output'" in run(*image, exit_code=2).stderr
    assert "a page is a .html or .htm file; got a.png" in run(*image, "--output", "a.png", exit_code=2).stderr
    both = run(*image, "--detect", "--box", BOX, "--output", "a.html", exit_code=2)
    assert "give only one of --detect, --box and --boxes" in both.stderr
    several = run(*image, "photos/b.jpg", "--box", BOX, "--output", "a.html", exit_code=2)
    assert "--box is for a single image" in several.stderr
