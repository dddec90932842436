"""Calibrations: values, their JSON, and their way through weights files, copies and changed models."""

import copy
import json
import logging
import math

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tokenpose.deploy.optimization import optimize
from tokenpose.models.calibration import Calibration, Curves, ScoreMap, apply_curves, read_log_odds
from tokenpose.models.carry_over import load_weights
from tokenpose.models.create import create_model, find_bundled_file
from tokenpose.models.spec import ModelSpec
from tokenpose.models.tokenpose import TokenPose
from tokenpose.models.weights import copy_with_calibration, read_weights, save_pretrained, write_weights
from tokenpose.predictor import PosePredictor
from tokenpose.skeletons import LSP, Skeleton

SIZE = (64, 48)


def calibration(names, sizes=(SIZE,)) -> Calibration:
    """Slopes 2, 3, ... and offsets -1, with the flip test -2."""
    return Calibration(
        maps=tuple(
            ScoreMap(
                image_size=size,
                flip_test=flip_test,
                knots=((0.0, -1.0), (0.5, 0.0), (1.0, 2.0)),
                lines={name: (2.0 + row, -1.0 - flip_test) for row, name in enumerate(names)},
                data="val.json",
            )
            for size in sizes
            for flip_test in (False, True)
        )
    )


@pytest.fixture
def calibrated(tiny, build) -> TokenPose:
    model = build(tiny)
    model.calibration = calibration(tiny.skeleton.keypoints)
    return model


def test_log_odds_are_linear_between_knots_and_go_on_with_the_mean_slope():
    knots = ((0.2, -1.0), (0.4, 1.0), (0.6, 1.0))  # from the first to the last: 5 a peak of 1
    peaks = np.float32([0.0, 0.2, 0.3, 0.5, 0.6, 1.0])
    np.testing.assert_allclose(read_log_odds(peaks, knots), [-2, -1, 0, 1, 1, 3], atol=1e-6)
    assert read_log_odds(np.float32([-5, 5]), ((0.2, 3.0),)).tolist() == [3, 3]


def test_probability_is_the_logistic_function_of_a_keypoints_log_odds():
    peaks = np.float32([[0.5, 0.5], [0.0, 1e9], [-1e9, 0.25]])
    found = apply_curves(peaks, Curves(((0.0, -2.0), (1.0, 2.0)), ((1.0, 0.0), (0.0, -1.0))))
    assert found.dtype == np.float32
    low = 1 / (1 + np.exp(1))
    np.testing.assert_allclose(found, [[0.5, low], [1 / (1 + np.exp(2)), low], [0, low]], atol=1e-6)


def test_probabilities_rise_with_the_peak_and_stay_from_0_to_1():
    peaks = np.linspace(-5, 5, 101, dtype=np.float32)[:, None]
    for knots in (((0.0, -1.0), (0.5, 0.0), (1.0, 9.0)), ((0.5, 3.0),), ((0.0, -1e6), (1e-7, 1e6))):
        for line in ((0.0, 3.0), (0.5, -1.0), (1e6, -1e6)):
            found = apply_curves(peaks, Curves(knots, (line,)))[:, 0]
            assert (np.diff(found) >= 0).all()
            assert ((found >= 0) & (found <= 1)).all()


def test_curves_are_matched_by_name():
    score_map = calibration(["a", "b"]).find(SIZE, flip_test=False)
    peaks = np.float32([[0.3, 0.7]])
    swapped = score_map.apply(peaks[:, ::-1], ["b", "a"])
    np.testing.assert_array_equal(swapped[:, ::-1], score_map.apply(peaks, ["a", "b"]))


def test_map_is_found_for_its_size_and_flip_test_only():
    found = calibration(["a"])
    assert found.find(SIZE, flip_test=True).lines["a"] == (2.0, -2.0)
    assert found.find((48, 64), flip_test=False) is None
    assert found.describe() == "64x48, 64x48 with flip test"


