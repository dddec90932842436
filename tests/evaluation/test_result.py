"""An evaluation as a table, as JSON and as CSV."""

import csv
import io
import json
import math

import pytest

from tokenpose.skeletons import LSP

from .evaluations import evaluated


def test_json_has_no_nan_and_holds_the_figures(people):
    path = people.parent / "unlabeled.json"
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
    assert rows[-1]["labeled"] == str(6 * 14)


def test_result_prints_as_a_table(people):
    lines = str(evaluated(people)).splitlines()
    assert lines[0] == "people.json: 6 people, labeled boxes in 6 images, decoder dark"
    assert lines[3] == "   AP   AP50   AP75    APM    APL     AR   AR50   AR75    ARM    ARL"
    assert lines[4] == "1.000  1.000  1.000  1.000      -  1.000  1.000  1.000  1.000      -"
    assert lines[6].split() == [
        "keypoint", "labeled", "PCK@0.2", "PCKh@0.5", "PCKh", "AUC", "EPE", "px", "median", "px", "EPE/torso",
        "median/torso",
    ]  # fmt: skip
    assert lines[7].split() == ["right_ankle", "6", "100.00", "100.00", "100.00", "0.00", "0.00", "0.000", "0.000"]
    assert lines[21].split() == ["all", "84", "100.00", "100.00", "100.00", "0.00", "0.00", "0.000", "0.000"]
    assert len({len(line) for line in lines[6:22]}) == 1  # columns align
    assert lines[23:] == [
        "PCK by torso: 6 people, 84 keypoints",
        "PCKh by head_top to neck: 6 people, 84 keypoints",
        "",
        "PCKh@0.5 by groups",
        "  Head  Shoulder   Elbow   Wrist     Hip    Knee   Ankle    Mean  Mean@0.1",
        "100.00    100.00  100.00  100.00  100.00  100.00  100.00  100.00    100.00",
    ]


def test_rows_of_the_table_hold_pckh_and_its_area_each_in_its_column(people):
    result = evaluated(people, shift=1.0)
    all_keypoints = list(csv.DictReader(io.StringIO(result.to_csv())))[-1]
    assert float(all_keypoints["PCKh@0.5"]) == result.pckh.at_half.mean == 100
    assert float(all_keypoints["PCKh AUC"]) == result.pckh.auc < 100  # at 0 nobody a pixel off is right


def test_row_for_all_holds_the_groups_of_pckh_and_its_means_at_finer_thresholds(people):
    result = evaluated(people, shift=1.4)
    rows = list(csv.DictReader(io.StringIO(result.to_csv())))
    assert float(rows[-1]["PCKh Wrist"]) == result.pckh.groups["Wrist"] == 100
    assert 0 < float(rows[-1]["PCKh@0.1"]) == result.pckh.mean_at_0_1 < 100
    assert result.pckh.mean_at_0_1 < float(rows[-1]["PCKh@0.11"]) == result.pckh.mean_at_0_11
    assert rows[0]["PCKh Wrist"] == ""


def test_json_has_pckh_by_groups(people):
    pckh = json.loads(evaluated(people).to_json())["pckh"]
    assert list(pckh["groups"]) == ["Head", "Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle"]
    assert (pckh["mean_at_0.1"], pckh["mean_at_0.11"]) == (100, 100)
