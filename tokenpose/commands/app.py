"""The `tokenpose` command as a whole: what is common to its commands, and what it says to the user."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

EXPECTED = (OSError, ValueError, LookupError, TypeError, ModuleNotFoundError, FloatingPointError)
"""What the library raises for what it was given. Anything else, KeyError and IndexError too, is a bug, and shows."""


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


app = typer.Typer(
    cls=Commands,
    help="Find the keypoints of people in photographs, and train the models that do.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> bool:
    from tokenpose import __version__

    if wanted:
        typer.echo(f"tokenpose {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def _options(
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Say on standard error what is done.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the whole traceback of an error.")] = False,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """What stands before the command; `Commands` heeds it."""


def is_main_process() -> bool:
    """Whether this process, of those that torchrun or accelerate launched, is the one that speaks."""
    return os.environ.get("RANK", "0") == "0"


def show_log() -> None:
    """Let a command say on standard error what it does, without -v: for those that take long."""
    if is_main_process():
        logging.getLogger("tokenpose").setLevel(logging.INFO)


def report(error: Exception) -> None:
    """One line on standard error."""
    typer.echo(f"error: {' '.join(str(error).split())}", err=True)


def count(number: int, one: str, several: str) -> str:
    """ "1 image", "2 images"."""
    return f"{number} {one if number == 1 else several}"


@contextmanager
def progress(total: int) -> Iterator[Callable[[], None]]:
    """A bar on standard error, if that is a terminal and there is more than one thing to do."""
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
        typer.echo(level + record.getMessage(), err=True)


@contextmanager
def _log_to_stderr(level: int) -> Iterator[None]:
    """The library's log on standard error, for as long as a command runs."""
    library, handler = logging.getLogger("tokenpose"), _StderrHandler()
    before = library.level
    library.addHandler(handler)
    library.setLevel(level)
    try:
        yield
    finally:
        library.removeHandler(handler)
        library.setLevel(before)
