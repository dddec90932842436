"""Files of predictions: COCO's results and MPII's pred.mat, and data without labels."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from pycocotools.coco import COCO as CocoFile
from pycocotools.cocoeval import COCOeval

from tokenpose.data.annotations import read_with_columns
from tokenpose.data.coco import read_coco
from tokenpose.data.sources import ImageSource
from tokenpose.evaluation.coco import FIGURES
from tokenpose.evaluation.measure import measure
from tokenpose.evaluation.processes import Processes
from tokenpose.evaluation.settings import EvaluationSettings
from tokenpose.models.spec import ModelSpec
from tokenpose.poses import Poses
from tokenpose.skeletons import COCO, LSP, MPII, Skeleton

from .evaluations import SPEC, mpii_record, predicted, tell_corners

BODY = Skeleton.from_names((*reversed(COCO.keypoints), "neck", "head_top"), name="body")


# COCO's results


def jitter(path: Path) -> Callable[..., Iterator[Poses]]:
    """A predictor of labels with random errors and scores, for any boxes: those of the nearest person."""
    samples = read_coco(path)
    middles = samples.boxes[:, :2] + samples.boxes[:, 2:] / 2
    random = np.random.default_rng(0)
    sides = samples.boxes[:, None, 2:].max(axis=2, keepdims=True)
    keypoints = np.where(samples.visible[..., None], samples.keypoints, middles[:, None])
    keypoints = keypoints + 0.04 * sides * random.standard_normal(keypoints.shape)

    def many(images: Any, boxes: Any) -> Iterator[Poses]:
        for _, own in zip(images, boxes, strict=True):
            nearest = [int(np.abs(middles - box[:2] - box[2:] / 2).sum(axis=1).argmin()) for box in own]
            moved = keypoints[nearest] + 0.01 * sides[nearest] * random.standard_normal((len(own), 17, 2))
            scores = random.uniform(0.1, 1, (len(own), 17))
            yield Poses(keypoints=moved.astype(np.float32), scores=scores.astype(np.float32), boxes=own, skeleton=COCO)

    return many


def figures_of_pycocotools(labels: Path, results: Path) -> dict[str, float]:
    """The ten figures as any user of pycocotools computes them from two files."""
    with redirect_stdout(StringIO()):
        labeled = CocoFile(str(labels))
        evaluation = COCOeval(labeled, labeled.loadRes(str(results)), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(FIGURES, evaluation.stats.tolist(), strict=True))


@pytest.fixture
def coco_mini(data_folder) -> Path:
    return data_folder / "coco-mini" / "person_keypoints.json"


def test_pycocotools_finds_the_same_figures_in_the_file_of_labeled_boxes(coco_mini, tmp_path):
    result = predicted(coco_mini, jitter(coco_mini), results=tmp_path / "out" / "results.json")
    assert figures_of_pycocotools(coco_mini, tmp_path / "out" / "results.json") == result.coco.figures
    assert 0.2 < result.coco.figures["AP"] < 0.9
    assert f"86 poses are written to {tmp_path / 'out' / 'results.json'}" in result.notes


def test_pycocotools_finds_the_same_figures_in_the_file_of_detected_boxes(coco_mini, tmp_path):
    samples = read_coco(coco_mini)
    random, detections = np.random.default_rng(1), []
    for person, box in zip(samples.image_index.tolist() * 2, samples.boxes.tolist() * 2, strict=True):
        moved = (np.array(box) + random.normal(0, 2, 4)).clip(1).tolist()
        image = int(samples.image_ids[person])
        detections.append({"image_id": image, "category_id": 1, "bbox": moved, "score": random.uniform(0.1, 1)})
    (tmp_path / "boxes.json").write_text(json.dumps(detections))
    given = {"boxes": tmp_path / "boxes.json", "results": tmp_path / "results.json"}
    result = predicted(coco_mini, jitter(coco_mini), **given)
    assert figures_of_pycocotools(coco_mini, tmp_path / "results.json") == result.coco.figures
    written = json.loads((tmp_path / "results.json").read_text())
    assert 86 < len(written) == result.coco.predictions < 172  # each person is found twice, and suppressed if alike


def test_record_has_the_files_ids_and_the_score_of_each_keypoint(people, tmp_path):
    content = json.loads(people.read_text())
    content["categories"][0]["id"] = 7
    for entry in content["annotations"]:
        entry.update(image_id=f"image {entry['image_id']}", category_id=7)
    for image in content["images"]:
        image["id"] = f"image {image['id']}"
    path = people.parent / "text_ids.json"
    path.write_text(json.dumps(content))
    result = predicted(path, tell_corners(LSP, 0.25), LSP, results=tmp_path / "results.json", metrics=("epe",))
    records = json.loads((tmp_path / "results.json").read_text())
    first, box = records[0], read_coco(path).boxes[0]
    assert first.keys() == {"image_id", "category_id", "keypoints", "score"}
    assert (first["image_id"], first["category_id"], first["score"], len(records)) == ("image 10", 7, 0.25, 6)
    expected = [(float(box[0]) + keypoint, float(box[1]), 0.25) for keypoint in range(14)]
    assert first["keypoints"] == pytest.approx(np.ravel(expected).tolist(), abs=1e-4)
    assert result.coco is None  # results are written whatever is measured


def test_pose_that_is_not_finite_is_not_written(people, tmp_path):
    predicted(people, tell_corners(LSP, np.nan), LSP, results=tmp_path / "results.json")
    assert json.loads((tmp_path / "results.json").read_text()) == []


def test_only_the_main_process_writes(people, tmp_path, monkeypatch):
    monkeypatch.setattr(Processes, "gather", lambda self, work: [work()])
    other = Processes(rank=1, count=2)
    result = predicted(people, tell_corners(LSP), LSP, other, results=tmp_path / "results.json")
    assert not (tmp_path / "results.json").exists()
    assert "written to" in result.notes[0]


# Lists of images


@pytest.mark.parametrize("skeleton", [COCO, BODY], ids=lambda skeleton: skeleton.name)
def test_people_of_a_list_of_images_are_predicted_with_cocos_keypoints_in_their_order(
    image_list, boxes, tmp_path, skeleton
):
    result = predicted(image_list, tell_corners(skeleton), skeleton, boxes=boxes, results=tmp_path / "results.json")
    first, second = json.loads((tmp_path / "results.json").read_text())
    places = [skeleton.index(name) for name in COCO.keypoints]
    assert first["keypoints"] == np.ravel([(1 + place, 2, 1) for place in places]).tolist()
    assert second["keypoints"] == np.ravel([(10 + place, 20, 1) for place in places]).tolist()
    assert (first["image_id"], first["category_id"], first["score"]) == (581, 1, 0.75)
    assert (second["image_id"], second["category_id"], second["score"]) == (7, 1, 0.5)
    assert (result.coco, result.pck, result.pckh, result.epe, result.people) == (None, {}, None, None, 0)
    assert str(result).splitlines() == [
        "image_info_test.json: 2 boxes of boxes.json in 2 images, decoder dark",
        "",
        f"note: no metrics, since {image_list} has no labels; 2 poses are written to {tmp_path / 'results.json'}",
        "note: 1 boxes left out: of category 2 instead of 1 (person)",
    ]


def test_list_of_images_may_have_keypoints_of_its_own_and_an_empty_list_of_annotations(people, tmp_path):
    content = json.loads(people.read_text()) | {"annotations": []}
    path = people.parent / "images.json"
    path.write_text(json.dumps(content))
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps([{"image_id": 10, "category_id": 1, "bbox": [1, 2, 50, 50]}]))
    predicted(path, tell_corners(LSP), LSP, boxes=boxes, results=tmp_path / "results.json")
    (record,) = json.loads((tmp_path / "results.json").read_text())
    assert record["keypoints"][:6] == [1, 2, 1, 2, 2, 1]
    assert len(record["keypoints"]) == 42


# MPII's pred.mat


JOINTS = {"joints": [[20 + joint, 30] for joint in range(16)], "joints_vis": [1] * 16}


def test_predictions_of_mpii_are_written_as_its_evaluation_reads_them(write_mpii, tmp_path):
    path = write_mpii(mpii_record(**JOINTS), mpii_record(center=[-1, -1], **JOINTS), mpii_record(scale=0.1, **JOINTS))
    result = predicted(path, tell_corners(MPII), MPII, results=tmp_path / "pred.mat")
    preds = scipy.io.loadmat(tmp_path / "pred.mat")["preds"]
    assert (preds.shape, preds.dtype) == ((3, 16, 2), np.float64)
    # sides of 40 and 20 pixels around (30, 28) and (30, 26.5); counted from 1
    assert preds[0, 0].tolist() == [30 - 19.5 + 1, 28 - 19.5 + 1]
    assert preds[0, 15].tolist() == [30 - 19.5 + 1 + 15, 28 - 19.5 + 1]
    assert preds[2, 0].tolist() == [30 - 9.5 + 1, 26.5 - 9.5 + 1]
    assert np.isnan(preds[1]).all()
    assert f"2 people are written to {tmp_path / 'pred.mat'}, with NaN for 1 without center or scale" in result.notes
    assert result.epe.pooled.keypoint_count == 32


def test_pred_mat_has_the_groups_that_evaluate_reports(write_mpii, tmp_path):
    """A published evaluation, in its own words: from pred.mat and the ground truth, both counted from 1."""
    random = np.random.default_rng(0)
    records = [mpii_record(center=[31.0 + person, 26.0]) for person in range(6)]
    path = write_mpii(*records)
    corners = np.array([[31 + person - 20.5 + 1, 28 - 19.5 + 1] for person in range(6)])
    steps = np.stack((np.arange(16.0), np.zeros(16)), axis=1)
    truth = (corners[:, None] + steps + random.normal(0, 4, (6, 16, 2))).transpose(1, 2, 0)
    missing = (random.uniform(size=(16, 6)) < 0.2).astype(np.uint8)
    heads = np.stack([[[0, 0], [12, 9 + person]] for person in range(6)], axis=-1).astype(float)
    fields = {"pos_gt_src": truth, "jnt_missing": missing, "headboxes_src": heads}
    scipy.io.savemat(tmp_path / "gt_valid.mat", fields)

    samples, _ = read_with_columns(path, ground_truth=tmp_path / "gt_valid.mat")
    given = EvaluationSettings(results=tmp_path / "pred.mat", metrics=("pckh",))
    spec: ModelSpec = SPEC.replace(skeleton=MPII)
    result = measure(tell_corners(MPII), spec, path, samples, ImageSource(tmp_path), given)

    preds = scipy.io.loadmat(tmp_path / "pred.mat")["preds"].transpose(1, 2, 0)
    sizes = 0.6 * np.linalg.norm(heads[1] - heads[0], axis=0)
    right, seen = np.linalg.norm(preds - truth, axis=1) / sizes <= 0.5, missing == 0
    percent = 100 * (right & seen).sum(axis=1) / seen.sum(axis=1)
    assert result.pckh is not None
    groups = result.pckh.groups
    assert groups["Head"] == pytest.approx(percent[9])
    pairs = {"Shoulder": (12, 13), "Elbow": (11, 14), "Wrist": (10, 15), "Hip": (2, 3), "Knee": (1, 4), "Ankle": (0, 5)}
    for group, (one, other) in pairs.items():
        assert groups[group] == pytest.approx((percent[one] + percent[other]) / 2)
    counted = np.array([index not in (6, 7) for index in range(16)])
    assert result.pckh.at_half.mean == pytest.approx(100 * (right & seen)[counted].sum() / seen[counted].sum())
    assert 20 < result.pckh.at_half.mean < 95


def test_mpii_file_without_joints_is_predicted_and_not_measured(write_mpii, tmp_path):
    path = write_mpii(mpii_record())
    result = predicted(path, tell_corners(MPII), MPII, results=tmp_path / "pred.mat")
    assert scipy.io.loadmat(tmp_path / "pred.mat")["preds"].shape == (1, 16, 2)
    assert (result.coco, result.pck, result.pckh, result.epe) == (None, {}, None, None)
    assert result.notes == (f"no metrics, since {path} has no labels; 1 person is written to {tmp_path / 'pred.mat'}",)


def test_pred_mat_needs_scipy_before_anything_is_predicted(write_mpii, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(ModuleNotFoundError, match=r'writing .*pred\.mat needs scipy: pip install "tokenpose\[mpii\]"'):
        predicted(write_mpii(mpii_record()), skeleton=MPII, results=tmp_path / "pred.mat")


# What keeps results from being written


def test_suffix_of_other_data_is_refused_before_anything_is_predicted(people, write_mpii, tmp_path):
    with pytest.raises(
        ValueError, match=r"people\.json is a COCO file, whose results are written to a \.json file; got"
    ):
        predicted(people, skeleton=LSP, results=tmp_path / "pred.mat")
    path = write_mpii(mpii_record())
    with pytest.raises(
        ValueError, match=r"valid\.json is an MPII file, whose results are written to a \.mat file; got"
    ):
        predicted(path, skeleton=MPII, results=tmp_path / "results.json")


def test_model_that_lacks_keypoints_cannot_write_results(people, image_list, boxes, tmp_path):
    message = "results need a model with all the data's keypoints; this one has no neck, head_top"
    with pytest.raises(ValueError, match=message):
        predicted(people, results=tmp_path / "results.json")
    with pytest.raises(ValueError, match="this one has no nose, left_eye, right_eye, left_ear, right_ear"):
        predicted(image_list, skeleton=LSP, boxes=boxes, results=tmp_path / "results.json")


def test_place_that_cannot_be_written_to_is_refused_before_anything_is_predicted(people, tmp_path):
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(IsADirectoryError, match=r"folder\.json is a folder, and results are written to a file"):
        predicted(people, skeleton=LSP, results=tmp_path / "folder.json")
    with pytest.raises(OSError, match="file is a file, where a folder is needed"):
        predicted(people, skeleton=LSP, results=tmp_path / "file" / "results.json")
