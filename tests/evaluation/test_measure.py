"""An evaluation from end to end, with a predictor that knows the labels."""

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tokenpose.data.coco import read_coco
from tokenpose.data.samples import Samples
from tokenpose.data.sources import ImageSource
from tokenpose.evaluation.coco import FIGURES
from tokenpose.evaluation.measure import measure
from tokenpose.evaluation.result import Evaluation
from tokenpose.evaluation.settings import EvaluationSettings
from tokenpose.models.spec import ModelSpec
from tokenpose.poses import Poses
from tokenpose.skeletons import COCO, LSP, Skeleton

from ..data.drawing import draw_people

SPEC = ModelSpec(
    backbone="pixels", backbone_stride=1, image_size=(64, 48), patch_size=(16, 12), width=48, heads=4, depth=1,
    skeleton=LSP,
)  # fmt: skip


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Path:
    """The COCO file of six drawn people."""
    return draw_people(tmp_path_factory.mktemp("drawn"), 6)


def tell_labels(samples: Samples, shift: float = 0.0) -> Callable[[Iterable[Any], Iterable[Any]], Iterator[Poses]]:
    """A predictor that finds the labels of whoever has the box, ``shift`` pixels to the right.

    An unlabelled keypoint is put into the middle of the box.
    """
    middle = samples.boxes[:, None, :2] + samples.boxes[:, None, 2:] / 2
    keypoints = np.where(samples.visible[..., None], samples.keypoints, middle) + np.float32([shift, 0])

    def many(images: Iterable[Any], boxes: Iterable[Any]) -> Iterator[Poses]:
        for _, own in zip(images, boxes, strict=True):
            rows = [int(np.flatnonzero((samples.boxes == box).all(axis=1))[0]) for box in own]
            scores = np.ones((len(rows), len(samples.skeleton)), dtype=np.float32)
            yield Poses(keypoints=keypoints[rows], scores=scores, boxes=own, skeleton=samples.skeleton)

    return many


def evaluated(path: Path, shift: float = 0.0, spec: ModelSpec = SPEC, **settings: Any) -> Evaluation:
    samples = read_coco(path)
    given = EvaluationSettings(**settings)
    return measure(tell_labels(samples, shift), spec, path, samples, ImageSource(path.parent), given)


def changed(people: Path, name: str, **changes: Any) -> Path:
    """The file of the same people with other annotations."""
    content = json.loads(people.read_text())
    for annotation in content["annotations"]:
        annotation.update(changes)
    path = people.parent / name
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("given", [{"unit": "box"}, {"thresholds": (0.1,)}])
def test_units_and_thresholds_are_refused_with_a_detectors_boxes(given):
    with pytest.raises(ValueError, match="thresholds and unit are of PCK and EPE, which a detector's boxes"):
        EvaluationSettings(boxes=Path("boxes.json"), **given)


def test_perfect_predictions_score_all_that_there_is(people):
    result = evaluated(people, thresholds=(0.1, 0.2))
    assert result.coco.figures["AP"] == result.coco.figures["AR"] == pytest.approx(1)
    assert [entry.mean for entry in result.pck.values()] == [100, 100]
    assert set(result.pck[0.1].per_keypoint.values()) == {100}
    assert (result.pckh.at_half.mean, result.pckh.auc) == (100, 100)
    assert (result.epe.pooled.mean, result.epe.pooled.median) == (0, 0)
    assert result.person_errors.tolist() == [0] * 6
    assert result.notes == ()


def test_everybody_shifted_by_three_pixels_is_three_pixels_off(people):
    result = evaluated(people, shift=3.0)
    assert result.epe.pooled.mean == pytest.approx(3, abs=1e-5)
    assert result.epe.per_keypoint["neck"].median == pytest.approx(3, abs=1e-5)
    assert 0 < result.coco.figures["AP"] < 1
    samples = read_coco(people)
    np.testing.assert_allclose(result.person_errors, 3 / samples.boxes[:, 2:].max(axis=1), rtol=1e-5)


def test_perfect_predictor_on_coco_mini_finds_the_people_that_pycocotools_counts(data_folder):
    path = data_folder / "coco-mini" / "person_keypoints.json"
    result = evaluated(path, spec=SPEC.replace(skeleton=COCO))
    assert result.people == result.coco.people == result.coco.predictions == 86
    assert result.coco.figures == dict.fromkeys(FIGURES, 1.0)
    assert set(result.coco.sigma_origins.values()) == {"skeleton"}
    assert result.coco.describe_sigmas() == "the skeleton's sigmas"
    assert result.pck[0.2].mean == 100
    assert result.pckh is None  # COCO has neither head sizes nor a head's top
    assert result.epe.pooled.mean == 0
    assert result.images == 28