def test_new_maps_replace_those_of_their_kind_and_keep_the_others():
    old = calibration(["a"], sizes=(SIZE, (128, 96)))
    new = ScoreMap(image_size=SIZE, flip_test=False, knots=((0.0, 0.0),), lines={"a": (9.0, 0.0)})
    added = old.add([new])
    assert len(added.maps) == 4
    assert added.find(SIZE, flip_test=False) == new
    assert added.find((128, 96), flip_test=True) == old.find((128, 96), flip_test=True)


def test_json_reads_back_the_same():
    made = calibration(["nose", "left_eye"], sizes=(SIZE, (128, 96)))
    assert Calibration.from_json(made.to_json(), ["nose", "left_eye"]) == made


def test_file_keeps_the_calibration_and_one_without_says_nothing(tmp_path, calibrated):
    write_weights(calibrated, tmp_path / "a.safetensors", {"data": "drawn"}, half=True)
    weights = read_weights(tmp_path / "a.safetensors")
    assert (weights.calibration, weights.card) == (calibrated.calibration, {"data": "drawn"})
    calibrated.calibration = None
    write_weights(calibrated, tmp_path / "b.safetensors")
    assert read_weights(tmp_path / "b.safetensors").calibration is None
    with safe_open(tmp_path / "b.safetensors", framework="pt") as opened:
        assert opened.metadata().keys() == {"format", "spec", "card"}


def test_folder_keeps_the_calibration_and_its_readme_says_so(tmp_path, calibrated):
    save_pretrained(calibrated, tmp_path / "folder")
    assert create_model(f"local-dir:{tmp_path / 'folder'}").calibration == calibrated.calibration
    readme = (tmp_path / "folder" / "README.md").read_text()
    assert "- scores are probabilities at: 64x48, 64x48 with flip test\n" in readme


@pytest.mark.parametrize("half", [False, True])
def test_copy_of_a_file_differs_in_its_calibration_only(tmp_path, tiny, build, half):
    path = tmp_path / "a.safetensors"
    write_weights(build(tiny), path, {"samples": 3}, half=half)
    before = load_file(path)
    made = calibration(tiny.skeleton.keypoints)
    copy_with_calibration(path, path, made)
    after, weights = load_file(path), read_weights(path)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) and before[name].dtype == after[name].dtype for name in before)
    assert (weights.spec, weights.card, weights.calibration) == (tiny, {"samples": 3}, made)
    with pytest.raises(ValueError, match="the keypoints of the model and no others; it has nose"):
        copy_with_calibration(path, tmp_path / "b.safetensors", calibration(["nose"]))
    assert not (tmp_path / "b.safetensors").exists()


def test_copies_of_a_model_keep_its_calibration(calibrated):
    assert copy.deepcopy(calibrated).calibration == calibrated.calibration
    assert optimize(calibrated).calibration == calibrated.calibration


GOOD = {"image_size": [64, 48], "flip_test": False, "knots": [[0, 0], [1, 1]], "lines": {"a": [1, 0]}, "data": ""}


def with_map(**changes) -> str:
    return json.dumps({"format_version": 1, "maps": [{**GOOD, **changes}]})


