import json
import logging
from dataclasses import replace

import numpy as np
import pytest

from tokenpose.data.formats.split import split_labels
from tokenpose.jobs.held_out import read_validation
from tokenpose.jobs.training import finetune, train_model
from tokenpose.jobs.training_data import read_training_data
from tokenpose.models.tokenpose import TokenPose
from tokenpose.models.weights import read_weights
from tokenpose.skeletons import LSP

from .small import CHANGES, SETTINGS, TINY


def files_of(samples) -> set[str]:
    return {samples.files[index] for index in samples.image_index.tolist()}


def test_a_share_is_a_number_or_its_text_and_a_file_of_that_name_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read_validation(0.2) == read_validation("0.2") == read_validation(["0.2"]) == 0.2
    assert read_validation("val.json") == ["val.json"]
    (tmp_path / "0.2").write_text("{}")
    assert read_validation("0.2") == ["0.2"]
    with pytest.raises(ValueError, match=r"not on both: val\.json, 0\.3"):
        read_validation(["val.json", "0.3"])


def test_a_share_holds_out_the_images_that_split_holds_out(people, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    data = read_training_data(people, 0.25, people.parent)
    train, val = split_labels(people, 0.25)
    assert files_of(data.people) == {image["file_name"] for image in train["images"]}
    assert files_of(data.held_out) == {image["file_name"] for image in val["images"]}
    assert (len(data.people), len(data.held_out)) == (6, 2)
    line = "holding out 2 of 8 images with 2 of 8 people to validate on, the same as `tokenpose split --val 0.25`"
    assert line in caplog.messages
    assert data.given["val"] == ["0.25"]


def test_people_without_labels_are_trained_on_with_a_teacher_and_not_held_out(people, tmp_path):
    content = json.loads(people.read_text())
    for person in content["annotations"]:
        person["keypoints"] = [0] * 42
    content["annotations"] += [
        {**person, "id": 100 + person["id"]} for person in json.loads(people.read_text())["annotations"]
    ]
    path = tmp_path / "both.json"
    path.write_text(json.dumps(content))
    data = read_training_data(path, 0.25, people.parent, teacher="teacher")
    assert (len(data.people), len(data.held_out)) == (12, 2)
    assert data.held_out.visible.any(axis=1).all()


def test_an_image_in_two_files_is_on_one_side(two_sets):
    data = read_training_data(two_sets, 0.25, None)
    assert files_of(data.people).isdisjoint(files_of(data.held_out))
    assert (len(data.people), len(data.held_out)) == (12, 4)


def test_ap_counts_the_held_out_people_alone(people):
    data = read_training_data(people, 0.25, people.parent)
    known = replace(data, held_out=replace(data.held_out, skeleton=replace(LSP, sigmas=(0.05,) * len(LSP.keypoints))))
    truth = known.coco_truth(TokenPose(TINY))
    assert truth is not None
    assert truth.people == len(data.held_out) == 2
    names = {record["file_name"] for record in split_labels(people, 0.25)[1]["images"]}
    columns = truth.columns
    assert {columns.files[columns.image_index[row]] for row in truth.rows.tolist()} == names
    assert len(truth.annotations) == 2


def test_a_run_with_a_share_is_resumed_and_its_card_says_what_was_held_out(people, tmp_path):
    given = {"train": people, "images": people.parent, "output": tmp_path / "run", "pretrained": False}
    finetune("tiny", **given, val=0.25, settings={**CHANGES, "epochs": 1})
    finetune("tiny", **given, val="0.25", settings={**CHANGES, "epochs": 1}, resume=True, extend=1)
    card = read_weights(tmp_path / "run" / "model.safetensors").card
    assert (card["val"], card["people"]) == ("2 of 8 images of people.json", 6)
    assert json.loads((tmp_path / "run" / "settings.json").read_text())["data"]["val"] == ["0.25"]
    with pytest.raises(ValueError, match=r"belongs to a run with other settings \(data; validation data"):
        finetune("tiny", **given, val=0.5, settings={**CHANGES, "epochs": 1}, resume=True)


def test_best_weights_are_chosen_by_ap_of_the_held_out_people(people, tmp_path):
    pytest.importorskip("pycocotools")
    data = read_training_data(people, 0.25, people.parent)
    known = replace(data, held_out=replace(data.held_out, skeleton=replace(LSP, sigmas=(0.05,) * len(LSP.keypoints))))
    settings = replace(SETTINGS, epochs=1, validate_every=1, keep="best")
    path = train_model(TokenPose(TINY), known, tmp_path / "run", settings)
    assert np.isfinite(read_weights(path).card["ap"])


@pytest.mark.parametrize(
    ("share", "message"), [(1.5, "must be between 0 and 1; got 1.5"), ("0", "between 0 and 1; got 0")]
)
def test_other_shares_are_refused(people, share, message):
    with pytest.raises(ValueError, match=message):
        read_training_data(people, share, people.parent)
