import json
import logging

import pytest

from tokenpose.data.formats import KINDS
from tokenpose.data.formats.kinds import guess_kind, read_labels

from .exports import save_image, write


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("a.xml", "<annotations/>", "cvat"),
        ("a.slp", "", "sleap"),
        ("a.pkg.slp", "", "sleap"),
        ("a.mat", "", "mpii"),
        ("data.yaml", "", "yolo"),
        ("a.csv", "scorer,me\n", "deeplabcut"),
        ("a.csv", "filename,file_size,region_shape_attributes\n", "via"),
        ("a.json", '[{"id": 1, "annotations": [{"result": [{"value": {"keypointlabels": ["a"]}}]}]}]', "label-studio"),
        ("a.json", '[{"id": 1, "data": {}, "annotations": [{"result": []}]}]', "label-studio"),
        ("a.json", '[{"image": "a.jpg", "center": [1, 2], "scale": 1, "joints_vis": []}]', "mpii"),
        ("a.json", '{"version": "5", "shapes": [], "imagePath": "a.jpg"}', "labelme"),
        ("a.json", '{"_via_settings": {}}', "via"),
        ("a.json", '{"a.jpg1": {"filename": "a.jpg", "regions": [{"shape_attributes": {}}]}}', "via"),
        ("a.json", '{"images": [], "annotations": [{"face_kpts": []}]}', "coco-wholebody"),
        ("coco_wholebody_val_v1.0.json", '{"images": []}', "coco-wholebody"),
        ("a.json", '\ufeff{"licenses": [], "images": []}', "coco"),
    ],
)
def test_the_kind_of_a_file_is_plain(tmp_path, name, text, kind):
    assert guess_kind(write(tmp_path / name, text)) == kind


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("data.yaml", "", "yolo"),
        ("labeled-data/vid/CollectedData_me.csv", "", "deeplabcut"),
        ("sub/a.json", '{"shapes": []}', "labelme"),
    ],
)
def test_the_kind_of_a_folder_is_plain(tmp_path, name, text, kind):
    write(tmp_path / name, text)
    assert guess_kind(tmp_path) == kind


@pytest.mark.parametrize(("name", "text"), [("a.json", '{"a": 1}'), ("a.csv", "a,b"), ("a.txt", "x"), ("a.json", "7")])
def test_what_is_not_plain_is_refused_with_the_list_of_kinds(tmp_path, name, text):
    path = write(tmp_path / name, text)
    with pytest.raises(ValueError, match="what kind of label file this is isn't plain; say which it is: --from KIND"):
        guess_kind(path)
    with pytest.raises(ValueError, match="one of cvat, label-studio, labelme, via, yolo, deeplabcut, sleap, "):
        guess_kind(path)


def test_an_archive_is_to_be_unpacked(tmp_path):
    with pytest.raises(
        ValueError, match=r"a\.zip is an archive: unpack it, and give the file or folder of labels in it"
    ):
        guess_kind(write(tmp_path / "a.zip", "PK"))


def test_h5_files_are_told_apart_by_what_they_hold(tmp_path):
    h5py = pytest.importorskip("h5py")
    for name, kind in (("track_occupancy", "sleap"), ("df_with_missing", "deeplabcut")):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file.create_group(name)
        assert guess_kind(tmp_path / "a.h5") == kind


def test_a_guessed_kind_is_named_and_read(tmp_path, caplog):
    caplog.set_level(logging.INFO, "tokenpose")
    shape = {"label": "head", "points": [[1, 2]], "shape_type": "point", "group_id": None, "flags": {}}
    content = {"shapes": [shape], "imagePath": "a.jpg", "imageWidth": 9, "imageHeight": 9}
    path = write(tmp_path / "a.json", content)
    assert read_labels(path)["annotations"][0]["keypoints"] == [1, 2, 2]
    assert f"{path} is read as labelme" in caplog.messages
    assert read_labels(path, "labelme", keypoints=["head", "tail"])["annotations"][0]["keypoints"] == [1, 2, 2, 0, 0, 0]


def test_unknown_kinds_and_arguments_are_refused(tmp_path):
    path = write(tmp_path / "a.json", "{}")
    with pytest.raises(LookupError, match="there is no kind 'paint' of label files; there are cvat, "):
        read_labels(path, "paint")
    with pytest.raises(
        TypeError, match="files of the kind cvat are read without split; beside the path they take keyp"
    ):
        read_labels(tmp_path / "a.xml", "cvat", split="train")
    with pytest.raises(FileNotFoundError, match="there is no file or folder"):
        read_labels(tmp_path / "b.json")


def test_cvats_and_roboflows_coco_files_are_read_as_coco(tmp_path):
    save_image(tmp_path / "a.jpg")
    kinds = [{"id": 1, "name": "fly", "keypoints": ["head"], "skeleton": []}]
    fly = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5], "keypoints": [2, 2, 2]}
    content = {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [fly], "categories": kinds}
    path = write(tmp_path / "a.json", json.dumps(content))
    assert read_labels(path, "cvat") == read_labels(path, "roboflow") == read_labels(path, "coco") == read_labels(path)


def test_every_kind_has_a_documented_reader():
    for kind in KINDS.values():
        assert kind.read.__doc__
