"""Settings: frozen dataclasses, each field declared once with its help and its limits. And those of augmentation."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from tokenpose.files import is_number, shown

Cache = Literal["none", "ram", "device"]
Number = int | float


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """What a field of settings says about itself, besides its name, type and default."""

    help: str
    panel: str | None
    """The group of options that it belongs to in the help of a command."""
    metavar: str | None
    """What stands for its value in the help of a command."""
    repeat: str | None
    """The option that is repeated to give the entries of a list; None: one option, entries separated by commas."""
    limits: Mapping[str, Number]
    """Of a number, or of each number of a list: "at least", "above", "at most" and "below"."""


def setting(
    default: Any,
    *,
    help: str,
    panel: str | None = None,
    metavar: str | None = None,
    repeat: str | None = None,
    at_least: Number | None = None,
    above: Number | None = None,
    at_most: Number | None = None,
    below: Number | None = None,
) -> Any:
    """A dataclass field with all that is known about it: `check_settings` and the command line read it from here.

    ``help`` documents the field, in Python and on the command line.
    """
    given = {"at least": at_least, "above": above, "at most": at_most, "below": below}
    limits = {words: limit for words, limit in given.items() if limit is not None}
    declaration = Declaration(help=help, panel=panel, metavar=metavar, repeat=repeat, limits=limits)
    return field(default=default, metadata={"declaration": declaration})


def declarations(kind: type) -> dict[str, Declaration]:
    """The fields of a settings class that `setting` declared, by name."""
    declared = {entry.name: entry.metadata.get("declaration") for entry in fields(kind)}
    return {name: declaration for name, declaration in declared.items() if declaration is not None}


def value_types(kind: type) -> dict[str, tuple[Any, bool]]:
    """For each field its type without None, and whether it may be None."""
    types = {}
    for name, hint in get_type_hints(kind).items():
        others = tuple(entry for entry in get_args(hint) if entry is not NoneType)
        is_optional = len(others) < len(get_args(hint)) and get_origin(hint) is not tuple
        types[name] = (others[0] if is_optional else hint, is_optional)
    return types


def check_settings(settings: Any) -> None:
    """Check each declared field against its type and limits; whole numbers become floats where floats are expected.

    Raises ValueError that names the field, what was expected and what arrived.
    """
    types = value_types(type(settings))
    for name, declaration in declarations(type(settings)).items():
        value, (kind, is_optional) = getattr(settings, name), types[name]
        if value is None and is_optional:
            continue
        _check_type(name, value, kind)
        if kind is float:
            object.__setattr__(settings, name, float(value))
        for number in _flatten(value):
            _check_limits(f"each of {name}" if isinstance(value, tuple) else name, number, declaration.limits)


Settings = TypeVar("Settings")
Function = TypeVar("Function", bound=Callable[..., Any])


def read_settings(kind: type[Settings], values: Mapping[str, Any]) -> Settings:
    """A settings object of values as people give them: lists and other iterables for tuples, text for paths.

    Raises TypeError for a name that isn't a field, and what the settings raise.
    """
    types = value_types(kind)
    if unknown := sorted(values.keys() - types.keys()):
        raise TypeError(f"there are no settings {', '.join(unknown)}; there are {', '.join(types)}")
    return kind(**{name: _convert(value, types[name][0]) for name, value in values.items()})


def _convert(value: Any, kind: Any) -> Any:
    """A tuple or a path if one is expected and can be made; other values as they are, for the check to refuse."""
    if get_origin(kind) is tuple and isinstance(value, Iterable) and not isinstance(value, str):
        return tuple(value)
    return Path(value) if kind is Path and isinstance(value, str) else value


def takes_settings(kind: type) -> Callable[[Function], Function]:
    """Show the fields of a settings class in the signature of a function instead of its ``**settings``."""

    def decorate(function: Function) -> Function:
        signature = inspect.signature(function)
        types = get_type_hints(kind)
        shown = [
            inspect.Parameter(
                entry.name, inspect.Parameter.KEYWORD_ONLY, default=entry.default, annotation=types[entry.name]
            )
            for entry in fields(kind)
        ]
        own = [entry for entry in signature.parameters.values() if entry.kind is not inspect.Parameter.VAR_KEYWORD]
        vars(function)["__signature__"] = signature.replace(parameters=[*own, *shown])
        return function

    return decorate


def _flatten(value: Any) -> Iterator[Any]:
    if isinstance(value, tuple):
        for entry in value:
            yield from _flatten(entry)
    else:
        yield value


_WORDS: dict[Any, tuple[str, str]] = {
    bool: ("true or false", "true or false"),
    int: ("a whole number", "whole numbers"),
    float: ("a finite number", "finite numbers"),
    str: ("text", "names"),
    Path: ("a path", "paths"),
    tuple[int, int]: ("(height, width)", "sizes (height, width)"),
}


def _check_type(name: str, value: Any, kind: Any) -> None:
    if get_origin(kind) is tuple:
        entry = get_args(kind)[0]
        if not (isinstance(value, tuple) and all(_is_of(part, entry) for part in value)):
            raise ValueError(f"{name} must be a list of {_describe(entry, plural=True)}; got {shown(value)}")
    elif not _is_of(value, kind):
        raise ValueError(f"{name} must be {_describe(kind)}; got {shown(value)}")


def _is_of(value: Any, kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if kind is float:
        return is_number(value)
    if kind == tuple[int, int]:
        return isinstance(value, tuple) and len(value) == 2 and all(type(side) is int for side in value)
    return isinstance(value, kind) if kind is Path else type(value) is kind


def _describe(kind: Any, plural: bool = False) -> str:
    if get_origin(kind) is not Literal:
        return _WORDS[kind][plural]
    *most, last = (f'"{choice}"' for choice in get_args(kind))
    return f"{', '.join(most)} or {last}" if most else last


_KEEPS = {
    "at least": lambda value, limit: value >= limit,
    "above": lambda value, limit: value > limit,
    "at most": lambda value, limit: value <= limit,
    "below": lambda value, limit: value < limit,
}


def _check_limits(name: str, value: Any, limits: Mapping[str, Number]) -> None:
    if not all(_KEEPS[words](value, limit) for words, limit in limits.items()):
        expected = " and ".join(f"{words} {limit}" for words, limit in limits.items())
        raise ValueError(f"{name} must be {expected}; got {shown(value)}")


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How far a person is scaled, rotated, cut and recolored.

    The defaults are the published values for COCO, except for half bodies, which were published with 0.3. MPII was
    published with scale 0.25, rotation 30 and no half bodies. Everything from color on was not published.
    """

    scale: float = setting(
        0.35,
        help="Scale people by up to this share: the factor is a normal draw around 1 with this deviation, clipped at "
        "one deviation.",
        panel="Augmentation", at_least=0, below=1,
    )  # fmt: skip
    rotation: float = setting(
        45.0,
        help="Rotate people by a normal draw with this deviation in degrees, clipped at twice as much.",
        panel="Augmentation", at_least=0, at_most=180,
    )  # fmt: skip
    rotation_probability: float = setting(
        0.6, help="Share of people that are rotated.", panel="Augmentation", at_least=0, at_most=1
    )
    flip: float = setting(0.5, help="Share of people that are mirrored.", panel="Augmentation", at_least=0, at_most=1)
    half_body: float = setting(
        0.0,
        help="Share of people shown by their upper or lower half only, if more than 8 of their keypoints are "
        "labeled.",
        panel="Augmentation", at_least=0, at_most=1,
    )  # fmt: skip
    color: float = setting(
        0.0,
        help="Multiply brightness, contrast and saturation each by a random factor, up to this far from 1.",
        panel="Augmentation", at_least=0, below=1,
    )  # fmt: skip
    blur: float = setting(
        0.0,
        help="Share of crops that are blurred, by a Gaussian of up to 2 pixels.",
        panel="Augmentation", at_least=0, at_most=1,
    )  # fmt: skip

    gray: float = setting(0.0, help="Share of crops that are gray.", panel="Augmentation", at_least=0, at_most=1)
    jpeg: float = setting(
        0.0,
        help="Share of crops that are compressed as JPEG, with a quality of 10 to 60.",
        panel="Augmentation", at_least=0, at_most=1,
    )  # fmt: skip
    downscale: float = setting(
        0.0,
        help="Share of crops that lose resolution: they are reduced by a factor of 1.5 to 4, and enlarged again.",
        panel="Augmentation", at_least=0, at_most=1,
    )  # fmt: skip
    box_jitter: float = setting(
        0.0,
        help="Shift boxes by up to this share of their size, and scale them by up to this share.",
        panel="Augmentation", at_least=0, below=1,
    )  # fmt: skip
    cut_off: float = setting(
        0.0,
        help="Share of people shown as if the photograph ended within them: 40 to 90 % of their box stay.",
        panel="Augmentation", at_least=0, at_most=1,
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_settings(self)
