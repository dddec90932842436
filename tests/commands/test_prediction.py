"""`tokenpose predict`."""

import json
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
from PIL import Image

from tokenpose.commands.options import DEFAULT_DETECTOR
from tokenpose.detection import detect
from tokenpose.predictor import predict
from tokenpose.skeletons import LSP

from .running import BOX, BOXES_FILES, names, read, run, save_noise


def test_predict_writes_a_picture_and_a_coco_file_that_hold_what_the_library_says(photos, weights, model):
    result = run("predict", "photos/b.jpg", "--box", BOX, "--box", "0,0,80,60", "--weights", weights)
    assert result.stdout == "2 people in 1 image: poses/b.poses.jpg\n"
    assert result.stderr == ""
    assert names("poses") == ["b.json", "b.poses.jpg"]
    content = read("poses/b.json")
    assert content["images"] == [{"id": 1, "file_name": "photos/b.jpg", "width": 80, "height": 60}]
    assert content["categories"][0]["keypoints"] == list(LSP.keypoints)
    assert content["categories"][0]["skeleton"][0] == [1, 2]
    poses = predict(model, "photos/b.jpg", [[5, 5, 50, 50], [0, 0, 80, 60]])
    for annotation, points, scores in zip(content["annotations"], poses.keypoints, poses.scores, strict=True):
        triples = np.array(annotation["keypoints"]).reshape(14, 3)
        np.testing.assert_allclose(triples[:, :2], points, atol=1e-3)
        assert (triples[:, 2] == 2).all()
        np.testing.assert_allclose(annotation["scores"], scores.clip(0, 1), atol=1e-3)
    assert [annotation["bbox"] for annotation in content["annotations"]] == [[5, 5, 45, 45], [0, 0, 80, 60]]


def test_pictures_of_small_images_are_enlarged_and_drawn_upon(photos, weights):
    run("predict", "photos/a.png", "--box", BOX, "--weights", weights, "--threshold", -1)
    with Image.open("poses/a.poses.png") as drawn, Image.open("photos/a.png") as photo:
        assert drawn.size == (480, 360)  # 80 x 60, six times
        enlarged = photo.resize(drawn.size, Image.Resampling.LANCZOS)
        changed = (np.asarray(drawn) != np.asarray(enlarged)).any(axis=-1)
    assert 0.001 < changed.mean() < 0.5


def test_threshold_hides_keypoints_in_the_picture_but_not_in_the_file(photos, weights):
    run("predict", "photos/a.png", "--box", BOX, "--weights", weights, "--threshold", 100)
    with Image.open("poses/a.poses.png") as drawn, Image.open("photos/a.png") as photo:
        assert np.array_equal(np.asarray(drawn), np.asarray(photo.resize(drawn.size, Image.Resampling.LANCZOS)))
    assert len(read("poses/a.json")["annotations"][0]["keypoints"]) == 14 * 3


def test_written_files_are_read_by_pycocotools_and_as_boxes(photos, weights, capsys):
    from pycocotools.coco import COCO

    run("predict", "photos/a.png", "--box", BOX, "--weights", weights)
    assert len(COCO("poses/a.json").loadAnns([1])[0]["keypoints"]) == 42
    again = run("predict", "photos/a.png", "--boxes", "poses/a.json", "--weights", weights, "--output", "again")
    assert again.stderr == ""
    assert read("again/a.json") == read("poses/a.json")


def test_folder_stands_for_its_images_but_not_for_pictures_drawn_before(photos, weights):
    save_noise(photos / "old.poses.png")
    (photos / "notes.txt").write_text("not an image")
    result = run("predict", photos, "--weights", weights, "--output", "out")
    assert result.stdout == "3 people in 3 images: out\n"
    assert [name for name in names("out") if name.endswith(".json")] == ["007.json", "a.json", "b.json"]


def test_ids_are_numbers_in_names_else_positions(photos, weights):
    run("predict", "photos/a.png", "photos/007.png", "photos/b.jpg", "--weights", weights)
    assert [read(f"poses/{stem}.json")["images"][0]["id"] for stem in ("a", "007", "b")] == [1, 7, 3]


def test_without_boxes_the_whole_image_is_one_person_and_a_warning_says_so_once(photos, weights):
    result = run("predict", photos, "--weights", weights)
    assert (
        result.stderr
        == "warning: no boxes given: the whole image is taken as one person; give --detect, --box or --boxes\n"
    )
    assert read("poses/a.json")["annotations"][0]["bbox"] == [0, 0, 80, 60]


