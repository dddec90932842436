"""Checks of boxes: their size, their image, their keypoints."""

import numpy as np
from jaxtyping import Bool

from tokenpose.doctor.findings import Finding
from tokenpose.doctor.keypoints import SAME_SPOT
from tokenpose.doctor.records import Records

OUTSIDE_BOX = 0.2
"""How far a keypoint may lie outside its box, in diagonals of the box. COCO's boxes hold what is visible, and its
keypoints may be hidden: of 86 people, 10 have one that is farther outside than 0.05, 8 than 0.1, 4 than 0.2."""

LOOSE_BOX = 3.0
"""How many times as long as is usual in the file a box's diagonal may be, measured in that of its keypoints, where at
least half of them are labeled. Usual is the median, and 1 at least: in COCO's 86 people 1.2, and at most 1.7; in LSPET
1.3; of the five keypoints of COCO's faces 8.5, in boxes around whole people, and at most 16.8."""

FEWEST_BOXES = 5
"""People that it takes to say what is usual."""

FEWEST = 20
"""People that it takes to judge the file as a whole."""


def check_boxes(records: Records) -> list[Finding]:
    """Boxes without area, outside the image, that don't hold the keypoints, or are far too large for them."""
    corner, size = records.boxes[:, :2], records.boxes[:, 2:]
    limits = records.sizes[records.image_index]
    diagonal = np.linalg.norm(size, axis=1)
    inside = np.minimum(corner + size, limits) - np.maximum(corner, 0)
    beyond = np.maximum(-corner, corner + size - limits).max(axis=1, initial=-np.inf)
    empty, flat = np.any(size <= 0, axis=1), np.any(inside <= 1, axis=1)
    as_corners = _corners_for_sizes(records)
    if as_corners:
        return [as_corners]
    findings = []
    for person in np.flatnonzero(empty | flat):
        x, y, width, height = records.boxes[person]
        where = "" if empty[person] else f" within the image of {limits[person][0]:g} x {limits[person][1]:g}"
        message = f"its box {width:g} x {height:g} at ({x:g}, {y:g}) has no area{where}"
        findings.append(records.about_person(person, "boxes", "error", message, "draw it again: training ignores it"))
    for person in np.flatnonzero(~empty & ~flat & (beyond > np.maximum(2, 0.01 * diagonal))):
        x, y, width, height = records.boxes[person]
        message = (
            f"its box {width:g} x {height:g} at ({x:g}, {y:g}) reaches {beyond[person]:.0f} pixels out of the image"
        )
        advice = "cut it to the image, and check that it is not x1, y1, x2, y2"
        findings.append(
            records.about_person(person, "boxes", "warning", message, advice, beyond[person] / diagonal[person])
        )
    return findings + _unheld_keypoints(records, ~empty & ~flat) + _loose_boxes(records, ~empty & ~flat)


def _corners_for_sizes(records: Records) -> Finding | None:
    """Whether all boxes look like x1, y1, x2, y2: these fit their images, and as x, y, width, height many don't."""
    first, second = records.boxes[:, :2], records.boxes[:, 2:]
    limits = records.sizes[records.image_index] + 2
    outside = np.any(first + second > limits, axis=1)
    sensible = np.all((second > first) & (second <= limits), axis=1)
    if len(records) < FEWEST or outside.mean() < 0.3 or sensible.mean() < 0.95:
        return None
    message = (
        f"{outside.mean():.0%} of the boxes reach out of their images as x, y, width, height, and make sense as "
        "x1, y1, x2, y2"
    )
    advice = "write them as x, y, width, height"
    return records.about_file("boxes", "error", message, advice=advice, priority=np.inf)


def _unheld_keypoints(records: Records, sound: Bool[np.ndarray, " people"]) -> list[Finding]:
    corner, size = records.boxes[:, None, :2], records.boxes[:, None, 2:]
    outside = np.maximum(corner - records.keypoints, records.keypoints - corner - size).max(axis=-1)
    outside = np.where(records.labeled(), outside, -np.inf)
    share = outside / np.linalg.norm(records.boxes[:, 2:], axis=1, keepdims=True).clip(1e-9)
    findings = []
    for person in np.flatnonzero(sound & (share > OUTSIDE_BOX).any(axis=1)):
        farthest = int(outside[person].argmax())
        name, count = records.skeleton.keypoints[farthest], int((share[person] > OUTSIDE_BOX).sum())
        others = f", and {count} keypoints in all are that far outside" if count > 1 else ""
        message = f"its {name} lies {outside[person, farthest]:.0f} pixels outside its box{others}"
        advice = "check that box and keypoints belong to the same person"
        priority = share[person, farthest] + count
        findings.append(records.about_person(person, "boxes", "warning", message, advice, priority, (name,)))
    return findings


def _loose_boxes(records: Records, sound: Bool[np.ndarray, " people"]) -> list[Finding]:
    extent = records.extents()
    diagonal = np.linalg.norm(records.boxes[:, 2:], axis=1)
    ratio = diagonal / np.maximum(extent, 1)
    spread = extent > np.maximum(1, SAME_SPOT * np.nan_to_num(diagonal))  # else the keypoints are at fault
    enough = records.labeled().sum(axis=1) >= max(3, len(records.skeleton) / 2)
    comparable = sound & enough & spread & np.isfinite(ratio)
    is_known = comparable.sum() >= FEWEST_BOXES
    usual = float(np.median(ratio[comparable])) if is_known else 1.0
    findings = []
    for person in np.flatnonzero(comparable & (ratio > LOOSE_BOX * max(usual, 1.0))):
        width, height = records.boxes[person, 2:]
        message = f"its box {width:g} x {height:g} is {ratio[person]:.1f} times as long as its keypoints' extent"
        message += f", where {usual:.1f} is usual" if is_known else ""
        advice = "draw it around the person: the crop is made from it"
        findings.append(records.about_person(person, "boxes", "warning", message, advice, ratio[person]))
    return findings
