"""Checks of labels by themselves: boxes, keypoints, flags, people who are annotated twice."""

import numpy as np
from jaxtyping import Bool, Float

from tokenpose.doctor.findings import Finding, Severity
from tokenpose.doctor.records import Records

OUTSIDE_BOX = 0.2
"""Of the box's diagonal: how far a keypoint may lie outside. COCO's boxes hold what is seen, its keypoints also what is
hidden: of 86 people, 10 have one that is farther outside than 0.05, 8 than 0.1, 4 than 0.2."""

LOOSE_BOX = 3.0
"""How many times as long as is usual in the file a box's diagonal may be, measured in that of its keypoints, where at
least half of them are labelled. Usual is the median, and 1 at least: in COCO's 86 people 1.2, and at most 1.7; in LSPET
1.3; of the five keypoints of COCO's faces 8.5, in boxes around whole people, and at most 16.8."""

FEWEST_BOXES = 5
"""People without whom nothing is usual."""

SAME_SPOT = 0.02
"""Of the box's diagonal: people whose keypoints all lie within it are no people."""

SAME_PERSON_OVERLAP = 0.9
SAME_PERSON_DISTANCE = 0.02
"""Two boxes that overlap so far (intersection over union), with keypoints that differ by no more than this part of the
box's diagonal on average, are one person annotated twice."""

FEWEST = 20
"""People without whom nothing is said of the file as a whole."""

SMALL = 100.0
"""Pixels: in smaller people, keypoints in whole pixels may well fall together."""


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
        findings.append(_about(records, person, "boxes", "error", message, "draw it again: training leaves it out"))
    for person in np.flatnonzero(~empty & ~flat & (beyond > np.maximum(2, 0.01 * diagonal))):
        x, y, width, height = records.boxes[person]
        message = (
            f"its box {width:g} x {height:g} at ({x:g}, {y:g}) reaches {beyond[person]:.0f} pixels out of the image"
        )
        advice = "cut it to the image, and see whether it was meant as corners, x1, y1, x2, y2"
        findings.append(_about(records, person, "boxes", "warning", message, advice, beyond[person] / diagonal[person]))
    return findings + _unheld_keypoints(records, ~empty & ~flat) + _loose_boxes(records, ~empty & ~flat)


def _corners_for_sizes(records: Records) -> Finding | None:
    """That all boxes are x1, y1, x2, y2, where these make sense of many that would reach out of their images."""
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
    return records.about_file("boxes", "error", message, advice=advice, doubt=np.inf)


def _unheld_keypoints(records: Records, sound: Bool[np.ndarray, " people"]) -> list[Finding]:
    corner, size = records.boxes[:, None, :2], records.boxes[:, None, 2:]
    outside = np.maximum(corner - records.keypoints, records.keypoints - corner - size).max(axis=-1)
    outside = np.where(records.labelled(), outside, -np.inf)
    share = outside / np.linalg.norm(records.boxes[:, 2:], axis=1, keepdims=True).clip(1e-9)
    findings = []
    for person in np.flatnonzero(sound & (share > OUTSIDE_BOX).any(axis=1)):
        farthest = int(outside[person].argmax())
        name, count = records.skeleton.keypoints[farthest], int((share[person] > OUTSIDE_BOX).sum())
        others = f", and so far out are {count} keypoints in all" if count > 1 else ""
        message = f"its {name} lies {outside[person, farthest]:.0f} pixels outside its box{others}"
        advice = "see whether box and keypoints are of the same person"
        suspicious = share[person, farthest] + count
        finding = _about(records, person, "boxes", "warning", message, advice, suspicious, keypoints=(name,))
        findings.append(finding)
    return findings


def _loose_boxes(records: Records, sound: Bool[np.ndarray, " people"]) -> list[Finding]:
    extent = _extents(records)
    diagonal = np.linalg.norm(records.boxes[:, 2:], axis=1)
    ratio = diagonal / np.maximum(extent, 1)
    spread = extent > np.maximum(1, SAME_SPOT * np.nan_to_num(diagonal))  # else the keypoints are at fault
    enough = records.labelled().sum(axis=1) >= max(3, len(records.skeleton) / 2)
    comparable = sound & enough & spread & np.isfinite(ratio)
    is_known = comparable.sum() >= FEWEST_BOXES
    usual = float(np.median(ratio[comparable])) if is_known else 1.0
    findings = []
    for person in np.flatnonzero(comparable & (ratio > LOOSE_BOX * max(usual, 1.0))):
        width, height = records.boxes[person, 2:]
        message = f"its box {width:g} x {height:g} is {ratio[person]:.1f} times as long as its keypoints' extent"
        message += f", where {usual:.1f} is usual" if is_known else ""
        advice = "draw it around the person: the crop is made from it"
        findings.append(_about(records, person, "boxes", "warning", message, advice, ratio[person]))
    return findings