def test_people_of_a_group_photograph_are_found_and_posed(photos, weights, model, detector_weights):
    boxes = detect("photos/a.png", detector_weights)
    assert len(boxes) > 1
    result = run("predict", "photos/a.png", "--detect", "--detector", detector_weights, "--weights", weights)
    assert result.stdout == f"{len(boxes)} people in 1 image: poses/a.poses.png\n"
    assert result.stderr == ""
    poses = predict(model, "photos/a.png", boxes)
    for annotation, box, points in zip(read("poses/a.json")["annotations"], boxes, poses.keypoints, strict=True):
        np.testing.assert_allclose(annotation["bbox"], [*box[:2], *(box[2:] - box[:2])], atol=1e-3)
        np.testing.assert_allclose(np.array(annotation["keypoints"]).reshape(14, 3)[:, :2], points, atol=1e-2)


@pytest.mark.parametrize("batch_size", [1, 64])
def test_people_are_found_in_each_photograph_of_a_folder(photos, weights, detector_weights, batch_size):
    (photos / "broken.png").write_text("not an image")
    Image.fromarray(np.zeros((50, 30, 3), dtype=np.uint8)).save(photos / "dark.png")
    given = ("--detector", detector_weights, "--weights", weights, "--batch-size", batch_size)
    result = run("predict", photos, "--detect", *given, exit_code=1)
    assert result.stderr == "error: photos/broken.png is not an image that can be read\n"
    counts = {path.stem: len(detect(path, detector_weights)) for path in photos.iterdir() if path.stem != "broken"}
    assert result.stdout == f"{sum(counts.values())} people in 4 images: poses\n"
    assert {stem: len(read(f"poses/{stem}.json")["annotations"]) for stem in counts} == counts


def test_photograph_without_people_is_named_and_written_without_annotations(photos, weights, detector_weights):
    given = ("--detector", detector_weights, "--detection-threshold", 1, "--weights", weights)
    result = run("predict", "photos/a.png", "photos/b.jpg", "--detect", *given)
    assert result.stderr == "warning: photos/a.png: nobody was found\nwarning: photos/b.jpg: nobody was found\n"
    assert result.stdout == "0 people in 2 images: poses\n"
    assert names("poses") == ["a.json", "a.poses.png", "b.json", "b.poses.jpg"]
    assert read("poses/a.json")["annotations"] == []


def test_detector_that_is_not_known_or_cannot_be_downloaded_is_an_error_before_anything_is_written(
    photos, weights, detector_weights, monkeypatch
):
    def refuse(*_: object, **__: object) -> None:
        raise URLError("no network here")

    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    result = run("predict", "photos/a.png", "--detect", "--weights", weights, exit_code=1)
    assert result.stderr.startswith(f"error: {DEFAULT_DETECTOR}-fb6a3cc7.pth can't be downloaded from https://")
    assert "<urlopen error no network here>; put the file there yourself, or give boxes" in result.stderr
    assert result.stderr.count("\n") == 1
    result = run("predict", "photos/a.png", "--detect", "--detector", "yolo", "--weights", weights, exit_code=1)
    assert result.stderr.startswith("error: torchvision has no detector named 'yolo'; did you mean ")
    assert not Path("poses").exists()


@pytest.mark.parametrize("form", BOXES_FILES)
@pytest.mark.parametrize("batch_size", [1, 64])
def test_boxes_file_of_each_form_gives_each_image_its_people(photos, weights, form, batch_size):
    Path("boxes.json").write_text(json.dumps(BOXES_FILES[form]))
    result = run("predict", photos, "--boxes", "boxes.json", "--weights", weights, "--batch-size", batch_size)
    assert result.stdout == "3 people in 3 images: poses\n"
    boxes = {stem: [a["bbox"] for a in read(f"poses/{stem}.json")["annotations"]] for stem in ("a", "b", "007")}
    assert boxes == {"a": [[5, 5, 45, 45]], "b": [], "007": [[0, 0, 9, 9], [0, 0, 80, 60]]}
    missing = "warning: boxes.json has no boxes for 1 of the images: photos/b.jpg\n"
    assert result.stderr == (missing if form == "records" else "")


def test_flip_test_and_decoder_reach_the_predictor(photos, weights):
    run("predict", "photos/a.png", "--box", BOX, "--weights", weights, "--output", "plain", "--decoder", "argmax")
    run("predict", "photos/a.png", "--box", BOX, "--weights", weights, "--output", "flip", "--flip-test")
    assert read("plain/a.json")["annotations"] != read("flip/a.json")["annotations"]


