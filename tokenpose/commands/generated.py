"""Options of a command that are made from the fields of settings classes."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import fields
from enum import StrEnum
from functools import wraps
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

from tokenpose.commands.options import read_size
from tokenpose.data.settings import Declaration, declarations, value_types

CommandFunction = Callable[..., None]


def with_settings(*kinds: type, panels: Mapping[str, Sequence[str]]) -> Callable[[CommandFunction], CommandFunction]:
    """Give a command an option for each declared field of settings classes.

    The command gets the fields that were given on the command line, and no others, as its argument ``settings``.
    ``panels``: groups of the help in their order, each with the names of the command's own options in it; the fields
    say themselves where they belong.
    """
    options = {name: option for kind in kinds for name, option in _make_options(kind).items()}
    read = {name: reader for kind in kinds for name, reader in _make_readers(kind).items()}

    def decorate(command: CommandFunction) -> CommandFunction:
        @wraps(command)
        def run(context: Any, **values: Any) -> None:
            given = {name: read[name](values[name]) for name in options if not _is_default(context, name)}
            own = {name: value for name, value in values.items() if name not in options}
            command(**own, settings=given)

        signature = inspect.signature(command)
        own = {name: _move(option, panels) for name, option in signature.parameters.items() if name != "settings"}
        order = list(panels)
        parameters = sorted({**own, **options}.values(), key=lambda option: order.index(_panel_of(option)))
        context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
        vars(run)["__signature__"] = signature.replace(parameters=[context, *parameters])
        return run

    return decorate


def split_settings(given: Mapping[str, Any], *kinds: type) -> list[Any]:
    """One object of each settings class, of the fields that were given for it."""
    return [kind(**{name: given[name] for name in declarations(kind) if name in given}) for kind in kinds]


def _is_default(context: Any, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is None or source.name == "DEFAULT"


def _make_options(kind: type) -> dict[str, inspect.Parameter]:
    """For each declared field a parameter as typer reads it."""
    types, defaults = value_types(kind), {entry.name: entry.default for entry in fields(kind)}
    return {
        name: _make_option(name, types[name][0], defaults[name], declaration)
        for name, declaration in declarations(kind).items()
    }


def _make_option(name: str, kind: Any, default: Any, declaration: Declaration) -> inspect.Parameter:
    names = [] if declaration.repeat is None else [declaration.repeat]
    option = typer.Option(*names, metavar=declaration.metavar, help=declaration.help, rich_help_panel=declaration.panel)
    if get_origin(kind) is tuple:
        entry = _choices(name, get_args(kind)[0])
        kind = str if declaration.repeat is None else list[entry]  # type: ignore[valid-type]
        default = ",".join(map(str, default)) if default else None
    else:
        kind = _choices(name, kind)
    hint: Any = Annotated[kind, option] if default is not None else Annotated[kind | None, option]  # type: ignore[valid-type]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)


def _choices(name: str, kind: Any) -> Any:
    """An enumeration for a Literal, which every version of typer knows; other types as they are."""
    if get_origin(kind) is not Literal:
        return kind
    return StrEnum(name, {choice: choice for choice in get_args(kind)})


def _make_readers(kind: type) -> dict[str, Callable[[Any], Any]]:
    """For each declared field what makes its value of what typer read."""
    types = value_types(kind)
    return {
        name: _make_reader(name, types[name][0], declaration.repeat) for name, declaration in declarations(kind).items()
    }


def _make_reader(name: str, kind: Any, repeat: str | None) -> Callable[[Any], Any]:
    if get_origin(kind) is not tuple:
        return _plain
    if repeat is not None:
        return lambda values: tuple(map(_plain, values))
    return lambda text: _read_list(text, get_args(kind)[0], f"--{name.replace('_', '-')}")


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, StrEnum) else value


def _read_list(text: str, kind: Any, option: str) -> tuple[Any, ...]:
    """ "4,5,6", or "128x96,256x192"."""
    entries = [entry for entry in map(str.strip, text.split(",")) if entry]
    if kind == tuple[int, int]:
        return tuple(read_size(entry, option) for entry in entries)
    try:
        return tuple(map(kind, entries))
    except ValueError as error:
        raise typer.BadParameter(f"expected numbers, 4,5,6 for example; got {text!r}", param_hint=option) from error


def _move(option: inspect.Parameter, panels: Mapping[str, Sequence[str]]) -> inspect.Parameter:
    """A command's own option, in its panel."""
    [panel] = [panel for panel, names in panels.items() if option.name in names]
    hint, info = get_args(option.annotation)
    info = copy(info)
    info.rich_help_panel = panel
    return option.replace(annotation=Annotated[hint, info], kind=inspect.Parameter.KEYWORD_ONLY)


def _panel_of(option: inspect.Parameter) -> str:
    return str(get_args(option.annotation)[1].rich_help_panel)
