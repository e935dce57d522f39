"""Flags of several commands, each declared once: a flag means the same wherever it stands.

A flag in capitals is declared without its type, which differs: one part or several, a path or `-`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from nameplate.base.errors import InputError

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]


def _folder(given: str) -> Path:
    if not given:  # Path("") is the working directory, which nobody meant
        raise InputError("no folder", where="--results", got=given, expected="the name of a folder")
    return Path(given)


Results = Annotated[
    Path | None,
    typer.Option(
        "--results",
        metavar="DIR",
        parser=_folder,
        help="The only folder to look for runs in. [default: runs and results of the project]",
    ),
]
NewRuns = Annotated[
    Path | None,
    typer.Option(
        "--results", metavar="DIR", parser=_folder, help="Folder that the run is kept in. [default: runs]"
    ),
]
_RUN = "a run folder, an id, the beginning of one, or latest"
RunName = Annotated[str, typer.Argument(metavar="RUN", help=f"{_RUN.capitalize()}.")]
RunNames = Annotated[list[str] | None, typer.Argument(metavar="RUN", help=f"Each {_RUN}. [default: latest]")]
PricingRun = Annotated[
    str | None,
    typer.Option("--run", metavar="RUN", help=f"Take the derate of its part from this run: {_RUN}."),
]
DEVICE = typer.Option(
    "--device", metavar="DEVICE", help="auto, cpu, cuda or cuda:N; all where a command takes several."
)
Device = Annotated[str, DEVICE]
Only = Annotated[
    str | None, typer.Option("--only", metavar="GLOB", help="Only the cases whose whole id matches.")
]
Budget = Annotated[
    float | None,
    typer.Option(
        "--budget", metavar="SECONDS", help="Time to measure for. [default: the suite's or the test's own]"
    ),
]
OUTPUT = typer.Option("-o", "--output", metavar="FILE", help="The file to write; its suffix says the format.")
Lang = Annotated[
    str,
    typer.Option(
        "--lang",
        metavar="LANG",
        help="The reader's language: en or zh; sources, names and errors stay as they are.",
    ),
]
Parts = Annotated[
    list[Path] | None,
    typer.Option("--parts", metavar="FILE", help="A TOML file with parts of your own (repeatable)."),
]
Csv = Annotated[bool, typer.Option("--csv", help="Print the rows of --json as CSV, tables left out.")]
Fleets = Annotated[
    list[Path] | None,
    typer.Option(
        "--fleets",
        metavar="FILE",
        help="A TOML file with fleets, prices and assumptions of your own (repeatable).",
    ),
]
# What `bench fleet cost` and `plan` ask alike.
PART = typer.Option("--part", metavar="PART", help="Of this part, by its id or name; see `bench specs`.")
Derates = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ID", help="Take this derate, or FROM:TO=RATIO (repeatable: they follow one another)."
    ),
]
WithGoodput = Annotated[
    bool, typer.Option("--goodput", help="End with goodput, as modelled for one job on all cards.")
]
Prices = Annotated[
    list[str] | None,
    typer.Option(metavar="PART=RMB", help="A server of a part: X, LOW..HIGH or LOW..X..HIGH (repeatable)."),
]
Assumptions = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=X", help="An input of power or money: X, LOW..HIGH … (repeatable)."),
]
Draws = Annotated[int, typer.Option(metavar="N", help="Draws of the uncertain inputs.")]
Seed = Annotated[int, typer.Option(metavar="N", help="Seed of the draws.")]


def use_parts(files: list[Path] | None) -> None:
    """Have this process, and those it starts, know the parts in `files` too."""
    from nameplate.specs.registry import ENVIRONMENT

    named = [*filter(None, [os.environ.get(ENVIRONMENT)]), *(str(file.resolve()) for file in files or ())]
    if named:
        os.environ[ENVIRONMENT] = os.pathsep.join(named)


def pairs(flag: str, form: str, given: Sequence[str] | None) -> dict[str, str]:
    """`NAME=VALUE`s as a mapping. InputError for one without a value, and for a name given twice."""
    found: dict[str, str] = {}
    for each in given or ():
        name, equals, value = each.partition("=")
        if not (name and equals and value) or name in found:
            raise InputError("can't be used", where=flag, got=each, expected=f"{form}, once a name")
        found[name] = value
    return found
