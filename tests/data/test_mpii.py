import json

import numpy as np
import pytest
import scipy.io
import torch

from tokenpose.data.mpii import read_mpii, to_matlab
from tokenpose.geometry.boxes import center_and_scale
from tokenpose.skeletons import MPII

JOINTS = [[100.0 + index, 200.0 - index] for index in range(16)]


def record(**changes):
    return {
        "image": "a.jpg",
        "center": [301.0, 201.0],
        "scale": 2.0,
        "joints": JOINTS,
        "joints_vis": [1] * 16,
    } | changes


def without(mapping, key):
    return {name: value for name, value in mapping.items() if name != key}


@pytest.fixture
def write(tmp_path):
    def save(records):
        path = tmp_path / "valid.json"
        path.write_text(json.dumps(records))
        return path

    return save


@pytest.mark.parametrize(
    ("center", "scale", "expected_center", "side"),
    [
        ([301, 201], 2.0, [300, 230], 500),  # 201 + 15 x 2 - 1; 2 x 1.25 x 200
        ([594, 257], 3.021046, [593, 301.31569], 755.2615),  # the first record of the usual train.json
        ([1, 1], 0.5, [0, 7.5], 125),
    ],
)
def test_centers_and_scales_are_the_published_ones(write, center, scale, expected_center, side):
    samples = read_mpii(write([record(center=center, scale=scale)]))
    found, extent = center_and_scale(torch.from_numpy(samples.boxes), (256, 256), padding=1.25)
    torch.testing.assert_close(found, torch.tensor([expected_center], dtype=torch.float32), rtol=1e-6, atol=1e-4)
    torch.testing.assert_close(extent, torch.tensor([[side, side]], dtype=torch.float32), rtol=1e-6, atol=1e-4)


def test_joints_count_from_0_and_have_mpiis_names(write):
    visible = [1] * 15 + [0]
    samples = read_mpii(write([record(joints_vis=visible), record(image="b.jpg"), record(image="a.jpg")]))
    assert samples.skeleton == MPII
    assert samples.files == ("a.jpg", "b.jpg")
    assert samples.image_index.tolist() == [0, 1, 0]
    assert samples.image_ids.tolist() == [0, 1]
    assert samples.annotation_ids.tolist() == [0, 1, 2]
    assert samples.keypoints[0, :2].tolist() == [[99, 199], [100, 198]]
    assert samples.keypoints[0, 15].tolist() == [0, 0]  # nobody knows where
    assert samples.visible[0].tolist() == [True] * 15 + [False]
    assert samples.areas is None
    assert samples.head_sizes is None


def test_people_without_a_center_or_scale_are_left_out_and_counted(write):
    path = write([record(center=[-1, -1], scale=-1), record(), record(scale=-1), record(center=[-1.0, 5])])
    samples = read_mpii(path)
    assert (len(samples), samples.skipped, samples.annotation_ids.tolist()) == (1, {"no center or scale": 3}, [1])
    assert samples.describe() == f"{path}: 4 annotations: 1 person; left out: 3 no center or scale"


def test_files_to_test_on_have_no_joints(write):
    bare = without(without(record(), "joints"), "joints_vis")
    samples = read_mpii(write([bare, bare]))
    assert len(samples) == 2
    assert not samples.visible.any()
    assert (samples.keypoints == 0).all()


def test_empty_file_has_nobody(write):
    samples = read_mpii(write([]))
    assert (len(samples), samples.keypoints.shape, samples.boxes.shape) == (0, (0, 16, 2), (0, 4))


def test_head_boxes_of_the_records_give_head_sizes(write):
    samples = read_mpii(write([record(head_box=[10, 20, 40, 60]), record(), record(headbox=[0, 0, 6, 8])]))
    np.testing.assert_allclose(samples.head_sizes, [30, np.nan, 6], rtol=1e-6)  # 0.6 x 50, 0.6 x 10


@pytest.fixture
def write_truth(tmp_path):
    """The structure of gt_valid.mat: (2, 2, people) head boxes, (16, people) missing, (16, 2, people) positions."""

    def save(people=2, **changes):
        positions = np.stack([np.array(JOINTS) + 10 * person for person in range(people)], axis=-1)
        missing = np.zeros((16, people), dtype=np.uint8)
        missing[6, 0] = 1
        positions[6, :, 0] = np.nan
        heads = np.stack([[[10, 20], [40, 60]]] * people, axis=-1).astype(float)
        names = np.array([[np.array([name]) for name in MPII.keypoints]], dtype=object)
        fields = {"headboxes_src": heads, "jnt_missing": missing, "pos_gt_src": positions, "dataset_joints": names}
        path = tmp_path / "gt_valid.mat"
        given = {name: value for name, value in (fields | changes).items() if value is not None}
        scipy.io.savemat(path, given)
        return path

    return save


def test_matlab_ground_truth_gives_labels_and_head_sizes(write, write_truth):
    bare = without(without(record(), "joints"), "joints_vis")
    samples = read_mpii(write([bare, bare]), ground_truth=write_truth())
    np.testing.assert_allclose(samples.head_sizes, [30, 30], rtol=1e-6)
    assert samples.head_sizes.dtype == samples.keypoints.dtype == np.float32
    assert np.flatnonzero(~samples.visible[0]).tolist() == [6]
    assert samples.visible[1].all()
    assert samples.keypoints[0, 6].tolist() == [0, 0]
    assert samples.keypoints[1, 1].tolist() == [110, 208]  # 101 + 10 - 1, 199 + 10 - 1


def test_ground_truth_stays_with_its_people_where_some_are_left_out(write, write_truth):
    samples = read_mpii(write([record(center=[-1, -1]), record()]), ground_truth=write_truth())
    assert samples.keypoints[0, 0].tolist() == [109, 209]


