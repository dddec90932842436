"""The data doctor: every check on keypoint files and their images, and what came of them."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tokenpose.data.json_records import JsonRecords
from tokenpose.data.sigmas import estimate_sigmas
from tokenpose.data.sources import ImageSource
from tokenpose.doctor.findings import CHECKS, SEVERITIES, Finding, Severity
from tokenpose.doctor.labels import check_boxes, check_flags, check_keypoints, check_labelled, check_people
from tokenpose.doctor.mpii_records import read_mpii_records
from tokenpose.doctor.pairs import check_pairs
from tokenpose.doctor.pictures import check_empty, check_images, check_listed, check_twins, look_at
from tokenpose.doctor.records import Records, count_labels, read_records, to_samples
from tokenpose.doctor.swaps import SUSPICIOUS, check_sides
from tokenpose.files import is_number

IMAGE_CHECKS = ("missing images", "unreadable images", "image sizes", "train and validation")
"""What can't be told without the images."""

ACROSS_FILES = ("train and validation",)

SIZE_CHECKS = ("image sizes", "keypoints outside")
"""What can't be told where the files don't say how large images are, as MPII's don't."""

LABEL_CHECKS = (check_boxes, check_keypoints, check_flags, check_labelled, check_pairs, check_people, check_listed)


@dataclass(frozen=True, kw_only=True)
class FileSummary:
    """What a file holds."""

    file: str
    images: int
    people: int
    keypoints: tuple[str, ...]
    labels: dict[str, int]
    """How many people have each keypoint labelled."""
    limbs: tuple[tuple[str, str], ...]
    flip_pairs: tuple[tuple[str, str], ...] | None
    """None where the names don't tell."""
    sigmas: dict[str, float]
    """For OKS, in COCO's unit; empty where nobody is labelled."""
    sigma_origins: dict[str, str]
    """ "named": COCO's, by the keypoint's name; "estimated": from the distances among the labelled keypoints."""


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What the doctor found: ``findings`` by check, errors first, then the most suspicious."""

    files: tuple[FileSummary, ...]
    findings: tuple[Finding, ...]
    skipped: tuple[str, ...]
    """Checks that were not made, for want of images or of a second file."""

    def of_check(self, check: str) -> tuple[Finding, ...]:
        """The findings of one check."""
        return tuple(finding for finding in self.findings if finding.check == check)

    def count(self, severity: Severity) -> int:
        """How many findings are so severe."""
        return sum(finding.severity == severity for finding in self.findings)

    def counts(self) -> dict[str, dict[str, int]]:
        """How many errors, warnings and notes each check has."""
        found = Counter((finding.check, finding.severity) for finding in self.findings)
        return {check: {severity: found[check, severity] for severity in SEVERITIES} for check in CHECKS}

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "files": [_plain(summary) for summary in self.files],
            "counts": self.counts(),
            "skipped": list(self.skipped),
            "findings": [finding.to_dict() for finding in self.findings],
        }


def check_data(
    paths: str | Path | Iterable[str | Path],
    images: str | Path | Iterable[str | Path] | None = None,
    *,
    val: str | Path | None = None,
    category: str | None = None,
    flip_pairs: Sequence[tuple[str, str]] | None = None,
    suspicious: float = SUSPICIOUS,
) -> Diagnosis:
    """Look for faults in COCO keypoint files or MPII's, in their images, and in images that several files share.

    ``paths``: an annotation file, or several; ``val``: one more, whose images must not be in the others. ``images``:
    folders, tar or zip files, patterns; without them only labels are looked at. ``category``: its name, where there are
    several with keypoints. ``flip_pairs``: pairs of names, where names don't tell. ``suspicious``: from which score on
    left and right count as exchanged; a lower one finds more, and gives more false alarms.

    Raises FileNotFoundError for a missing annotation file or place of images, ValueError for what is no keypoint file,
    LookupError for unknown names in ``flip_pairs``; all other faults are findings.
    """
    names = [paths] if isinstance(paths, str | Path) else list(paths)
    files = read_files(names + ([val] if val is not None else []), category, flip_pairs)
    return diagnose(files, None if images is None else ImageSource(images), suspicious=suspicious)


def read_files(
    paths: Sequence[str | Path], category: str | None = None, flip_pairs: Sequence[tuple[str, str]] | None = None
) -> list[Records]:
    """What each of the files says. Raises as `check_data`, and ValueError for a file that is given twice."""
    resolved = Counter(Path(path).resolve() for path in paths)
    twice = [str(path) for path in paths if resolved[Path(path).resolve()] > 1]
    if twice:
        raise ValueError(f"{twice[0]} is given twice; check each annotation file once")
    return [_read(Path(path), category, flip_pairs) for path in paths]


def _read(path: Path, category: str | None, flip_pairs: Sequence[tuple[str, str]] | None) -> Records:
    """A COCO keypoint file, or MPII's, told by the content."""
    if path.is_file():
        with JsonRecords(path, chunk=64) as content:
            is_list = content.kind == "list"
        if is_list and category is not None:
            raise ValueError(f"{path} is an MPII file and has no categories; got category {category!r}")
        if is_list:
            return read_mpii_records(path, flip_pairs)
    return read_records(path, category, flip_pairs)


