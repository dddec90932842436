"""Findings about left and right."""


def test_pair_that_is_named_the_other_way_in_the_whole_file_is_found_and_nobody_is_suspected(content, check):
    names = content["categories"][0]["keypoints"]
    left, right = names.index("left_elbow"), names.index("right_elbow")
    names[left], names[right] = names[right], names[left]
    (found,) = check(content)
    assert (found.check, found.severity, found.record) == ("left and right", "error", "")
    assert "left_elbow is on the side of the other right keypoints" in found.message
