"""The command line: thin. Each module holds one group of commands; what they do lives elsewhere.

Nothing heavy is imported here or at the top of a command module: `bench --help` loads neither torch nor
pandas nor pydantic.
"""

from __future__ import annotations

import io
import sys
from typing import Annotated

import typer
from typer.main import get_command

from nameplate import __version__
from nameplate.cli import (
    comparing,
    devices,
    exits,
    exporting,
    fleet,
    leaderboard,
    measuring,
    publishing,
    reading,
    selftest,
    specs,
)

app = typer.Typer(
    name="bench",
    help="Measure what a device delivers of its rated TFLOPS, and what that makes a fleet cost.",
    no_args_is_help=True,
    rich_markup_mode=None,  # rich help costs as much start-up time again as typer itself
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"nameplate {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and end."),
    ] = False,
) -> None:
    pass


for module in (
    *(measuring, reading, comparing, devices, specs),
    *(publishing, leaderboard, exporting, fleet, selftest),
):
    module.register(app)


def main() -> None:
    """Run the command line; the process ends with an `ExitStatus`, or 128 + the signal that ended it."""
    for stream in (sys.stdout, sys.stderr):
        # Where the terminal's encoding lacks a character (±, ×), a substitute beats a traceback.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    sys.exit(exits.run(_run))


def _run() -> None:
    # Not `app()`, which would end a closed pipe with 1 and say over four lines that an option isn't known.
    command = get_command(app)
    with command.make_context("bench", sys.argv[1:]) as context:
        command.invoke(context)
