"""Photographs in files: which, whose boxes, in order, and what is written."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tokenpose.data.coco import read_coco
from tokenpose.jobs.box_source import BoxSource
from tokenpose.jobs.photographs import (
    Photograph,
    choose_photographs,
    find_images,
    predict_photographs,
    write_photographs,
    write_poses,
)
from tokenpose.models.create import create_model
from tokenpose.poses import Poses
from tokenpose.predictor import PosePredictor
from tokenpose.skeletons import Skeleton

BOX = (5.0, 5.0, 50.0, 50.0)


@pytest.fixture(scope="module")
def predictor() -> PosePredictor:
    torch.manual_seed(0)
    return PosePredictor(create_model("tokenpose_t.lsp_256x192", image_size=(64, 48), depth=2, heads=4))


@pytest.fixture
def photos(tmp_path, monkeypatch) -> Path:
    """photos/a.png, b.png and c.png of 80 x 60 pixels in the working folder."""
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for name in ("a", "b", "c"):
        Image.new("RGB", (80, 60)).save(f"photos/{name}.png")
    return Path("photos")


def choose(source: BoxSource, output: str = "poses") -> list[Photograph]:
    return choose_photographs(find_images([Path("photos")]), source, Path(output))


def test_images_are_found_once_in_order(photos):
    assert find_images([photos / "b.png", photos]) == [photos / "b.png", photos / "a.png", photos / "c.png"]


def test_place_without_images_is_an_error(photos, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^there is no image or folder nowhere$"):
        find_images([Path("nowhere")])
    with pytest.raises(FileNotFoundError, match=r"photo.jpg; images are not downloaded$"):
        find_images([Path("https://example.org/photo.jpg")])
    with pytest.raises(FileNotFoundError, match=r"^there are no images \(.jpg .jpeg .*\) in the folder"):
        find_images([tmp_path])


def test_people_are_looked_for_when_their_photograph_is_read(photos, predictor):
    searched: list[tuple[int, ...]] = []

    def find_boxes(pixels: torch.Tensor) -> np.ndarray:
        searched.append(tuple(pixels.shape))
        return np.array([[5, 5, 50, 50]], dtype=np.float32)

    found = predict_photographs(predictor, choose(BoxSource()), find_boxes, 1)
    for count in (1, 2, 3):
        _, poses = next(found)
        assert poses.boxes.tolist() == [[5, 5, 50, 50]]
        assert searched == [(3, 60, 80)] * count


@pytest.mark.parametrize("broken", ["a", "b", "c", "ab", "bc", "abc", ""])
@pytest.mark.parametrize("batch_size", [1, 64])
def test_errors_stand_in_the_places_of_their_photographs(photos, predictor, broken, batch_size):
    for name in broken:
        (photos / f"{name}.png").write_text("not an image")
    done = list(predict_photographs(predictor, choose(BoxSource(given=[BOX])), batch_size=batch_size))
    assert [photograph.path.stem for photograph, _ in done] == ["a", "b", "c"]
    assert "".join(photograph.path.stem for photograph, poses in done if not isinstance(poses, Poses)) == broken
    assert all(isinstance(poses, Poses | OSError) for _, poses in done)


def test_box_outside_its_photograph_is_its_error(photos, predictor):
    (_, error), *others = predict_photographs(predictor, choose(BoxSource(given=[(100.0, 5.0, 140.0, 50.0)])))
    assert "wholly outside the image of width 80" in str(error)
    assert len(others) == 2


def test_photographs_are_written_and_counted_and_each_is_a_tick(photos, predictor, caplog):
    (photos / "b.png").write_text("not an image")
    ticks: list[None] = []
    done = write_photographs(predictor, choose(BoxSource(given=[BOX, BOX])), tick=lambda: ticks.append(None))
    assert (done.people, done.images, done.failed, len(ticks)) == (4, 2, 1, 3)
    assert caplog.messages == ["photos/b.png is not an image that can be read"]
    assert sorted(path.name for path in Path("poses").iterdir()) == ["a.json", "a.poses.png", "c.json", "c.poses.png"]


def test_results_may_not_overwrite_the_boxes_file(photos):
    Path("a.json").write_text(json.dumps({"a.png": [list(BOX)]}))
    with pytest.raises(ValueError, match=r"^the results would overwrite the boxes file a.json; choose another"):
        choose(BoxSource(file=Path("a.json")), ".")


def test_number_that_is_too_large_for_an_id_is_not_one(photos):
    for digits in (18, 19):
        Image.new("RGB", (80, 60)).save(photos / f"{'9' * digits}.png")
    assert [photograph.image_id for photograph in choose(BoxSource(given=[BOX]))] == [10**18 - 1, 2, 3, 4, 5]


def test_what_is_written_can_be_trained_on(photos, predictor):
    write_photographs(predictor, choose(BoxSource(given=[BOX]))[:1])
    (annotation,) = json.loads(Path("poses/a.json").read_text())["annotations"]
    assert annotation["keypoints"][2::3] == [2] * 14
    assert annotation["num_keypoints"] == len(annotation["scores"]) == 14
    samples = read_coco("poses/a.json")
    (found,) = predict_photographs(predictor, choose(BoxSource(given=[BOX]))[:1])
    np.testing.assert_allclose(samples.keypoints, found[1].keypoints, atol=1e-3)
    np.testing.assert_allclose(samples.weights, found[1].scores.clip(0, 1), atol=1e-4)


def test_scores_beyond_1_are_written_as_1(photos):
    poses = Poses(
        keypoints=np.zeros((1, 2, 2), dtype=np.float32),
        scores=np.array([[1.25, -0.5]], dtype=np.float32),
        boxes=np.array([BOX], dtype=np.float32),
        skeleton=Skeleton(name="fox", keypoints=("nose", "tail")),
    )
    photograph = choose(BoxSource())[0]
    photograph.picture.parent.mkdir()
    write_poses(photograph, poses, 0.1, draw_boxes=False)
    assert json.loads(photograph.record.read_text())["annotations"][0]["scores"] == [1, 0]
