import csv
import dataclasses
import inspect
import json
import logging
import subprocess
import sys
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

from tokenpose.attention.computation import attention_maps
from tokenpose.attention.maps import AttentionMaps
from tokenpose.cli import app
from tokenpose.commands.options import DEFAULT_DETECTOR
from tokenpose.commands.training import train_command
from tokenpose.data.augment import Augmentation
from tokenpose.data.coco import read_coco
from tokenpose.data.sources import ImageSource
from tokenpose.detection import detect
from tokenpose.jobs.photographs import choose_photographs, draw_sheet, find_images, predict_photographs
from tokenpose.models.create import create_model
from tokenpose.models.tokenpose import TokenPose
from tokenpose.models.weights import read_weights, write_weights
from tokenpose.models.zoo import list_models
from tokenpose.predictor import PosePredictor, predict
from tokenpose.skeletons import LSP
from tokenpose.training.settings import TrainingSettings

BOX = "5,5,50,50"


def run(*arguments: object, exit_code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exit_code != exit_code:
        pytest.fail(f"exit code {result.exit_code}: {result.output} {result.exception!r}", pytrace=False)
    return result


@pytest.fixture(scope="module")
def model() -> TokenPose:
    torch.manual_seed(0)
    return create_model("tokenpose_t.lsp_256x192", image_size=(64, 48), depth=2, heads=4)


@pytest.fixture(scope="module")
def weights(model, tmp_path_factory) -> Path:
    """The file of a small model with random weights."""
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    write_weights(model, path)
    return path


@pytest.fixture
def photos(tmp_path, monkeypatch) -> Path:
    """The working folder, with photos/a.png, b.jpg, 007.png of 80 x 60 pixels."""
    monkeypatch.chdir(tmp_path)
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    folder = Path("photos")
    folder.mkdir()
    for seed, name in enumerate(("a.png", "b.jpg", "007.png")):
        save_noise(folder / name, seed)
    return folder


def save_noise(path: Path, seed: int = 0) -> None:
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (60, 80, 3), dtype=np.uint8)).save(path)


def read(path: str | Path) -> dict:
    return json.loads(Path(path).read_text())


