import json
import re

import pytest

from tokenpose.skeletons import (
    COCO,
    LSP,
    MPII,
    Skeleton,
    explain_unknown_flip_pairs,
    infer_flip_pairs,
    read_flip_pairs,
    read_name,
    read_names,
)


def test_coco_pairs_are_the_published_ones():
    assert COCO.flip_pairs == ((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16))


def test_mpii_pairs_are_the_published_ones_left_first():
    assert MPII.flip_pairs == ((3, 2), (4, 1), (5, 0), (13, 12), (14, 11), (15, 10))


def test_lsp_pairs_are_those_of_its_names_left_first():
    assert LSP.flip_pairs == ((3, 2), (4, 1), (5, 0), (9, 8), (10, 7), (11, 6))


@pytest.mark.parametrize("skeleton", [COCO, MPII, LSP], ids=lambda skeleton: skeleton.name)
def test_pairs_exchange_left_with_right_and_limbs_stay_within_the_body(skeleton):
    for left, right in skeleton.flip_pairs:
        assert skeleton.keypoints[left].replace("left", "right") == skeleton.keypoints[right]
    unpaired = set(range(len(skeleton))) - {index for pair in skeleton.flip_pairs for index in pair}
    assert all(skeleton.side(index) is None for index in unpaired)
    assert {index for limb in skeleton.limbs for index in limb} == set(range(len(skeleton)))


@pytest.mark.parametrize(
    "names",
    [
        ("left_hip", "right_hip", "neck"),
        ("l_hip", "r_hip", "neck"),
        ("hip_l", "hip_r", "neck"),
        ("hipL", "hipR", "neck"),
        ("LHip", "RHip", "Neck"),
        ("Left hip", "Right hip", "Neck"),
        ("leftHip", "rightHip", "neck"),
        ("LEFT-HIP", "RIGHT-HIP", "NECK"),
        ("hip.left.1", "hip.right.1", "neck"),
    ],
)
def test_pair_is_told_by_names(names):
    assert infer_flip_pairs(names) == ((0, 1),)


@pytest.mark.parametrize(
    "names",
    [
        ("nose", "tail"),  # no name has a side
        ("left_hip", "neck"),  # a left without a right
        ("neck", "right_hip"),  # a right without a left
        ("left_hip", "right_hip", "left_eye"),  # one of three has no partner
        ("lhip", "rhip"),  # might be words
        ("keypoint_0", "keypoint_1"),
    ],
)
def test_names_that_do_not_tell_give_none(names):
    assert infer_flip_pairs(names) is None
    assert Skeleton.from_names(names).flip_pairs is None


def test_pairs_that_were_given_are_kept():
    assert Skeleton(name="bar", keypoints=("a", "b"), flip_pairs=()).flip_pairs == ()
    assert Skeleton(name="bar", keypoints=("a", "b"), flip_pairs=((1, 0),)).flip_pairs == ((1, 0),)


def test_side_is_that_of_the_name():
    skeleton = Skeleton.from_names(["left_hip", "hipR", "neck", "l_eye", "light"])
    assert [skeleton.side(index) for index in range(5)] == ["left", "right", None, "left", None]


def test_skeleton_survives_the_way_through_plain_values():
    for skeleton in (COCO, MPII, LSP, Skeleton.from_count(3)):
        assert Skeleton.from_dict(skeleton.to_dict()) == skeleton
        json.dumps(skeleton.to_dict())


def test_skeleton_of_a_count_has_numbered_names():
    assert Skeleton.from_count(3).keypoints == ("keypoint_0", "keypoint_1", "keypoint_2")
    assert len(Skeleton.from_count(3)) == 3


def test_category_says_itself_which_keypoints_change_sides():
    category = {"name": "fly", "keypoints": ["head", "wing 1", "wing 2"], "flip_pairs": [["wing 1", "wing 2"]]}
    assert Skeleton.from_coco_category(category).flip_pairs == ((1, 2),)
    assert Skeleton.from_coco_category({**category, "flip_pairs": []}).flip_pairs == ()
    assert Skeleton.from_coco_category({**category, "flip_pairs": None}).flip_pairs is None
    for pairs in ([[1, 2]], [["wing 1", "tail"]], [["wing 1"]], "none"):
        with pytest.raises(
            ValueError, match=r"category 'fly': flip_pairs holds .*; a pair is two names of its keypoints"
        ):
            Skeleton.from_coco_category({**category, "flip_pairs": pairs})