def diagnose(
    files: Sequence[Records],
    source: ImageSource | None,
    *,
    tick: Callable[[], None] = lambda: None,
    readers: int = 4,
    suspicious: float = SUSPICIOUS,
) -> Diagnosis:
    """Make all checks. ``tick`` is called after each image; ``readers`` threads read ahead."""
    if not is_number(suspicious):
        raise ValueError(f"suspicious must be a finite number; got {suspicious!r}")
    findings = [finding for records in files for finding in _check_labels(records, suspicious)]
    if source is not None:
        pictures = [look_at(records, source, tick, readers) for records in files]
        for records, seen in zip(files, pictures, strict=True):
            findings += check_images(records, seen)
        findings += check_twins(files, pictures)
    findings.sort(key=_order)
    skipped = set(IMAGE_CHECKS if source is None else ()) | set(ACROSS_FILES if len(files) < 2 else ())
    if not any(np.isfinite(records.sizes).any() for records in files):
        skipped |= set(SIZE_CHECKS)
    return Diagnosis(
        files=tuple(map(_summarise, files)),
        findings=tuple(findings),
        skipped=tuple(check for check in CHECKS if check in skipped),
    )


def _check_labels(records: Records, suspicious: float) -> list[Finding]:
    findings = list(records.findings)
    for check in LABEL_CHECKS:
        findings += check(records)
    return findings + check_empty(records) + check_sides(records, suspicious)


def _order(finding: Finding) -> tuple[int, int, float]:
    return list(CHECKS).index(finding.check), SEVERITIES.index(finding.severity), -finding.doubt


def _summarise(records: Records) -> FileSummary:
    skeleton, samples = records.skeleton, to_samples(records)
    names = skeleton.keypoints
    sigmas = estimate_sigmas(samples) if len(samples) else None
    named = [tuple((names[a], names[b]) for a, b in pairs or ()) for pairs in (skeleton.limbs, skeleton.flip_pairs)]
    return FileSummary(
        file=records.path,
        images=len(records.files),
        people=len(records),
        keypoints=names,
        labels=count_labels(records),
        limbs=named[0],
        flip_pairs=None if skeleton.flip_pairs is None else named[1],
        sigmas=dict(zip(names, sigmas.values.round(4).tolist(), strict=True)) if sigmas else {},
        sigma_origins=dict(zip(names, sigmas.origins, strict=True)) if sigmas else {},
    )


def _plain(summary: FileSummary) -> dict[str, Any]:
    return {
        "file": summary.file,
        "images": summary.images,
        "people": summary.people,
        "keypoints": list(summary.keypoints),
        "labels": summary.labels,
        "limbs": [list(limb) for limb in summary.limbs],
        "flip_pairs": None if summary.flip_pairs is None else [list(pair) for pair in summary.flip_pairs],
        "sigmas": summary.sigmas,
        "sigma_origins": summary.sigma_origins,
    }