def test_images_of_one_stem_do_not_overwrite_each_other(photos, weights):
    Path("more").mkdir()
    save_noise(Path("more/a.png"), 9)
    save_noise(Path("more/A-2.png"), 10)
    result = run("predict", "photos/a.png", "more", "photos/../photos/a.png", "--weights", weights)
    assert "warning: several images are named a: the results of more/a.png are named a-3\n" in result.stderr
    files = [name for name in names("poses") if name.endswith(".json")]
    assert files == ["A-2.json", "a-3.json", "a.json"]
    assert [read(f"poses/{name}")["images"][0]["file_name"] for name in files] == [
        "more/A-2.png",
        "more/a.png",
        "photos/a.png",
    ]


def test_boxes_file_is_not_overwritten(photos, weights):
    Path("a.json").write_text(json.dumps({"a.png": [[5, 5, 50, 50]]}))
    result = run("predict", "photos/a.png", "--boxes", "a.json", "--output", ".", "--weights", weights, exit_code=1)
    assert result.stderr == "error: the results would overwrite the boxes file a.json; choose another --output\n"


def test_unreadable_image_is_reported_and_the_others_are_done(photos, weights):
    (photos / "broken.png").write_text("not an image")
    result = run("predict", photos, "--weights", weights, exit_code=1)
    assert "error: photos/broken.png is not an image that can be read\n" in result.stderr
    assert result.stdout == "3 people in 3 images: poses\n"
    assert len(names("poses")) == 6


def test_a_single_image_that_cannot_be_read_names_no_picture(photos, weights):
    (photos / "broken.png").write_text("not an image")
    result = run("predict", "photos/broken.png", "--box", BOX, "--weights", weights, exit_code=1)
    assert result.stdout == "0 people in 0 images: poses\n"
    assert names("poses") == []


def test_box_without_area_is_an_error_that_names_the_image(photos, weights):
    result = run("predict", "photos/a.png", "--box", "10,10,5,50", "--weights", weights, exit_code=1)
    assert result.stderr.startswith("error: photos/a.png: box 0 is [10.0, 10.0, 5.0, 50.0] (xyxy); it must be")


PREDICT_ERRORS = {
    "there is no boxes file none.json": ("photos", "--boxes", "none.json"),
    "there is no weights file none.safetensors": ("photos/a.png", "--box", BOX, "--weights", "none.safetensors"),
    "there is no decoder 'best'; there are argmax": ("photos/a.png", "--box", BOX, "--decoder", "best"),
    "there are no bundled weights for tokenpose_l_d24.coco_384x288": (
        *("photos/a.png", "--box", BOX),
        *("--model", "tokenpose_l_d24.coco_384x288"),
    ),
    "there is no model named 'tokenpose_z'": ("photos/a.png", "--box", BOX, "--model", "tokenpose_z"),
    "there are no images (.jpg .jpeg": ("empty",),
}


@pytest.mark.parametrize("message", PREDICT_ERRORS)
def test_error_of_predict_is_one_line(photos, weights, message):
    Path("empty").mkdir()
    arguments = PREDICT_ERRORS[message]
    given = () if "--weights" in arguments or "--model" in arguments else ("--weights", weights)
    result = run("predict", *arguments, *given, exit_code=1)
    assert result.stderr.startswith(f"error: {message}")
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_a_box_outside_its_photograph_fails_that_one_and_no_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png"):
        Image.new("RGB", (80, 60)).save(name)
    Path("boxes.json").write_text(json.dumps({"a.png": [[5, 5, 40, 50]], "b.png": [[100, 5, 140, 50]]}))
    result = run("predict", "a.png", "b.png", "--boxes", "boxes.json", exit_code=1)
    assert "b.png: box 0 is [100.0, 5.0, 140.0, 50.0] (xyxy), wholly outside the image of width 80 and" in result.stderr
    assert sorted(path.name for path in Path("poses").iterdir()) == ["a.json", "a.poses.png"]


def test_optimised_predictions_are_the_models(photos, weights, unchecked):
    for folder, extra in (("plain", []), ("fast", ["--optimize"])):
        run("predict", "photos/a.png", "--box", BOX, "--weights", weights, "--output", folder, *extra)
    plain, fast = (json.loads(Path(folder, "a.json").read_text())["annotations"][0] for folder in ("plain", "fast"))
    np.testing.assert_allclose(fast["keypoints"], plain["keypoints"], rtol=0, atol=0.1)


def test_file_in_the_way_of_the_output_folder_is_named(photos, weights):
    Path("poses").write_text("mine")
    result = run("predict", "photos/a.png", "--box", BOX, "--weights", weights, exit_code=1)
    assert result.stderr == "error: poses is a file, where a folder is needed; choose another output\n"
    assert Path("poses").read_text() == "mine"
