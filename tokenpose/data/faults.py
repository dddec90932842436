"""Faults: what is wrong with a record of an annotation file, for training, evaluation and the check."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["not an object", "missing", "invalid", "wrong length", "repeated", "unlisted"]
Use = Literal["training", "evaluation"]

REPAIR = "correct the record or remove it"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that is wrong with one record."""

    section: str
    """The file's list that holds the record: "images", "annotations", "categories"; "records" of an MPII file."""
    position: int
    """The record's place in that list, from 0."""
    identity: Any = None
    """What the record has as its id; None where it has none."""
    image: str | None = None
    """The file name of the record's image, where the file has it."""
    field: str
    """The field at fault; empty where the record as a whole is."""
    kind: Kind
    message: str
    """What was expected and what the file has; follows the record's name and a colon."""
    advice: str = REPAIR
    stops: frozenset[Use] = frozenset(("training", "evaluation"))
    """What the fault makes impossible; empty for a field that only other programs use."""

    @property
    def record(self) -> str:
        """What messages call the record: "annotation 7 in a.jpg", "image 3 (a.jpg)", "annotations[5]"."""
        if self.section == "records":
            name = f"record {self.position}"
        elif not is_id(self.identity):
            name = f"{self.section}[{self.position}]"
        else:
            name = f"{_SINGULAR[self.section]} {self.identity}"
        if self.image is None:
            return name
        return f"{name} ({self.image})" if self.section == "images" else f"{name} in {self.image}"


_SINGULAR = {"images": "image", "annotations": "annotation", "categories": "category"}


def raise_first(faults: Iterable[Fault], path: object, use: Use) -> None:
    """Raise ValueError for the first fault that stops the use; it names file and record."""
    for fault in faults:
        if use in fault.stops:
            raise ValueError(f"{path}: {fault.record}: {fault.message}; {fault.advice}")


def is_id(value: Any) -> bool:
    """Whether records can be told apart by it: a number (not a boolean, not NaN) or text."""
    return isinstance(value, int | float | str) and not isinstance(value, bool) and value == value
