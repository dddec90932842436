"""Calibration from end to end, on drawn people."""

import json
import logging

import numpy as np
import pytest
import torch
from PIL import Image

from tokenpose.data.coco import read_coco
from tokenpose.data.sources import ImageSource
from tokenpose.deploy.optimization import optimize
from tokenpose.jobs.calibration import calibrate, write_calibrated
from tokenpose.jobs.evaluation import evaluate
from tokenpose.jobs.training import train_model
from tokenpose.models.tokenpose import TokenPose
from tokenpose.models.weights import read_weights, write_weights
from tokenpose.predictor import PosePredictor

from .small import SETTINGS, TINY, data_of


@pytest.fixture
def model() -> TokenPose:
    torch.manual_seed(0)
    return TokenPose(TINY).eval()


def scores_of(model: TokenPose, people, **options) -> np.ndarray:
    samples, source = read_coco(people), ImageSource(people.parent)
    predictor = PosePredictor(model, **options)
    return np.concatenate([
        predictor(source.read(samples.file_of(person)), samples.boxes[person : person + 1], "xywh").scores
        for person in range(len(samples))
    ])  # fmt: skip


def test_scores_become_probabilities_with_and_without_the_flip_test(model, people):
    before = scores_of(model, people)
    result = calibrate(model, people, people.parent)
    assert [(entry.image_size, entry.flip_test) for entry in result.maps] == [((64, 48), False), ((64, 48), True)]
    assert [entry.held_out.keypoint_count for entry in result.maps] == [8 * 14] * 2
    score_map = model.calibration.find((64, 48), flip_test=False)
    assert score_map.data == "people.json"
    for flip_test in (False, True):
        scores = scores_of(model, people, flip_test=flip_test)
        assert ((scores > 0) & (scores < 1)).all()
    np.testing.assert_array_equal(scores_of(model, people), score_map.apply(before, TINY.skeleton.keypoints))
    assert str(result).splitlines()[2].split() == ["size", "flip", "test", "keypoints", "correct", "held-out", "ECE"]
    assert json.loads(json.dumps(result.to_dict()))["people"] == 8


def test_calibrating_again_gives_the_same(model, people):
    calibrate(model, people, people.parent)
    first = model.calibration
    calibrate(model, people, people.parent)
    assert model.calibration == first


def test_other_sizes_are_calibrated_with_the_same_weights_and_earlier_ones_stay(model, people, tmp_path):
    calibrate(model, people, people.parent)
    own = model.calibration.maps
    calibrate(model, people, people.parent, image_sizes=[(128, 96)])
    assert model.calibration.describe() == "64x48, 64x48 with flip test, 128x96, 128x96 with flip test"
    assert model.calibration.maps[:2] == own
    assert model.spec.image_size == (64, 48)
    write_weights(model, tmp_path / "a.safetensors")
    from tokenpose.models.create import create_model

    larger = create_model("tiny", weights=tmp_path / "a.safetensors", image_size=(128, 96))
    assert PosePredictor(larger).is_calibrated
    assert ((scores_of(larger, people) > 0) & (scores_of(larger, people) < 1)).all()


def test_evaluation_reports_the_ece_of_a_calibrated_model_and_plots_it(model, people, tmp_path):
    plain = evaluate(model, people, people.parent)
    assert plain.reliability is None
    assert "ECE" not in str(plain) + plain.to_csv()
    calibrate(model, people, people.parent)
    result = evaluate(model, people, people.parent, plot=tmp_path / "new" / "plot.png")
    assert result.reliability.keypoint_count == 8 * 14
    assert 0 <= result.reliability.ece < 0.2
    assert f"ECE {result.reliability.ece:.4f}: scores are probabilities to lie within 0.2 torsos" in str(result)
    assert json.loads(result.to_json())["reliability"]["ece"] == pytest.approx(result.reliability.ece)
    assert result.to_csv().splitlines()[0].split(",").count("ECE") == 1
    assert result.pck == plain.pck
    with Image.open(tmp_path / "new" / "plot.png") as picture:
        assert picture.format == "PNG"
    only = evaluate(model, people, people.parent, metrics=("ece",))
    assert (only.reliability.ece, only.pck, only.coco) == (result.reliability.ece, {}, None)


def test_ece_of_a_model_that_is_not_calibrated_is_refused_where_it_is_asked_for(model, people, tmp_path):
    for given in ({"metrics": ("ece",)}, {"plot": tmp_path / "plot.png"}):
        with pytest.raises(ValueError, match="ECE needs scores that are probabilities: calibrate the model"):
            evaluate(model, people, people.parent, **given)
    assert list(tmp_path.iterdir()) == []


def test_keypoint_without_labels_is_refused(model, people, tmp_path):
    content = json.loads(people.read_text())
    for annotation in content["annotations"]:
        annotation["keypoints"][2] = 0  # nobody's right ankle
    path = people.parent / "unlabeled.json"
    path.write_text(json.dumps(content).replace('"neck"', '"throat"'))
    with pytest.raises(ValueError, match=r"unlabeled\.json has no labels of right_ankle, neck: calibrate with labels"):
        calibrate(model, path, people.parent)
    assert model.calibration is None


def test_optimized_model_is_refused_and_the_copy_of_a_calibrated_one_works(model, people):
    with pytest.raises(ValueError, match="this model is optimized already and can't be calibrated"):
        calibrate(optimize(model), people, people.parent)
    calibrate(model, people, people.parent)
    np.testing.assert_allclose(scores_of(optimize(model), people), scores_of(model, people), atol=1e-3)


def test_trained_model_is_not_calibrated_any_more(model, people, tmp_path, caplog):
    calibrate(model, people, people.parent)
    with caplog.at_level(logging.INFO, "tokenpose"):
        weights = train_model(model, data_of(people), tmp_path / "run", SETTINGS)
    assert read_weights(weights).calibration is None
    assert "training changes the heatmaps: the calibration is dropped" in caplog.text


def test_model_without_a_calibration_is_not_written(model, tmp_path):
    with pytest.raises(ValueError, match="the model has no calibration to write"):
        write_calibrated(model, tmp_path / "a.safetensors", "tiny", tmp_path / "b.safetensors")
