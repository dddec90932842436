"""Checks of keypoints: their positions and v flags."""

import numpy as np
from jaxtyping import Bool

from tokenpose.doctor.findings import Finding, Severity
from tokenpose.doctor.records import Records

SAME_SPOT = 0.02
"""In diagonals of the box: a person's keypoints can't all lie within it."""

SMALL = 100.0
"""Pixels: in smaller people, keypoints in whole pixels may well fall together."""


def check_keypoints(records: Records) -> list[Finding]:
    """Labeled keypoints outside the image, and different ones at the same spot."""
    limits = records.sizes[records.image_index][:, None]
    beyond = np.maximum(-records.keypoints, records.keypoints - limits).max(axis=-1)
    beyond = np.where(records.labeled(), beyond, -np.inf)
    findings = []
    for person in np.flatnonzero((beyond > 1).any(axis=1)):
        farthest = int(beyond[person].argmax())
        (x, y), (width, height) = records.keypoints[person, farthest], limits[person, 0]
        name = records.skeleton.keypoints[farthest]
        message = f"its {name} at ({x:g}, {y:g}) lies outside the image of {width:g} x {height:g}"
        advice = "set its v to 0, or correct the image's size"
        findings.append(
            records.about_person(
                person, "keypoints outside", "warning", message, advice, beyond[person, farthest], (name,)
            )
        )
    return findings + _repeated_keypoints(records)


def _repeated_keypoints(records: Records) -> list[Finding]:
    labeled = records.labeled()
    diagonal, extent = np.linalg.norm(np.nan_to_num(records.boxes[:, 2:]), axis=1), records.extents()
    findings = []
    for person in np.flatnonzero(labeled.sum(axis=1) >= 2):
        rows = np.flatnonzero(labeled[person])
        if len(rows) >= 3 and extent[person] <= max(1.0, SAME_SPOT * diagonal[person]):
            message = f"its {len(rows)} keypoints all lie within {extent[person]:.1f} pixels"
            advice = "label the person again, or remove the annotation"
            findings.append(records.about_person(person, "repeated keypoints", "error", message, advice, np.inf))
            continue
        places = records.keypoints[person, rows]
        spots, spot, times = np.unique(places, axis=0, return_inverse=True, return_counts=True)
        in_pixels = bool((places == places.round()).all())
        if len(spots) == len(rows) or (in_pixels and extent[person] < SMALL):
            continue
        most = int(np.argmax(times))
        names = tuple(records.skeleton.keypoints[row] for row in rows[spot.ravel() == most])
        x, y = spots[most]
        message = f"{_join(names)} lie at the very same spot, ({x:g}, {y:g})"
        priority = len(rows) - len(spots)
        findings.append(
            records.about_person(person, "repeated keypoints", "warning", message, "label them again", priority, names)
        )
    return findings


def check_flags(records: Records) -> list[Finding]:
    """v other than 0, 1 and 2, v that contradicts the coordinates or num_keypoints, and other conventions of v."""
    findings = _flags_of_the_file(records)
    flags, origin = records.flags, _at_origin(records)
    strange = ~np.isin(flags, (0, 1, 2))
    leftover = (flags == 0) & ~(records.keypoints == 0).all(axis=-1)
    at_origin = (flags > 0) & origin & (not _marks_by_origin(records))
    faults: tuple[tuple[np.ndarray, Severity, str, str], ...] = (
        (strange, "error", "v is {v} for its {name}", "v is 0 (not labeled), 1 (labeled but hidden) or 2 (visible)"),
        (at_origin, "warning", "its {name} is labeled, v {v}, at (0, 0)", "set its v to 0 if it isn't labeled"),
        (
            leftover,
            "warning",
            "its {name} has v 0 at ({x}, {y})",
            "set v to 1 or 2 if it is labeled, else x and y to 0",
        ),
    )
    for fault, severity, message, advice in faults:
        for person in np.flatnonzero(fault.any(axis=1)):
            row, count = int(fault[person].argmax()), int(fault[person].sum())
            x, y = records.keypoints[person, row]
            name, v = records.skeleton.keypoints[row], f"{flags[person, row]:g}"
            text = message.format(v=v, name=name, x=f"{x:g}", y=f"{y:g}") + _and_more(count - 1)
            findings.append(records.about_person(person, "visibility flags", severity, text, advice, count, (name,)))
    counted = (flags > 0).sum(axis=1)
    for person in np.flatnonzero(np.isfinite(records.counts) & (records.counts != counted)):
        message = f"its num_keypoints is {records.counts[person]:g}, and v is above 0 for {counted[person]}"
        advice = "correct num_keypoints: COCO's evaluation uses it"
        priority = abs(records.counts[person] - counted[person])
        findings.append(records.about_person(person, "visibility flags", "warning", message, advice, priority))
    return findings


def _flags_of_the_file(records: Records) -> list[Finding]:
    if not len(records):
        return []
    if _marks_by_origin(records):
        count = int(_at_origin(records).sum())
        message = f"v is never 0, yet {count} keypoints lie at (0, 0)"
        return [records.about_file("visibility flags", "error", message, advice="set v to 0 where nothing is labeled")]
    if set(np.unique(records.flags)) == {0.0, 1.0}:
        message = "v is only 0 or 1, which may mean labeled or not; in COCO 1 means labeled but hidden, 2 visible"
        advice = "training treats 1 and 2 the same; write 2 for visible keypoints if other programs read the file"
        return [records.about_file("visibility flags", "note", message, advice=advice)]
    return []


def _marks_by_origin(records: Records) -> bool:
    """Whether a file without v = 0 marks unlabeled keypoints by (0, 0), where more lie than would by chance."""
    return not (records.flags == 0).any() and int(_at_origin(records).sum()) > max(1, 0.001 * records.flags.size)


def check_labeled(records: Records) -> list[Finding]:
    """Keypoints that no person in the file has labeled; a file without labeled people."""
    if not records.labeled().any():
        advice = "check that the annotations' category_id is that of the category with keypoints"
        if len(records):
            advice = "set v to 1 or 2 where a keypoint is labeled: there is no one to train on"
        return [records.about_file("never labeled", "error", "it has no people with labeled keypoints", advice=advice)]
    advice = "remove them from the category, or label some: a model learns nothing about them"
    times = records.labeled().sum(axis=0)
    names = tuple(name for name, count in zip(records.skeleton.keypoints, times, strict=True) if not count)
    if not names:
        return []
    message = f"{_join(names)} {'is' if len(names) == 1 else 'are'} never labeled in {len(records)} people"
    return [records.about_file("never labeled", "warning", message, advice=advice, keypoints=names)]


def _at_origin(records: Records) -> Bool[np.ndarray, "people keypoints"]:
    return np.asarray((records.keypoints == 0).all(axis=-1))


def _join(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _and_more(count: int) -> str:
    return f", and so for {count} more" if count else ""
