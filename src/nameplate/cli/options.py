"""Options that several commands share, each declared once, and what their values mean.

A name in capitals is an option without its type, because the type differs from command to command.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast, get_type_hints

import typer

from nameplate.base.errors import InputError
from nameplate.base.exit_status import print_error
from nameplate.base.text import plain
from nameplate.cli.output import output_language

if TYPE_CHECKING:
    from nameplate.fleet.mfu import TrainingSetup

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
Csv = Annotated[bool, typer.Option("--csv", help="Print the rows of --json as CSV, without nested tables.")]
Lang = Annotated[
    str,
    typer.Option(
        "--lang",
        metavar="LANG",
        help="Language of the output: en or zh. Sources, names and errors are not translated.",
    ),
]


def path_parser(where: str, what: str) -> Callable[[str], Path]:
    """Return the parser of a path: "" would be the working directory, and is refused."""

    def parse(given: str) -> Path:
        if not given:
            raise InputError(f"no {what}", where=where, got=given, expected=f"the name of a {what}")
        return Path(given)

    return parse


_parse_results = path_parser("--results", "folder")

Results = Annotated[
    Path | None,
    typer.Option(
        "--results",
        metavar="DIR",
        parser=_parse_results,
        help="The only folder to look for runs in. [default: the project's runs and results]",
    ),
]
NewRuns = Annotated[
    Path | None,
    typer.Option(
        "--results",
        metavar="DIR",
        parser=_parse_results,
        help="Folder to keep the run in. [default: runs]",
    ),
]
Expect = Annotated[
    list[str] | None,
    typer.Option(
        "--expect",
        metavar="DTYPE=SHARE",
        help="Exit with 1 if the best product of this dtype is below this share of nominal (repeatable).",
    ),
]
FailUnder = Annotated[
    float | None,
    typer.Option(
        "--fail-under",
        metavar="SHARE",
        help="Like --expect, for the dtype of the run's answer; exit with 3 if it can't be judged.",
    ),
]
_RUN = "a run folder, an id, the beginning of an id, or latest"
RunName = Annotated[str, typer.Argument(metavar="RUN", help=f"{_RUN.capitalize()}.")]
RunNames = Annotated[list[str] | None, typer.Argument(metavar="RUN", help=f"Each {_RUN}. [default: latest]")]
PricingRun = Annotated[
    str | None,
    typer.Option("--run", metavar="RUN", help=f"Use the derate that this run measured for its part: {_RUN}."),
]
DEVICE = typer.Option(
    "--device",
    metavar="DEVICE",
    help="auto, cpu, cuda, cuda:N, all (run and devices only), or twin:NAME for a simulated GPU.",
)
Device = Annotated[str, DEVICE]
Only = Annotated[
    str | None,
    typer.Option(
        "--only", metavar="GLOB", help="Only cases whose whole id matches, such as 'matmul/bf16/*'."
    ),
]
Budget = Annotated[
    float | None,
    typer.Option(
        "--budget",
        metavar="SECONDS",
        help="How long to measure, counted from when the device is ready. [default: the suite's own]",
    ),
]
OUTPUT = typer.Option(
    "-o", "--output", metavar="FILE", help="The file to write; its suffix selects the format."
)
Parts = Annotated[
    list[Path] | None,
    typer.Option(
        "--parts",
        metavar="FILE",
        parser=path_parser("--parts", "file"),
        help="A TOML file with your own parts (repeatable).",
    ),
]
Fleets = Annotated[
    list[Path] | None,
    typer.Option(
        "--fleets",
        metavar="FILE",
        parser=path_parser("--fleets", "file"),
        help="A TOML file with your own fleets, prices and assumptions (repeatable).",
    ),
]

# How fleets are priced: options of `bench fleet cost`, `own` and `plan`.
PART = typer.Option("--part", metavar="PART", help="The part, by its id or a name; see `bench specs`.")
PARTS = typer.Option(
    "--part", metavar="PART", help="A part, by its id or a name; see `bench specs` (repeatable)."
)
Derates = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ID", help="Use this derate, or FROM:TO=RATIO (repeatable; they are applied in order)."
    ),
]
WithGoodput = Annotated[
    bool, typer.Option("--goodput", help="Also apply the modelled goodput of one job on all cards.")
]
Prices = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PART=RMB", help="Price of a server of a part: X, LOW..HIGH or LOW..X..HIGH (repeatable)."
    ),
]
Assumptions = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=X", help="An assumption on power or money: X, LOW..HIGH … (repeatable)."),
]
PowerLimit = Annotated[
    float | None,
    typer.Option("--power-limit", metavar="W", help="Power limit of each card. [default: its TDP]"),
]
Draws = Annotated[int, typer.Option(metavar="N", help="Number of Monte Carlo draws.")]
Seed = Annotated[int, typer.Option(metavar="N", help="Seed of the Monte Carlo draws.")]

# What a fleet trains, on which its MFU depends.
Params = Annotated[
    float | None,
    typer.Option("--params", metavar="N", help="Parameters of the model that is trained. [default: 7e9]"),
]
ActiveParams = Annotated[
    float | None,
    typer.Option(
        "--active-params",
        metavar="N",
        help="Parameters that work on a token, in a mixture of experts. [default: all]",
    ),
]
Context = Annotated[
    float | None, typer.Option("--context", metavar="TOKENS", help="Tokens of context. [default: 4096]")
]
TrainingPrecision = Annotated[
    str | None, typer.Option("--precision", metavar="NAME", help="bf16 or fp8. [default: bf16]")
]
Stack = Annotated[
    str | None,
    typer.Option(
        "--stack",
        metavar="NAME",
        help="tuned (to the cluster, by its authors) or off-the-shelf. [default: tuned]",
    ),
]
Year = Annotated[
    float | None, typer.Option("--year", metavar="YEAR", help="Year of the software. [default: 2024]")
]


Details = Annotated[
    bool,
    typer.Option("--details", help="Print every section, with inputs, sources and notes."),
]


@dataclass(frozen=True)
class PricingFlags:
    """How fleets are priced."""

    run: PricingRun = None
    derate: Derates = None
    goodput: WithGoodput = False
    power_limit: PowerLimit = None
    price: Prices = None
    assume: Assumptions = None
    draws: Draws = 100_000
    seed: Seed = 0
    results: Results = None
    files: Fleets = None
    parts: Parts = None

    def options(self) -> dict[str, Any]:
        """The options of `fleet.cost` that these are. Raises InputError for files that can't be used."""
        from nameplate.fleet.catalogues import catalogue

        return {
            "run": self.run,
            "results": self.results,
            "derate": self.derate or (),
            "goodput": self.goodput,
            "power_limit": self.power_limit,
            "price": parse_pairs("--price", "PART=RMB", self.price),
            "assume": parse_pairs("--assume", "NAME=X", self.assume),
            "draws": self.draws,
            "seed": self.seed,
            "catalogue": catalogue(self.files or (), parts=self.parts or ()),
            "parts": self.parts or (),
        }


