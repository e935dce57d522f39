"""`bench run`, and what it needs to know: `bench devices`, `bench specs`, `bench suites`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeGuard

import typer

from nameplate.base.errors import InputError, NameplateError, RunIncomplete
from nameplate.base.exit_status import print_error
from nameplate.base.text import plain
from nameplate.cli.axes import AxesFlags
from nameplate.cli.options import (
    Budget,
    Device,
    Expect,
    FailUnder,
    Json,
    Lang,
    NewRuns,
    Only,
    Parts,
    parse_shares,
    take_flags,
    use_parts,
)
from nameplate.cli.output import check_language, output_language, print_json, show_view

if TYPE_CHECKING:
    from nameplate.device.survey import Survey
    from nameplate.report.view import View
    from nameplate.store.folder import Run


Nominal = Annotated[
    list[str] | None,
    typer.Option(
        "--nominal", metavar="DTYPE=TFLOPS", help="Compare with this rating of a dtype (repeatable)."
    ),
]
Resume = Annotated[
    str | None,
    typer.Option(
        "--resume",
        metavar="RUN",
        help="Continue a run: measure its cases without a record. latest is the latest unfinished run.",
    ),
]
NoHistory = Annotated[
    bool,
    typer.Option(
        "--no-history", help="Take nothing from earlier runs: they widen or narrow intervals, no figure."
    ),
]

Trace = Annotated[
    bool,
    typer.Option(
        "--trace",
        help="Trace a launch of each case with torch.profiler, after all timing; section kernels shows it.",
    ),
]
LargestBatchFlag = Annotated[
    bool,
    typer.Option(
        "--largest-batch",
        help="Find the largest batch of layers and steps that fits the memory first, by bisection.",
    ),
]


@take_flags(asked=AxesFlags)
def run(
    asked: AxesFlags,
    suite: Annotated[
        str | None, typer.Argument(help="The suite to measure; see `bench suites`. [default: quick]")
    ] = None,
    device: Device = "auto",
    only: Only = None,
    budget: Budget = None,
    nominal: Nominal = None,
    results: NewRuns = None,
    resume: Resume = None,
    no_history: NoHistory = False,
    trace: Trace = False,
    largest_batch: LargestBatchFlag = False,
    expect: Expect = None,
    fail_under: FailUnder = None,
    parts: Parts = None,
    lang: Lang = "en",
    json: Json = False,
) -> None:
    """Measure what this machine delivers, and compare it with nominal."""
    ratings = _parse_ratings(nominal or [])
    shares = parse_shares(expect, fail_under)
    axes = asked.read()
    use_parts(parts)
    check_language(lang)
    judged = bool(shares) or fail_under is not None
    of_any_suite = {"device": device, "only": only, "budget": budget, "results": results}
    of_most_suites = {
        "nominal": ratings,
        "resume": resume,
        "axes": axes,
        "trace": trace,
        "largest_batch": largest_batch,
    }
    if _is_job_suite(suite):
        if judged or any(value not in (None, False, {}) for value in of_most_suites.values()):
            raise _refuse_with_job_suite(suite)
        _run_in_job(suite, lang=lang, json=json, **of_any_suite)
        return
    done = _measure_here(suite, history=not no_history, **of_any_suite, **of_most_suites)
    _print_run(done, lang=lang, json=json)
    if judged:
        from nameplate.chain.expectations import require_expectations

        require_expectations(done, shares, fail_under)
    _check_complete(done)


def _is_job_suite(suite: str | None) -> TypeGuard[str]:
    """Whether all processes of a job measure a suite together."""
    from nameplate.run.jobs import JOB_SUITES

    return suite in JOB_SUITES


def _refuse_with_job_suite(suite: str) -> InputError:
    return InputError(
        f"can't be used with {suite}",
        where=f"bench run {suite}",
        got="--resume, --nominal, --shape, --shapes, --model, --trace, --largest-batch, --expect or "
        "--fail-under",
        expected="--only, --budget, --device or --results",
    )


def _run_in_job(suite: str, *, lang: str, json: bool, **options: Any) -> None:
    """Measure with the other processes of this job; rank 0 prints the run."""
    from nameplate.report.media.progress import LiveProgress
    from nameplate.run.jobs import measure_in_job

    progress = LiveProgress()
    try:
        with progress:
            done = measure_in_job(suite, observer=progress, **options)
    except KeyboardInterrupt:
        kept = "" if progress.folder is None else f"; what was finished is kept in {plain(progress.folder)}"
        print_error(f"interrupted{kept}")
        raise
    if done is not None:
        _print_run(done, lang=lang, json=json)
        _check_complete(done)


def _measure_here(suite: str | None, **options: Any) -> Run:
    """Measure in this process with a line of progress; an interrupt says how to go on."""
    from nameplate.report.media.progress import LiveProgress
    from nameplate.run.measure import measure

    progress = LiveProgress()
    try:
        with progress:
            return measure(suite, observer=progress, **options)
    except KeyboardInterrupt:
        if progress.folder is None:
            print_error("interrupted before the first case")
        else:
            folder = shlex.quote(str(progress.folder))
            print_error(f"interrupted; what was finished is kept: bench run --resume {folder}")
        raise


def _parse_ratings(given: list[str]) -> dict[str, float]:
    """Parse repeated `fp16=320`. Raises InputError for another form, and for a dtype given twice."""
    ratings: dict[str, float] = {}
    for text in given:
        dtype, _, tflops = (part.strip() for part in text.partition("="))
        try:
            rating = float(tflops) if dtype else None
        except ValueError:
            rating = None
        if rating is None:
            raise InputError("not a rating", where="--nominal", got=text, expected="such as fp16=320")
        if dtype in ratings:
            raise InputError("two ratings of one dtype", where="--nominal", got=text, expected="one")
        ratings[dtype] = rating
    return ratings


def _print_run(run: Run, *, lang: str, json: bool) -> None:
    if json:
        from nameplate.report.run import run_document

        print_json(run_document(run))
    else:
        from nameplate.report.media import terminal
        from nameplate.report.run import summary_view

        with output_language(lang):
            terminal.show_summary(summary_view(run))


def _check_complete(run: Run) -> None:
    """Raise RunIncomplete for a run with failed or missing cases, and for one that measured nothing."""
    failed = sum(record.status == "failed" for record in run.records)
    if failed or run.missing:
        cases, missing = len(run.manifest.expected), len(run.missing)
        raise RunIncomplete(
            f"the run is incomplete: {failed} failed, {missing} without a record, of {cases} cases"
        )
    if not any(record.status == "ok" for record in run.records):
        from nameplate.report.sections.answers import describe_unmeasured

        raise RunIncomplete(
            f"nothing was measured: {describe_unmeasured(run) or 'the suite has no cases here'}"
        )


def devices(device: Device = "all", lang: Lang = "en", json: Json = False) -> None:
    """Print each device: the part it is recognised as and why, its rating, and its health."""
    from nameplate.report.devices import devices_document, devices_view

    with output_language(lang, json=json):
        found = devices_document(_survey(device))
        if json:
            print_json(found)
        else:
            show_view(devices_view(found))


def _survey(device: str) -> Survey:
    from nameplate.device import survey

    return survey.survey() if device == "all" else survey.survey_one(device)


def specs(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            help="A part's id, a driver's name for it, a CPU's model, or another known name.",
        ),
    ] = None,
    parts: Parts = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="Print a model's FLOPs a token by each convention instead, without measuring.",
        ),
    ] = None,
    tokens: Annotated[
        list[str] | None,
        typer.Option(
            metavar="N",
            help="With --model: tokens of a sequence. [default: the context it was trained on, else 4096]",
        ),
    ] = None,
    shapes: Annotated[
        bool,
        typer.Option(
            "--shapes",
            help="With --model: its products too; NAME may then be a published set (taf-deepseek-v3).",
        ),
    ] = False,
    lang: Lang = "en",
    json: Json = False,
) -> None:
    """Print the specifications of a part, with sources and conflicts; without NAME, a table of all parts.

    With --model, print what a model's sizes say: parameters, and FLOPs a token by each convention.
    """
    if model is not None:
        _print_model(name, model, tokens, shapes=shapes, lang=lang, json=json)
        return
    for flag, given in (("--tokens", tokens), ("--shapes", shapes)):
        if given:
            raise InputError("has no effect alone", where=flag, expected="--model beside it")
    with output_language(lang, json=json):
        found, view = _look_up(name, parts)
        if json:
            print_json(found)
        else:
            show_view(view)


def _look_up(name: str | None, parts: list[Path] | None) -> tuple[object, View]:
    """The document and the view of a part, of a CPU, or of all. Raises InputError for an unknown name."""
    from nameplate.report.cpu_specs import cpu_document, cpu_view, cpus_table, find_cpu_document
    from nameplate.report.specs import part_document, part_view, parts_view
    from nameplate.specs.cpu import load_microarchitectures
    from nameplate.specs.recognition import require, search
    from nameplate.specs.registry import load_registry

    known = load_registry(parts or ())
    if name is None:
        documents = [part_document(part) for part in known.parts.values()]
        cpus = [cpu_document(part) for part in load_microarchitectures()]
        return documents, parts_view(documents, cpus_table(cpus))
    cpu = None if search(name, known).part is not None else find_cpu_document(name)
    if cpu is not None:
        return cpu, cpu_view(cpu, name)
    named = require(name, known, suggest_cpus=True)
    document = part_document(named.part, named.memory)
    view = part_view(document, named.note)
    if named.note:
        document["notes"] = [named.note, *document["notes"]]
    return document, view


def _print_model(
    name: str | None, model: str, tokens: list[str] | None, *, shapes: bool, lang: str, json: bool
) -> None:
    from nameplate.report.models import model_document, model_view, set_document, set_view

    if name is not None:
        raise InputError("a part and a model", where="--model", got=name, expected="one of them")
    asked = AxesFlags(shapes=model, tokens=tokens) if shapes else AxesFlags(model=model, tokens=tokens)
    axes = asked.read()
    assert axes is not None
    with output_language(lang, json=json):
        if axes.shape_set is not None:
            found, make_view = set_document(axes.shape_set.products), set_view
        else:
            assert axes.model is not None
            found, make_view = model_document(axes.model, axes.tokens, shapes=shapes), model_view
        if json:
            print_json(found)
        else:
            show_view(make_view(found))


def suites(lang: Lang = "en", json: Json = False) -> None:
    """List the suites that can be measured."""
    from nameplate import suite

    rows: list[dict[str, Any]] = []
    for name in suite.list_suite_names():
        try:
            found = suite.find_suite(name)
            times: dict[str, float | None]
            times = {"budget_s": found.budget_s, "gpu_budget_s": found.budget_on("cuda")}
            rows.append({"suite": name, **times, "description": found.description})
        except NameplateError as error:  # list the other suites, even if one package's suite is broken
            times = dict.fromkeys(("budget_s", "gpu_budget_s"))
            rows.append({"suite": name, **times, "description": str(error)})
    with output_language(lang, json=json):
        if json:
            print_json(rows)
        else:
            from nameplate.report.listing import suites_view

            show_view(suites_view(rows))
