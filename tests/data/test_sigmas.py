import tracemalloc

import numpy as np
import pytest

from tokenpose.data.coco import read_coco
from tokenpose.data.samples import Samples
from tokenpose.data.sigmas import estimate_sigmas, fill_areas, sigmas_from_distances
from tokenpose.skeletons import COCO, LSP, Skeleton


def people(
    keypoints: np.ndarray,
    names: list[str],
    visible: np.ndarray | None = None,
    boxes: np.ndarray | None = None,
    areas: np.ndarray | None = None,
) -> Samples:
    """People of area 10,000 unless told: a distance of 100 pixels is one side of theirs."""
    count = len(keypoints)
    return Samples(
        skeleton=Skeleton.from_names(names),
        files=("a.png",),
        image_ids=np.array([1]),
        image_index=np.zeros(count, dtype=np.int64),
        boxes=np.tile(np.float32([0, 0, 100, 100]), (count, 1)) if boxes is None else boxes,
        keypoints=keypoints.astype(np.float32),
        visible=np.ones(keypoints.shape[:2], dtype=bool) if visible is None else visible,
        skipped={},
        areas=np.full(count, 10_000, dtype=np.float32) if areas is None else areas,
    )


ROW = np.array([[[0, 0], [20, 0], [60, 0]]])  # 20 and 40 pixels apart: 0.2 and 0.4 of a side of 100
ROW_NAMES = ["wing", "beak", "tail"]


def test_sigma_is_a_quarter_of_the_way_to_the_nearest_other_keypoint():
    found = estimate_sigmas(people(ROW, ROW_NAMES))
    np.testing.assert_allclose(found.values, [0.05, 0.05, 0.1], rtol=1e-6)
    assert found.origins == ("estimated",) * 3


def test_keypoints_that_coco_names_have_cocos_sigma_whatever_their_side_and_spelling():
    found = estimate_sigmas(people(ROW, ["hipL", "Right Wrist", "tail"]))
    assert found.values[:2].tolist() == [0.107, 0.062]
    assert found.values[2] == pytest.approx(0.1)
    assert found.origins == ("named", "named", "estimated")
    assert estimate_sigmas(people(ROW, ["left_front_knee", "knee", "tail"])).origins[:2] == ("estimated", "named")


def test_cocos_own_keypoints_have_cocos_sigmas():
    found = estimate_sigmas(people(np.zeros((1, 17, 2)), list(COCO.keypoints)))
    assert found.values.tolist() == list(COCO.sigmas)
    assert set(found.origins) == {"named"}


def test_lsp_lacks_only_neck_and_head_top():
    found = estimate_sigmas(people(np.random.default_rng(0).uniform(0, 100, (3, 14, 2)), list(LSP.keypoints)))
    assert [LSP.keypoints[index] for index, origin in enumerate(found.origins) if origin == "estimated"] == [
        "neck", "head_top",
    ]  # fmt: skip


def test_larger_people_have_the_same_sigmas():
    large = people(10 * ROW, ROW_NAMES, areas=np.float32([1e6]))
    np.testing.assert_allclose(estimate_sigmas(large).values, estimate_sigmas(people(ROW, ROW_NAMES)).values, rtol=1e-6)


def test_median_over_people_outweighs_a_wrong_label():
    three = np.concatenate([ROW, ROW, ROW])
    three[2, 1] = [0, 1]
    np.testing.assert_allclose(estimate_sigmas(people(three, ROW_NAMES)).values, [0.05, 0.05, 0.1], rtol=1e-6)


def test_a_neighbor_that_is_not_labeled_in_most_people_still_counts():
    # the beak is labeled in one person of three; without it the others' wings would be 0.6 from their tails
    visible = np.array([[True, True, True], [True, False, True], [True, False, True]])
    found = estimate_sigmas(people(np.repeat(ROW, 3, axis=0), ROW_NAMES, visible)).values
    np.testing.assert_allclose(found, [0.05, 0.05, 0.1], rtol=1e-6)


def test_sigmas_stay_within_cocos():
    near_and_far = np.array([[[0, 0], [1, 0], [500, 0]]])  # 0.01 and 4.99 of a side
    assert estimate_sigmas(people(near_and_far, ROW_NAMES)).values.tolist() == [0.025, 0.025, 0.107]


UNKNOWN = {
    "nobody": people(np.zeros((0, 3, 2)), ROW_NAMES),
    "never labeled": people(ROW, ROW_NAMES, np.zeros((1, 3), dtype=bool)),
    "alone": people(ROW, ROW_NAMES, np.array([[True, False, False]])),
    "all at one place": people(np.zeros((2, 3, 2)), ROW_NAMES),
    "without a size": people(ROW, ROW_NAMES, boxes=np.zeros((1, 4), np.float32), areas=np.zeros(1, np.float32)),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_where_labels_tell_nothing_it_is_the_median_of_cocos(case):
    assert estimate_sigmas(UNKNOWN[case]).values.tolist() == [0.072] * 3


def test_area_is_the_record_s_or_else_053_of_the_box():
    boxes = np.float32([[0, 0, 10, 20]] * 3)
    three = people(np.repeat(ROW, 3, axis=0), ROW_NAMES, boxes=boxes, areas=np.float32([70, np.nan, 0]))
    np.testing.assert_allclose(fill_areas(three), [70, 106, 106], rtol=1e-6)


def test_the_estimate_is_off_from_cocos_own_sigmas_by_as_much_as_is_said(data_folder):
    samples = read_coco(data_folder / "coco-mini" / "person_keypoints.json")
    found, true = sigmas_from_distances(samples), np.array(COCO.sigmas)
    factors = np.maximum(found / true, true / found)
    assert np.median(factors) == pytest.approx(1.18, abs=0.01)
    assert factors.max() == pytest.approx(1.53, abs=0.01)
    assert COCO.keypoints[int(factors.argmax())] in ("left_hip", "right_hip")


def test_a_hundred_keypoints_of_many_people_take_little_memory():
    crowd = np.random.default_rng(0).uniform(0, 1000, (4_000, 100, 2)).astype(np.float32)
    samples = people(crowd, [f"keypoint_{index}" for index in range(100)])
    tracemalloc.start()
    estimate_sigmas(samples)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000  # all pairs of all people at once would be 160 MB
