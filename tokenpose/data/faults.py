"""Faults: what is wrong with a record of an annotation file, for training, evaluation and the check. And notes."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

logger = logging.getLogger(__name__)

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
        return name_record(self.section, self.position, self.identity, self.image)


@dataclass(frozen=True, kw_only=True)
class Note:
    """What is read in another way than the records say it: one line for the whole file."""

    field: str
    """The field that is read in another way."""
    message: str
    """How many records have it, the first of them, and what is read instead."""
    advice: str
    is_warning: bool = True
    """Whether it may be a mistake; else it is what the caller asked for, or good to know."""
    positions: tuple[int, ...] = ()
    """Which annotations have it, by their places in the file's list; empty where it is about a category."""


_SINGULAR = {"images": "image", "annotations": "annotation", "categories": "category"}


def name_record(section: str, position: int, identity: Any, image: str | None) -> str:
    """What messages call a record: "annotation 7 in a.jpg", "image 3 (a.jpg)", "annotations[5]"."""
    if section == "records":
        name = f"record {position}"
    elif not is_id(identity):
        name = f"{section}[{position}]"
    else:
        name = f"{_SINGULAR[section]} {identity}"
    if image is None:
        return name
    return f"{name} ({image})" if section == "images" else f"{name} in {image}"


def raise_first(faults: Iterable[Fault], path: object, use: Use) -> None:
    """Raise ValueError for the first fault that stops the use; it names file and record."""
    for fault in faults:
        if use in fault.stops:
            raise ValueError(f"{path}: {fault.record}: {fault.message}; {fault.advice}")


def log_notes(notes: Iterable[Note], path: object) -> None:
    """One line of the log for each."""
    for note in notes:
        level = logging.WARNING if note.is_warning else logging.INFO
        logger.log(level, "%s: %s; %s", path, note.message, note.advice)


def is_id(value: Any) -> bool:
    """Whether records can be told apart by it: a number (not a boolean, not NaN) or text."""
    return isinstance(value, int | float | str) and not isinstance(value, bool) and value == value


def whole_id(value: Any) -> Any:
    """A whole number without its point, 7 for 7.0; anything else stays as it is."""
    return int(value) if type(value) is float and value.is_integer() else value