def test_category_of_coco_counts_limbs_from_1_and_gets_the_known_sigmas():
    category = {"name": "person", "keypoints": list(COCO.keypoints), "skeleton": [[16, 14], [14, 12]]}
    skeleton = Skeleton.from_coco_category(category)
    assert skeleton.limbs == ((15, 13), (13, 11))
    assert skeleton.sigmas == COCO.sigmas
    assert skeleton.name == "coco"


def test_category_with_other_names_gets_its_own_name_and_no_sigmas():
    skeleton = Skeleton.from_coco_category({"name": "fox", "keypoints": ["nose", "tail"], "skeleton": [[1, 2]]})
    assert (skeleton.name, skeleton.limbs, skeleton.sigmas) == ("fox", ((0, 1),), None)


def test_index_is_where_the_keypoint_stands():
    assert COCO.index("left_hip") == 11


MESSAGES = {
    "skeleton 'fox' needs at least one keypoint; got none": {"keypoints": ()},
    "skeleton 'fox': keypoint names must differ; repeated: ear": {"keypoints": ("ear", "ear", "tail")},
    "skeleton 'fox': limbs holds (0, 2); both must be different and in 0..1": {"limbs": ((0, 2),)},
    "skeleton 'fox': limbs holds (-1, 0); both must be different and in 0..1": {"limbs": ((-1, 0),)},
    "skeleton 'fox': flip_pairs holds (1, 1); both must be different and in 0..1": {"flip_pairs": ((1, 1),)},
    "skeleton 'fox': a keypoint is in two flip pairs: ((0, 1), (1, 0))": {"flip_pairs": ((0, 1), (1, 0))},
    "skeleton 'fox' needs 2 positive sigmas; got (0.1,)": {"sigmas": (0.1,)},
    "skeleton 'fox' needs 2 positive sigmas; got (0.1, 0.0)": {"sigmas": (0.1, 0.0)},
}


@pytest.mark.parametrize("message", MESSAGES)
def test_wrong_skeleton_is_refused(message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Skeleton(**{"name": "fox", "keypoints": ("nose", "tail"), **MESSAGES[message]})


def test_count_below_1_is_refused():
    with pytest.raises(ValueError, match="1 to 4096 keypoints; got 0"):
        Skeleton.from_count(0)


def test_category_without_names_is_refused():
    with pytest.raises(ValueError, match="category 'chair' lists no keypoint names"):
        Skeleton.from_coco_category({"name": "chair"})


def test_unknown_keypoint_is_an_error_that_lists_the_names():
    with pytest.raises(LookupError, match="skeleton 'fox' has no keypoint 'ear'; it has nose, tail"):
        Skeleton(name="fox", keypoints=("nose", "tail")).index("ear")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("left_hip", ("hip",)),
        ("hipR", ("hip",)),
        ("LHip", ("hip",)),
        ("Head top", ("head", "top")),
        ("lefteye", ("eye",)),
    ],
)
def test_words_of_a_name_are_read_without_its_side(name, words):
    assert read_name(name).part == words


@pytest.mark.parametrize(
    ("name", "words"),
    [
        *((name, ("left", "eye")) for name in ("left_eye", "Left Eye", "eyeL", "l eye", "EyeLeft", "lefteye")),
        ("left_eye_right_corner", ("left", "eye", "right", "corner")),
        ("\u00d8re_H\u00f8jre", ("\u00f8re", "h\u00f8jre")),
        ("---", ()),
    ],
)
def test_names_of_another_spelling_have_the_same_plain_words(name, words):
    assert read_name(name).words == words


SHOULDERS = (
    "left_shoulder", "Left Shoulder", "L_Shoulder", "leftShoulder", "LShoulder", "shoulder.L", "shoulder_l",
    "L-Shoulder", "LEFTSHOULDER", "left-shoulder", "Shoulder (left)", "l sho",
)  # fmt: skip


@pytest.mark.parametrize("name", SHOULDERS)
def test_side_and_part_are_told_in_any_spelling(name):
    assert read_name(name) == ("left", ("shoulder",))
    assert Skeleton.from_names(["nose", name]).find("left_shoulder") == 1
    assert Skeleton.from_names(["nose", name]).find("right_shoulder") is None