@dataclass(frozen=True)
class TrainingFlags:
    """What a fleet trains, as far as its MFU depends on it."""

    params: Params = None
    active_params: ActiveParams = None
    context: Context = None
    precision: TrainingPrecision = None
    stack: Stack = None
    year: Year = None

    def read(self, parameters: float | None = None) -> TrainingSetup:
        """The training run, of a model of so many parameters if they are given; the rest is as usual.

        Raises InputError for what no run can be.
        """
        from nameplate.fleet.mfu import TrainingSetup, as_precision, as_stack

        given = {
            "parameters": self.params if parameters is None else parameters,
            "active_parameters": self.active_params,
            "context": self.context,
            "precision": None if self.precision is None else as_precision(self.precision),
            "stack": None if self.stack is None else as_stack(self.stack),
            "year": self.year,
        }
        stated: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        return TrainingSetup(**stated)


@dataclass(frozen=True)
class OutputFlags:
    """How an answer is printed: as a screen in some language, or as rows of JSON or CSV."""

    lang: Lang = "en"
    json: Json = False
    csv: Csv = False

    @property
    def as_rows(self) -> bool:
        """Whether rows are printed, for a program, and not a screen."""
        return self.json or self.csv

    def in_language(self) -> AbstractContextManager[None]:
        """Translate sentences made inside, as `output_language` does; raises InputError as it does."""
        return output_language(self.lang, json=self.json, csv=self.csv)


_Command = TypeVar("_Command", bound=Callable[..., None])


def take_flags(**groups: type) -> Callable[[_Command], _Command]:
    """Give a command the options of these dataclasses, each made for the parameter of its name.

    typer reads a command's signature: it sees the fields of the groups in place of the groups.
    """

    def decorate(command: _Command) -> _Command:
        own = inspect.signature(command).parameters.values()
        types = get_type_hints(command, include_extras=True)
        parameters = [each.replace(annotation=types[each.name]) for each in own if each.name not in groups]
        for group in groups.values():
            types = get_type_hints(group, include_extras=True)
            parameters += [
                inspect.Parameter(
                    each.name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=each.default,
                    annotation=types[each.name],
                )
                for each in fields(group)
            ]

        @wraps(command)
        def run(**given: Any) -> None:
            made = {
                name: group(**{each.name: given.pop(each.name) for each in fields(group)})
                for name, group in groups.items()
            }
            command(**given, **made)

        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        return cast("_Command", run)

    return decorate


def use_parts(files: list[Path] | None) -> None:
    """Make the parts in `files` known to this process and to those it starts."""
    from nameplate.specs.registry import ENVIRONMENT

    named = [*filter(None, [os.environ.get(ENVIRONMENT)]), *(os.path.abspath(file) for file in files or ())]
    if named:
        os.environ[ENVIRONMENT] = os.pathsep.join(named)


def parse_pairs(flag: str, form: str, given: Sequence[str] | None) -> dict[str, str]:
    """Parse repeated `NAME=VALUE`. Raises InputError for another form, and for a name given twice."""
    found: dict[str, str] = {}
    for each in given or ():
        name, equals, value = each.partition("=")
        if not (name and equals and value) or name in found:
            raise InputError("can't be used", where=flag, got=each, expected=f"{form}, once a name")
        found[name] = value
    return found


def parse_shares(expect: Sequence[str] | None, fail_under: float | None) -> dict[str, float]:
    """Parse repeated `bf16=0.80`. Raises InputError for another form, a dtype twice, and no share."""
    from nameplate.chain.expectations import check_share, check_shares

    shares = {}
    for dtype, text in parse_pairs("--expect", "DTYPE=SHARE", expect).items():
        try:
            shares[dtype] = float(text)
        except ValueError:
            raise InputError(
                "not a share of nominal",
                where="--expect",
                got=f"{dtype}={text}",
                expected="such as bf16=0.80",
            ) from None
    check_shares("--expect", shares)
    if fail_under is not None:
        check_share("--fail-under", fail_under)
    return shares


def find_named_runs(names: Sequence[str] | None, results: Path | None) -> list[Path]:
    """Return the folders of these runs. Without a name: the latest run's, and standard error says which.

    Raises InputError as `find_run` does.
    """
    from nameplate.store.find import LATEST, find_run

    if names:
        return [find_run(name, results) for name in names]
    latest = find_run(LATEST, results)
    print_error(f"this is the latest run, {plain(latest)}")
    return [latest]
