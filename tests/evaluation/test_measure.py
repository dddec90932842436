"""An evaluation from end to end, with a predictor that knows the labels."""

import json

import numpy as np
import pytest

from tokenpose.data.coco import read_coco
from tokenpose.evaluation.coco import FIGURES
from tokenpose.skeletons import COCO, LSP, Skeleton

from .evaluations import SPEC, changed, evaluated


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
    assert set(result.coco.sigma_origins.values()) == {"named", "estimated"}
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
    with pytest.raises(ValueError, match=r"crowds\.json has no labeled people; left out: 6 crowd"):
        evaluated(path)


def test_person_whose_box_cannot_be_cropped_counts_as_missed(people):
    content = json.loads(people.read_text())
    content["annotations"][0]["bbox"] = [5, 5, 0, 50]
    path = people.parent / "missed.json"
    path.write_text(json.dumps(content))
    result = evaluated(path)
    assert (result.people, result.coco.people, result.coco.predictions) == (5, 6, 5)
    assert result.coco.figures["AR"] == pytest.approx(5 / 6)
    assert result.notes == ("1 labeled people have no box that can be cropped, and count as missed",)
