"""The people of an MPII file as the check looks at them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from tokenpose.data.mpii import MpiiPerson, place_boxes, read_mpii_people
from tokenpose.doctor.findings import Finding
from tokenpose.doctor.records import Records, about_fault
from tokenpose.skeletons import MPII


def read_mpii_records(path: str | Path, flip_pairs: Sequence[tuple[str, str]] | None = None) -> Records:
    """The people of a JSON list as `tokenpose.data.mpii.read_mpii` reads it; faults of records are findings.

    The file has no sizes of images: they are NaN. v is 2 where a joint is visible. A joint that is not visible is at
    (0, 0), and so is a visible one that the file puts there. ``flip_pairs``: names of keypoints, in place of MPII's.
    Raises FileNotFoundError, ValueError for a file that is not a JSON list, and LookupError for pairs of unknown names.
    """
    people, faults = read_mpii_people(path)
    read = {position: person for position, person in enumerate(people) if person is not None}
    boxed = {position: person for position, person in read.items() if person.has_box}
    findings = tuple(about_fault(fault, str(path)) for fault in faults)
    records = _gather(str(path), boxed, Counter(person.image for person in read.values()), findings)
    if len(boxed) < len(read):
        message = f"{len(read) - len(boxed)} of {len(read)} people have no center or scale (-1)"
        note = records.about_file("records", "note", message, advice="training ignores them")
        records = replace(records, findings=(*findings, note))
    return records.with_flip_pairs(flip_pairs)


def _gather(
    path: str, people: Mapping[int, MpiiPerson], images: Counter[str], findings: tuple[Finding, ...]
) -> Records:
    chosen, index = list(people.values()), {name: row for row, name in enumerate(images)}
    keypoints, flags = _place_keypoints(chosen)
    unknown = np.full(len(chosen), np.nan)
    return Records(
        path=path,
        skeleton=MPII,
        image_ids=tuple(range(len(images))),
        files=tuple(images),
        sizes=np.full((len(images), 2), np.nan),
        annotation_ids=tuple(people),
        image_index=np.array([index[person.image] for person in chosen], dtype=np.int64),
        boxes=place_boxes(chosen),
        keypoints=keypoints,
        flags=flags,
        counts=unknown,
        areas=unknown,
        annotated=np.array(list(images.values()), dtype=np.int64),
        findings=findings,
    )


def _place_keypoints(
    people: Sequence[MpiiPerson],
) -> tuple[Float[np.ndarray, "people 16 2"], Float[np.ndarray, "people 16"]]:
    """Positions that count from 0, and v."""
    joints = np.array([person.keypoints for person in people], dtype=np.float64).reshape(-1, len(MPII), 2)
    visible = np.array([person.visible for person in people], dtype=bool).reshape(-1, len(MPII))
    placed = visible & (joints > 0).any(axis=-1)
    return np.where(placed[..., None], joints - 1, 0.0), np.where(visible, 2.0, 0.0)
