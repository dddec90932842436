"""The `tokenpose` command: every command is a module of `tokenpose.commands`, thin over the library."""

from tokenpose.commands import attention, doctor, evaluation, prediction, training, zoo  # noqa: F401 - each adds its command
from tokenpose.commands.app import app


def main() -> None:
    """The console script."""
    app(prog_name="tokenpose")
