"""People who are annotated twice in one image."""

import numpy as np
from jaxtyping import Float

from tokenpose.doctor.findings import Finding
from tokenpose.doctor.records import Records

SAME_PERSON_OVERLAP = 0.9
SAME_PERSON_DISTANCE = 0.02
"""Two boxes that overlap so far (intersection over union), with keypoints that differ by no more than this part of the
box's diagonal on average, are one person annotated twice."""


def check_people(records: Records) -> list[Finding]:
    """People who are annotated twice in one image: the same box, the same keypoints."""
    findings = []
    order = np.argsort(records.image_index, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(records.image_index[order])) + 1)
    for people in (group for group in groups if len(group) > 1):
        overlap = _overlaps(records.boxes[people])
        for first, second in zip(*np.nonzero(np.triu(overlap > SAME_PERSON_OVERLAP, 1)), strict=True):
            one, other = int(people[first]), int(people[second])
            shared = records.labeled()[one] & records.labeled()[other]
            if not shared.any():
                continue
            distance = np.linalg.norm(records.keypoints[one, shared] - records.keypoints[other, shared], axis=1).mean()
            if distance > SAME_PERSON_DISTANCE * np.linalg.norm(records.boxes[one, 2:]):
                continue
            message = (
                f"it is the same person as annotation {records.annotation_ids[one]}: the boxes overlap by "
                f"{overlap[first, second]:.0%}, the keypoints differ by {distance:.1f} pixels"
            )
            findings.append(records.about_person(other, "duplicate people", "warning", message, "remove one of them"))
    return findings


def _overlaps(boxes: Float[np.ndarray, "boxes 4"]) -> Float[np.ndarray, "boxes boxes"]:
    """Intersection over union of each with each."""
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    inside = np.minimum(high[:, None], high) - np.maximum(low[:, None], low)
    shared = inside.clip(0).prod(axis=-1)
    areas = boxes[:, 2:].clip(0).prod(axis=-1)
    return shared / np.maximum(areas[:, None] + areas - shared, 1e-9)
