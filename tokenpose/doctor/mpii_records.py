"""What an MPII file says, read without stopping at what is wrong in it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from tokenpose.data.json_records import JsonRecords
from tokenpose.data.mpii import Person, place_boxes, read_person
from tokenpose.doctor.findings import Finding
from tokenpose.doctor.records import REPAIR, Records
from tokenpose.skeletons import MPII


def read_mpii_records(path: str | Path, flip_pairs: Sequence[tuple[str, str]] | None = None) -> Records:
    """The people of a JSON list as `tokenpose.data.mpii.read_mpii` reads it; what it would refuse is a finding.

    The file has no sizes of images: they are NaN. v is 2 where a joint is visible, and a joint that is not is at
    (0, 0), as is a visible one that the file puts there. ``flip_pairs``: names of keypoints, instead of MPII's.
    Raises ValueError for what is no JSON, and LookupError for pairs of unknown names.
    """
    with JsonRecords(Path(path)) as content:
        records = list(content.records())
    read = [_read(record) for record in records]
    people = {row: person for row, person in enumerate(read) if isinstance(person, Person)}
    findings = [_about(path, row, records[row], fault) for row, fault in enumerate(read) if isinstance(fault, str)]
    boxed = {row: person for row, person in people.items() if person.has_box}
    gathered = _gather(str(path), boxed, Counter(person.image for person in people.values()), tuple(findings))
    if len(boxed) < len(people):
        message = f"{len(people) - len(boxed)} of {len(people)} people have no center or scale (-1)"
        note = gathered.about_file("records", "note", message, advice="training leaves them out")
        gathered = replace(gathered, findings=(*findings, note))
    if flip_pairs is None:
        return gathered
    given = tuple((MPII.index(first), MPII.index(second)) for first, second in flip_pairs)
    return replace(gathered, skeleton=replace(MPII, flip_pairs=given))


def _read(record: Any) -> Person | str:
    """The person, or what is wrong."""
    try:
        return read_person(record, "it")
    except ValueError as error:
        return str(error).replace("it: ", "its ", 1)


def _about(path: str | Path, row: int, record: Any, fault: str) -> Finding:
    name = record.get("image") if isinstance(record, dict) else None
    named = isinstance(name, str)
    return Finding(
        check="records",
        severity="error",
        file=str(path),
        record=f"annotation {row}" + (f" in {name}" if named else ""),
        message=fault,
        advice=REPAIR,
        annotations=(row,),
        images=(str(name),) if named else (),
    )


def _gather(path: str, people: dict[int, Person], images: Counter[str], findings: tuple[Finding, ...]) -> Records:
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
    people: Sequence[Person],
) -> tuple[Float[np.ndarray, "people 16 2"], Float[np.ndarray, "people 16"]]:
    """Positions that count from 0, and v."""
    joints = np.array([person.keypoints for person in people], dtype=np.float64).reshape(-1, len(MPII), 2)
    visible = np.array([person.visible for person in people], dtype=bool).reshape(-1, len(MPII))
    placed = visible & (joints > 0).any(axis=-1)
    return np.where(placed[..., None], joints - 1, 0.0), np.where(visible, 2.0, 0.0)