MALFORMED = {
    "a calibration must be JSON": "{",
    "a calibration must be JSON; got '[[": "[" * 100_000,
    "a calibration must be a JSON object with a list of maps": '{"format_version": 1, "maps": {}}',
    "this calibration has format_version 2; this tokenpose reads 1": '{"format_version": 2, "maps": []}',
    "a calibration has 1 to 64 maps": '{"format_version": 1, "maps": []}',
    "a map of a calibration must have data, flip_test, image_size, knots": '{"format_version": 1, "maps": [{}]}',
    "keypoint 'a' must have a slope of 0 or more and an offset": with_map(lines={"a": [-1, 0]}),
    "both up to 1e+06; got (1, 10000000.0)": with_map(lines={"a": [1, 1e7]}),
    "both up to 1e+06; got (1, nan)": with_map(lines={"a": [1, math.nan]}),
    "both up to 1e+06; got (True, 1)": with_map(lines={"a": [True, 1]}),
    "both up to 1e+06; got (1,)": with_map(lines={"a": [1]}),
    "both up to 1e+06; got 7": with_map(lines={"a": 7}),
    "lines must be slope and offset for each keypoint; got 5": with_map(lines=5),
    "knots must be 1 to 64 pairs": with_map(knots=[]),
    "numbers up to 1e+06; got ((0, 'x'),)": with_map(knots=[[0, "x"]]),
    "numbers up to 1e+06; got 3": with_map(knots=3),
    "by 1e-07 or more, and log odds must not fall; got ((0, 1), (1, 0))": with_map(knots=[[0, 1], [1, 0]]),
    "peaks of knots must rise, by 1e-07 or more, and log": with_map(knots=[[1, 0], [1 + 1e-12, 1]]),
    "image_size must be (height, width) in whole pixels; got (64, 0)": with_map(image_size=[64, 0]),
    "image_size must be (height, width) in whole pixels; got (64, 48.5)": with_map(image_size=[64, 48.5]),
    "flip_test must be true or false; got 1": with_map(flip_test=1),
    "data must be the name of a file; got 5": with_map(data=5),
    "must have the keypoints of the model and no others; it has b": with_map(lines={"b": [1, 0]}),
    "a calibration has at most 1000000 characters; got 1000001": " " * 1_000_001,
}


def test_malformed_calibration_of_a_file_is_refused_in_one_line(tmp_path, run_python, tiny, build):
    tiny = tiny.replace(skeleton=Skeleton.from_names(["a"]))
    code = "from tokenpose.models.weights import read_weights\n"
    for number, text in enumerate(MALFORMED.values()):
        path = tmp_path / f"{number}.safetensors"
        save_file(build(tiny).state_dict(), path, {"spec": tiny.to_json(), "calibration": text})
        code += f"try: read_weights({str(path)!r})\nexcept ValueError as error: print(error)\n"
    lines = run_python(code).stdout.splitlines()
    assert len(lines) == len(MALFORMED)
    for number, (message, line) in enumerate(zip(MALFORMED, lines, strict=True)):
        assert line.startswith(str(tmp_path / f"{number}.safetensors: "))
        assert message in line
        assert len(line) < 600


def test_two_maps_of_one_kind_are_refused():
    [one, _] = calibration(["a"]).maps
    with pytest.raises(ValueError, match="1 to 64 maps, each of another kind"):
        Calibration(maps=(one, one))


# Other keypoints, sizes and specs


def carried(tmp_path, model: TokenPose, sources=None, **changes) -> TokenPose:
    write_weights(model, tmp_path / "weights.safetensors")
    new = TokenPose(model.spec.replace(**changes)).eval()
    load_weights(new, read_weights(tmp_path / "weights.safetensors"), sources)
    return new


def test_keypoints_that_stay_or_are_renamed_keep_their_lines(tmp_path, calibrated):
    old = calibrated.calibration.maps[0].lines
    fewer = carried(tmp_path, calibrated, skeleton=Skeleton.from_names(["keypoint_3", "keypoint_1"]))
    assert fewer.calibration.maps[0].lines == {name: old[name] for name in ("keypoint_3", "keypoint_1")}
    renamed = carried(tmp_path, calibrated, {"crown": "keypoint_4"}, skeleton=Skeleton.from_names(["crown"]))
    assert renamed.calibration.maps[1].lines == {"crown": (6.0, -2.0)}
    write_weights(renamed, tmp_path / "again.safetensors")
    assert read_weights(tmp_path / "again.safetensors").calibration == renamed.calibration


