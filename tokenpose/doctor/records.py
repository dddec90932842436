"""Records: the people of a file and its images as the check looks at them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from tokenpose.data.coco import read_columns
from tokenpose.data.coco_columns import CocoColumns
from tokenpose.data.faults import Fault, Note
from tokenpose.data.samples import Samples
from tokenpose.doctor.findings import Finding, Place, Severity
from tokenpose.skeletons import Skeleton


@dataclass(frozen=True, kw_only=True)
class Records:
    """The images of a file and its people with keypoints, a row each; faults of the file's records are findings."""

    path: str
    skeleton: Skeleton
    image_ids: tuple[Any, ...]
    files: tuple[str | None, ...]
    """The images' file names; None where a record has none."""
    sizes: Float[np.ndarray, "images 2"]
    """Width and height as the file has them, NaN where it has none."""
    annotation_ids: tuple[Any, ...]
    image_index: Int[np.ndarray, " people"]
    boxes: Float[np.ndarray, "people 4"]
    """x, y, width, height; NaN where the record has something else."""
    keypoints: Float[np.ndarray, "people keypoints 2"]
    """NaN where the record has something else."""
    flags: Float[np.ndarray, "people keypoints"]
    """v: 0 not labeled, 1 hidden, 2 seen, or any other number that the file has; -1 where it has something else."""
    counts: Float[np.ndarray, " people"]
    """num_keypoints, NaN where a record has none."""
    areas: Float[np.ndarray, " people"]
    """area, NaN where a record has none."""
    annotated: Int[np.ndarray, " images"]
    """How many annotations of any kind each image has."""
    findings: tuple[Finding, ...]

    def __len__(self) -> int:
        return len(self.boxes)

    def labeled(self) -> Bool[np.ndarray, "people keypoints"]:
        """Which keypoints have v above 0 and a position other than (0, 0), which stands for no position."""
        placed = np.isfinite(self.keypoints).all(axis=-1) & (self.keypoints != 0).any(axis=-1)
        return (self.flags > 0) & placed

    def extents(self) -> Float[np.ndarray, " people"]:
        """The diagonal of each person's labeled keypoints; 0 where there are none."""
        labeled = self.labeled()[..., None]
        low = np.where(labeled, self.keypoints, np.inf).min(axis=1)
        high = np.where(labeled, self.keypoints, -np.inf).max(axis=1)
        return np.linalg.norm(np.where(np.isfinite(high), high - np.where(np.isfinite(low), low, 0), 0), axis=1)

    def with_flip_pairs(self, flip_pairs: Sequence[tuple[str, str]] | None) -> "Records":
        """The same with these pairs, by name; None changes nothing. Raises LookupError for unknown names."""
        if flip_pairs is None:
            return self
        pairs = tuple((self.skeleton.index(first), self.skeleton.index(second)) for first, second in flip_pairs)
        return replace(self, skeleton=replace(self.skeleton, flip_pairs=pairs))

    def about_person(
        self,
        person: int | np.integer,
        check: str,
        severity: Severity,
        message: str,
        advice: str,
        priority: float | int | np.number = 0.0,
        keypoints: tuple[str, ...] = (),
    ) -> Finding:
        """A finding about one person, with the names and numbers of the record."""
        image = int(self.image_index[person])
        name, identity = self.files[image], self.annotation_ids[person]
        return Finding(
            check=check,
            severity=severity,
            file=self.path,
            record=f"annotation {identity} in {name}",
            message=message,
            advice=advice,
            annotations=(identity,),
            images=(name,) if name else (),
            keypoints=keypoints,
            priority=float(priority),
            places=(Place(self.path, image, int(person)),),
        )

    def about_image(self, image: int, check: str, severity: Severity, message: str, **values: Any) -> Finding:
        """A finding about one image, with the names of the record."""
        name = self.files[image]
        return Finding(
            check=check,
            severity=severity,
            file=self.path,
            record=f"image {self.image_ids[image]}" + (f" ({name})" if name else ""),
            message=message,
            images=(name,) if name else (),
            places=(Place(self.path, image),),
            **values,
        )

    def about_file(self, check: str, severity: Severity, message: str, **values: Any) -> Finding:
        """A finding about the file as a whole."""
        return Finding(check=check, severity=severity, file=self.path, record="", message=message, **values)