def test_sigmas_of_other_keypoints_are_estimated_and_said_to_be(people):
    result = evaluated(people)
    assert result.coco.sigmas_are_estimated
    assert [name for name, origin in result.coco.sigma_origins.items() if origin == "estimated"] == ["neck", "head_top"]
    assert result.coco.sigmas["left_hip"] == 0.107
    assert "OKS with sigmas estimated for neck, head_top, COCO's for the others" in str(result)
    assert result.to_dict()["coco"]["sigma_origins"]["neck"] == "estimated"


def test_keypoints_that_no_name_tells_of_have_estimated_sigmas_only(people):
    content = json.loads(people.read_text())
    content["categories"][0]["keypoints"] = [f"keypoint_{index}" for index in range(14)]
    path = people.parent / "unnamed.json"
    path.write_text(json.dumps(content))
    spec = SPEC.replace(skeleton=Skeleton.from_count(14))
    result = evaluated(path, spec=spec)
    assert result.coco.describe_sigmas() == "estimated sigmas"
    assert (result.pck[0.2].unit, result.epe.unit) == ("box side", "box side")


def test_detectors_boxes_tell_coco_alone_for_all_images_of_the_file(people):
    samples = read_coco(people)
    records = [
        {"image_id": int(samples.image_ids[index]), "category_id": 1, "bbox": box, "score": 0.5 + index / 10}
        for index, box in zip(samples.image_index.tolist(), samples.boxes.tolist(), strict=True)
    ]
    boxes = people.parent / "boxes.json"
    boxes.write_text(json.dumps(records[:3]))
    result = evaluated(people, boxes=boxes)
    # three of six people, all right: a recall of 0.5 at full precision, 51 of the 101 recall levels
    assert result.coco.figures["AP"] == pytest.approx(51 / 101)
    assert result.coco.figures["AR"] == pytest.approx(0.5)
    assert (result.coco.people, result.coco.predictions, result.box_count, result.boxes) == (6, 3, 3, "boxes.json")
    assert (result.pck, result.pckh, result.epe, result.person_errors) == ({}, None, None, None)
    assert str(result).startswith("people.json: 6 people, 3 boxes of boxes.json in 3 images, decoder dark\n")


def test_chosen_metrics_are_measured_and_no_other(people):
    result = evaluated(people, metrics=("epe",))
    assert (result.coco, result.pck, result.pckh, result.notes) == (None, {}, None, ())
    assert result.epe.pooled.keypoint_count == 6 * 14
    assert evaluated(people, metrics=("pck",), unit="head").pck.keys() == {0.5}
    assert evaluated(people, metrics=("pck",), unit="head").pck[0.5].unit == "head_top to neck"


def test_metric_that_does_not_apply_is_refused_where_it_is_asked_for(people):
    no_head = SPEC.replace(skeleton=Skeleton.from_names(LSP.keypoints[:12]))
    with pytest.raises(ValueError, match="needs a model with all the data's keypoints; this one has no neck, head_top"):
        evaluated(people, spec=no_head, metrics=("coco",))
    with pytest.raises(ValueError, match="needs a model with all the data's keypoints"):
        evaluated(people, spec=no_head, boxes=people.parent / "boxes.json")  # nothing is left to measure


def test_pckh_without_a_head_is_refused_where_it_is_asked_for(data_folder):
    path = data_folder / "coco-mini" / "person_keypoints.json"
    with pytest.raises(ValueError, match="PCKh needs MPII's head sizes, or keypoints head_top"):
        evaluated(path, spec=SPEC.replace(skeleton=COCO), metrics=("pckh",))


def test_data_without_people_is_refused(people):
    path = changed(people, "crowds.json", iscrowd=1)
    with pytest.raises(ValueError, match=r"crowds\.json has no labelled people; left out: 6 crowd"):
        evaluated(path)


def test_person_whose_box_cannot_be_cropped_counts_as_missed(people):
    content = json.loads(people.read_text())
    content["annotations"][0]["bbox"] = [5, 5, 0, 50]
    path = people.parent / "missed.json"
    path.write_text(json.dumps(content))
    result = evaluated(path)
    assert (result.people, result.coco.people, result.coco.predictions) == (5, 6, 5)
    assert result.coco.figures["AR"] == pytest.approx(5 / 6)
    assert result.notes == ("1 labelled people have no box that can be cropped, and count as missed",)


