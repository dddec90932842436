"""People who are annotated twice."""

from .planting import HERE, repeat


def test_person_who_is_annotated_again_beside_a_neighbor_is_found_once(content, check):
    repeat("annotations")(content)
    content["annotations"][-1].update(id=99)
    (found,) = check(content)
    assert (found.check, found.severity, found.record) == ("duplicate people", "warning", "annotation 99 in 007.png")
    assert found.advice == "remove one of them"


def test_same_box_with_other_keypoints_is_another_person(content, check):
    repeat("annotations")(content)
    numbers = list(content["annotations"][HERE]["keypoints"])
    numbers[::3] = [x + 5 for x in numbers[::3]]
    content["annotations"][-1].update(id=99, keypoints=numbers)
    assert not [finding for finding in check(content) if finding.check == "duplicate people"]
