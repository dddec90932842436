"""The `tokenpose` command as a whole: the help, the log and the errors that all commands share."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

EXPECTED = (OSError, ValueError, LookupError, TypeError, ModuleNotFoundError, FloatingPointError)
"""What the library raises for wrong input. Anything else, and KeyError and IndexError too, is a bug and is shown."""


class Commands(TyperGroup):
    """Shows the library's log, and turns its errors into one line on standard error and exit code 1, unless --debug."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            level = logging.INFO if ctx.params["verbose"] else logging.WARNING
            with _log_to_stderr(level if is_main_process() else logging.ERROR):
                return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise typer.Exit(130) from error
        except EXPECTED as error:
            if ctx.params["debug"] or isinstance(error, KeyError | IndexError | BrokenPipeError):
                raise
            report(error)
            raise typer.Exit(1) from error


class Command(TyperCommand):
    """Groups the options in --help by `rich_help_panel`, as plain text: the same on a terminal and in a pipe."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, each group of options, and the options without a group."""
        groups: dict[str, list[tuple[str, str]]] = {"Arguments": []}
        ungrouped: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            name, text = parameter.get_help_record(ctx) or ("", "")
            group = getattr(parameter, "rich_help_panel", None)  # --help is an option without one
            if parameter.param_type_name == "argument":
                groups["Arguments"].append((parameter.metavar or name, text))
            elif name:
                (ungrouped if group is None else groups.setdefault(group, [])).append((name, text))
        for heading, records in (*groups.items(), ("Options", ungrouped)):
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Write the usage with IMAGES... for typer's {IMAGES}..."""
        return [piece.replace("{", "").replace("}", "") for piece in super().collect_usage_pieces(ctx)]


app = typer.Typer(
    cls=Commands,
    help="Find the keypoints of people in photographs, and train models to find them.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _show_version(wanted: bool) -> bool:
    from tokenpose import __version__

    if wanted:
        typer.echo(f"tokenpose {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def _options(
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Report each step on standard error.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the full traceback of an error.")] = False,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options that come before the command; `Commands` reads them."""


def is_main_process() -> bool:
    """Whether this process is the one that writes messages, among those that torchrun or accelerate launched."""
    return os.environ.get("RANK", "0") == "0"


def show_log() -> None:
    """Report each step on standard error without -v, for commands that take long."""
    if is_main_process():
        logging.getLogger("tokenpose").setLevel(logging.INFO)


def report(error: Exception) -> None:
    """Write an error as one line on standard error."""
    typer.echo(f"error: {' '.join(str(error).split())}", err=True)


def count(number: int, one: str, several: str) -> str:
    """A number and its noun: "1 image", "2 images"."""
    return f"{number} {one if number == 1 else several}"


@contextmanager
def progress(total: int) -> Iterator[Callable[[], None]]:
    """Show a progress bar on standard error if that is a terminal and there is more than one step."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=total < 2 or not console.is_terminal) as progress:
        images = progress.add_task("images", total=total)
        yield lambda: progress.update(images, advance=1)


class _StderrHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        with suppress(OSError):  # the terminal was closed: what runs goes on without it, or saves its state
            typer.echo(level + record.getMessage(), err=True)


@contextmanager
def _log_to_stderr(level: int) -> Iterator[None]:
    """Write the library's log to standard error while a command runs."""
    library, handler = logging.getLogger("tokenpose"), _StderrHandler()
    before = library.level
    library.addHandler(handler)
    library.setLevel(level)
    try:
        yield
    finally:
        library.removeHandler(handler)
        library.setLevel(before)