TRAPS = (
    "ground", "lid", "rib", "lip", "root", "rump", "rear", "leg", "light", "bright", "upright", "copyright", "cleft",
    "lumbar", "reye", "lhip", "left", "right", "L", "r", "l5", "L5", "L5_disc", "r2d2", "collar", "tail", "Lower lip",
)  # fmt: skip


@pytest.mark.parametrize("name", TRAPS)
def test_name_without_a_side_has_none(name):
    assert read_name(name).side is None
    assert Skeleton.from_names(["nose", name]).side(1) is None


def test_letters_are_sides_where_other_names_make_pairs_of_them():
    letters = ("sho", "elb", "wri", "hip", "kne", "ank", "eye", "ear")
    read = read_names((*(f"l{part}" for part in letters), *(f"r{part}" for part in letters), "nose"))
    assert [name.side for name in read] == ["left"] * 8 + ["right"] * 8 + [None]
    parts = ["shoulder", "elbow", "wrist", "hip", "knee", "ankle", "eye", "ear"]
    assert [name.part for name in read] == [(part,) for part in (*parts, *parts, "nose")]


def test_short_names_have_a_side_beside_their_partner():
    assert [name.side for name in read_names(("L1", "R1", "L2"))] == ["left", "right", None]
    assert [name.side for name in read_names(("left", "right", "middle"))] == ["left", "right", None]


def test_first_of_two_sides_is_the_persons():
    name, other = read_names(("left_eye_right_corner", "right_eye_left_corner"))
    assert (name.side, name.part) == ("left", ("eye", "right", "corner"))
    assert (other.side, other.part) == ("right", ("eye", "left", "corner"))


def test_same_spelling_is_found_before_another_one_and_doubt_finds_none():
    names = ["Left Hip", "left_hip", "L_Knee", "LKnee"]
    assert Skeleton.from_names(names).find("left_hip") == 1
    assert Skeleton.from_names(names).find("left_knee") is None


@pytest.mark.parametrize("name", ["head_top", "Head-top", "top of head", "top_head", "HeadTop"])
def test_top_of_the_head_is_found(name):
    assert Skeleton.from_names(["neck", name]).find("head_top") == 1


def test_half_bodies_are_told_in_any_spelling():
    names = ["lsho", "rsho", "lhip", "rhip", "lkne", "rkne"]
    assert Skeleton.from_names(names).upper_body() == (True, True, False, False, False, False)


STYLES = {
    "AP-10K": ("L_Eye R_Eye Nose Neck Root_of_tail L_F_Paw R_F_Paw L_B_Paw R_B_Paw", [(0, 1), (5, 6), (7, 8)]),
    "AnimalPose": ("left_eye right_eye throat left_front_paw right_front_paw", [(0, 1), (3, 4)]),
    "DeepFashion": ("left_collar right_collar left_hem right_hem", [(0, 1), (2, 3)]),
    "OpenPose": ("Nose Neck RShoulder LShoulder RBigToe LBigToe REye LEye", [(3, 2), (5, 4), (7, 6)]),
    "Human3.6M": ("Hip RHip RKnee LHip LKnee Spine Thorax Head", [(3, 1), (4, 2)]),
    "Human3.6M, small": ("Hip Rhip Rknee Rfoot Lhip Lknee Lfoot Spine Neck", [(4, 1), (5, 2), (6, 3)]),
    "camels": ("leftEye rightEye lEar rEar", [(0, 1), (2, 3)]),
    "capitals": ("LEFT_EYE RIGHT_EYE LEFTEAR RIGHTEAR L_HIP R_HIP", [(0, 1), (2, 3), (4, 5)]),
    "behind": ("eye_l eye_r ear_L ear_R hipL hipR knee.left knee.right", [(0, 1), (2, 3), (4, 5), (6, 7)]),
    "glued words": ("lefteye righteye leftear1 rightear1 leftmost rightmost", [(0, 1), (2, 3), (4, 5)]),
    "glued words behind": ("eyeleft eyeright bow", [(0, 1)]),
    "hyphens": ("l-eye r-eye nose-tip", [(0, 1)]),
    "numbers": ("L1 R1 L2 R2 M1", [(0, 1), (2, 3)]),
    "abbreviations": ("head lsho rsho lelb relb lhip rhip root lower_lip", [(1, 2), (3, 4), (5, 6)]),
    "abbreviations behind": ("shol shor hipl hipr kneel1 kneer1 nose", [(0, 1), (2, 3), (4, 5)]),
    "mixed": ("left_eye right_eye lhip rhip lknee rknee lfoot rfoot", [(0, 1), (2, 3), (4, 5), (6, 7)]),
    "letters in words": ("left_leg right_leg lip lower_lip upper_lip collar bright light r2d2", None),
    "words with letters": ("left_leg right_leg lip lower_lip upper_lip collar bright light upright", [(0, 1)]),
    "two sides in a name": (
        "left_eye_left_corner left_eye_right_corner right_eye_left_corner right_eye_right_corner",
        [(0, 3), (1, 2)],
    ),
}


