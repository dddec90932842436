"""Flip pairs: names and places."""

import pytest

from tokenpose.skeletons import LSP

from .planting import exchange, rename


def test_names_in_another_order_than_the_keypoints_give_pairs_that_are_none(content, check):
    names = content["categories"][0]["keypoints"]
    knee, ankle = names.index("left_knee"), names.index("left_ankle")
    names[knee], names[ankle] = names[ankle], names[knee]
    found = [finding for finding in check(content) if finding.check == "flip pairs"]
    assert {frozenset(finding.keypoints) for finding in found} >= {frozenset({"left_ankle", "right_ankle"})}
    assert all("don't look like a pair" in finding.message for finding in found)


def test_name_without_partner_is_an_error_that_tells_it(content, check):
    rename(content, left_hip="left_hipbone")
    (found,) = (finding for finding in check(content) if finding.check == "flip pairs")
    assert (found.severity, found.keypoints) == ("error", ("right_hip", "left_hipbone"))
    assert found.message == "right_hip, left_hipbone have no partner of the other side by name"


def test_names_without_sides_are_an_error_and_given_pairs_take_their_place(content, check):
    rename(content, **{name: f"point_{index}" for index, name in enumerate(LSP.keypoints)})
    (found,) = check(content)
    assert (found.check, found.severity) == ("flip pairs", "error")
    assert found.message == "the names don't say which keypoints change sides: no name has a side, left or right"
    assert "--flip-pairs left_a:right_a" in found.advice
    assert "--flip 0" in found.advice
    assert check(content, flip_pairs=()) == ()
    pairs = [(f"point_{left}", f"point_{right}") for left, right in LSP.flip_pairs or ()]
    assert check(content, flip_pairs=pairs) == ()
    exchange(content, "elbow")
    assert [finding.check for finding in check(content, flip_pairs=pairs)] == ["left and right"]
    with pytest.raises(LookupError, match="has no keypoint 'left_hip'"):
        check(content, flip_pairs=[("left_hip", "right_hip")])


def test_given_pairs_that_contradict_the_names_are_errors(content, check):
    pairs = [("left_hip", "right_knee"), *((f"left_{name}", f"right_{name}") for name in ("ankle", "elbow", "wrist"))]
    messages = [finding.message for finding in check(content, flip_pairs=pairs) if finding.severity == "error"]
    assert messages == [
        "left_hip is paired with right_knee; by the names it should be paired with right_hip",
        "left_shoulder and right_shoulder are in no pair",
    ]
