"""Pictures of findings: people with their labels, cut from their photographs."""

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image, ImageDraw

from tokenpose.doctor.findings import Place
from tokenpose.doctor.records import Records
from tokenpose.poses import Poses
from tokenpose.visualize import Picture, crop_picture, draw_poses, scale_to_fit

SIDE = 320
"""Pixels on the longer side of a picture."""

RING = (255, 45, 110)
"""Around the keypoints that a finding is about."""


def people_of(records: Records, place: Place) -> list[int]:
    """The person of a place, or all people of its image."""
    whole_image: list[int] = np.flatnonzero(records.image_index == place.image).tolist()
    return whole_image if place.person is None else [place.person]


def to_poses(records: Records, people: Sequence[int], swapped: Sequence[str]) -> Poses:
    """The people's labels as poses; ``swapped`` names pairs of keypoints that change places, one after the other."""
    rows = np.array(people, dtype=np.int64)
    order = np.arange(len(records.skeleton))
    for first, second in zip(swapped[::2], swapped[1::2], strict=True):
        pair = [records.skeleton.index(first), records.skeleton.index(second)]
        order[pair] = pair[::-1]
    labelled, boxes = records.labelled()[rows][:, order], records.boxes[rows]
    keypoints = np.where(labelled[..., None], records.keypoints[rows][:, order], 0)
    corners = np.concatenate((boxes[:, :2], boxes[:, :2] + boxes[:, 2:].clip(0)), axis=1)
    return Poses(
        keypoints=keypoints.astype(np.float32),
        scores=labelled.astype(np.float32),
        boxes=corners.astype(np.float32),
        skeleton=records.skeleton,
    )


def draw_people(image: Picture, poses: Poses, person: int | None, marked: Sequence[str]) -> Picture:
    """One person and the surroundings, or the whole image with all its people; rings around the marked keypoints."""
    if person is not None:
        image, poses = _surroundings(image, poses)
    scale = scale_to_fit(image, (SIDE, SIDE))
    finite = np.isfinite(poses.boxes).all(axis=1)
    drawn = draw_poses(image, _take(poses, finite), scale=scale, boxes=True)
    boxless = _take(poses, ~finite)
    if len(boxless):
        point = replace(boxless, boxes=np.zeros_like(boxless.boxes))
        drawn = draw_poses(drawn, replace(point, keypoints=(point.keypoints + 0.5) * scale - 0.5))
    return _ring(drawn, poses, scale, marked) if person is not None else drawn


def _take(poses: Poses, rows: np.ndarray) -> Poses:
    return replace(poses, keypoints=poses.keypoints[rows], scores=poses.scores[rows], boxes=poses.boxes[rows])


def _surroundings(image: Picture, poses: Poses) -> tuple[Picture, Poses]:
    """The part of an image that holds a person's box and keypoints; what lies outside the image is gray."""
    points = poses.keypoints[poses.scores > 0].reshape(-1, 2)
    corners = poses.boxes.reshape(-1, 2)
    points = np.concatenate((points, corners[np.isfinite(corners).all(axis=1)]))
    if not len(points):
        return image, poses
    limits = np.array(image.shape[1::-1], dtype=np.float32)
    low = np.clip(points.min(axis=0), -limits / 2, limits - 1)
    high = np.clip(points.max(axis=0), 0, 1.5 * limits)
    before, after = np.ceil(np.maximum(0, -low)).astype(int), np.ceil(np.maximum(0, high + 1 - limits)).astype(int)
    margins = ((before[1], after[1]), (before[0], after[0]), (0, 0))
    padded = np.pad(image, margins, constant_values=150)
    shift = before.astype(np.float32)
    region = np.concatenate((low + shift, high + shift)).astype(np.float32)[None]
    part, moved = crop_picture(padded, replace(poses, keypoints=poses.keypoints + shift, boxes=region), 1.15)
    return part, replace(moved, boxes=poses.boxes + np.tile(shift, 2) + moved.boxes - region)


def _ring(picture: Picture, poses: Poses, scale: float, marked: Sequence[str]) -> Picture:
    drawing = Image.fromarray(picture)
    pen, radius = ImageDraw.Draw(drawing), 9
    for name in marked:
        index = poses.skeleton.index(name)
        for point, score in zip(poses.keypoints[:, index], poses.scores[:, index], strict=True):
            x, y = ((point + 0.5) * scale - 0.5).tolist()
            if score > 0 and math.isfinite(x + y):
                pen.ellipse((x - radius, y - radius, x + radius, y + radius), outline=RING, width=2)
    return np.asarray(drawing).copy()


def to_data_url(picture: Picture) -> str:
    """The picture as the address of a JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
