"""Findings: what the data doctor has to say, a sentence each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

Severity = Literal["error", "warning", "note"]
"""An error stops training or falsifies its results, a warning is a suspicion, a note is good to know."""

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")

CHECKS: Mapping[str, str] = {
    "records": "records that can't be read",
    "missing images": "images that are not there",
    "unreadable images": "images that can't be decoded whole",
    "image sizes": "images of another size than the file says, or turned by EXIF",
    "images without people": "images that nobody is annotated in",
    "boxes": "boxes without area, outside the image, around somebody else, or far too large",
    "keypoints outside": "labelled keypoints outside the image",
    "repeated keypoints": "different keypoints of a person at the same spot",
    "visibility flags": "v other than 0, 1, 2, or not in accord with coordinates and num_keypoints",
    "never labelled": "keypoints that nobody has",
    "left and right": "keypoints whose left and right look exchanged",
    "flip pairs": "wrong or missing pairs of left and right",
    "duplicate images": "images that are there twice",
    "train and validation": "images of one file that are in another, too",
    "duplicate people": "people who are annotated twice",
}
"""What is checked, in the order of a report."""


class Place(NamedTuple):
    """Where to look: rows of a file's `Records`; ``person`` is None where the image as a whole is meant."""

    file: str
    image: int
    person: int | None = None


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong or suspicious, in a sentence with its values, and what to do about it."""

    check: str
    severity: Severity
    file: str
    """The annotation file, as it was given."""
    record: str
    """Which record of the file: "annotation 7 in a.jpg", "image 3 (b.jpg)"; the whole file where empty."""
    message: str
    advice: str
    annotations: tuple[Any, ...] = ()
    """Their ids, as the file has them."""
    images: tuple[str, ...] = ()
    """Their file names."""
    keypoints: tuple[str, ...] = ()
    doubt: float = 0.0
    """Within a check, the most suspicious have most."""
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
