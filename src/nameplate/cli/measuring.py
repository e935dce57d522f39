"""`bench run`: the command that measures."""

from __future__ import annotations

import shlex
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nameplate.base.errors import InputError, RunIncomplete
from nameplate.base.exit_status import print_error
from nameplate.cli.options import Budget, Device, Json, Lang, NewRuns, Only, Parts, use_parts
from nameplate.cli.output import check_language, print_run

if TYPE_CHECKING:
    from nameplate.store.folder import Run


def register(app: typer.Typer) -> None:
    """Add this module's command to `app`."""
    app.command("run")(run)


def run(
    suite: Annotated[
        str | None, typer.Argument(help="Suite to measure; see `bench suites`. [default: quick]")
    ] = None,
    device: Device = "auto",
    only: Only = None,
    budget: Budget = None,
    nominal: Annotated[
        list[str] | None, typer.Option(metavar="DTYPE=TFLOPS", help="A rating to compare with (repeatable).")
    ] = None,
    results: NewRuns = None,
    resume: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="Go on with a run (latest: the latest unfinished one): only cases without a record.",
        ),
    ] = None,
    parts: Parts = None,
    lang: Lang = "en",
    json: Json = False,
) -> None:
    """Measure what this machine delivers, and compare it with nominal."""
    ratings = _ratings(nominal or [])
    use_parts(parts)
    check_language(lang)
    from nameplate.report.media.progress import LiveProgress
    from nameplate.run.measure import measure

    progress = LiveProgress()
    try:
        with progress:
            done = measure(
                suite,
                device=device,
                only=only,
                budget=budget,
                nominal=ratings,
                results=results,
                resume=resume,
                observer=progress,
            )
    except KeyboardInterrupt:
        _say_interrupted(progress.folder)
        raise
    print_run(done, lang=lang, json=json)
    lacking = _lacking(done)
    if lacking:
        raise RunIncomplete(lacking)


def _lacking(run: Run) -> str | None:
    """Why the run isn't done, though it ended; None where it is."""
    failed = sum(record.status == "failed" for record in run.records)
    if failed or run.missing:
        cases, missing = len(run.manifest.expected), len(run.missing)
        return f"the run is incomplete: {failed} failed, {missing} without a record, of {cases} cases"
    if not any(record.status == "ok" for record in run.records):
        return "nothing was measured: every case was skipped, each for the reason that its record says"
    return None


def _say_interrupted(folder: Path | None) -> None:
    where = (
        f"; what was finished is kept: bench run --resume {shlex.quote(str(folder))}"
        if folder
        else " before the first case"
    )
    print_error(f"interrupted{where}")


def _ratings(given: list[str]) -> dict[str, float]:
    """Parse repeated `fp16=320`. Raises InputError for anything else, and for two of one dtype."""
    ratings: dict[str, float] = {}
    for text in given:
        dtype, tflops = _rating(text)
        if dtype in ratings:
            raise InputError("two ratings of one dtype", where="--nominal", got=text, expected="one")
        ratings[dtype] = tflops
    return ratings


def _rating(text: str) -> tuple[str, float]:
    dtype, _, tflops = (part.strip() for part in text.partition("="))
    with suppress(ValueError):
        if dtype:
            return dtype, float(tflops)
    raise InputError("not a rating", where="--nominal", got=text, expected="such as fp16=320")