SETTINGS = {
    "a metric is one of coco, pck, pckh, epe; got 'ap'": {"metrics": ("ap",)},
    "a unit is one of torso, head, box; got 'arm'": {"unit": "arm"},
    "a PCK threshold must be a positive number of units; got nan": {"thresholds": (math.nan,)},
    "nms is a threshold of OKS": {"nms": 0.0},
    "soft_nms is a threshold of OKS": {"soft_nms": 1.5},
    "box_threshold must be a number; got nan": {"box_threshold": math.nan},
    "batch_size must be at least 1; got 0": {"batch_size": 0},
    "PCK, PCKh and EPE compare a person with their labels": {"metrics": ("coco", "pck"), "boxes": Path("boxes.json")},
}


@pytest.mark.parametrize("message", [message for message in SETTINGS if "one of" not in message])
def test_settings_that_make_no_sense_are_refused_when_they_are_made(message):
    with pytest.raises(ValueError, match=message.replace(";", ".")):
        EvaluationSettings(**SETTINGS[message])


def test_unknown_names_in_settings_are_refused(run_python):  # before the type checker of the tests sees them
    code = "from tokenpose.evaluation.settings import EvaluationSettings\n"
    for given in ("metrics=('ap',)", "unit='arm'"):
        code += f"try: EvaluationSettings({given})\nexcept ValueError as error: print(error)\n"
    assert run_python(code).stdout.splitlines() == [message for message in SETTINGS if "one of" in message]


# What comes of it


def test_json_has_no_nan_and_holds_the_figures(people):
    path = people.parent / "unlabelled.json"
    content = json.loads(people.read_text())
    for annotation in content["annotations"]:
        annotation["keypoints"][2] = 0  # nobody's right ankle
    path.write_text(json.dumps(content))
    result = evaluated(path)
    assert math.isnan(result.pck[0.2].per_keypoint["right_ankle"])
    written = json.loads(result.to_json(), parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert written["pck"][0]["per_keypoint"]["right_ankle"] is None
    assert written["epe"]["per_keypoint"]["right_ankle"] == {
        "mean": None, "median": None, "unit_mean": None, "unit_median": None, "keypoint_count": 0,
    }  # fmt: skip
    assert written["coco"]["figures"]["AP"] == pytest.approx(1)
    assert written["coco"]["figures"]["APL"] is None  # they are medium
    assert written["pck"][0]["threshold"] == 0.2


def test_csv_has_a_row_for_each_keypoint_and_one_for_all(people):
    result = evaluated(people, shift=3.0, thresholds=(0.01, 0.2))
    rows = list(csv.DictReader(io.StringIO(result.to_csv())))
    assert [row["keypoint"] for row in rows] == [*LSP.keypoints, "all"]
    assert float(rows[-1]["PCK@0.01"]) == result.pck[0.01].mean == 0
    assert float(rows[0]["PCK@0.2"]) == result.pck[0.2].per_keypoint["right_ankle"] == 100
    assert float(rows[3]["EPE px"]) == result.epe.per_keypoint["left_hip"].mean
    assert float(rows[-1]["AP"]) == result.coco.figures["AP"]
    assert rows[0]["AP"] == ""
    assert rows[-1]["labelled"] == str(6 * 14)


def test_rows_of_the_table_hold_pckh_and_its_area_each_in_its_column(people):
    result = evaluated(people, shift=1.0)
    all_keypoints = list(csv.DictReader(io.StringIO(result.to_csv())))[-1]
    assert float(all_keypoints["PCKh@0.5"]) == result.pckh.at_half.mean == 100
    assert float(all_keypoints["PCKh AUC"]) == result.pckh.auc < 100  # at 0 nobody a pixel off is right


def test_result_prints_as_a_table(people):
    lines = str(evaluated(people)).splitlines()
    assert lines[0] == "people.json: 6 people, labelled boxes in 6 images, decoder dark"
    assert lines[3] == "   AP   AP50   AP75    APM    APL     AR   AR50   AR75    ARM    ARL"
    assert lines[4] == "1.000  1.000  1.000  1.000      -  1.000  1.000  1.000  1.000      -"
    assert lines[6].split() == [
        "keypoint", "labelled", "PCK@0.2", "PCKh@0.5", "PCKh", "AUC", "EPE", "px", "median", "px", "EPE/torso",
        "median/torso",
    ]  # fmt: skip
    assert lines[7].split() == ["right_ankle", "6", "100.00", "100.00", "100.00", "0.00", "0.00", "0.000", "0.000"]
    assert lines[21].split() == ["all", "84", "100.00", "100.00", "100.00", "0.00", "0.00", "0.000", "0.000"]
    assert len({len(line) for line in lines[6:22]}) == 1  # columns align
    assert lines[23:] == [
        "PCK by torso: 6 people, 84 keypoints",
        "PCKh by head_top to neck: 6 people, 84 keypoints",
    ]
