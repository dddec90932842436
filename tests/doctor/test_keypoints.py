"""Checks of keypoints, beyond the single faults of test_check.py."""

from tokenpose.skeletons import LSP

from .planting import HERE, PEOPLE, keypoint


def test_repeated_keypoint_is_named_with_its_twin(content, check):
    x, y = content["annotations"][HERE]["keypoints"][3 * LSP.index("neck") :][:2]
    keypoint(content, "left_wrist", x, y)
    (found,) = (finding for finding in check(content) if finding.check == "repeated keypoints")
    assert found.message == f"left_wrist and neck lie at the very same spot, ({x:g}, {y:g})"
    assert found.record == "annotation 7 in 007.png"
    assert found.keypoints == ("left_wrist", "neck")


def test_keypoints_in_whole_pixels_may_fall_together_in_small_people(content, check):
    numbers = content["annotations"][HERE]["keypoints"]
    numbers[:] = [round(number / 3) for number in numbers]
    numbers[2::3] = [2] * 14
    numbers[:3] = numbers[3:6]
    assert not [finding for finding in check(content) if finding.check == "repeated keypoints"]


def test_file_that_marks_the_unlabeled_by_the_origin_is_told_once(content, check):
    for row in range(0, PEOPLE, 2):
        keypoint(content, "neck", 0, 0, row=row)
    (found,) = check(content)
    assert (found.check, found.severity, found.record) == ("visibility flags", "error", "")
    assert found.message == "v is never 0, yet 20 keypoints lie at (0, 0)"


def test_flags_that_only_say_labeled_or_not_are_noted(content, check):
    for annotation in content["annotations"]:
        annotation["keypoints"][2::3] = [1] * 13 + [0]
        annotation["keypoints"][-3:] = [0, 0, 0]
        annotation["num_keypoints"] = 13
    found = check(content)
    assert [(finding.check, finding.severity) for finding in found] == [
        ("visibility flags", "note"),
        ("never labeled", "warning"),
    ]
    assert found[1].message == f"head_top is never labeled in {PEOPLE} people"


def test_file_without_people_is_an_error(content, check):
    content["annotations"] = []
    (found,) = check(content)
    assert (found.check, found.message) == ("never labeled", "it has no people with labeled keypoints")


def test_file_in_which_nobody_is_labeled_is_an_error(content, check):
    for annotation in content["annotations"]:
        annotation["keypoints"][2::3] = [0] * 14
    (found,) = (finding for finding in check(content) if finding.severity == "error")
    assert (found.check, found.message) == ("never labeled", "it has no people with labeled keypoints")
    assert found.advice == "set v to 1 or 2 where a keypoint is labeled: there is no one to train on"
