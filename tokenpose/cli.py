"""The `tokenpose` command: each command is in a module of `tokenpose.commands`, thin over the library."""

# Each module adds its commands, in the order of --help.
from tokenpose.commands import prediction, attention, training, evaluation, calibration, doctor, labels, zoo  # noqa: F401, I001
from tokenpose.commands.app import app


def main() -> None:
    """The console script."""
    app(prog_name="tokenpose")
