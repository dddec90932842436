"""The data doctor on MPII's JSON files: drawn people as such a file has them, with one fault planted at a time."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tokenpose.data.mpii import read_mpii
from tokenpose.doctor.check import check_data
from tokenpose.doctor.findings import Finding
from tokenpose.doctor.mpii_records import read_mpii_records
from tokenpose.skeletons import LSP, MPII

from ..drawing import draw_people

PEOPLE = 40
Content = list[Any]


def as_mpii(annotation: dict[str, Any], image: str) -> dict[str, Any]:
    """A COCO record of LSP's keypoints as MPII's: positions count from 1."""
    points = 1 + np.array(annotation["keypoints"]).reshape(-1, 3)[:, :2]
    named = dict(zip(LSP.keypoints, points, strict=True)) | {"upper_neck": points[LSP.index("neck")]}
    named["pelvis"] = (named["left_hip"] + named["right_hip"]) / 2 + (0, -2)
    named["thorax"] = (named["left_shoulder"] + named["right_shoulder"]) / 2
    x, y, width, height = annotation["bbox"]
    return {
        "image": image,
        "center": [x + width / 2, y + height / 2 - 15 * height / 200],
        "scale": height / 200,
        "joints": [named[name].round(2).tolist() for name in MPII.keypoints],
        "joints_vis": [1] * 16,
    }


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    """The folder of people.json and images/."""
    return draw_people(tmp_path_factory.mktemp("mpii"), PEOPLE).parent


@pytest.fixture
def content(drawn) -> Content:
    whole = json.loads((drawn / "people.json").read_text())
    names = [image["file_name"] for image in whole["images"]]
    return [as_mpii(annotation, name) for annotation, name in zip(whole["annotations"], names, strict=True)]


@pytest.fixture
def check(drawn, tmp_path) -> Callable[..., tuple[Finding, ...]]:
    def run(content: Content, **options: Any) -> tuple[Finding, ...]:
        (tmp_path / "valid.json").write_text(json.dumps(content))
        return check_data(tmp_path / "valid.json", drawn / "images", **options).findings

    return run


def test_drawn_people_have_no_fault_and_stand_where_training_has_them(content, check, tmp_path):
    assert check(content) == ()
    records, samples = read_mpii_records(tmp_path / "valid.json"), read_mpii(tmp_path / "valid.json")
    assert records.files == samples.files
    np.testing.assert_allclose(records.keypoints, samples.keypoints, atol=1e-4)
    np.testing.assert_allclose(records.boxes, samples.boxes, atol=1e-4)
    assert (records.labeled() == samples.visible).all()


FAULTS = {
    "no record": (lambda content: content.__setitem__(7, 3), "records", "a record must be an object; got 3"),
    "no scale": (lambda content: content[7].pop("scale"), "records", "scale must be a finite number; got None"),
    "text": (lambda content: content[7].update(scale="x"), "records", "scale must be a finite number; got 'x'"),
    "15 joints": (lambda content: content[7]["joints"].pop(), "records", "joints must be 16 points x, y"),
    "no image": (lambda content: content[7].update(image="x.png"), "missing images", "there is no image x.png in"),
    "origin": (
        lambda content: content[7]["joints"].__setitem__(8, [0, 0]), "visibility flags", "its upper_neck is labeled",
    ),
    "hips": (
        lambda content: content[7].update(joints=[content[7]["joints"][row] for row in (0, 1, 3, 2, *range(4, 16))]),
        "left and right", "look swapped",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_each_planted_fault_is_found(content, check, fault):
    plant, name, message = FAULTS[fault]
    plant(content)
    found = [finding for finding in check(content) if finding.check == name]
    assert [message in finding.message for finding in found] == [True], found
    assert "7" in found[0].record


@pytest.mark.parametrize("fault", [name for name, (_, check, _) in FAULTS.items() if check == "records"])
def test_training_stops_at_the_first_error_with_the_same_words(content, check, tmp_path, fault):
    FAULTS[fault][0](content)
    content[9] = None
    first, second = (str(finding) for finding in check(content))
    with pytest.raises(ValueError, match=re.escape(first)):
        read_mpii(tmp_path / "valid.json")
    assert second.startswith(f"{tmp_path / 'valid.json'}: record 9: a record must be an object; got None")


def test_people_without_center_or_scale_are_one_note(content, check):
    for row in (3, 5):
        content[row].update(center=[-1, -1], scale=-1)
    (found,) = check(content)
    assert (found.check, found.severity) == ("records", "note")
    assert found.message == "2 of 40 people have no center or scale (-1)"


def test_nobody_is_labeled_in_files_to_test_on(content, check):
    for record in content:
        del record["joints"], record["joints_vis"]
    (found,) = check(content)
    assert (found.check, found.severity) == ("never labeled", "error")
    assert [one.severity for one in check([])] == ["error"]


def test_given_pairs_are_taken_and_categories_refused(content, check):
    messages = {one.message for one in check(content, flip_pairs=[("left_hip", "right_hip")])}
    assert "left_knee and right_knee are in no pair" in messages
    with pytest.raises(ValueError, match=r"valid\.json is an MPII file and has no categories; got category 'fly'"):
        check(content, category="fly")
