"""The jobs from end to end, on drawn people whose truth is known."""

import inspect
import json
import math
from dataclasses import fields

import pytest
import torch

from tokenpose.data.coco import read_coco
from tokenpose.data.sources import ImageSource
from tokenpose.evaluation.settings import EvaluationSettings, SheetSettings
from tokenpose.jobs.evaluation import evaluate, evaluate_with, measure_pck
from tokenpose.models.create import create_model
from tokenpose.models.tokenpose import TokenPose
from tokenpose.models.weights import write_weights
from tokenpose.skeletons import COCO, LSP

from .small import TINY, measured


def test_keypoints_that_the_model_does_not_have_are_left_out_of_the_measure(people):
    torch.manual_seed(0)
    result = evaluate(TokenPose(TINY.replace(skeleton=COCO)), people, people.parent)
    measured = result.pck[0.2]
    shared = [name for name in LSP.keypoints if name in COCO.keypoints]
    assert measured.keypoint_count == 8 * len(shared) == 8 * 12
    assert math.isnan(measured.per_keypoint["neck"])
    assert math.isnan(measured.per_keypoint["head_top"])
    assert result.coco is None
    assert result.notes == (
        "left out: COCO's AP needs a model with all the data's keypoints; this one has no neck, head_top",
        "the model has no neck, head_top: left out of the figures",
    )


def test_renamed_keypoints_are_measured_as_the_models(people):
    torch.manual_seed(0)
    model = TokenPose(TINY)
    content = people.read_text().replace('"neck"', '"throat"')
    own = people.parent / "own.json"
    own.write_text(content)
    renamed = evaluate(model, own, people.parent, rename={"throat": "neck"})
    plain = evaluate(model, people, people.parent)
    assert str(renamed).splitlines()[1:] == str(plain).splitlines()[1:]
    assert renamed.coco.sigmas == plain.coco.sigmas
    assert evaluate(model, own, people.parent).coco is None
    with pytest.raises(LookupError, match=r"own\.json has no keypoint 'tail' to rename"):
        evaluate(model, own, people.parent, rename={"tail": "neck"})
    with pytest.raises(ValueError, match="the new name of 'throat' must be text; got ''"):
        evaluate(model, own, people.parent, rename={"throat": ""})


WRONG_LISTS = {
    "metrics must be a list of .*; got 'pck'": {"metrics": "pck"},
    "thresholds must be a list of finite numbers; got 0.5": {"thresholds": 0.5},
    "thresholds must be a list of finite numbers; got \\('x',\\)": {"thresholds": ["x"]},
}


@pytest.mark.parametrize("message", WRONG_LISTS)
def test_what_is_no_list_is_refused_in_one_line(people, unchecked, message):
    with pytest.raises((TypeError, ValueError), match=message):
        evaluate(TokenPose(TINY), people, people.parent, **WRONG_LISTS[message])


def test_one_file_is_measured(people, unchecked):
    with pytest.raises(TypeError, match="data must be the path of one annotation file; got"):
        evaluate(TokenPose(TINY), [people, people], people.parent)


def test_flip_test_is_measured_too(people):
    torch.manual_seed(0)
    model = TokenPose(TINY)
    flipped = evaluate(model, people, people.parent, flip_test=True)
    assert "decoder dark, flip test" in str(flipped)
    assert flipped.pck[0.2] == measure_pck(model, read_coco(people), ImageSource(people.parent), flip_test=True)
    assert evaluate(model, people, people.parent, thresholds=[1e6]).pck[1e6].mean == 100


def test_measuring_on_coco_photographs(data_folder):
    folder = data_folder / "coco-mini"
    torch.manual_seed(0)
    result = evaluate(TokenPose(TINY.replace(skeleton=COCO)), folder / "person_keypoints.json", folder)
    assert result.people == result.coco.people == 86
    assert 0 <= result.pck[0.2].mean < 60
    assert 0 <= result.coco.figures["AP"] < 0.5
    assert set(result.coco.sigma_origins.values()) == {"skeleton"}


def test_half_precision_file_measures_nearly_the_same(people, tmp_path):
    torch.manual_seed(0)
    model = TokenPose(TINY)
    write_weights(model, tmp_path / "half.safetensors", half=True)
    again = create_model("tiny", weights=tmp_path / "half.safetensors")
    assert abs(measured(again, people) - measured(model, people)) < 5


@pytest.fixture
def image_list(people, tmp_path):
    """The drawn people's images without their labels, and their boxes as a detector gives them."""
    content = json.loads(people.read_text())
    boxes = [
        {"image_id": entry["image_id"], "category_id": 1, "bbox": entry["bbox"], "score": 0.5}
        for entry in content.pop("annotations")
    ]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    (tmp_path / "images.json").write_text(json.dumps(content))
    return tmp_path / "images.json", tmp_path / "boxes.json"


def test_people_of_a_list_of_images_are_predicted_as_those_of_a_labeled_file(people, image_list, tmp_path):
    torch.manual_seed(0)
    model = TokenPose(TINY)
    data, boxes = image_list
    listed = evaluate(model, data, people.parent, boxes=boxes, results=tmp_path / "listed.json")
    labeled = evaluate(model, people, people.parent, boxes=boxes, results=tmp_path / "labeled.json")
    records = json.loads((tmp_path / "listed.json").read_text())
    assert records == json.loads((tmp_path / "labeled.json").read_text())
    assert len(records) == 8
    assert (listed.coco, labeled.coco.predictions) == (None, 8)


def test_results_never_replace_a_file_that_is_read(people, image_list):
    data, boxes = image_list
    for path in image_list:
        with pytest.raises(ValueError, match=rf"results would overwrite .*{path.name}, which is read"):
            evaluate(TokenPose(TINY), data, people.parent, boxes=boxes, results=path.parent / "." / path.name)


def test_sheet_of_people_without_labels_is_refused(tmp_path):
    (tmp_path / "valid.json").write_text(json.dumps([{"image": "a.png", "center": [30, 30], "scale": 0.2}]))
    settings, sheet = EvaluationSettings(results=tmp_path / "pred.mat"), SheetSettings(sheet=tmp_path / "sheet.png")
    with pytest.raises(ValueError, match=r"a sheet shows labels beside predictions, and .*valid\.json has no labels"):
        evaluate_with(settings, TokenPose(TINY), tmp_path / "valid.json", tmp_path, sheet=sheet)


def test_evaluate_shows_its_settings_in_its_signature():
    parameters = inspect.signature(evaluate).parameters
    defaults = {entry.name: entry.default for entry in fields(EvaluationSettings)}
    assert {name: parameters[name].default for name in defaults} == defaults
    assert "settings" not in parameters


def test_unknown_setting_is_refused_with_the_known_ones(people):
    with pytest.raises(TypeError, match=r"there are no settings flip; there are metrics, .*, flip_test"):
        evaluate(TokenPose(TINY), "labeled.json", "photos", flip=True)
