import re

import numpy as np
import pytest

from tokenpose.poses import Poses
from tokenpose.skeletons import COCO, LSP, Skeleton
from tokenpose.visualize import LEFT, MIDDLE, RIGHT, contact_sheet, crop_picture, draw_poses, scale_to_fit

GRAY = np.full((100, 80, 3), 128, dtype=np.uint8)
BAR = Skeleton(name="bar", keypoints=("left_end", "middle", "right_end"), limbs=((0, 1), (1, 2)))


def make_poses(keypoints=((20, 50), (40, 50), (60, 50)), scores=(1, 1, 1), skeleton=BAR) -> Poses:
    return Poses(
        keypoints=np.array([keypoints], dtype=np.float32),
        scores=np.array([scores], dtype=np.float32),
        boxes=np.array([[10, 40, 70, 60]], dtype=np.float32),
        skeleton=skeleton,
    )


def changed(picture: np.ndarray, image: np.ndarray = GRAY) -> np.ndarray:
    return (picture != image).any(axis=-1)


def test_left_is_blue_right_is_orange_and_the_middle_near_white():
    picture = draw_poses(GRAY, make_poses())
    assert [tuple(picture[50, x]) for x in (20, 40, 60)] == [LEFT, MIDDLE, RIGHT]
    assert LEFT[2] == 255 > LEFT[0]
    assert RIGHT[0] == 255 > RIGHT[2]


def test_limb_with_one_sided_end_has_its_color():
    picture = draw_poses(GRAY, make_poses())
    assert tuple(picture[50, 30]) == LEFT
    assert tuple(picture[50, 50]) == RIGHT


def test_limb_between_left_and_right_is_neutral():
    hips = Skeleton(name="hips", keypoints=("left_hip", "right_hip"), limbs=((0, 1),))
    picture = draw_poses(GRAY, make_poses(((20, 50), (60, 50)), (1, 1), hips))
    assert tuple(picture[50, 40]) == MIDDLE


def test_image_itself_is_left_alone_and_the_picture_is_a_uint8_array_of_its_shape():
    image = GRAY.copy()
    picture = draw_poses(image, make_poses())
    assert np.array_equal(image, GRAY)
    assert (picture.shape, picture.dtype) == ((100, 80, 3), np.uint8)


def test_keypoint_below_the_threshold_is_hidden_with_its_limbs():
    picture = changed(draw_poses(GRAY, make_poses(scores=(1, 1, 0.29)), threshold=0.3))
    assert picture[50, 20]
    assert picture[50, 30]
    assert not picture[:, 45:].any()


def test_keypoint_at_the_threshold_is_shown():
    picture = draw_poses(GRAY, make_poses(scores=(0, 0, 0.5)), threshold=0.5)
    assert tuple(picture[50, 60]) == RIGHT


def test_skeleton_without_limbs_shows_points_only():
    picture = changed(draw_poses(GRAY, make_poses(skeleton=Skeleton.from_count(3))))
    assert picture[50, [20, 40, 60]].all()
    assert not picture[:, [30, 50]].any()


def test_nobody_changes_nothing():
    nobody = Poses(
        keypoints=np.zeros((0, 3, 2), np.float32),
        scores=np.zeros((0, 3), np.float32),
        boxes=np.zeros((0, 4), np.float32),
        skeleton=BAR,
    )
    assert np.array_equal(draw_poses(GRAY, nobody, boxes=True), GRAY)


@pytest.mark.parametrize("place", [(np.nan, np.nan), (1e9, -1e9), (-500, 50), (79.6, 99.6)])
def test_keypoints_outside_the_image_or_nowhere_do_no_harm(place):
    picture = draw_poses(GRAY, make_poses(((20, 50), place, (60, 50))), boxes=True)
    assert tuple(picture[50, 20]) == LEFT


def test_box_is_drawn_where_asked():
    without, with_box = (
        changed(draw_poses(GRAY, make_poses(scores=(0, 0, 0)), boxes=boxes)) for boxes in (False, True)
    )
    assert not without.any()
    assert with_box[40, 10:71].all()
    assert with_box[40:61, 70].all()
    assert not with_box[45:55, 15:65].any()


def test_edges_are_antialiased():
    shades = np.unique(draw_poses(GRAY, make_poses(((20, 20), (40, 51), (60, 80))))[..., 2])
    assert len(shades) > 20


def test_scale_enlarges_the_picture_and_moves_keypoints_with_their_pixels():
    picture = draw_poses(GRAY, make_poses(), scale=3.0)
    assert picture.shape == (300, 240, 3)
    assert [tuple(picture[151, 3 * x + 1]) for x in (20, 40, 60)] == [LEFT, MIDDLE, RIGHT]


