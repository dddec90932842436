"""Findings of the check: a sentence each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

Severity = Literal["error", "warning", "note"]
"""An error stops training or evaluation or makes their results wrong, a warning may be a mistake, a note informs."""

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")

CHECKS: Mapping[str, str] = {
    "records": "records that can't be read",
    "corrected values": "values that training and evaluation ignore or read in another way",
    "missing images": "images that don't exist",
    "unreadable images": "images that can't be decoded completely",
    "image sizes": "images whose size differs from the file's, or that EXIF turns",
    "images without people": "images without annotations",
    "boxes": "boxes without area, outside the image, around another person, or far too large",
    "keypoints outside": "labeled keypoints outside the image",
    "repeated keypoints": "different keypoints of a person at the same spot",
    "visibility flags": "v other than 0, 1, 2, or in conflict with coordinates or num_keypoints",
    "never labeled": "keypoints that no person has",
    "left and right": "keypoints whose left and right look swapped",
    "flip pairs": "wrong or missing pairs of left and right",
    "duplicate images": "images that occur twice",
    "train and validation": "images that are in two of the files",
    "duplicate people": "people who are annotated twice",
}
"""What is checked, in the order of a report."""


class Place(NamedTuple):
    """What a finding is about, as rows of a file's `Records`; ``person`` is None for the image as a whole."""

    file: str
    image: int
    person: int | None = None


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong or may be: a sentence with values, and what to do."""

    check: str
    severity: Severity
    file: str
    """The annotation file, as it was given."""
    record: str
    """Which record of the file: "annotation 7 in a.jpg", "image 3 (b.jpg)"; empty for the whole file."""
    message: str
    advice: str
    annotations: tuple[Any, ...] = ()
    """Their ids, as the file has them."""
    images: tuple[str, ...] = ()
    """Their file names."""
    keypoints: tuple[str, ...] = ()
    priority: float = 0.0
    """Findings of a check are listed from the highest priority to the lowest."""
    places: tuple[Place, ...] = ()

    def __post_init__(self) -> None:
        if self.check not in CHECKS:
            raise ValueError(f"a check is one of {', '.join(CHECKS)}; got {self.check!r}")
        if self.severity not in SEVERITIES:
            raise ValueError(f"a severity is one of {', '.join(SEVERITIES)}; got {self.severity!r}")

    def __str__(self) -> str:
        return ": ".join(part for part in (self.file, self.record, f"{self.message}; {self.advice}") if part)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "check": self.check,
            "severity": self.severity,
            "file": self.file,
            "record": self.record,
            "message": self.message,
            "advice": self.advice,
            "annotations": [one if isinstance(one, int | str) else repr(one) for one in self.annotations],
            "images": list(self.images),
            "keypoints": list(self.keypoints),
        }
