"""`tokenpose evaluate`."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tokenpose.data.coco import read_coco
from tokenpose.data.sources import ImageSource
from tokenpose.jobs.sheets import draw_sheet
from tokenpose.models.weights import read_weights
from tokenpose.predictor import PosePredictor
from tokenpose.skeletons import LSP

from .running import TINY, read, run


def test_training_writes_weights_that_evaluate_reads(labeled, photos):
    place = ("--images", photos)
    result = run("train", "--train", labeled, "--val", labeled, *place, "--output", "run", *TINY)
    assert result.stdout.splitlines()[-1] == str(Path("run/model.safetensors"))
    settings = read("run/settings.json")
    assert (settings["batch_size"], settings["augmentation"]["scale"], settings["seed"]) == (3, 0.1, 0)
    spec = read_weights("run/model.safetensors").spec
    assert (spec.image_size, spec.depth, spec.skeleton, spec.heatmap_activation) == ((64, 48), 2, LSP, "softmax")

    figures = ("--output", "out/figures.json", "--sheet", "out/sheet.png", "--sheet-count", "2")
    measured = run("evaluate", "--weights", "run/model.safetensors", "--data", labeled, *place, *figures)
    assert "PCK by torso: 3 people, 42 keypoints" in measured.stdout
    assert read("out/figures.json")["pck"][0]["keypoint_count"] == 42
    with Image.open("out/sheet.png") as sheet:
        assert sheet.size == (2 * (482 + 6) + 6, 240 + 18 + 12)


def test_one_of_several_categories_is_trained_and_measured(labeled, photos):
    content = json.loads(labeled.read_text())
    content["categories"].append({**content["categories"][0], "id": 2, "name": "statue"})
    content["categories"].append({"id": 3, "name": "cup", "keypoints": ["rim"]})
    labeled.write_text(json.dumps(content))
    place = ("--images", photos)
    given = ("--train", labeled, "--val", labeled, *place, "--output", "run", *TINY)
    assert "it has: person, statue, cup; say which: --category NAME" in run("train", *given, exit_code=1).stderr
    different = run("train", *given, "--category", "person", "--category", "cup", exit_code=1).stderr
    assert "categories must have the same keypoints to be read together" in different
    run("train", *given, "--category", "person", "--category", "statue")
    assert read("run/settings.json")["data"]["category"] == ["person", "statue"]
    measured = run("evaluate", "--weights", "run/model.safetensors", "--data", labeled, *place, "--category", "person")
    assert "PCK by torso: 3 people, 42 keypoints" in measured.stdout
    given = ("--weights", "run/model.safetensors", "--data", labeled, *place, "--category", "statue")
    assert "has no labeled people" in run("evaluate", *given, exit_code=1).stderr


def test_model_that_was_trained_with_renamed_keypoints_is_measured_on_the_file_as_it_is(labeled, photos):
    content = json.loads(labeled.read_text())
    content["categories"][0]["keypoints"][12] = "throat"
    labeled.write_text(json.dumps(content))
    place, rename = ("--images", photos), ("--rename", "throat=neck")
    run("train", "--train", labeled, "--val", labeled, *place, "--output", "run", *TINY, *rename)
    given = ("evaluate", "--weights", "run/model.safetensors", "--data", labeled, *place)
    assert (
        "left out: COCO's AP needs a model with all the data's keypoints; this one has no throat" in run(*given).stdout
    )
    measured = run(*given, *rename, "--sheet", "sheet.png", "--output", "figures.json").stdout
    assert "PCK by torso: 3 people, 42 keypoints" in measured
    assert "\nneck " in measured
    assert "sigmas estimated for neck, head_top" in measured
    assert read("figures.json")["coco"]["figures"]["AP"] is not None
    assert Path("sheet.png").exists()
    message = run(*given, "--rename", "tail=neck", exit_code=1).stderr
    assert message.startswith("error: labeled.json has no keypoint 'tail' to rename; it has right_ankle, ")


def test_box_threshold_goes_with_boxes(labeled, photos):
    given = ("--data", labeled, "--images", photos, "--box-threshold", "0.5")
    assert "box_threshold needs boxes: labeled boxes have no scores" in run("evaluate", *given, exit_code=1).stderr


def test_figures_that_are_not_known_become_null(labeled, photos, weights):
    content = read(labeled)
    for annotation in content["annotations"]:
        annotation["keypoints"][2] = 0  # the first keypoint is labeled nowhere
    labeled.write_text(json.dumps(content))
    run("evaluate", "--weights", weights, "--data", labeled, "--images", photos, "--output", "pck.json")
    assert read("pck.json")["pck"][0]["per_keypoint"]["right_ankle"] is None
    assert read("pck.json")["epe"]["per_keypoint"]["right_ankle"]["mean"] is None


EVALUATE = ("--data", "labeled.json", "--images", "photos")


def test_figures_are_written_as_a_row_for_each_keypoint_and_one_for_all(labeled, photos, weights):
    given = ("--threshold", 0.5, "--threshold", 0.1, "--output", "out/figures.csv")
    result = run("evaluate", "--weights", weights, *EVALUATE, *given)
    rows = list(csv.DictReader(Path("out/figures.csv").read_text().splitlines()))
    assert [row["keypoint"] for row in rows] == [*LSP.keypoints, "all"]
    assert rows[-1]["labeled"] == "42"
    assert 0 <= float(rows[-1]["PCK@0.1"]) <= float(rows[-1]["PCK@0.5"]) <= 100
    assert f"{float(rows[-1]['AP']):.3f}" in result.stdout
    assert rows[0]["AP"] == ""


def test_sigmas_that_are_estimated_and_areas_that_are_made_up_are_said_to_be(labeled, photos, weights):
    said = run("evaluate", "--weights", weights, *EVALUATE, "--metric", "coco").stdout
    assert "COCO: OKS with sigmas estimated for neck, head_top, COCO's for the others" in said
    assert "note: 3 annotations without area: 0.53 of the box is taken" in said
    assert "PCK" not in said


def test_people_are_evaluated_in_a_detectors_boxes(labeled, photos, weights):
    records = [
        {"image_id": index, "category_id": 1, "bbox": [5, 5, 45, 45], "score": score}
        for index, score in ((0, 0.9), (1, 0.8), (1, 0.1))
    ]
    Path("boxes.json").write_text(json.dumps(records))
    given = ("--boxes", "boxes.json", "--box-threshold", 0.5, "--output", "figures.json")
    said = run("evaluate", "--weights", weights, *EVALUATE, *given).stdout
    assert said.startswith("labeled.json: 3 people, 2 boxes of boxes.json in 2 images")
    assert "note: left out: PCK, PCKh and EPE need the labeled boxes" in said
    assert "note: 1 boxes left out: score below 0.5" in said
    figures = read("figures.json")
    assert (figures["pck"], figures["epe"], figures["pckh"]) == ([], None, None)
    assert (figures["coco"]["people"], figures["coco"]["predictions"]) == (3, 2)


def test_predictions_are_written_beside_the_metrics(labeled, photos, weights):
    result = run("evaluate", "--weights", weights, *EVALUATE, "--results", "out/results.json")
    assert "note: 3 poses are written to out/results.json" in result.stdout
    assert "PCK by torso: 3 people" in result.stdout
    assert [record["image_id"] for record in read("out/results.json")] == [0, 1, 2]


def test_list_of_images_is_predicted_in_a_detectors_boxes_and_says_so_in_one_line(labeled, photos, weights):
    content = read(labeled)
    del content["annotations"]
    Path("images.json").write_text(json.dumps(content))
    Path("boxes.json").write_text(json.dumps([{"image_id": 2, "category_id": 1, "bbox": [5, 5, 45, 45]}]))
    given = ("evaluate", "--weights", weights, "--data", "images.json", "--images", photos)
    result = run(*given, "--boxes", "boxes.json", "--results", "results.json")
    assert result.stdout.splitlines() == [
        "images.json: 1 boxes of boxes.json in 1 images, decoder dark",
        "",
        "note: no metrics, since images.json has no labels; 1 pose is written to results.json",
    ]
    assert len(read("results.json")[0]["keypoints"]) == 42
    refused = run(*given, "--results", "results.json", exit_code=1).stderr
    assert refused.startswith("error: images.json only lists images, so nothing can be measured; to predict its people")
    assert "--boxes FILE --results FILE.json" in refused
    assert refused.count("\n") == 1


EVALUATE_USAGE = {
    "metrics and results need a file each; got a.json for both": ("--output", "a.json", "--results", "a.json"),
    "a sheet is a .png or .jpg file; got sheet.txt": ("--sheet", "sheet.txt"),
    "metrics are written to a .json or .csv file; got figures.txt": ("--output", "figures.txt"),
    "give one file; got labeled.json, labeled.json": ("--data", "labeled.json"),
    "'arm' is not one of 'torso', 'head', 'box'": ("--unit", "arm"),
    "'ap' is not one of 'coco', 'pck', 'pckh', 'epe', 'ece'": ("--metric", "ap"),
}


@pytest.mark.parametrize("message", EVALUATE_USAGE)
def test_wrong_option_of_evaluate_is_wrong_usage(labeled, photos, weights, message):
    result = run("evaluate", "--weights", weights, *EVALUATE, *EVALUATE_USAGE[message], exit_code=2)
    assert message in " ".join(result.stderr.split())


EVALUATE_ERRORS = {
    "there is no boxes file none.json": ("--boxes", "none.json"),
    "each of thresholds must be above 0; got 0.0": ("--threshold", "0"),
    "nms must be above 0 and at most 1; got 2.0": ("--nms", "2"),
    "boxes of a detector allow only the metric coco": ("--boxes", "none.json", "--metric", "pck"),
    "give nms or soft_nms, not both; got 0.8 and 0.9": ("--nms", "0.8", "--soft-nms", "0.9"),
    "thresholds has no effect with boxes of a detector": ("--boxes", "boxes.json", "--threshold", "0.1"),
    "unit has no effect with boxes of a detector": ("--boxes", "boxes.json", "--unit", "box"),
    "thresholds needs the metric pck; got epe": ("--metric", "epe", "--threshold", "0.1"),
    "unit needs the metric pck or epe; got coco": ("--metric", "coco", "--unit", "box"),
    "a sheet shows people in their labeled boxes": ("--sheet", "sheet.png", "--boxes", "boxes.json"),
    "sheet_count needs sheet, the file to draw to": ("--sheet-count", "3"),
    "sheet_order needs sheet, the file to draw to": ("--sheet-order", "worst"),
    "results must be a .json file, or a .mat file for MPII's data; got a.csv": ("--results", "a.csv"),
    "labeled.json is a COCO file, whose results are written to a .json file; got a.mat": ("--results", "a.mat"),
    "results would overwrite labeled.json, which is read": ("--results", "labeled.json"),
}


@pytest.mark.parametrize("message", EVALUATE_ERRORS)
def test_evaluation_that_makes_no_sense_is_an_error_in_one_line(labeled, photos, weights, message):
    result = run("evaluate", "--weights", weights, *EVALUATE, *EVALUATE_ERRORS[message], exit_code=1)
    assert result.stderr.startswith(f"error: {message}")
    assert result.stderr.count("\n") == 1


def test_sheet_of_the_worst_starts_with_the_largest_error(labeled, photos, weights, model):
    content = read(labeled)
    content["annotations"][2]["keypoints"] = [1000 if index % 3 < 2 else 2 for index in range(42)]
    labeled.write_text(json.dumps(content))
    for order in ("file", "worst"):
        given = ("--sheet", f"{order}.png", "--sheet-order", order, "--sheet-count", 1, "--sheet-threshold", 100)
        run("evaluate", "--weights", weights, *EVALUATE, *given)
    predictor, people, source = PosePredictor(model), read_coco(labeled), ImageSource("photos")
    for order, row in (("file", 0), ("worst", 2)):
        expected = draw_sheet(predictor, people.take(slice(row, row + 1)), source, 1, 100.0)
        with Image.open(f"{order}.png") as sheet:
            assert np.array_equal(np.asarray(sheet), expected)


def test_evaluation_on_real_photographs(data_folder, weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = read(data_folder / "lspet" / "person_keypoints_val.json")
    kept = {image["id"] for image in content["images"][:12]}
    content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] in kept]
    Path("val.json").write_text(json.dumps(content))
    given = ("--data", "val.json", "--images", data_folder / "lspet" / "val.tar", "--sheet", "sheet.png")
    result = run("evaluate", "--weights", weights, *given)
    assert "PCK by torso: 9 people, 115 keypoints, 3 people without a torso left out" in result.stdout
    with Image.open("sheet.png") as sheet:
        assert sheet.size == (5 * (482 + 6) + 6, 3 * (240 + 18 + 6) + 6)  # 12 people, 5 a row