def check_keypoints(records: Records) -> list[Finding]:
    """Labelled keypoints outside the image, and different ones at the same spot."""
    limits = records.sizes[records.image_index][:, None]
    beyond = np.maximum(-records.keypoints, records.keypoints - limits).max(axis=-1)
    beyond = np.where(records.labelled(), beyond, -np.inf)
    findings = []
    for person in np.flatnonzero((beyond > 1).any(axis=1)):
        farthest = int(beyond[person].argmax())
        (x, y), (width, height) = records.keypoints[person, farthest], limits[person, 0]
        name = records.skeleton.keypoints[farthest]
        message = f"its {name} at ({x:g}, {y:g}) lies outside the image of {width:g} x {height:g}"
        advice = "set its v to 0, or correct the image's size"
        findings.append(
            _about(records, person, "keypoints outside", "warning", message, advice, beyond[person, farthest], (name,))
        )
    return findings + _repeated_keypoints(records)


def _repeated_keypoints(records: Records) -> list[Finding]:
    labelled = records.labelled()
    diagonal, extent = np.linalg.norm(np.nan_to_num(records.boxes[:, 2:]), axis=1), _extents(records)
    findings = []
    for person in np.flatnonzero(labelled.sum(axis=1) >= 2):
        rows = np.flatnonzero(labelled[person])
        if len(rows) >= 3 and extent[person] <= max(1.0, SAME_SPOT * diagonal[person]):
            message = f"its {len(rows)} keypoints all lie within {extent[person]:.1f} pixels"
            advice = "label it again, or leave it out"
            findings.append(_about(records, person, "repeated keypoints", "error", message, advice, np.inf))
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
        doubt = float(len(rows) - len(spots))
        findings.append(
            _about(records, person, "repeated keypoints", "warning", message, "label them again", doubt, names)
        )
    return findings


def check_flags(records: Records) -> list[Finding]:
    """v other than 0, 1 and 2, in disagreement with the coordinates or num_keypoints, or of another convention."""
    findings = _flags_of_the_file(records)
    flags, origin = records.flags, _at_origin(records)
    strange = ~np.isin(flags, (0, 1, 2))
    leftover = (flags == 0) & ~(records.keypoints == 0).all(axis=-1)
    at_origin = (flags > 0) & origin & (not _marks_by_origin(records))
    faults: tuple[tuple[np.ndarray, Severity, str, str], ...] = (
        (strange, "error", "v is {v} for its {name}", "v is 0 (not labelled), 1 (hidden) or 2 (seen)"),
        (at_origin, "warning", "its {name} is labelled, v {v}, at (0, 0)", "set its v to 0 if it isn't labelled"),
        (
            leftover,
            "warning",
            "its {name} has v 0 at ({x}, {y})",
            "set v to 1 or 2 if it is labelled, else x and y to 0",
        ),
    )
    for fault, severity, message, advice in faults:
        for person in np.flatnonzero(fault.any(axis=1)):
            row, count = int(fault[person].argmax()), int(fault[person].sum())
            x, y = records.keypoints[person, row]
            name, v = records.skeleton.keypoints[row], f"{flags[person, row]:g}"
            text = message.format(v=v, name=name, x=f"{x:g}", y=f"{y:g}") + _and_more(count - 1)
            findings.append(_about(records, person, "visibility flags", severity, text, advice, count, (name,)))
    counted = (flags > 0).sum(axis=1)
    for person in np.flatnonzero(np.isfinite(records.counts) & (records.counts != counted)):
        message = f"its num_keypoints is {records.counts[person]:g}, and v is above 0 for {counted[person]}"
        advice = "correct num_keypoints: COCO's evaluation counts by it"
        doubt = abs(records.counts[person] - counted[person])
        findings.append(_about(records, person, "visibility flags", "warning", message, advice, doubt))
    return findings