def test_ground_truth_of_one_person_may_lack_an_axis(write, write_truth):
    truth = write_truth(people=1)
    content = scipy.io.loadmat(truth)
    flat = {name: content[name].squeeze(-1) for name in ("headboxes_src", "pos_gt_src")}
    samples = read_mpii(write([record()]), ground_truth=write_truth(people=1, **flat))
    assert samples.head_sizes.tolist() == [30]
    assert samples.keypoints[0, 1].tolist() == [100, 198]


def test_predictions_count_from_1_again():
    keypoints = np.zeros((2, 16, 2), dtype=np.float32)
    assert (to_matlab(keypoints) == 1).all()
    assert to_matlab(keypoints).dtype == np.float32


FAULTS = {
    "record": ([record(), 3], r"valid\.json: record 1: a record must be an object; got 3"),
    "image": ([without(record(), "image")], "record 0: image must be text; got None"),
    "image number": ([record(image=3)], "record 0: image must be text; got 3"),
    "center": ([without(record(), "center")], r"record 0 in a\.jpg: center must be 2 finite numbers; got None"),
    "scale": ([without(record(), "scale")], r"record 0 in a\.jpg: scale must be a finite number; got None"),
    "center length": ([record(center=[1])], r"record 0 in a\.jpg: center must be 2 finite numbers; got \[1\]"),
    "center null": (
        [record(center=[1, None])],
        r"record 0 in a\.jpg: center must be 2 finite numbers; got \[1, None\]",
    ),
    "scale text": ([record(scale="2")], r"record 0 in a\.jpg: scale must be a finite number; got '2'"),
    "scale nan": ([record(scale=float("nan"))], r"record 0 in a\.jpg: scale must be a finite number; got nan"),
    "scale huge": ([record(scale=10**400)], r"record 0 in a\.jpg: scale must be a finite number; got 1000"),
    "joint huge": (
        [record(joints=[*JOINTS[1:], [1, 10**400]])],
        r"record 0 in a\.jpg: joints must be 16 points x, y; got ",
    ),
    "15 joints": ([record(joints=JOINTS[1:])], r"record 0 in a\.jpg: joints must be 16 points x, y; got "),
    "joint": ([record(joints=[*JOINTS[1:], [1]])], r"record 0 in a\.jpg: joints must be 16 points x, y; got "),
    "joint nan": (
        [record(joints=[*JOINTS[1:], [1, float("nan")]])],
        r"record 0 in a\.jpg: joints must be 16 points x, y; got ",
    ),
    "no vis": (
        [without(record(), "joints_vis")],
        r"record 0 in a\.jpg: joints_vis must be 16 finite numbers; got None",
    ),
    "vis": ([record(joints_vis=[1] * 15)], r"record 0 in a\.jpg: joints_vis must be 16 finite numbers; got "),
    "head": ([record(head_box=[1, 2, 3])], r"record 0 in a\.jpg: head_box must be 4 finite numbers; got \[1, 2, 3\]"),
    "object": ({"images": []}, "is not an MPII file: it must hold a list of records"),
    "no json": ("{", "holds neither a JSON object nor a list"),
    "cut off": ([record(), "x"], "record 1: a record must be an object; got 'x'"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_files_are_refused_by_file_and_record(write, fault):
    values, message = FAULTS[fault]
    with pytest.raises(ValueError, match=rf"valid\.json.*{message}" if "valid" not in message else message):
        read_mpii(write(values))


def test_joints_that_are_not_visible_may_be_anywhere(write):
    joints = [*JOINTS[:15], [float("nan"), -1]]
    assert read_mpii(write([record(joints=joints, joints_vis=[1] * 15 + [0])])).visible.sum() == 15


TRUTH_FAULTS = {
    "number": ({"people": 3}, r"gt_valid\.mat has 3 people; .*valid\.json has 2"),
    "field": ({"jnt_missing": None}, r"gt_valid\.mat is not MPII's ground truth: it has no jnt_missing"),
    "shape": ({"pos_gt_src": np.zeros((15, 2, 2))}, r"pos_gt_src must be \(16, 2, people\); it is \(15, 2, 2\)"),
    "nan": ({"jnt_missing": np.zeros((16, 2))}, r"pos_gt_src is not finite for record 0, though jnt_missing has it"),
    "one": ({"jnt_missing": np.zeros((16, 3))}, r"jnt_missing must be \(16, 2\).*; it is \(16, 3\)"),
}


@pytest.mark.parametrize("fault", TRUTH_FAULTS)
def test_faulty_ground_truth_is_refused(write, write_truth, fault):
    changes, message = TRUTH_FAULTS[fault]
    with pytest.raises(ValueError, match=message):
        read_mpii(write([record(), record()]), ground_truth=write_truth(**changes))


def test_ground_truth_that_is_no_matlab_file_is_refused(write, tmp_path):
    (tmp_path / "gt.mat").write_bytes(b"no such thing" * 100)
    with pytest.raises(ValueError, match=r"gt\.mat can't be read as a MATLAB file \(up to version 7\.2\): "):
        read_mpii(write([record()]), ground_truth=tmp_path / "gt.mat")
    with pytest.raises(FileNotFoundError, match=r"there is no ground-truth file .*nowhere\.mat"):
        read_mpii(write([record()]), ground_truth=tmp_path / "nowhere.mat")


def test_ground_truth_needs_scipy(write, write_truth, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "scipy.io", None)
    with pytest.raises(
        ModuleNotFoundError, match=r'reading .*gt_valid\.mat needs scipy: pip install "tokenpose\[mpii\]"'
    ):
        read_mpii(write([record(), record()]), ground_truth=write_truth())


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no annotation file .*nowhere\.json"):
        read_mpii(tmp_path / "nowhere.json")
