import logging

import pytest

from tokenpose.data.formats.grouping import LooseBox, LooseImage, LoosePoint, gather
from tokenpose.data.formats.labels import Keypoint
from tokenpose.skeletons import COCO

A, B = Keypoint(10, 10), Keypoint(50, 50)


def image(points, boxes=()) -> LooseImage:
    return LooseImage(file="a.jpg", width=100, height=100, points=points, boxes=boxes)


def people(points, boxes=(), **arguments):
    photographs, _ = gather([image(points, boxes)], "x", **arguments)
    return photographs[0].people


def test_points_of_a_group_are_a_person_with_the_box_of_the_group():
    points = [LoosePoint("head", A, 1), LoosePoint("head", B, 2), LoosePoint("tail", A, 2)]
    first, second = people(points, [LooseBox("fish", (40, 40, 20, 20), 2)])
    assert (first.category, first.keypoints, first.box) == ("fish", {"head": B, "tail": A}, (40, 40, 20, 20))
    assert (second.category, second.keypoints, second.box) == ("person", {"head": A}, None)


def test_points_without_a_group_belong_to_the_box_around_them():
    boxes = [LooseBox("person", (0, 0, 30, 30)), LooseBox("person", (40, 40, 30, 30))]
    first, second = people([LoosePoint("head", B), LoosePoint("head", A)], boxes)
    assert (first.keypoints, second.keypoints) == ({"head": A}, {"head": B})


def test_the_smallest_box_without_such_a_point_takes_it():
    boxes = [LooseBox("person", (0, 0, 90, 90)), LooseBox("person", (40, 40, 20, 20))]
    large, small = people([LoosePoint("head", B), LoosePoint("head", Keypoint(51, 51))], boxes)
    assert small.keypoints == {"head": B}
    assert large.keypoints == {"head": Keypoint(51, 51)}


def test_points_of_an_image_without_boxes_are_its_only_person():
    [person] = people([LoosePoint("head", A), LoosePoint("tail", B)])
    assert person.keypoints == {"head": A, "tail": B}
    assert person.box is None


@pytest.mark.parametrize(
    ("points", "boxes", "message"),
    [
        ([LoosePoint("head", A), LoosePoint("head", B)], [], "x: a.jpg: nothing says to which person the point 'head' "
         "at 50, 50 belongs: there are two points of this label; group the points"),
        ([LoosePoint("head", B)], [LooseBox("person", (0, 0, 9, 9))], "at 50, 50 belongs: there is another person"),
        ([LoosePoint("head", A, 1), LoosePoint("head", B, 1)], [], "group 1 has two points 'head'"),
        ([LoosePoint("head", A)], [LooseBox("p", (0, 0, 9, 9), 1)] * 2, "group 1 has two boxes"),
        ([], [LooseBox("p", (0, 0, 9, 9))], "x has no labeled points in its 1 image"),
    ],
)  # fmt: skip
def test_what_is_not_plain_is_refused(points, boxes, message):
    with pytest.raises(ValueError, match=message):
        people(points, boxes)


def test_boxes_of_things_without_keypoints_are_left_out_with_a_line(caplog):
    caplog.set_level(logging.INFO, "tokenpose")
    boxes = [LooseBox("person", (0, 0, 30, 30)), LooseBox("ball", (60, 60, 9, 9)), LooseBox("person", (70, 0, 9, 9))]
    found = people([LoosePoint("head", A)], boxes)
    assert [person.box for person in found] == [(0, 0, 30, 30), (70, 0, 9, 9)]
    assert "x: left out: 1 box of labels that never have a keypoint" in caplog.messages


def test_keypoints_have_the_given_order_or_that_of_their_first_appearance():
    points = [LoosePoint("tail", A), LoosePoint("head", B)]
    _, [category] = gather([image(points)], "x")
    assert category.keypoints == ("tail", "head")
    _, [category] = gather([image(points)], "x", ["head", "fin", "tail"])
    assert category.keypoints == ("head", "fin", "tail")
    with pytest.raises(ValueError, match="x has points labeled tail, which the given keypoints lack"):
        gather([image(points)], "x", ["head"])


def test_names_of_a_known_skeleton_have_its_order():
    names = COCO.keypoints[::-1]
    _, [category] = gather([image([LoosePoint(name, A) for name in names])], "x")
    assert category.keypoints == COCO.keypoints
    _, [category] = gather([image([LoosePoint(name, A) for name in names[:-1]])], "x")
    assert category.keypoints == names[:-1]