def names(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


# The command itself


def test_help_names_all_commands():
    result = run("--help")
    assert result.stderr == ""
    for command in ("list", "predict", "train", "evaluate", "attention", "check", "convert", "export"):
        assert f"\n  {command} " in result.stdout


@pytest.mark.parametrize("command", ["list", "predict", "train", "evaluate", "attention", "check", "convert", "export"])
def test_help_of_each_command_has_an_example(command):
    assert f"  tokenpose {command} " in run(command, "--help").stdout


def test_version_is_printed():
    from tokenpose import __version__

    assert run("--version").stdout == f"tokenpose {__version__}\n"


def test_without_arguments_help_is_shown_with_the_exit_code_of_wrong_usage():
    assert "Usage: " in run(exit_code=2).output


def test_unknown_command_and_option_are_wrong_usage():
    assert "No such command 'predcit'" in run("predcit", exit_code=2).stderr
    assert "--boxen" in run("predict", "a.jpg", "--boxen", "b", exit_code=2).stderr


def test_help_is_fast_for_want_of_torch(run_python):
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom tokenpose.cli import app\n"
        "for arguments in (['--help'], ['predict', '--help'], ['list']):\n"
        "    assert CliRunner().invoke(app, arguments).exit_code == 0\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    run_python(code)


def test_module_runs_as_the_command(tmp_path):
    process = subprocess.run(
        [sys.executable, "-m", "tokenpose", "list", "tokenpose_l_d24*"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        check=True,
    )
    assert process.stdout == "tokenpose_l_d24.coco_256x192\ntokenpose_l_d24.coco_384x288\n"
    assert process.stderr == ""


def test_error_is_one_line_on_standard_error_and_debug_shows_more(photos):
    result = run("predict", "missing.jpg", exit_code=1)
    assert (result.stdout, result.stderr) == ("", "error: there is no image or folder missing.jpg\n")
    debugged = CliRunner().invoke(app, ["--debug", "predict", "missing.jpg"])
    assert isinstance(debugged.exception, FileNotFoundError)


def test_bugs_are_not_swallowed(photos, weights, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise KeyError("bug")

    monkeypatch.setattr("tokenpose.jobs.photographs.draw_poses", fail)
    result = CliRunner().invoke(app, ["predict", "photos/a.png", "--weights", str(weights), "--box", BOX])
    assert isinstance(result.exception, KeyError)


def test_verbose_says_what_is_done_and_logging_is_restored(photos, weights):
    before = logging.getLogger("tokenpose").level, list(logging.getLogger("tokenpose").handlers)
    quiet, verbose = (
        run(*flags, "predict", "photos/a.png", "--weights", weights, "--box", BOX) for flags in ((), ("-v",))
    )
    assert quiet.stderr == ""
    assert "read" in verbose.stderr
    assert "lsp, image_size (64, 48)" in verbose.stderr
    assert (logging.getLogger("tokenpose").level, logging.getLogger("tokenpose").handlers) == before


# list


def test_list_prints_a_name_a_line():
    assert run("list").stdout.splitlines() == list_models()
    assert run("list", "tokenpose_s*").stdout.splitlines() == list_models("tokenpose_s*")


def test_list_of_nothing_is_an_error():
    assert run("list", "hrnet*", exit_code=1).stderr == "error: no model matches 'hrnet*'; see: tokenpose list\n"


def test_list_of_pretrained_shows_those_whose_weights_ship():
    shipped = list_models(pretrained=True)
    result = CliRunner().invoke(app, ["list", "--pretrained"])
    assert result.stdout.splitlines() == shipped
    assert result.exit_code == (0 if shipped else 1)


# predict


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
        np.testing.assert_allclose(triples[:, 2], scores, atol=1e-3)
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


def test_people_are_looked_for_when_their_photograph_is_read(photos, model):
    searched: list[tuple[int, ...]] = []

    def find_boxes(pixels: torch.Tensor) -> np.ndarray:
        searched.append(tuple(pixels.shape))
        return np.array([[5, 5, 50, 50]], dtype=np.float32)

    photographs = choose_photographs(find_images([photos]), None, [], Path("poses"))
    found = predict_photographs(PosePredictor(model), photographs, 1, [], find_boxes)
    for count in (1, 2, 3):
        _, poses = next(found)
        assert poses.boxes.tolist() == [[5, 5, 50, 50]]
        assert searched == [(3, 60, 80)] * count


DETECT_USAGE = {
    "--detector and --detection-threshold need --detect": [
        ("--detector", "ssd300_vgg16"),
        ("--detection-threshold", 0),
    ],
    "give --detect, --box or --boxes, only one": [("--detect", "--box", BOX), ("--detect", "--boxes", "boxes.json")],
    "--detection-threshold": [("--detect", "--detection-threshold", "1.5"), ("--detect", "--detection-threshold", "x")],
}


@pytest.mark.parametrize("message", DETECT_USAGE)
def test_options_of_detection_that_contradict_are_wrong_usage(photos, weights, message):
    for arguments in DETECT_USAGE[message]:
        assert message in run("predict", "photos/a.png", *arguments, "--weights", weights, exit_code=2).stderr


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


def test_help_tells_the_defaults_of_detect():
    parameters, text = inspect.signature(detect).parameters, " ".join(run("predict", "--help").stdout.split())
    assert parameters["detector"].default == DEFAULT_DETECTOR
    assert f"Default: {DEFAULT_DETECTOR}." in text
    assert f"Default: {parameters['threshold'].default}." in text


BOXES_FILES = {
    "names": {"a.png": [[5, 5, 50, 50]], "b.jpg": [], "007.png": [[0, 0, 9, 9], [0, 0, 80, 60]]},
    "records": [
        {"file_name": "a.png", "bbox": [5, 5, 45, 45]},
        {"image_id": 7, "bbox": [0, 0, 9, 9]},
        {"image_id": 7, "bbox": [0, 0, 80, 60]},
    ],
    "annotations": {
        "images": [{"id": 7, "file_name": "007.png"}, {"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.jpg"}],
        "annotations": [
            {"image_id": 7, "bbox": [0, 0, 9, 9]},
            {"image_id": 7, "bbox": [0, 0, 80, 60]},
            {"image_id": 1, "bbox": [5, 5, 45, 45]},
        ],
    },
}


@pytest.mark.parametrize("form", BOXES_FILES)
@pytest.mark.parametrize("batch_size", [1, 64])
def test_boxes_file_of_each_form_gives_each_image_its_people(photos, weights, form, batch_size):
    Path("boxes.json").write_text(json.dumps(BOXES_FILES[form]))
    result = run("predict", photos, "--boxes", "boxes.json", "--weights", weights, "--batch-size", batch_size)
    assert result.stdout == "3 people in 3 images: poses\n"
    boxes = {stem: [a["bbox"] for a in read(f"poses/{stem}.json")["annotations"]] for stem in ("a", "b", "007")}
    assert boxes == {"a": [[5, 5, 45, 45]], "b": [], "007": [[0, 0, 9, 9], [0, 0, 80, 60]]}
    missing = "warning: boxes.json names 1 of the images not at all: photos/b.jpg\n"
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
    assert "warning: there is more than one a: the results of more/a.png are named a-3\n" in result.stderr
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


def test_wrong_boxes_on_the_command_line_are_wrong_usage(photos, weights):
    assert "a box is four numbers x1,y1,x2,y2; got '1,2,3'" in run(
        "predict", "photos/a.png", "--box", "1,2,3", exit_code=2
    ).stderr.replace("\n", " ")
    assert "--box is for a single image" in run("predict", photos, "--box", BOX, exit_code=2).stderr
    assert "not both" in run("predict", "photos/a.png", "--box", BOX, "--boxes", "b.json", exit_code=2).stderr


def test_box_without_area_is_an_error_that_names_the_image(photos, weights):
    result = run("predict", "photos/a.png", "--box", "10,10,5,50", "--weights", weights, exit_code=1)
    assert result.stderr.startswith("error: photos/a.png: box 0 is [10.0, 10.0, 5.0, 50.0] (xyxy); it must be")


PREDICT_ERRORS = {
    "there is no boxes file none.json": ("photos", "--boxes", "none.json"),
    "there is no weights file none.safetensors": ("photos/a.png", "--box", BOX, "--weights", "none.safetensors"),
    "there is no decoder 'best'; there are argmax": ("photos/a.png", "--box", BOX, "--decoder", "best"),
    "no weights ship for tokenpose_l_d24.coco_384x288": (
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


def test_model_that_contradicts_the_weights_is_an_error(photos, weights):
    result = run("predict", "photos/a.png", "--box", BOX, "--weights", weights, "--model", "tokenpose_b", exit_code=1)
    assert "model.safetensors is not a tokenpose_b" in result.stderr


def test_unknown_device_is_wrong_usage(photos):
    assert (
        "no kind of device 'abacus'"
        in run("predict", "photos/a.png", "--box", BOX, "--device", "abacus", exit_code=2).stderr
    )
    if not torch.cuda.is_available():
        result = run("predict", "photos/a.png", "--box", BOX, "--device", "cuda:1", exit_code=2)
        assert "there is no cuda device on this machine; use cpu" in result.stderr


def test_no_progress_bar_where_standard_error_is_no_terminal(photos, weights):
    Path("boxes.json").write_text(json.dumps(BOXES_FILES["names"]))
    assert run("predict", photos, "--boxes", "boxes.json", "--weights", weights).stderr == ""


def test_progress_bar_over_several_images_on_a_terminal(photos, weights, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # what rich takes for a terminal
    monkeypatch.setenv("TERM", "xterm")
    Path("boxes.json").write_text(json.dumps(BOXES_FILES["names"]))
    result = run("predict", photos, "--boxes", "boxes.json", "--weights", weights)
    assert "3/3" in result.stderr
    assert result.stdout == "3 people in 3 images: poses\n"
    assert run("predict", "photos/a.png", "--box", BOX, "--weights", weights).stderr == ""


# train, evaluate


@pytest.fixture
def labelled(photos) -> Path:
    """A COCO keypoint file of the three photos, a person each, keypoints on a grid."""
    keypoints = [value for index in range(14) for value in (10 + 4 * (index % 7), 10 + 20 * (index // 7), 2)]
    images = [
        {"id": index, "file_name": name, "width": 80, "height": 60}
        for index, name in enumerate(("a.png", "b.jpg", "007.png"))
    ]
    annotations = [
        {
            "id": index,
            "image_id": index,
            "category_id": 1,
            "bbox": [5, 5, 45, 45],
            "keypoints": keypoints,
            "num_keypoints": 14,
            "iscrowd": 0,
        }
        for index in range(3)
    ]
    category = {"id": 1, "name": "person", "keypoints": list(LSP.keypoints), "skeleton": []}
    path = Path("labelled.json")
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [category]}))
    return path


TINY = (
    *("--model", "tokenpose_t", "--image-size", "64x48", "--spec", "depth=2", "--spec", "heads=4"),
    *("--spec", "width=48", "--spec", "patch_size=[16,12]", "--guidance", "0", "--patches", "0"),
    *("--epochs", "1", "--batch-size", "3", "--scale", "0.1", "--color", "0.2"),
)


def test_every_setting_of_training_is_an_option():
    fields = {field.name for kind in (TrainingSettings, Augmentation) for field in dataclasses.fields(kind)}
    assert fields - {"augmentation"} <= inspect.signature(train_command).parameters.keys()


def test_help_of_train_shows_the_defaults_of_the_settings():
    text = " ".join(run("train", "--help").stdout.split())
    settings = TrainingSettings()
    assert f"[default: {settings.batch_size}]" in text
    assert f"[default: {settings.weight_decay}]" in text
    assert f"[default: {settings.augmentation.rotation}]" in text


def test_training_writes_weights_that_evaluate_reads(labelled, photos):
    place = ("--images", photos)
    result = run("train", "--train", labelled, "--val", labelled, *place, "--output", "run", *TINY)
    assert result.stdout.splitlines()[-1] == str(Path("run/model.safetensors"))
    settings = read("run/settings.json")
    assert (settings["batch_size"], settings["augmentation"]["scale"], settings["seed"]) == (3, 0.1, 0)
    spec = read_weights("run/model.safetensors").spec
    assert (spec.image_size, spec.depth, spec.skeleton, spec.heatmap_activation) == ((64, 48), 2, LSP, "softmax")

    figures = ("--output", "out/figures.json", "--sheet", "out/sheet.png", "--sheet-count", "2")
    measured = run("evaluate", "--weights", "run/model.safetensors", "--data", labelled, *place, *figures)
    assert "PCK by torso: 3 people, 42 keypoints" in measured.stdout
    assert read("out/figures.json")["pck"][0]["keypoint_count"] == 42
    with Image.open("out/sheet.png") as sheet:
        assert sheet.size == (2 * (482 + 6) + 6, 240 + 18 + 12)


def test_training_says_what_was_left_out_and_each_epoch(labelled, photos):
    result = run("train", "--train", labelled, "--val", labelled, "--images", photos, "--output", "run", *TINY)
    assert "labelled.json: 3 annotations: 3 people; left out: none" in result.stderr
    assert "epoch 1, step 1, samples 3" in result.stderr


def test_one_of_several_categories_is_trained_and_measured(labelled, photos):
    content = json.loads(labelled.read_text())
    content["categories"].append({**content["categories"][0], "id": 2, "name": "statue"})
    labelled.write_text(json.dumps(content))
    place = ("--images", photos)
    given = ("--train", labelled, "--val", labelled, *place, "--output", "run", *TINY)
    assert "it has: person, statue; say which: --category NAME" in run("train", *given, exit_code=1).stderr
    run("train", *given, "--category", "person")
    measured = run("evaluate", "--weights", "run/model.safetensors", "--data", labelled, *place, "--category", "person")
    assert "PCK by torso: 3 people, 42 keypoints" in measured.stdout
    given = ("--weights", "run/model.safetensors", "--data", labelled, *place, "--category", "statue")
    assert "has no labelled people" in run("evaluate", *given, exit_code=1).stderr


def test_model_that_was_trained_with_renamed_keypoints_is_measured_on_the_file_as_it_is(labelled, photos):
    content = json.loads(labelled.read_text())
    content["categories"][0]["keypoints"][12] = "throat"
    labelled.write_text(json.dumps(content))
    place, rename = ("--images", photos), ("--rename", "throat=neck")
    run("train", "--train", labelled, "--val", labelled, *place, "--output", "run", *TINY, *rename)
    given = ("evaluate", "--weights", "run/model.safetensors", "--data", labelled, *place)
    assert (
        "left out: COCO's AP needs a model with all the data's keypoints; this one has no throat" in run(*given).stdout
    )
    measured = run(*given, *rename, "--sheet", "sheet.png", "--output", "figures.json").stdout
    assert "PCK by torso: 3 people, 42 keypoints" in measured
    assert "\nneck " in measured
    assert "sigmas estimated for neck, head_top" in measured
    assert read("figures.json")["coco"]["figures"]["AP"] is not None
    assert Path("sheet.png").exists()
    message = run(*given, "--rename", "tail=neck", exit_code=1).stderr
    assert message.startswith("error: labelled.json has no keypoint 'tail' to rename; it has right_ankle, ")


def test_box_threshold_goes_with_boxes(labelled, photos):
    given = ("--data", labelled, "--images", photos, "--box-threshold", "0.5")
    assert "labelled boxes have no scores" in run("evaluate", *given, exit_code=2).stderr


def test_training_twice_from_one_seed_gives_the_same_weights(labelled, photos):
    first, second = (
        run("train", "--train", labelled, "--val", labelled, "--images", photos, "--output", output, *TINY)
        and read_weights(f"{output}/model.safetensors").tensors
        for output in ("one", "two")
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


TRAIN_USAGE = {
    "a size is HEIGHTxWIDTH, 256x192 for example; got '256'": ("--image-size", "256"),
    "a change is FIELD=VALUE, depth=6 for example; got 'depth'": ("--spec", "depth"),
    "whole numbers are needed, 4,5,6 for example; got '4;5'": ("--milestones", "4;5"),
    "a change is OLD=NEW, throat=neck for example; got 'neck'": ("--rename", "neck"),
    "a change is OLD=NEW, throat=neck for example; got 'neck='": ("--rename", "neck="),
    "'neck' gets two new names; give one": ("--rename", "neck=throat", "--rename", "neck=nape"),
    "skeleton can't be set by it: the keypoints are the files'; --rename": ("--spec", "skeleton=3"),
    "keypoints can't be set by it: the keypoints are the files'; --rename": ("--spec", "keypoints=3"),
    "weights can't be set by it: give --weights": ("--spec", "weights=a.safetensors"),
}


@pytest.mark.parametrize("message", TRAIN_USAGE)
def test_wrong_option_of_train_is_wrong_usage(labelled, photos, message):
    given = ("--train", labelled, "--val", labelled, "--images", photos, "--output", "run")
    result = run("train", *given, *TRAIN_USAGE[message], exit_code=2)
    assert message in " ".join(result.stderr.split())
    assert not Path("run").exists()


def test_contradictions_and_places_of_train_are_told_before_files_are_read(photos):
    given = ("--train", "none.json", "--val", "none.json", "--images", photos)
    result = run("train", *given, "--output", "run", "--weights", "a.safetensors", "--pretrained", exit_code=2)
    assert "give --weights or --pretrained, not both" in result.stderr
    Path("file").touch()
    said = run("train", *given, "--output", "file", exit_code=1).stderr
    assert said == "error: the output file is a file, and a run needs a folder: give another\n"
    said = run("train", *given, "--output", "none", "--resume", exit_code=1).stderr
    assert said == f"error: there is no checkpoint {Path('none/checkpoint.pt')} to resume from\n"
    assert not Path("none").exists()


def test_settings_file_of_a_run_is_a_recipe_that_knows_how_its_data_were_read(labelled, photos):
    given = ("train", "--train", labelled, "--val", labelled, "--images", photos)
    run(*given, "--output", "run", *TINY, "--rename", "neck=throat")
    data = read("run/settings.json")["data"]
    assert data == {
        "train": [str(labelled)], "val": [str(labelled)], "images": [str(photos)], "rename": {"neck": "throat"},
        "flip_pairs": None, "category": None,
    }  # fmt: skip
    run(*given, "--output", "again", "--recipe", "run/settings.json", "--guidance", "0", "--patches", "0")
    assert "throat" in read_weights("again/model.safetensors").spec.skeleton.keypoints


def test_setting_that_the_library_refuses_is_an_error(labelled, photos):
    given = ("--train", labelled, "--val", labelled, "--images", photos, "--output", "run")
    assert run("train", *given, "--average", "1", exit_code=1).stderr == "error: average must be in [0, 1); got 1.0\n"
    assert "ModelSpec has no field 'depht'" in run("train", *given, "--spec", "depht=2", exit_code=1).stderr


def test_figures_that_are_not_known_become_null(labelled, photos, weights):
    content = read(labelled)
    for annotation in content["annotations"]:
        annotation["keypoints"][2] = 0  # the first keypoint is labelled nowhere
    labelled.write_text(json.dumps(content))
    run("evaluate", "--weights", weights, "--data", labelled, "--images", photos, "--output", "pck.json")
    assert read("pck.json")["pck"][0]["per_keypoint"]["right_ankle"] is None
    assert read("pck.json")["epe"]["per_keypoint"]["right_ankle"]["mean"] is None


EVALUATE = ("--data", "labelled.json", "--images", "photos")


def test_figures_are_written_as_a_row_for_each_keypoint_and_one_for_all(labelled, photos, weights):
    given = ("--threshold", 0.5, "--threshold", 0.1, "--output", "out/figures.csv")
    result = run("evaluate", "--weights", weights, *EVALUATE, *given)
    rows = list(csv.DictReader(Path("out/figures.csv").read_text().splitlines()))
    assert [row["keypoint"] for row in rows] == [*LSP.keypoints, "all"]
    assert rows[-1]["labelled"] == "42"
    assert 0 <= float(rows[-1]["PCK@0.1"]) <= float(rows[-1]["PCK@0.5"]) <= 100
    assert f"{float(rows[-1]['AP']):.3f}" in result.stdout
    assert rows[0]["AP"] == ""


def test_sigmas_that_are_estimated_and_areas_that_are_made_up_are_said_to_be(labelled, photos, weights):
    said = run("evaluate", "--weights", weights, *EVALUATE, "--metric", "coco").stdout
    assert "COCO: OKS with sigmas estimated for neck, head_top, COCO's for the others" in said
    assert "note: 3 x an annotation has no area: 0.53 of the box is taken" in said
    assert "PCK" not in said


def test_people_are_evaluated_in_a_detectors_boxes(labelled, photos, weights):
    records = [
        {"image_id": index, "category_id": 1, "bbox": [5, 5, 45, 45], "score": score}
        for index, score in ((0, 0.9), (1, 0.8), (1, 0.1))
    ]
    Path("boxes.json").write_text(json.dumps(records))
    given = ("--boxes", "boxes.json", "--box-threshold", 0.5, "--output", "figures.json")
    said = run("evaluate", "--weights", weights, *EVALUATE, *given).stdout
    assert said.startswith("labelled.json: 3 people, 2 boxes of boxes.json in 2 images")
    assert "note: left out: PCK, PCKh and EPE need the labelled boxes" in said
    assert "note: 1 boxes left out: score below 0.5" in said
    figures = read("figures.json")
    assert (figures["pck"], figures["epe"], figures["pckh"]) == ([], None, None)
    assert (figures["coco"]["people"], figures["coco"]["predictions"]) == (3, 2)


EVALUATE_USAGE = {
    "a sheet is a .png or .jpg file; got sheet.txt": ("--sheet", "sheet.txt"),
    "figures go to a .json or .csv file; got figures.txt": ("--output", "figures.txt"),
    "people are drawn in their labelled boxes; leave --boxes out": ("--sheet", "sheet.png", "--boxes", "boxes.json"),
    "one file is measured at a time; got labelled.json, labelled.json": ("--data", "labelled.json"),
    "it is instead of --nms; give one of them": ("--nms", "0.8", "--soft-nms", "0.9"),
    "--threshold: with --boxes only coco is measured": ("--boxes", "boxes.json", "--threshold", "0.1"),
    "--unit: with --boxes only coco is measured": ("--boxes", "boxes.json", "--unit", "box"),
    "--threshold: it goes with --metric pck": ("--metric", "epe", "--threshold", "0.1"),
    "--unit: it goes with --metric pck or epe": ("--metric", "coco", "--unit", "box"),
    "--sheet-count: it needs --sheet": ("--sheet-count", "3"),
    "--sheet-order: it needs --sheet": ("--sheet-order", "worst"),
    "'arm' is not one of 'torso', 'head', 'box'": ("--unit", "arm"),
    "'ap' is not one of 'coco', 'pck', 'pckh', 'epe'": ("--metric", "ap"),
}


@pytest.mark.parametrize("message", EVALUATE_USAGE)
def test_wrong_option_of_evaluate_is_wrong_usage(labelled, photos, weights, message):
    result = run("evaluate", "--weights", weights, *EVALUATE, *EVALUATE_USAGE[message], exit_code=2)
    assert message in " ".join(result.stderr.split())


EVALUATE_ERRORS = {
    "there is no boxes file none.json": ("--boxes", "none.json"),
    "a PCK threshold must be a positive number of units; got 0.0": ("--threshold", "0"),
    "nms is a threshold of OKS in (0, 1]; got 2.0": ("--nms", "2"),
    "PCK, PCKh and EPE compare a person with their labels": ("--boxes", "none.json", "--metric", "pck"),
}


@pytest.mark.parametrize("message", EVALUATE_ERRORS)
def test_evaluation_that_makes_no_sense_is_an_error_in_one_line(labelled, photos, weights, message):
    result = run("evaluate", "--weights", weights, *EVALUATE, *EVALUATE_ERRORS[message], exit_code=1)
    assert result.stderr.startswith(f"error: {message}")
    assert result.stderr.count("\n") == 1


def test_sheet_of_the_worst_starts_with_the_largest_error(labelled, photos, weights, model):
    content = read(labelled)
    content["annotations"][2]["keypoints"] = [1000 if index % 3 < 2 else 2 for index in range(42)]
    labelled.write_text(json.dumps(content))
    for order in ("file", "worst"):
        given = ("--sheet", f"{order}.png", "--sheet-order", order, "--sheet-count", 1, "--sheet-threshold", 100)
        run("evaluate", "--weights", weights, *EVALUATE, *given)
    predictor, people, source = PosePredictor(model), read_coco(labelled), ImageSource("photos")
    for order, row in (("file", 0), ("worst", 2)):
        expected = draw_sheet(predictor, people.take(slice(row, row + 1)), source, 1, 100.0)
        with Image.open(f"{order}.png") as sheet:
            assert np.array_equal(np.asarray(sheet), expected)


def test_evaluation_on_real_photographs(data_folder, weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = read(data_folder / "lspet" / "person_keypoints_val.json")
    kept = {image["id"] for image in content["images"][:12]}
    content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] in kept]
    Path("val.json").write_text(json.dumps(content))
    given = ("--data", "val.json", "--images", data_folder / "lspet" / "val.tar", "--sheet", "sheet.png")
    result = run("evaluate", "--weights", weights, *given)
    assert "PCK by torso: 9 people, 115 keypoints, 3 people without a torso left out" in result.stdout
    with Image.open("sheet.png") as sheet:
        assert sheet.size == (5 * (482 + 6) + 6, 3 * (240 + 18 + 6) + 6)  # 12 people, 5 a row


# attention


def panels_of(path: str) -> list[dict]:
    _, _, rest = Path(path).read_text("utf-8").partition('<script type="application/json" id="people">')
    return json.loads(rest.partition("</script>")[0])


def test_attention_writes_a_page_of_what_the_library_says(photos, weights, model):
    given = ("--box", BOX, "--weights", weights, "--maps", "maps", "--output", "out/report.html")
    result = run("attention", "photos/b.jpg", *given)
    assert (result.stdout, result.stderr) == ("1 person in 1 image: out/report.html\n", "")
    (panel,) = panels_of("out/report.html")
    maps = attention_maps(model, "photos/b.jpg", [5, 5, 50, 50])
    assert panel["title"] == f"b.jpg, {weights}"
    assert panel["evidence"][0][0] == [maps.evidence(name, 0) for name in LSP.keypoints]
    assert names("maps") == ["b.1.npz"]
    np.testing.assert_allclose(AttentionMaps.load("maps/b.1.npz").to_image, maps.to_image, atol=1e-6)


def test_two_photographs_are_shown_side_by_side_and_whole_without_boxes(photos, weights):
    result = run("attention", "photos/a.png", "photos/b.jpg", "--weights", weights, "--output", "report.html")
    assert result.stdout == "2 people in 2 images: report.html\n"
    assert result.stderr.startswith("warning: no boxes given: the whole image is taken as one person")
    assert [panel["title"] for panel in panels_of("report.html")] == [f"a.png, {weights}", f"b.jpg, {weights}"]


def test_two_models_are_shown_side_by_side(photos, weights):
    given = ("--box", BOX, "--box", "0,0,80,60", "--weights", weights, "--compare-model", "tokenpose_s_v1")
    run("attention", "photos/a.png", *given, "--maps", "maps", "--output", "report.html")
    shipped = create_model("tokenpose_s_v1", pretrained=True).card["name"]
    assert [panel["title"] for panel in panels_of("report.html")] == [
        f"a.png, person {person} of 2, {name}" for person in (1, 2) for name in (weights, shipped)
    ]
    assert names("maps") == [f"a.{number}.npz" for number in (1, 2, 3, 4)]


def test_people_that_are_found_get_panels(photos, weights, detector_weights):
    count = len(detect("photos/a.png", detector_weights))
    given = ("--detect", "--detector", detector_weights, "--weights", weights, "--output", "report.html")
    assert run("attention", "photos/a.png", *given).stdout == f"{count} people in 1 image: report.html\n"
    assert len(panels_of("report.html")) == count
    result = run("attention", "photos/a.png", *given, "--detection-threshold", 1, exit_code=1)
    assert result.stderr == "error: there is nobody to show in photos/a.png; give a box with --box\n"


ATTENTION_ERRORS = {
    "a page has room for 4 panels, and there are 5 people; choose some with --box or --boxes": ("--box", BOX) * 5,
    "a page has room for 4 panels, and there are 3 people times 2 models;": (
        *("--box", BOX) * 3,
        *("--compare-model", "tokenpose_s_v1"),
    ),
    "photos/a.png: box 0 is [10.0, 10.0, 5.0, 50.0] (xyxy); it must be": ("--box", "10,10,5,50"),
    "photos/a.png: box 0 is [100.0, 5.0, 140.0, 50.0] (xyxy), wholly outside": ("--box", "100,5,140,50"),
    "there is no weights file none.safetensors": ("--box", BOX, "--compare-weights", "none.safetensors"),
    "there is no decoder 'best'; there are argmax": ("--box", BOX, "--decoder", "best"),
    "there is no boxes file none.json": ("--boxes", "none.json"),
}


@pytest.mark.parametrize("message", ATTENTION_ERRORS)
def test_error_of_attention_is_one_line_and_writes_nothing(photos, weights, message):
    given = (*ATTENTION_ERRORS[message], "--weights", weights, "--output", "report.html")
    result = run("attention", "photos/a.png", *given, exit_code=1)
    assert result.stderr.startswith(f"error: {message}")
    assert (result.stderr.count("\n"), result.stdout) == (1, "")
    assert not Path("report.html").exists()


def test_wrong_use_of_attention_is_told(photos, weights):
    image = ("attention", "photos/a.png")
    assert "Missing option '--output'" in run(*image, exit_code=2).stderr
    assert "a page is a .html file; got a.png" in run(*image, "--output", "a.png", exit_code=2).stderr
    both = run(*image, "--detect", "--box", BOX, "--output", "a.html", exit_code=2)
    assert "give --detect, --box or --boxes, only one" in both.stderr
    several = run(*image, "photos/b.jpg", "--box", BOX, "--output", "a.html", exit_code=2)
    assert "--box is for a single image" in several.stderr


# convert


@pytest.fixture
def published(golden, tmp_path, monkeypatch) -> dict[str, torch.Tensor]:
    """Tensors of T in the published names and shapes; the position table is sine and cosine of some angles."""
    monkeypatch.chdir(tmp_path)
    shapes = read(golden / "t.keys.json")["state_dict"]
    generator = torch.Generator().manual_seed(0)
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    angles = torch.rand(1, 256, 96, generator=generator)
    return {**tensors, "transformer.pos_embedding": torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)}


@pytest.mark.parametrize("nested", [False, True], ids=["state dict", "checkpoint"])
def test_converted_weights_are_the_published_ones(published, nested):
    torch.save({"epoch": 1, "state_dict": published} if nested else published, "t.pth")
    result = run("convert", "t.pth", "--model", "tokenpose_t.coco_256x192", "--output", "out/t.safetensors")
    assert result.stdout == f"{Path('out/t.safetensors')}\n"
    written = read_weights("out/t.safetensors")
    assert written.card == {"converted_from": "t.pth"}
    assert torch.equal(written.tensors["tokenizer.keypoint_tokens"], published["transformer.keypoint_token"])
    assert sum(tensor.numel() for tensor in written.tensors.values()) == sum(
        tensor.numel() for name, tensor in published.items() if not name.endswith("pos_embedding")
    )
    create_model("tokenpose_t.coco_256x192", weights="out/t.safetensors")


def test_checkpoint_of_another_variant_is_refused(published):
    torch.save(published, "t.pth")
    result = run(
        "convert", "t.pth", "--model", "tokenpose_s_v1.coco_256x192", "--output", "out.safetensors", exit_code=1
    )
    assert result.stderr.startswith("error: t.pth, read as a tokenpose_s_v1.coco_256x192: the weights don't fit")
    assert not Path("out.safetensors").exists()


def test_file_that_is_no_checkpoint_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("text.pth").write_text("not a checkpoint")
    torch.save({"code": Path("x")}, "code.pth")
    torch.save([1, 2], "list.pth")
    torch.save({"weight": torch.zeros(1)}, "other.pth")
    messages = {
        "none.pth": "there is no checkpoint none.pth",
        "text.pth": "text.pth is not a PyTorch checkpoint that holds nothing but tensors and plain values",
        "code.pth": "code.pth is not a PyTorch checkpoint that holds nothing but tensors and plain values",
        "list.pth": "list.pth holds no state dict: a mapping from names to tensors is needed",
        "other.pth": "not a published TokenPose state dict: 1 of 1 names unknown: weight",
    }
    for name, message in messages.items():
        result = run("convert", name, "--model", "tokenpose_t.coco_256x192", "--output", "out.safetensors", exit_code=1)
        assert result.stderr.startswith(f"error: {message}")
        assert result.stderr.count("\n") == 1


def test_a_box_outside_its_photograph_fails_that_one_and_no_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png"):
        Image.new("RGB", (80, 60)).save(name)
    Path("boxes.json").write_text(json.dumps({"a.png": [[5, 5, 40, 50]], "b.png": [[100, 5, 140, 50]]}))
    result = run("predict", "a.png", "b.png", "--boxes", "boxes.json", exit_code=1)
    assert "b.png: box 0 is [100.0, 5.0, 140.0, 50.0] (xyxy), wholly outside the image of width 80 and" in result.stderr
    assert sorted(path.name for path in Path("poses").iterdir()) == ["a.json", "a.poses.png"]


# export


@pytest.mark.slow
def test_exported_network_is_written_and_named(weights, tmp_path, unchecked):
    result = run("export", "--weights", weights, "--output", tmp_path / "new" / "model.onnx")
    assert result.stdout.split() == [str(tmp_path / "new" / "model.onnx")]
    assert (tmp_path / "new" / "model.onnx").stat().st_size > 100_000


def test_optimised_predictions_are_the_models(photos, weights, unchecked):
    for folder, extra in (("plain", []), ("fast", ["--optimize"])):
        run("predict", "photos/a.png", "--box", BOX, "--weights", weights, "--output", folder, *extra)
    plain, fast = (json.loads(Path(folder, "a.json").read_text())["annotations"][0] for folder in ("plain", "fast"))
    np.testing.assert_allclose(fast["keypoints"], plain["keypoints"], rtol=0, atol=0.1)
