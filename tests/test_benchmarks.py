"""What benchmarks keep of an earlier run."""

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tokenpose.data.samples import Samples
from tokenpose.skeletons import COCO

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
PROGRAMS = {path.stem for path in BENCHMARKS.glob("*.py")}


def open_program(name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    before = set(sys.modules)
    yield importlib.import_module(name)
    for opened in PROGRAMS & (set(sys.modules) - before):
        sys.modules.pop(opened)


@pytest.fixture
def speed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    yield from open_program("speed", monkeypatch)


@pytest.fixture
def robustness(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    yield from open_program("robustness", monkeypatch)


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    yield from open_program("trials", monkeypatch)


@pytest.fixture
def people() -> Samples:
    """Two people: the hips of the first are at a height of 40 and 50, the second has none."""
    keypoints = np.zeros((2, 17, 2), np.float32)
    keypoints[..., 1] = np.linspace(10, 90, 17)
    keypoints[0, [COCO.index("left_hip"), COCO.index("right_hip")], 1] = 40, 50
    visible = np.ones((2, 17), bool)
    visible[1, [COCO.index("left_hip"), COCO.index("right_hip")]] = False
    return Samples(
        skeleton=COCO, files=("a.jpg",), image_ids=np.array([7]), image_index=np.array([0, 0]),
        boxes=np.array([[10, 0, 20, 100], [30, 0, 40, 100]], np.float32), keypoints=keypoints, visible=visible,
        skipped={},
    )  # fmt: skip


def test_rows_of_this_machine_are_gone_on_from(speed, tmp_path):
    path = tmp_path / "speed.json"
    assert speed.read_output(path, {"forward": []}) == {"forward": [], "machine": speed.describe_machine()}
    path.write_text(json.dumps({"machine": speed.describe_machine(), "forward": [1]}))
    assert speed.read_output(path, {"forward": []})["forward"] == [1]


def test_rows_of_another_machine_are_refused_and_kept(speed, tmp_path, monkeypatch):
    path = tmp_path / "speed.json"
    other = {**speed.describe_machine(), "processor": "an abacus", "torch": "1.0"}
    path.write_text(json.dumps({"machine": other, "forward": [], "stages": []}))
    before = path.read_text()
    monkeypatch.setattr(sys, "argv", ["speed.py", "--output", str(path)])
    with pytest.raises(
        SystemExit, match=r"measured elsewhere \(processor an abacus there, .* here; torch 1\.0 there, .*--output"
    ):
        speed.main()
    assert path.read_text() == before


def test_a_photograph_that_is_given_is_measured(speed, tmp_path, monkeypatch, capsys):
    path = tmp_path / "speed.json"
    row = {"people": 1, "size": [480, 640], "ms": {"crop": 1.0}}
    path.write_text(json.dumps({"machine": speed.describe_machine(), "forward": [], "stages": [row]}))
    monkeypatch.setattr(speed, "ARCHITECTURES", [])
    monkeypatch.setattr(speed, "measure_stages", lambda options: [{**row, "ms": {"crop": 2.0}}])
    for arguments, milliseconds in (([], 1.0), (["--photograph", "photo.jpg"], 2.0)):
        monkeypatch.setattr(sys, "argv", ["speed.py", "--output", str(path), *arguments])
        speed.main()
        assert json.loads(path.read_text())["stages"][0]["ms"] == {"crop": milliseconds}


def test_a_photograph_ends_at_the_mean_height_of_the_hips(robustness, people):
    shown = robustness.show_to_hips(people)
    photograph = torch.zeros(3, 100, 80, dtype=torch.uint8)
    assert shown.alter(photograph, 0).shape == (3, 46, 80)  # 45 is the last row
    assert shown.boxes.tolist() == [[10, 0, 20, 46], [30, 0, 40, 100]]
    assert shown.visible[0].tolist() == (people.keypoints[0, :, 1] <= 45).tolist()
    assert shown.visible[0, COCO.index("left_hip")]
    assert not shown.visible[0, COCO.index("right_hip")]


def test_a_person_without_hips_stays_whole_and_does_not_count(robustness, people):
    shown = robustness.show_to_hips(people)
    assert shown.alter(torch.zeros(3, 100, 80, dtype=torch.uint8), 1).shape == (3, 100, 80)
    assert not shown.visible[1].any()


def test_half_the_resolution_averages_squares_and_halves_boxes(robustness, people):
    photograph = torch.tensor([[0, 10, 7], [20, 30, 7], [9, 9, 9]], dtype=torch.uint8).expand(3, 3, 3)
    shown = robustness.show_half(people)
    assert shown.alter(photograph, 0).tolist() == [[[15]]] * 3
    assert shown.boxes.tolist() == [[5, 0, 10, 50], [15, 0, 20, 50]]


def test_boxes_move_and_grow_by_at_most_the_share_and_the_same_each_time(robustness, people):
    many = people.take(np.zeros(500, int))
    boxes = robustness.show_jittered(0.2, many).boxes
    growth = boxes[:, 2:] / many.boxes[:, 2:] - 1
    shifts = (boxes[:, :2] + boxes[:, 2:] / 2 - many.boxes[:, :2] - many.boxes[:, 2:] / 2) / many.boxes[:, 2:]
    for draws in (growth, shifts):
        assert 0.19 < np.abs(draws).max() <= 0.2 + 1e-5
    np.testing.assert_array_equal(robustness.show_jittered(0.2, many).boxes, boxes)


def test_gray_and_compressed_photographs_keep_their_size(robustness, people):
    photograph = torch.arange(3 * 20 * 30).remainder(256).to(torch.uint8).view(3, 20, 30)
    gray = robustness.show_gray(people).alter(photograph, 0)
    assert gray.shape == (3, 20, 30)
    assert torch.equal(gray[0], gray[1])
    assert torch.equal(gray[1], gray[2])
    compressed = robustness.show_compressed(people).alter(photograph, 0)
    assert compressed.shape == (3, 20, 30)
    assert not torch.equal(compressed, photograph)


@pytest.mark.parametrize(
    ("scores", "row", "verdict"),
    [
        ([51.5, 52.0], 40.0, "yes: gains more than the seeds' distance, 1.00"),
        ([50.5, 51.0], 43.0, "yes: gray gains 3.0"),
        ([50.5, 51.0], 42.9, "no"),
        ([49.6, 50.6], 43.0, "no"),
        ([50.5], 43.0, "open: a seed is missing"),
    ],
)
def test_a_trial_is_kept_by_its_mean_or_by_its_rows(trials, scores, row, verdict):
    def line(seed: int, score: float, gray: float) -> dict[str, Any]:
        return {"seed": seed, "pck": score, "rows": {"as is": score, "gray": gray}}

    base = [line(0, 50.0, 40.0), line(1, 51.0, 40.0)]
    assert trials.judge(base, [line(seed, score, row) for seed, score in enumerate(scores)]) == verdict
