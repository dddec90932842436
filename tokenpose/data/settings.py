"""Settings: frozen dataclasses whose fields are checked when made."""

from dataclasses import fields
from typing import Any

from tokenpose.files import is_number

_KINDS: dict[type, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def check_kinds(settings: Any) -> None:
    """Of a dataclass's fields with plain defaults: whole numbers become floats where those are expected.

    Raises ValueError that names the field for every other kind of value.
    """
    for entry in fields(settings):
        value, kind = getattr(settings, entry.name), type(entry.default)
        if kind is float and type(value) is int and is_number(value):
            object.__setattr__(settings, entry.name, float(value))
        elif kind in _KINDS and type(value) is not kind:
            raise ValueError(f"{entry.name} must be {_KINDS[kind]}; got {value!r}")
        if kind is float and not is_number(value):
            raise ValueError(f"{entry.name} must be a finite number; got {value!r}")
