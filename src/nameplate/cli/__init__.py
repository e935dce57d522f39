"""The command line. Each module holds the commands of one purpose; the work is done elsewhere.

No module here imports anything heavy at the top: `bench --help` loads neither torch nor pandas nor pydantic.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from functools import cache
from typing import Annotated

import typer
from typer.main import get_command

from nameplate import __version__
from nameplate.cli import check, compare, exits, export, fleet, measure, publish, read, selftest

app = typer.Typer(
    name="bench",
    help="Measure how much of its rated TFLOPS a device delivers, and what that makes a fleet cost.",
    no_args_is_help=True,
    rich_markup_mode=None,  # rich help doubles the start-up time
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
        typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit."),
    ] = False,
) -> None:
    pass


# Each command with its line in `bench --help`, which has room for 60 characters; the most used ones first.
_COMMANDS: dict[str, tuple[Callable[..., None], str]] = {
    "run": (measure.run, "Measure what this machine delivers of its rating."),
    "show": (read.show, "Print a run, or several side by side."),
    "check": (check.check, "Judge whether this node, or each of many, is fit."),
    "report": (publish.report, "Write a run as a page with charts, or as Markdown."),
    "list": (read.list_runs, "List the runs, newest first."),
    "compare": (compare.compare, "Tell which cases are faster or slower in another run."),
    "devices": (measure.devices, "List the devices here, and what disturbs measuring them."),
    "specs": (measure.specs, "Print what a part or a CPU is rated at, with sources."),
    "suites": (measure.suites, "List the suites that can be measured."),
    "export": (export.export, "Write runs in another tool's format."),
    "merge": (export.merge, "Write many runs as one data set for pandas or DuckDB."),
    "publish": (publish.publish, "Copy a run into results/, its host name hashed."),
    "leaderboard": (publish.leaderboard, "Write the table of published results."),
    "selftest": (selftest.selftest, "Check the engine against devices of known throughput."),
}
for _name, (_command, _line) in _COMMANDS.items():
    app.command(_name, short_help=_line)(_command)
app.add_typer(fleet.fleet)
# Made once in a process that runs many command lines, as tests and fuzzers do.
_make_command = cache(get_command)


def main() -> None:
    """Run the command line; the process ends with an `ExitStatus`, or 128 + the number of a signal."""
    for stream in (sys.stdout, sys.stderr):
        # Print a substitute for characters such as ± and × that the terminal's encoding lacks.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    sys.exit(exits.run(_run))


def _run() -> None:
    # `app()` would end with 1 for a closed pipe, and print its own four lines for an unknown option.
    command = _make_command(app)
    with command.make_context("bench", sys.argv[1:]) as context:
        command.invoke(context)
