"""A second opinion on left and right: people whose labels a trained model sees the other way round.

A person whose left and right are swapped completely looks like any other, and labels alone don't show it. A model that
knows the keypoints, or some of them, does: it looks at the photograph.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float

from tokenpose.data.sources import ImageSource
from tokenpose.doctor.findings import Finding
from tokenpose.doctor.records import Records
from tokenpose.poses import Poses
from tokenpose.shapes import KeypointArray, VisibleArray
from tokenpose.skeletons import Skeleton, read_names

LEAST_SCORE = 0.3
"""Predicted keypoints with a lower score have no say."""

FEWEST_PAIRS = 3
"""So many pairs must speak for a swap."""

LEAST_SHARE = 0.8
"""So large a share of the pairs that say anything must speak for a swap. With these numbers the bundled weights find
123 of 200 people of LSPET's validation set whose sides were swapped, and report 10 of the same people as labeled."""

NEAR = 0.5
"""A pair speaks for one order if its distance to the labels is at most this share of that of the other order."""

FEWEST_PEOPLE = 20
"""People that it takes to judge the file as a whole."""

IMAGES_AT_ONCE = 32


@runtime_checkable
class Predictor(Protocol):
    """What predicts keypoints in boxes: `tokenpose.PosePredictor`."""

    model: Any

    def many(
        self, images: Iterable[Any], boxes: Iterable[Any], box_format: Literal["xywh"], *, on_error: Literal["skip"]
    ) -> Iterator[Poses | None]:
        """The poses of each image, None for an image with boxes that can't be used."""
        ...


@dataclass(frozen=True, kw_only=True)
class Opinion:
    """What a model predicts of a file's people, for the file's keypoints."""

    keypoints: KeypointArray
    """NaN where nothing was predicted."""
    scores: Float[np.ndarray, "people keypoints"]
    """0 for a keypoint that the model doesn't know, and for people who can't be cropped."""


def ask(predictor: Predictor, records: Records, source: ImageSource) -> Opinion:
    """Predict the people of a file in their boxes; keypoints are matched by what their names say, in any spelling.

    Images that can't be read have no opinion; the check names them by itself. Raises ValueError where the model knows
    fewer than three of the file's flip pairs.
    """
    skeleton = predictor.model.spec.skeleton
    ours, theirs = _shared(records.skeleton, skeleton)
    count = len(records), len(records.skeleton)
    keypoints, scores = np.full((*count, 2), np.nan), np.zeros(count)
    for people, poses in _predict(predictor, records, source):
        keypoints[people[:, None], ours] = poses.keypoints[:, theirs]
        scores[people[:, None], ours] = poses.scores[:, theirs]
    return Opinion(keypoints=keypoints, scores=scores)


def _shared(ours: Skeleton, theirs: Skeleton) -> tuple[list[int], list[int]]:
    """The indices of the keypoints that both have."""
    known = {name.words: index for index, name in enumerate(read_names(theirs.keypoints))}
    names = [(index, name.words) for index, name in enumerate(read_names(ours.keypoints)) if name.words in known]
    shared = {index for index, _ in names}
    pairs = [pair for pair in ours.flip_pairs or () if shared.issuperset(pair)]
    if len(pairs) < FEWEST_PAIRS:
        raise ValueError(
            f"a second opinion on left and right needs a model that knows at least {FEWEST_PAIRS} of the file's pairs; "
            f"this one knows {len(pairs)} of {len(ours.flip_pairs or ())}: it has {', '.join(theirs.keypoints)}"
        )
    return [index for index, _ in names], [known[words] for _, words in names]


def _predict(predictor: Predictor, records: Records, source: ImageSource) -> Iterator[tuple[np.ndarray, Poses]]:
    """The people of each image whose boxes have a size, and their poses."""
    sound = np.isfinite(records.boxes).all(axis=1) & (records.boxes[:, 2:] >= 1).all(axis=1)
    images = np.unique(records.image_index[sound]).tolist()
    for start in range(0, len(images), IMAGES_AT_ONCE):
        some = images[start : start + IMAGES_AT_ONCE]
        readable = [(image, pixels) for image in some if (pixels := _read(records, image, source)) is not None]
        people = [np.flatnonzero(sound & (records.image_index == image)) for image, _ in readable]
        boxes = [records.boxes[rows] for rows in people]
        found = predictor.many([pixels for _, pixels in readable], boxes, "xywh", on_error="skip")
        yield from ((rows, poses) for rows, poses in zip(people, found, strict=True) if poses is not None)


def _read(records: Records, image: int, source: ImageSource) -> Any:
    """The image; None where it can't be read, which is a finding of its own."""
    name = records.files[image]
    try:
        return None if name is None else source.read(name)
    except (OSError, ValueError):
        return None


def check_opinion(records: Records, opinion: Opinion) -> list[Finding]:
    """People of whom most pairs of keypoints are where the model sees their partners; or the whole file, if most are.

    Pairs of which the model doesn't see both ends clearly, or whose ends are too near each other, say nothing.
    """
    straight, swapped = judge_pairs(records.keypoints, records.labeled(), records.skeleton, opinion)
    votes, opposed = swapped.sum(axis=1), straight.sum(axis=1)
    judged = votes + opposed >= FEWEST_PAIRS
    suspects = judged & (votes >= FEWEST_PAIRS) & (votes >= LEAST_SHARE * (votes + opposed))
    if judged.sum() >= FEWEST_PEOPLE and suspects.sum() > judged.sum() / 2:
        return [_about_file(records, int(suspects.sum()), int(judged.sum()))]
    return [_about(records, int(person), swapped[person], int(opposed[person])) for person in np.flatnonzero(suspects)]


def judge_pairs(
    keypoints: KeypointArray, labeled: VisibleArray, skeleton: Skeleton, opinion: Opinion
) -> tuple[Bool[np.ndarray, "people pairs"], Bool[np.ndarray, "people pairs"]]:
    """Which flip pairs of each person the model sees as they are labeled, and which the other way round."""
    pairs = np.array(skeleton.flip_pairs or (), dtype=np.int64).reshape(-1, 2)
    known = (labeled & (opinion.scores >= LEAST_SCORE))[:, pairs].all(axis=-1)
    labels, predicted = keypoints[:, pairs], opinion.keypoints[:, pairs]
    as_labeled, other_way = (
        np.linalg.norm(labels - other, axis=-1).sum(axis=-1) for other in (predicted, predicted[:, :, ::-1])
    )
    return known & (as_labeled <= NEAR * other_way), known & (other_way <= NEAR * as_labeled)


def _about(records: Records, person: int, swapped: Bool[np.ndarray, " pairs"], opposed: int) -> Finding:
    pairs = [pair for pair, is_swapped in zip(records.skeleton.flip_pairs or (), swapped, strict=True) if is_swapped]
    names = tuple(records.skeleton.keypoints[index] for pair in pairs for index in pair)
    message = (
        f"left and right of the whole person look swapped: the model sees {len(pairs)} of {len(pairs) + opposed} pairs "
        "of keypoints the other way round"
    )
    advice = "check the two sides: left and right are the person's own, and the model may be wrong"
    return records.about_person(
        person, "left and right", "warning", message, advice=advice, priority=len(pairs), keypoints=names
    )


def _about_file(records: Records, suspects: int, judged: int) -> Finding:
    message = (
        f"the model sees left and right of {suspects} of {judged} people the other way round: the labels, or the "
        "model, may have the sides of the image in place of the person's own"
    )
    advice = "look at some people: left and right are the person's own"
    return records.about_file("left and right", "error", message, advice=advice, priority=np.inf)