def test_model_with_a_new_keypoint_is_not_calibrated_and_the_log_says_so(tmp_path, calibrated, caplog):
    with caplog.at_level(logging.WARNING, "tokenpose"):
        new = carried(tmp_path, calibrated, skeleton=Skeleton.from_names(["keypoint_1", "tail"]))
    assert new.calibration is None
    assert "the calibration is dropped, and scores are peaks of heatmaps: it has none for tail" in caplog.text


CHANGES = [{"sigma": 3.0}, {"box_padding": 1.5}, {"heatmap_activation": "softmax"}, {"positions": "sine"}]


@pytest.mark.parametrize("changes", CHANGES)
def test_change_that_gives_other_heatmaps_drops_the_calibration(tmp_path, calibrated, caplog, changes):
    with caplog.at_level(logging.WARNING, "tokenpose"):
        assert carried(tmp_path, calibrated, **changes).calibration is None
    assert "the model differs from the file's in more than keypoints and image size" in caplog.text


def test_named_model_with_the_files_weights_is_calibrated(tmp_path, calibrated):
    write_weights(calibrated, tmp_path / "a.safetensors")
    save_pretrained(calibrated, tmp_path / "folder")
    again = create_model(f"local-dir:{tmp_path / 'folder'}", keypoints=["keypoint_0"])
    assert again.calibration.maps[0].lines == {"keypoint_0": (2.0, -1.0)}


def test_other_size_keeps_the_maps_of_the_sizes_that_were_fitted(tmp_path, calibrated, caplog):
    width = calibrated.spec.hidden_width
    other = carried(tmp_path, calibrated, image_size=(128, 96), head_hidden=width)
    assert other.calibration == calibrated.calibration
    with caplog.at_level(logging.WARNING, "tokenpose"):
        assert not PosePredictor(other).is_calibrated
    assert (
        "the model is calibrated for 64x48, 64x48 with flip test, not for 128x96: scores are the peaks of heatmaps"
        in caplog.text
    )


# Prediction

PHOTO = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
BOXES = [[5, 5, 50, 50], [20, 0, 70, 60]]


@pytest.mark.parametrize("flip_test", [False, True])
def test_scores_of_a_calibrated_model_are_the_maps_of_its_peaks(build, tiny, flip_test):
    names = ("left_ear", "right_ear", "nose")
    model = build(tiny.replace(skeleton=Skeleton.from_names(names)))
    plain = PosePredictor(model, flip_test=flip_test)(PHOTO, BOXES)
    model.calibration = calibration(names)
    predictor = PosePredictor(model, flip_test=flip_test)
    assert predictor.is_calibrated
    [many] = predictor.many([PHOTO], [BOXES])
    for found in (predictor(PHOTO, BOXES), many):
        assert np.array_equal(found.keypoints, plain.keypoints)
        expected = model.calibration.find(SIZE, flip_test).apply(plain.scores, names)
        np.testing.assert_array_equal(found.scores, expected)
        assert ((found.scores >= 0) & (found.scores <= 1)).all()
        assert not np.array_equal(found.scores, plain.scores)


def test_attention_maps_show_the_same_scores_as_a_prediction(calibrated):
    from tokenpose.attention.computation import attention_maps

    shown = attention_maps(calibrated, PHOTO, BOXES[0]).pose.scores
    np.testing.assert_allclose(shown, PosePredictor(calibrated)(PHOTO, BOXES[:1]).scores, rtol=1e-4)


def test_bundled_file_is_found_by_its_name_and_names_without_one_are_refused():
    assert read_weights(find_bundled_file("tokenpose_s_v1")).spec.skeleton == LSP
    with pytest.raises(LookupError, match=r"there are no bundled weights for tokenpose_b\.coco_256x192"):
        find_bundled_file("tokenpose_b.coco_256x192")


def test_module_needs_no_torch(run_python):
    run_python("import sys, tokenpose.models.calibration\nassert 'torch' not in sys.modules")


def test_spec_is_the_same_with_and_without_a_calibration(calibrated):
    assert ModelSpec.from_json(calibrated.spec.to_json()) == calibrated.spec
