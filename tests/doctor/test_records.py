"""What the check reads of a COCO file, and faults of its records."""

import pytest

from .planting import HERE, rename


def test_each_annotation_of_an_unlisted_category_is_a_finding_and_those_of_others_are_none(content, check):
    content["categories"].append({"id": 2, "name": "dog"})
    for row in (0, 1, 2):
        content["annotations"][row]["category_id"] = 2
    for row in (3, 4, 5):
        content["annotations"][row]["category_id"] = 0
    found = check(content)
    assert [(one.check, one.severity, one.annotations) for one in found] == [
        ("records", "error", (row,)) for row in (3, 4, 5)
    ]
    assert found[0].message == "category_id must be one of 1 (person), 2 (dog); got 0"
    assert found[0].advice == "correct the record or remove it"


def test_one_of_several_categories_has_to_be_named(content, check):
    content["categories"].append({"id": 2, "name": "dog", "keypoints": ["nose"]})
    with pytest.raises(ValueError, match=r"it has: person, dog; say which: --category NAME, in Python category=NAME$"):
        check(content)
    assert check(content, category="person") == ()


def test_repeated_name_is_an_error_of_the_category_and_the_rest_is_looked_at(content, check):
    rename(content, left_hip="neck", head_top="neck (2)")
    content["annotations"][HERE]["bbox"] = [20, 30, 0, 50]
    found = check(content)
    (first,) = (finding for finding in found if finding.check == "records")
    assert (first.severity, first.record) == ("error", "category 1")
    assert first.message == "the names of keypoints must differ; repeated: neck"
    assert first.advice == "give each keypoint its own name; in a report of the check the later one is 'neck (3)'"
    assert [finding.record for finding in found if finding.check == "boxes"] == ["annotation 7 in 007.png"]
    assert {"right_hip"} <= {name for finding in found if finding.check == "flip pairs" for name in finding.keypoints}


def test_names_that_are_repeated_several_times_stay_apart(content, check):
    rename(content, **dict.fromkeys(("left_hip", "right_hip", "neck"), "spot"), left_knee="top", head_top="top")
    (first,) = (finding for finding in check(content) if finding.check == "records")
    assert first.message == "the names of keypoints must differ; repeated: spot, top"
    assert first.advice == (
        "give each keypoint its own name; in a report of the check the later ones are 'spot (2)', 'spot (3)', 'top (2)'"
    )


def test_limbs_that_count_from_0_are_read_with_a_note(content, check):
    content["categories"][0]["skeleton"] = [
        [first - 1, second - 1] for first, second in content["categories"][0]["skeleton"]
    ]
    (found,) = check(content)
    assert (found.check, found.severity) == ("corrected values", "warning")
    assert "from 0" in found.message


def test_category_that_is_no_record_is_an_error(content, check):
    content["categories"].insert(0, None)
    (found,) = check(content)
    assert (found.check, found.severity, found.record) == ("records", "error", "categories[0]")
    assert found.message == "a category must be an object; got None"


@pytest.mark.parametrize("kind", ["images", "annotations"])
@pytest.mark.parametrize("value", [None, 3, "x", [], {}])
def test_records_of_any_kind_are_findings_not_errors(content, check, kind, value):
    content[kind][HERE] = value
    assert "records" in {finding.check for finding in check(content)}
