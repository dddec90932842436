from typing import Any

import numpy as np
import pytest

from tokenpose.data.formats.mpii import read_mpii
from tokenpose.skeletons import MPII

from .exports import keypoint, save_image, train_on, write

JOINTS = [[10 + index, 20 + index] for index in range(16)]


def record(**fields: Any) -> dict:
    visible = [1] * 15 + [0]
    return {"image": "a.jpg", "center": [50.0, 40.0], "scale": 0.25, "joints": JOINTS, "joints_vis": visible} | fields


@pytest.fixture
def folder(tmp_path):
    save_image(tmp_path / "a.jpg", 120, 100)
    save_image(tmp_path / "b.jpg", 120, 100)
    return tmp_path


def test_json_becomes_coco_with_positions_from_0_and_square_boxes(folder):
    content = read_mpii(write(folder / "a.json", [record(), record(image="b.jpg"), record(center=[-1, -1], scale=-1)]))
    first, second, third = content["annotations"]
    assert keypoint(content, first, "right_ankle") == [9, 19, 2]
    assert keypoint(content, first, "left_wrist") == [0, 0, 0]
    assert first["bbox"] == [24.5, 18.25, 50, 50]  # 200 x 0.25 around (50 - 1, 40 + 15 x 0.25 - 1), in pixels' centers
    assert [person["image_id"] for person in (first, second, third)] == [1, 1, 2]
    assert content["images"][0] == {"id": 1, "file_name": "a.jpg", "width": 120, "height": 100}
    samples = train_on(content, folder)
    assert (samples.skeleton.keypoints, samples.skeleton.flip_pairs) == (MPII.keypoints, MPII.flip_pairs)


def test_images_are_needed_for_sizes(tmp_path):
    with pytest.raises(FileNotFoundError, match="say where the images are"):
        read_mpii(write(tmp_path / "a.json", [record()]))


def test_a_faulty_record_is_refused(folder):
    with pytest.raises(ValueError, match=r"a\.json: record 0 in a\.jpg: scale must be a finite number"):
        read_mpii(write(folder / "a.json", [record(scale="x")]))


def save_release(path, **changes: Any) -> None:
    """A file like the published one: structures of MATLAB."""
    from scipy.io import savemat

    def points(*entries: tuple[float, float, int, Any]) -> dict:
        return {"point": np.array([{"x": x, "y": y, "id": i, "is_visible": v} for x, y, i, v in entries], dtype=object)}

    labeled = {
        "x1": 60, "y1": 10, "x2": 70, "y2": 22, "scale": 0.25, "objpos": {"x": 50, "y": 40},
        "annopoints": points((11, 21, 0, "1"), (30, 40, 15, "0"), (65, 11, 9, [])),
    }  # fmt: skip
    unlabeled = {"x1": 1, "y1": 1, "x2": 2, "y2": 2, "annopoints": [], "scale": [], "objpos": []}
    annolist = [
        {"image": {"name": "a.jpg"}, "annorect": np.array([labeled, unlabeled], dtype=object)},
        {"image": {"name": "test.jpg"}, "annorect": unlabeled},
        {"image": {"name": "b.jpg"}, "annorect": {**labeled, "scale": [], "objpos": []}},
    ]
    release = {"annolist": np.array(annolist, dtype=object), "img_train": [1, 0, 1], "version": "12", **changes}
    savemat(path, {"RELEASE": release})


def test_the_published_matlab_file_gives_people_visibility_and_heads(folder):
    pytest.importorskip("scipy")
    save_release(folder / "mpii.mat")
    content = read_mpii(folder / "mpii.mat")
    first, second = content["annotations"]
    assert keypoint(content, first, "right_ankle") == [10, 20, 2]
    assert keypoint(content, first, "left_wrist") == [29, 39, 1]
    assert keypoint(content, first, "head_top") == [64, 10, 2]
    assert (first["num_keypoints"], first["head_box"], first["bbox"]) == (3, [60, 10, 70, 22], [24.5, 18.25, 50, 50])
    assert second["bbox"] == pytest.approx([1.9, 5.65, 70.2, 37.7])  # 54 x 29, grown by 15 % a side
    assert [image["file_name"] for image in content["images"]] == ["a.jpg", "b.jpg"]
    assert len(train_on(content, folder)) == 2


def test_other_matlab_files_are_refused(folder):
    scipy_io = pytest.importorskip("scipy.io")
    scipy_io.savemat(folder / "a.mat", {"a": 1})
    with pytest.raises(ValueError, match=r"is not MPII's mpii_human_pose_v1_u12_1\.mat: it has no RELEASE\.annolist"):
        read_mpii(folder / "a.mat")
    with pytest.raises(ValueError, match="can't be read as a MATLAB file"):
        read_mpii(write(folder / "b.mat", "x" * 200))