@pytest.mark.parametrize("style", STYLES)
def test_pairs_are_told_in_the_styles_of_well_known_data(style):
    names, pairs = STYLES[style]
    assert infer_flip_pairs(names.split()) == (None if pairs is None else tuple(pairs))


def test_names_with_spaces_are_told():
    names = ["Left Eye", "Right Eye", "ear left", "ear right", "Root of tail"]
    assert infer_flip_pairs(names) == ((0, 1), (2, 3))


REASONS = {
    "no name has a side, left or right": ["nose", "tail"],
    "'left_wing' has no partner 'right_wing'": ["head", "left_wing"],
    "'R_Wing' has no partner 'L_Wing'": ["head", "R_Wing"],
    "'RIGHT-WING' has no partner 'LEFT-WING'": ["RIGHT-WING", "left_eye", "right_eye"],
    "'lefteye2' has no partner 'righteye2'": ["lefteye2", "righteye"],
    "'LEye' has no partner 'REye'": ["LEye", "right_eye"],
    "'L4' has no partner 'R4'": ["L4", "T12"],
    "'leye' has no partner 'reye'": ["lhip", "rhip", "lknee", "rknee", "lfoot", "rfoot", "leye"],
    "'lhip' and 'rhip' may be left and right, or other words": ["lhip", "rhip", "left_eye", "right_eye"],
    "'left_hip' and 'LeftHip' differ only in spelling": ["left_hip", "right_hip", "LeftHip"],
    "'鼻' has no Latin letters or digits, so it can't be read": ["left_eye", "right_eye", "鼻"],
}


@pytest.mark.parametrize("reason", REASONS)
def test_reason_why_pairs_cannot_be_told_is_given(reason):
    assert explain_unknown_flip_pairs(REASONS[reason]) == reason
    assert infer_flip_pairs(REASONS[reason]) is None


def test_there_is_no_reason_where_pairs_are_told():
    assert explain_unknown_flip_pairs(COCO.keypoints) == ""


def test_one_or_two_pairs_of_glued_letters_may_be_chance():
    assert infer_flip_pairs(["lock", "rock", "lace", "race"]) is None
    assert infer_flip_pairs(["lock", "rock", "lace", "race", "lhip", "rhip"]) == ((0, 1), (2, 3), (4, 5))


def test_pairs_are_read_from_text():
    names = ("head", "wing one", "wing two", "eye_a", "eye_b")
    assert read_flip_pairs("wing one:wing two, eye_b:eye_a", names) == ((1, 2), (4, 3))
    assert read_flip_pairs("none", names) == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "write flip pairs as left_eye:right_eye,left_ear:right_ear, or none; got ''"),
        ("a:b,", "or none; got ''"),
        ("a", "or none; got 'a'"),
        ("a:b:c", "or none; got 'a:b:c'"),
        ("a:", "or none; got 'a:'"),
        ("a:x", "flip pairs: there is no keypoint 'x'; there are a, b, c"),
        ("a:b,c:a", "flip pairs: 'a' is in them twice"),
        ("a:a", "flip pairs: 'a' is in them twice"),
    ],
)
def test_pairs_that_cannot_be_read_are_refused(text, message):
    with pytest.raises(ValueError, match=f"{re.escape(message)}$"):
        read_flip_pairs(text, ("a", "b", "c"))
