"""`tokenpose import`, `tokenpose export-labels` and `tokenpose split`."""

import json
from pathlib import Path

import pytest

from ..drawing import draw_people
from .running import TINY, read, run, save_noise


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The working folder, with people.json and images/ of drawn people, and a.json of labelme."""
    monkeypatch.chdir(tmp_path)
    draw_people(tmp_path, 10)
    save_noise(tmp_path / "a.png")
    shapes = [
        {"label": label, "points": [[x, 20]], "shape_type": "point", "group_id": None, "flags": {}}
        for label, x in (("left_fin", 10), ("right_fin", 50))
    ]
    (tmp_path / "a.json").write_text(json.dumps({"version": "5.5", "shapes": shapes, "imagePath": "a.png"}))
    return tmp_path


def test_import_guesses_the_kind_says_what_it_did_and_writes_coco(folder):
    result = run("import", "a.json", "--output", "out/data.json")
    assert result.stdout == "out/data.json\n"
    assert result.stderr.splitlines() == [
        "a.json is read as labelme",
        "a.json: the keypoints are left_fin, right_fin",
        "a.json: 1 person in 1 image",
        "a.json: 1 person has a box made from keypoints: their extent, grown by 15 % on each side",
    ]
    content = read("out/data.json")
    assert content["annotations"][0]["keypoints"] == [10, 20, 2, 50, 20, 2]
    assert run("check", "out/data.json", "--images", ".").exit_code == 0


def test_import_takes_the_kind_and_its_options(folder):
    run(
        "import",
        "a.json",
        "--from",
        "labelme",
        "--keypoints",
        "right_fin, left_fin",
        "--images",
        ".",
        "--output",
        "data.json",
    )
    assert read("data.json")["categories"][0]["keypoints"] == ["right_fin", "left_fin"]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (("a.json", "--from", "paint"), 1, "there is no kind 'paint' of label files; there are cvat, label-studio"),
        (("a.json", "--split", "train"), 1, "files of the kind labelme are read without split"),
        (("b.json",), 1, "there is no file or folder b.json"),
        (("people.txt",), 1, "what kind of label file this is isn't plain; say which it is: --from KIND"),
    ],
)
def test_import_refuses_in_one_line(folder, arguments, exit_code, message):
    Path("people.txt").write_text("x")
    result = run("import", *arguments, "--output", "data.json", exit_code=exit_code)
    assert message in result.stderr.splitlines()[-1]
    assert not Path("data.json").exists()


def test_import_does_not_replace_the_labels(folder):
    result = run("import", "a.json", "--output", "./a.json", exit_code=2)
    assert "it would replace the labels" in " ".join(result.stderr.split())
    assert "a .json file; got data.txt" in " ".join(
        run("import", "a.json", "--output", "data.txt", exit_code=2).stderr.split()
    )


def test_images_of_a_package_are_written_beside_the_output(folder):
    sleap_io, numpy = pytest.importorskip("sleap_io"), pytest.importorskip("numpy")
    skeleton = sleap_io.Skeleton(["left_fin", "right_fin"], name="fish")
    video = sleap_io.Video([str(folder / "a.png")])
    fish = sleap_io.Instance.from_numpy(numpy.array([[10, 20], [50, 20]]), skeleton=skeleton)
    labels = sleap_io.Labels([sleap_io.LabeledFrame(video=video, frame_idx=0, instances=[fish])])
    labels.save("a.pkg.slp", embed=True, verbose=False)
    run("import", "a.pkg.slp", "--output", "fish.json")
    assert Path("fish_images/video0/00000000.png").is_file()
    assert run("check", "fish.json", "--images", "fish_images").exit_code == 0


def test_split_writes_two_files_that_check_and_share_no_image(folder):
    result = run("split", "people.json", "--val", 0.3)
    assert result.stdout.splitlines() == [
        "people.train.json: 7 people in 7 images",
        "people.val.json: 3 people in 3 images",
    ]
    assert run("check", "people.train.json", "--val", "people.val.json", "--images", "images").exit_code == 0
    run("split", "people.json", "--val", 0.3, "--seed", 1, "--output", "other")
    assert read("other/people.val.json") != read("people.val.json")


def test_split_refuses_a_field_that_images_lack(folder):
    message = "people.json: images[0] has no 'video' to split by; it has id, file_name, height, width"
    assert message in run("split", "people.json", "--by", "video", exit_code=1).stderr


def test_training_takes_a_share(folder):
    run("split", "people.json", "--val", 0.3)
    run(
        "train", "--train", "people.json", "--val", 0.3, "--images", "images", "--output", "run", *TINY,
    )  # fmt: skip
    last = json.loads(Path("run/log.jsonl").read_text().splitlines()[-1])
    result = run(
        "evaluate", "--weights", "run/model.safetensors", "--data", "people.val.json", "--images", "images", "--metric",
        "pck", "--output", "scores.json",
    )  # fmt: skip
    assert result.exit_code == 0
    assert json.dumps(read("scores.json"))
    assert last["pck"] >= 0


def test_labels_go_to_yolo_and_back(folder):
    result = run("export-labels", "people.json", "--to", "yolo", "--images", "images", "--output", "yolo")
    assert result.stdout == "yolo/data.yaml\n"
    run("import", "yolo", "--output", "back.json")
    before, after = read("people.json"), read("back.json")
    assert [person["keypoints"] for person in after["annotations"]] == [
        person["keypoints"] for person in before["annotations"]
    ]


def test_labels_go_to_label_studio_and_back(folder):
    result = run(
        "export-labels", "people.json", "--to", "label-studio", "--as", "annotations", "--output", "out/tasks.json"
    )
    assert result.stdout == "out/tasks.json\nout/tasks.xml\n"
    run("import", "out/tasks.json", "--output", "back.json")
    before, after = read("people.json"), read("back.json")
    assert [person["keypoints"] for person in after["annotations"]] == [
        person["keypoints"] for person in before["annotations"]
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--to", "yolo", "--output", "y", "--threshold", 0.5), "it is for --to label-studio"),
        (("--to", "label-studio", "--output", "a.json", "--copy"), "it is for --to yolo"),
        (("--to", "label-studio", "--output", "a.xml"), "tasks are a .json file; got a.xml"),
        (("--to", "cvat", "--output", "a"), "'cvat' is not one of"),
    ],
)
def test_options_of_the_other_kind_are_wrong_usage(folder, arguments, message):
    result = run("export-labels", "people.json", *arguments, exit_code=2)
    assert message in " ".join(result.stderr.replace("│", " ").split())
