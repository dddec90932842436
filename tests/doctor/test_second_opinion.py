"""A model's second opinion finds people whose left and right are swapped as a whole."""

from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tokenpose.data.sources import ImageSource
from tokenpose.doctor.check import check_data, read_files
from tokenpose.doctor.second_opinion import Opinion, ask, check_opinion, judge_pairs
from tokenpose.poses import Poses
from tokenpose.skeletons import LSP, Skeleton

from ..drawing import FIGURE
from .planting import HERE, Content, exchange

PARTS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")


class Onlooker:
    """Sees in each box the figure that was drawn there, its sides as they are; knows the keypoints of its skeleton."""

    def __init__(self, names: tuple[str, ...] = LSP.keypoints, score: float = 0.9) -> None:
        self.model = SimpleNamespace(spec=SimpleNamespace(skeleton=Skeleton.from_names(names)))
        self.score, self.asked = score, 0

    def many(self, images: Iterable[Any], boxes: Iterable[Any], box_format: str, *, on_error: str) -> Iterator[Poses]:
        assert (box_format, on_error) == ("xywh", "skip")
        skeleton = self.model.spec.skeleton
        known = [LSP.find(name) for name in skeleton.keypoints]
        for _, some in zip(images, boxes, strict=True):
            self.asked += len(some)
            points = some[:, None, :2] + FIGURE[[index or 0 for index in known]] * some[:, None, 2:]
            scores = np.full(points.shape[:2], self.score)
            yield Poses(keypoints=points, scores=scores, boxes=some, skeleton=skeleton)


def test_person_swapped_as_a_whole_is_found_by_the_model_and_not_by_the_labels(content: Content, check):
    exchange(content, *PARTS)
    assert check(content) == ()
    (found,) = check(content, predictor=Onlooker())
    assert (found.check, found.severity, found.annotations) == ("left and right", "warning", (HERE,))
    assert found.message == (
        "left and right of the whole person look swapped: the model sees 6 of 6 pairs of keypoints the other way round"
    )
    assert {"left_hip", "right_hip"} <= set(found.keypoints)


def test_right_labels_are_not_suspected(content: Content, check):
    onlooker = Onlooker()
    assert check(content, predictor=onlooker) == ()
    assert onlooker.asked == len(content["annotations"])


def test_model_that_knows_some_keypoints_by_other_names_has_a_say(content: Content, check):
    exchange(content, *PARTS)
    names = ("Nose", "LShoulder", "RShoulder", "hip.L", "hip.R", "Left Knee", "Right Knee")
    (found,) = check(content, predictor=Onlooker(names))
    assert "3 of 3 pairs" in found.message


def test_keypoints_that_the_model_does_not_see_clearly_say_nothing(content: Content, check):
    exchange(content, *PARTS)
    assert check(content, predictor=Onlooker(score=0.2)) == ()


def test_file_with_the_sides_of_the_image_is_one_finding(content: Content, check):
    for row in range(len(content["annotations"])):
        exchange(content, *PARTS, row=row)
    (found,) = check(content, predictor=Onlooker())
    assert (found.severity, found.record) == ("error", "")
    assert found.message.startswith("the model sees left and right of 40 of 40 people the other way round")


def test_people_without_a_box_and_images_that_are_missing_have_no_opinion(content: Content, check):
    content["annotations"][3]["bbox"] = [20, 30, 0, 50]
    content["images"][4]["file_name"] = "gone.png"
    onlooker = Onlooker()
    assert {found.check for found in check(content, predictor=onlooker)} == {"boxes", "missing images"}
    assert onlooker.asked == len(content["annotations"]) - 2


def test_model_that_knows_too_few_pairs_is_refused(drawn):
    (records,) = read_files([drawn])
    source = ImageSource(drawn.parent / "images")
    message = "knows at least 3 of the file's pairs; this one knows 1 of 6: it has left_hip, right_hip, neck"
    with pytest.raises(ValueError, match=message):
        ask(Onlooker(("left_hip", "right_hip", "neck")), records, source)


def test_second_opinion_needs_the_images(drawn):
    with pytest.raises(ValueError, match="a second opinion on left and right needs the images"):
        check_data(drawn, predictor=Onlooker())


def test_pairs_whose_ends_meet_say_nothing(drawn):
    (records,) = read_files([drawn])
    opinion = Opinion(keypoints=records.keypoints, scores=np.ones(records.keypoints.shape[:2]))
    straight, swapped = judge_pairs(records.keypoints, records.labeled(), records.skeleton, opinion)
    assert straight.all()
    assert not swapped.any()
    middle = np.repeat(records.keypoints.mean(axis=1, keepdims=True), len(LSP), axis=1)
    together = Opinion(keypoints=middle, scores=opinion.scores)
    straight, swapped = judge_pairs(records.keypoints, records.labeled(), records.skeleton, together)
    assert not straight.any()
    assert not swapped.any()
    assert check_opinion(records, together) == []