def read_records(
    path: str | Path,
    category: str | Sequence[str] | None = None,
    flip_pairs: Sequence[tuple[str, str]] | None = None,
    boxes_from_keypoints: float | None = None,
) -> Records:
    """A COCO file's people of the categories of these names, or of all with keypoints if these are the same.

    ``flip_pairs``: names of keypoints, in place of the pairs that follow from the names. ``boxes_from_keypoints``: as
    in `read_columns`. Raises FileNotFoundError, ValueError for a file that is not COCO keypoint JSON, and LookupError
    for pairs of unknown names; faults of records are findings.
    """
    columns = read_columns(path, category, boxes_from_keypoints=boxes_from_keypoints)
    people = _people_of(columns)
    image_index, triples = columns.image_index[people], columns.keypoints[people]
    records = Records(
        path=str(path),
        skeleton=columns.skeleton,
        image_ids=tuple(columns.image_ids),
        files=tuple(columns.files),
        sizes=columns.sizes,
        annotation_ids=tuple(columns.ids[row] for row in people.tolist()),
        image_index=image_index,
        boxes=columns.boxes[people],
        keypoints=triples[..., :2],
        flags=np.nan_to_num(triples[..., 2], nan=-1.0),
        counts=columns.num_keypoints[people],
        areas=columns.areas[people],
        annotated=columns.annotated,
        findings=tuple(_coco_findings(columns, people)),
    )
    return records.with_flip_pairs(flip_pairs)


def _people_of(columns: CocoColumns) -> Int[np.ndarray, " people"]:
    """The rows that can be looked at: no crowds, in a listed image, with keypoint numbers that are not all 0."""
    has_keypoints = (columns.keypoints != 0).any(axis=(1, 2)) & ~np.isnan(columns.keypoints).all(axis=(1, 2))
    return np.flatnonzero(~columns.is_crowd & (columns.image_index >= 0) & has_keypoints)


def _coco_findings(columns: CocoColumns, people: Int[np.ndarray, " people"]) -> Iterator[Finding]:
    """The faults of the file's records as findings, with image and person where these are known; then its notes."""
    person_of = {row: person for person, row in enumerate(people.tolist())}
    row_of = {position: row for row, position in enumerate(columns.positions.tolist())}
    for fault in columns.faults:
        place, path = None, str(columns.path)
        if fault.section == "images":
            place = Place(path, fault.position)
        elif fault.section == "annotations" and fault.position in row_of:
            row = row_of[fault.position]
            image = int(columns.image_index[row])
            place = Place(path, image, person_of.get(row)) if image >= 0 else None
        yield about_fault(fault, path, place)
    for note in columns.notes:
        yield _about_note(note, columns)


def _about_note(note: Note, columns: CocoColumns) -> Finding:
    """A note as a finding about the file, with the ids of its annotations."""
    identity = dict(zip(columns.positions.tolist(), columns.ids, strict=True)) if note.positions else {}
    return Finding(
        check="corrected values",
        severity="warning" if note.is_warning else "note",
        file=str(columns.path),
        record="",
        message=note.message,
        advice=note.advice,
        annotations=tuple(identity[position] for position in note.positions if identity[position] is not None),
    )


def about_fault(fault: Fault, path: str, place: Place | None = None) -> Finding:
    """A fault as a finding."""
    annotations = (fault.identity,) if fault.section == "annotations" and fault.identity is not None else ()
    return Finding(
        check="records",
        severity="error",
        file=path,
        record=fault.record,
        message=fault.message,
        advice=fault.advice,
        annotations=(fault.position,) if fault.section == "records" else annotations,
        images=(fault.image,) if fault.image else (),
        places=() if place is None else (place,),
    )


def records_to_samples(records: Records) -> Samples:
    """The people whose boxes have a size, as training would read them if they had no other fault."""
    sound = np.flatnonzero((records.boxes[:, 2:] > 0).all(axis=1))
    labeled = records.labeled()[sound]
    return Samples(
        skeleton=records.skeleton,
        files=tuple(name or "" for name in records.files),
        image_ids=np.arange(len(records.files)),
        image_index=records.image_index[sound],
        boxes=records.boxes[sound].astype(np.float32),
        keypoints=np.where(labeled[..., None], records.keypoints[sound], 0).astype(np.float32),
        visible=labeled,
        skipped={},
        areas=records.areas[sound].astype(np.float32),
    )


def count_labels(records: Records) -> dict[str, int]:
    """How many people have each keypoint labeled."""
    return dict(zip(records.skeleton.keypoints, records.labeled().sum(axis=0).tolist(), strict=True))
