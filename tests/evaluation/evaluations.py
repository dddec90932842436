"""Evaluations with a predictor that knows the labels."""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tokenpose.data.annotations import read_with_columns
from tokenpose.data.samples import Samples
from tokenpose.data.sources import ImageSource
from tokenpose.evaluation.measure import measure
from tokenpose.evaluation.processes import Processes
from tokenpose.evaluation.result import Evaluation
from tokenpose.evaluation.settings import EvaluationSettings
from tokenpose.models.spec import ModelSpec
from tokenpose.poses import Poses
from tokenpose.skeletons import COCO, LSP, Skeleton

SPEC = ModelSpec(
    backbone="pixels", backbone_stride=1, image_size=(64, 48), patch_size=(16, 12), width=48, heads=4, depth=1,
    skeleton=LSP,
)  # fmt: skip


def tell_labels(samples: Samples, shift: float = 0.0) -> Callable[[Iterable[Any], Iterable[Any]], Iterator[Poses]]:
    """A predictor that finds the labels of whoever has the box, ``shift`` pixels to the right.

    An unlabeled keypoint is put into the middle of the box.
    """
    middle = samples.boxes[:, None, :2] + samples.boxes[:, None, 2:] / 2
    keypoints = np.where(samples.visible[..., None], samples.keypoints, middle) + np.float32([shift, 0])

    def many(images: Iterable[Any], boxes: Iterable[Any]) -> Iterator[Poses]:
        for _, own in zip(images, boxes, strict=True):
            rows = [int(np.flatnonzero((samples.boxes == box).all(axis=1))[0]) for box in own]
            scores = np.ones((len(rows), len(samples.skeleton)), dtype=np.float32)
            yield Poses(keypoints=keypoints[rows], scores=scores, boxes=own, skeleton=samples.skeleton)

    return many


def evaluated(path: Path, shift: float = 0.0, spec: ModelSpec = SPEC, **settings: Any) -> Evaluation:
    samples, columns = read_with_columns(path)
    given, source = EvaluationSettings(**settings), ImageSource(path.parent)
    return measure(tell_labels(samples, shift), spec, path, samples, source, given, columns=columns)


def changed(people: Path, name: str, **changes: Any) -> Path:
    """The file of the same people with other annotations."""
    content = json.loads(people.read_text())
    for annotation in content["annotations"]:
        annotation.update(changes)
    path = people.parent / name
    path.write_text(json.dumps(content))
    return path


def tell_corners(skeleton: Skeleton, score: float = 1.0) -> Callable[..., Iterator[Poses]]:
    """A predictor that puts keypoint k k pixels to the right of the box's first corner."""

    def many(images: Any, boxes: Any) -> Iterator[Poses]:
        for _, own in zip(images, boxes, strict=True):
            steps = np.stack((np.arange(len(skeleton)), np.zeros(len(skeleton))), axis=1).astype(np.float32)
            keypoints = np.asarray(own, dtype=np.float32)[:, None, :2] + steps
            scores = np.full(keypoints.shape[:2], score, dtype=np.float32)
            yield Poses(keypoints=keypoints, scores=scores, boxes=own, skeleton=skeleton)

    return many


def never(images: Any, boxes: Any) -> Iterator[Poses]:
    """A predictor that must not be used."""
    yield from ()
    pytest.fail("something was predicted")


def predicted(
    path: Path,
    many: Callable[..., Iterator[Poses]] = never,
    skeleton: Skeleton = COCO,
    processes: Processes | None = None,
    **settings: Any,
) -> Evaluation:
    samples, columns = read_with_columns(path, annotated=False)
    spec: ModelSpec = SPEC.replace(skeleton=skeleton)
    given = EvaluationSettings(**settings)
    return measure(many, spec, path, samples, ImageSource(path.parent), given, processes, columns)


def mpii_record(**changes: Any) -> dict[str, Any]:
    return {"image": "a.png", "center": [31.0, 26.0], "scale": 0.2, **changes}