def _flags_of_the_file(records: Records) -> list[Finding]:
    if not len(records):
        return []
    if _marks_by_origin(records):
        count = int(_at_origin(records).sum())
        message = f"v is never 0, yet {count} keypoints lie at (0, 0)"
        return [records.about_file("visibility flags", "error", message, advice="set v to 0 where nothing is labelled")]
    if set(np.unique(records.flags)) == {0.0, 1.0}:
        message = "v is only 0 or 1, as if it said labelled or not; in COCO 1 is labelled and hidden, 2 seen"
        advice = "training takes both as labelled; write 2 for what is seen if others are to read the file"
        return [records.about_file("visibility flags", "note", message, advice=advice)]
    return []


def _marks_by_origin(records: Records) -> bool:
    """Whether a file that never says v = 0 says it by (0, 0): more often than a keypoint happens to lie there."""
    return not (records.flags == 0).any() and int(_at_origin(records).sum()) > max(1, 0.001 * records.flags.size)


def check_labelled(records: Records) -> list[Finding]:
    """Keypoints of the skeleton that nobody in the file has; a file without labelled people."""
    if not records.labelled().any():
        advice = "see whether the annotations' category_id is that of the category with keypoints"
        if len(records):
            advice = "set v to 1 or 2 where a keypoint is labelled: nobody can be trained on"
        return [
            records.about_file("never labelled", "error", "it has no people with labelled keypoints", advice=advice)
        ]
    advice = "leave them out of the category, or label some: a model learns nothing about them"
    times = records.labelled().sum(axis=0)
    names = tuple(name for name, count in zip(records.skeleton.keypoints, times, strict=True) if not count)
    if not names:
        return []
    message = f"{_join(names)} {'is' if len(names) == 1 else 'are'} never labelled in {len(records)} people"
    return [records.about_file("never labelled", "warning", message, advice=advice, keypoints=names)]


def check_people(records: Records) -> list[Finding]:
    """People who are annotated twice in one image: the same box, the same keypoints."""
    findings = []
    order = np.argsort(records.image_index, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(records.image_index[order])) + 1)
    for people in (group for group in groups if len(group) > 1):
        overlap = _overlaps(records.boxes[people])
        for first, second in zip(*np.nonzero(np.triu(overlap > SAME_PERSON_OVERLAP, 1)), strict=True):
            one, other = int(people[first]), int(people[second])
            shared = records.labelled()[one] & records.labelled()[other]
            if not shared.any():
                continue
            distance = np.linalg.norm(records.keypoints[one, shared] - records.keypoints[other, shared], axis=1).mean()
            if distance > SAME_PERSON_DISTANCE * np.linalg.norm(records.boxes[one, 2:]):
                continue
            message = (
                f"it is the person of annotation {records.annotation_ids[one]} again: the boxes overlap by "
                f"{overlap[first, second]:.0%}, the keypoints differ by {distance:.1f} pixels"
            )
            findings.append(_about(records, other, "duplicate people", "warning", message, "leave one of them out"))
    return findings


def _about(
    records: Records,
    person: int | np.integer,
    check: str,
    severity: Severity,
    message: str,
    advice: str,
    doubt: float | np.floating | int = 0.0,
    keypoints: tuple[str, ...] = (),
) -> Finding:
    values = {"advice": advice, "doubt": float(doubt), "keypoints": keypoints}
    return records.about_person(int(person), check, severity, message, **values)


def _at_origin(records: Records) -> Bool[np.ndarray, "people keypoints"]:
    return np.asarray((records.keypoints == 0).all(axis=-1))


def _extents(records: Records) -> Float[np.ndarray, " people"]:
    """The diagonal of each person's labelled keypoints; 0 where there are none."""
    labelled = records.labelled()[..., None]
    low = np.where(labelled, records.keypoints, np.inf).min(axis=1)
    high = np.where(labelled, records.keypoints, -np.inf).max(axis=1)
    return np.linalg.norm(np.where(np.isfinite(high), high - np.where(np.isfinite(low), low, 0), 0), axis=1)


def _overlaps(boxes: Float[np.ndarray, "boxes 4"]) -> Float[np.ndarray, "boxes boxes"]:
    """Intersection over union of each with each."""
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    inside = np.minimum(high[:, None], high) - np.maximum(low[:, None], low)
    shared = inside.clip(0).prod(axis=-1)
    areas = boxes[:, 2:].clip(0).prod(axis=-1)
    return shared / np.maximum(areas[:, None] + areas - shared, 1e-9)


def _join(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _and_more(count: int) -> str:
    return f", and so for {count} more" if count else ""