def test_one_color_and_thinner_lines_for_labels():
    usual = changed(draw_poses(GRAY, make_poses()))
    picture = draw_poses(GRAY, make_poses(), color=(255, 255, 255), thickness=0.5)
    assert [tuple(picture[50, x]) for x in (20, 40, 60)] == [(255, 255, 255)] * 3
    assert changed(picture).sum() < usual.sum()


def test_lines_grow_with_the_person():
    image = np.zeros((1000, 1000, 3), dtype=np.uint8)
    small, large = (
        make_poses(((500 - reach, 500), (500, 500), (500 + reach, 500)), skeleton=BAR) for reach in (50, 400)
    )
    widths = [changed(draw_poses(image, poses), image)[:, 480].sum() for poses in (small, large)]
    assert widths[1] > 2 * widths[0]


def test_all_skeletons_can_be_drawn():
    for skeleton in (COCO, LSP):
        points = np.random.default_rng(0).uniform(10, 70, (len(skeleton), 2))
        assert changed(draw_poses(GRAY, make_poses(points, np.ones(len(skeleton)), skeleton))).mean() > 0.05


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (GRAY[..., 0], "got uint8 of shape (100, 80)"),
        (GRAY / 255, "got float64 of shape (100, 80, 3)"),
        (np.zeros((3, 10, 10), np.uint8), "got uint8 of shape (3, 10, 10)"),
        (GRAY[:0], "got uint8 of shape (0, 80, 3)"),
    ],
    ids=["gray", "float", "channels first", "empty"],
)
def test_other_arrays_than_rgb_pictures_are_refused(image, message):
    with pytest.raises((ValueError, TypeError)) as caught:  # TypeError: the tests' type checker is first
        draw_poses(image, make_poses())
    assert isinstance(caught.value, TypeError) or re.search(re.escape(message), str(caught.value))


def test_scale_has_to_be_positive():
    with pytest.raises(ValueError, match=r"scale must be positive; got 0\.0"):
        draw_poses(GRAY, make_poses(), scale=0.0)


def test_scale_to_fit_is_that_of_the_tighter_side():
    assert scale_to_fit(GRAY, (200, 200)) == 2
    assert scale_to_fit(GRAY, (50, 20)) == 0.25


def test_contact_sheet_puts_pictures_row_by_row_whole_and_in_order():
    colors = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    pictures = [np.full((10, 20, 3), color, dtype=np.uint8) for color in colors]
    sheet = contact_sheet(pictures, columns=2, size=(100, 100))
    assert sheet.shape == (2 * 106 + 6, 2 * 106 + 6, 3)
    centers = [(6 + 50, 6 + 50), (6 + 50, 112 + 50), (112 + 50, 6 + 50)]
    assert [tuple(sheet[place]) for place in centers] == colors
    assert (sheet == colors[0]).all(axis=-1).sum() == 50 * 100  # 10 x 20 in 100 x 100, enlarged by 5
    assert (sheet[112:, 112:] == 255).all()


def test_contact_sheet_is_no_wider_than_its_pictures():
    assert contact_sheet([GRAY], columns=6, size=(50, 50)).shape == (62, 62, 3)


def test_captions_stand_below_and_long_ones_are_cut():
    plain, short, long = (
        contact_sheet([GRAY], size=(100, 100), captions=captions) for captions in (None, ["00001.jpg"], ["x" * 500])
    )
    assert short.shape[0] == plain.shape[0] + 18
    for sheet in (short, long):
        dark = (sheet[106:124] < 100).all(axis=-1)
        assert dark.any()
        assert not dark[:, :6].any()
        assert not dark[:, 106:].any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pictures": []}, "at least one picture and one column; got 0 and 6"),
        ({"pictures": [GRAY], "columns": 0}, "at least one picture and one column; got 1 and 0"),
        ({"pictures": [GRAY], "captions": ["a", "b"]}, "1 pictures need as many captions; got 2"),
    ],
)
def test_wrong_contact_sheet_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        contact_sheet(**arguments)


def test_crop_is_the_box_grown_by_a_quarter_and_poses_move_along():
    image = np.arange(100 * 80 * 3).reshape(100, 80, 3).astype(np.uint8)
    picture, poses = crop_picture(image, make_poses())
    # the box is 60 x 20 at (10, 40): 7.5 more on either side, 2.5 above and below
    assert np.array_equal(picture, image[37:64, 2:79])
    assert poses.keypoints[0].tolist() == [[18, 13], [38, 13], [58, 13]]
    assert poses.boxes.tolist() == [[8, 3, 68, 23]]


def test_crop_stays_within_the_image_and_needs_somebody():
    far = make_poses()
    picture, _ = crop_picture(GRAY[:45, :30], far)
    assert picture.shape == (8, 28, 3)


def test_visualize_does_not_import_torch(run_python):
    run_python("import sys, tokenpose.visualize\nassert 'torch' not in sys.modules")
