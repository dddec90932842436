"""The check of keypoint files and their images: every finding, and what the files hold."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tokenpose.data.annotations import is_mpii
from tokenpose.data.sigmas import estimate_sigmas
from tokenpose.data.sources import ImageSource
from tokenpose.doctor.boxes import check_boxes
from tokenpose.doctor.duplicates import check_duplicates, check_repeated_files
from tokenpose.doctor.findings import CHECKS, SEVERITIES, Finding, Severity
from tokenpose.doctor.keypoints import check_flags, check_keypoints, check_labeled
from tokenpose.doctor.mpii_records import read_mpii_records
from tokenpose.doctor.pairs import check_pairs
from tokenpose.doctor.people import check_people
from tokenpose.doctor.pictures import check_images, check_unannotated, read_pictures
from tokenpose.doctor.records import Records, count_labels, read_records, records_to_samples
from tokenpose.doctor.second_opinion import Predictor, ask, check_opinion
from tokenpose.doctor.sides import check_sides
from tokenpose.doctor.swaps import SWAP_SCORE
from tokenpose.files import is_number, shown

IMAGE_CHECKS = ("missing images", "unreadable images", "image sizes", "train and validation")
"""Checks that need the images."""

ACROSS_FILES = ("train and validation",)
"""Checks that need two files."""

SIZE_CHECKS = ("image sizes", "keypoints outside")
"""Checks that need the images' sizes in the file, which MPII's files don't have."""

LABEL_CHECKS = (
    check_boxes,
    check_keypoints,
    check_flags,
    check_labeled,
    check_pairs,
    check_people,
    check_repeated_files,
)


@dataclass(frozen=True, kw_only=True)
class FileSummary:
    """What a file holds."""

    file: str
    images: int
    people: int
    keypoints: tuple[str, ...]
    labels: dict[str, int]
    """How many people have each keypoint labeled."""
    limbs: tuple[tuple[str, str], ...]
    flip_pairs: tuple[tuple[str, str], ...] | None
    """None where the names don't say."""
    sigmas: dict[str, float]
    """For OKS, in COCO's unit; empty where no one is labeled."""
    sigma_origins: dict[str, str]
    """ "named": COCO's, by the keypoint's name; "estimated": from the distances among the labeled keypoints."""


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """The findings, by check; within a check errors come first, then by priority."""

    files: tuple[FileSummary, ...]
    findings: tuple[Finding, ...]
    skipped: tuple[str, ...]
    """Checks that need images, their sizes or a second file, where these are not there."""

    def of_check(self, check: str) -> tuple[Finding, ...]:
        """The findings of one check."""
        return tuple(finding for finding in self.findings if finding.check == check)

    def count(self, severity: Severity) -> int:
        """How many findings have this severity."""
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
    category: str | Sequence[str] | None = None,
    boxes_from_keypoints: float | None = None,
    flip_pairs: Sequence[tuple[str, str]] | None = None,
    swap_score: float = SWAP_SCORE,
    predictor: Predictor | None = None,
) -> CheckResult:
    """Look for faults in COCO keypoint files or MPII's, in their images, and for images that are in several files.

    ``paths``: an annotation file, or several; ``val``: one more, whose images must not be in the others. ``images``:
    folders, tar or zip files, patterns; without them only labels are checked. ``category``: the names of those to
    check, where categories have different keypoints. ``boxes_from_keypoints``: as in training. ``flip_pairs``: pairs of
    names, where the names don't say which keypoints change sides. ``swap_score``: people with a higher score are
    reported as having left and right swapped; a lower one finds more, with more false alarms. ``predictor``: a
    `tokenpose.PosePredictor` as a second opinion on left and right: people are reported whose sides it sees the other
    way round. It needs the images.

    Raises FileNotFoundError for a missing annotation file or place of images, ValueError for a file that is not a
    keypoint file, LookupError for unknown names in ``flip_pairs``; all other faults are findings.
    """
    names = [paths] if isinstance(paths, str | Path) else list(paths)
    files = read_files(names + ([val] if val is not None else []), category, flip_pairs, boxes_from_keypoints)
    return check_records(
        files, None if images is None else ImageSource(images), swap_score=swap_score, predictor=predictor
    )


def read_files(
    paths: Sequence[str | Path],
    category: str | Sequence[str] | None = None,
    flip_pairs: Sequence[tuple[str, str]] | None = None,
    boxes_from_keypoints: float | None = None,
) -> list[Records]:
    """The records of each file. Raises as `check_data` does, and ValueError for a file that is given twice."""
    resolved = Counter(Path(path).resolve() for path in paths)
    twice = [str(path) for path in paths if resolved[Path(path).resolve()] > 1]
    if twice:
        raise ValueError(f"{twice[0]} is given twice; check each annotation file once")
    return [_read(Path(path), category, flip_pairs, boxes_from_keypoints) for path in paths]


def _read(
    path: Path,
    category: str | Sequence[str] | None,
    flip_pairs: Sequence[tuple[str, str]] | None,
    boxes_from_keypoints: float | None,
) -> Records:
    if not is_mpii(path):
        return read_records(path, category, flip_pairs, boxes_from_keypoints)
    if category is not None:
        raise ValueError(f"{path} is an MPII file and has no categories; got category {shown(category)}")
    return read_mpii_records(path, flip_pairs)


def check_records(
    files: Sequence[Records],
    source: ImageSource | None,
    *,
    tick: Callable[[], None] = lambda: None,
    readers: int = 4,
    swap_score: float = SWAP_SCORE,
    predictor: Predictor | None = None,
) -> CheckResult:
    """All checks of the files. ``tick`` is called after each image; ``readers`` threads read ahead."""
    if predictor is not None and source is None:
        raise ValueError("a second opinion on left and right needs the images: give images=")
    if not is_number(swap_score):
        raise ValueError(f"swap_score must be a finite number; got {shown(swap_score)}")
    findings = [finding for records in files for finding in _check_labels(records, swap_score)]
    if source is not None:
        pictures = [read_pictures(records, source, tick, readers) for records in files]
        for records, read in zip(files, pictures, strict=True):
            findings += check_images(records, read)
        findings += check_duplicates(files, pictures)
    if source is not None and predictor is not None:
        for records in files:
            findings += check_opinion(records, ask(predictor, records, source))
    findings.sort(key=_order)
    skipped = set(IMAGE_CHECKS if source is None else ()) | set(ACROSS_FILES if len(files) < 2 else ())
    if not any(np.isfinite(records.sizes).any() for records in files):
        skipped |= set(SIZE_CHECKS)
    return CheckResult(
        files=tuple(map(_summarize, files)),
        findings=tuple(findings),
        skipped=tuple(check for check in CHECKS if check in skipped),
    )


def _check_labels(records: Records, swap_score: float) -> list[Finding]:
    findings = list(records.findings)
    for check in LABEL_CHECKS:
        findings += check(records)
    return findings + check_unannotated(records) + check_sides(records, swap_score)


def _order(finding: Finding) -> tuple[int, int, float]:
    return list(CHECKS).index(finding.check), SEVERITIES.index(finding.severity), -finding.priority


def _summarize(records: Records) -> FileSummary:
    skeleton, samples = records.skeleton, records_to_samples(records)
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
