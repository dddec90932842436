from dataclasses import replace

import pytest

from tokenpose.data.combine import combine
from tokenpose.skeletons import COCO

from .parts import Grey, named, people_of


def test_combined_data_of_one_skeleton_have_it():
    samples, _ = combine([(people_of(COCO), Grey(1)), (people_of(COCO), Grey(2))])
    assert samples.skeleton == COCO


def test_pairs_that_were_given_hold_for_all():
    given = people_of(named("a", "b", flip_pairs=((0, 1),)))  # a is the left one, and stands first in its pair
    other = people_of(named("b", "a"))
    assert combine([(other, Grey(1)), (given, Grey(2))])[0].skeleton.flip_pairs == ((1, 0),)


def test_pairs_stay_unknown_where_one_part_has_names_that_do_not_tell():
    told, untold = people_of(named("left_eye", "right_eye")), people_of(named("a", "left_ear"))
    assert combine([(told, Grey(1)), (untold, Grey(2))])[0].skeleton.flip_pairs is None
    other_half = people_of(named("right_ear"))
    parts = [(told, Grey(1)), (untold, Grey(2)), (other_half, Grey(3))]
    assert combine(parts)[0].skeleton.flip_pairs == ((0, 1), (3, 4))  # together their names tell


def spellings(caplog, *people):
    caplog.clear()
    combine([(part, Grey(1)) for part in people])
    return caplog.messages


def test_names_of_two_files_that_read_the_same_are_told_with_what_makes_them_one(caplog):
    first = people_of(named("nose", "left_eye", "right_eye"), origin="a.json")
    second = people_of(named("right eye", "EyeL", "tail"), origin="b.json")
    assert spellings(caplog, first, second) == [
        "b.json has 'right eye', 'EyeL', a.json has 'right_eye', 'left_eye': names that differ only in "
        "spelling are different keypoints; to join them, give --rename 'right eye=right_eye' --rename EyeL=left_eye"
    ]
    assert spellings(caplog, first, second, replace(second, origins=("c.json",))) == spellings(caplog, first, second)
    third = people_of(named("Nose"), origin="c.json")
    assert [message[:30] for message in spellings(caplog, first, second, third)] == [
        "b.json has 'right eye', 'EyeL'",
        "c.json has 'Nose', a.json has ",
    ]


def test_names_that_read_otherwise_or_stand_in_one_file_are_not_told(caplog):
    first = people_of(named("left_eye", "right_eye", "toe1", "\u5de6"))
    assert spellings(caplog, first, people_of(named("left_ear", "right_ear", "toe2", "\u53f3", "left_eye"))) == []
    both = people_of(named("left_eye", "left eye"))
    assert spellings(caplog, first, both, people_of(named("left eye"))) == []
    assert spellings(caplog, both) == []
    other = people_of(named("\u00f8re_h\u00f8jre", "h\u00e6jre"))
    assert len(spellings(caplog, people_of(named("\u00d8re h\u00f8jre")), other)) == 1


CONTRADICTIONS = {
    "pairs": (
        named("a", "b", "c", flip_pairs=((0, 1),)),
        named("a", "b", "c", flip_pairs=((0, 2),)),
        r"one\.json mirrors a to b, two\.json to c",
    ),
    "none": (
        named("a", "b", flip_pairs=()),
        named("a", "b", flip_pairs=((0, 1),)),
        r"one\.json mirrors a to a, two\.json to b",
    ),
    "half a pair": (
        named("left_eye", flip_pairs=()),
        named("right_eye"),
        r"one\.json mirrors left_eye to left_eye, and by its name right_eye goes to left_eye",
    ),
    "sigmas": (
        named("a", "b", sigmas=(0.1, 0.2)),
        named("b", "a", sigmas=(0.2, 0.3)),
        r"one\.json has the sigma 0\.1 for a, two\.json 0\.3",
    ),
}


@pytest.mark.parametrize("kind", CONTRADICTIONS)
def test_contradictions_are_refused_with_both_files(kind):
    first, second, message = CONTRADICTIONS[kind]
    parts = [(people_of(first, origin="one.json"), Grey(1)), (people_of(second, origin="two.json"), Grey(2))]
    with pytest.raises(ValueError, match=message):
        combine(parts)
