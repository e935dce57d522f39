"""`bench check`: is this node fit for work? Over a folder of many nodes: who isn't, and who is missing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nameplate.base.errors import CheckFailed, InputError, RunIncomplete
from nameplate.base.language import _
from nameplate.cli.options import DEVICE, Json, Lang, NewRuns, path_parser
from nameplate.cli.output import check_language, output_language, print_json, print_progress, show_view

if TYPE_CHECKING:
    from nameplate.health.verdict import Verdict
    from nameplate.report.view import View


def check(
    context: typer.Context,
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DIR]",
            parser=path_parser("bench check DIR", "folder"),
            help="Measure nothing: judge the runs in this folder, of one node or of many.",
        ),
    ] = None,
    device: Annotated[str, DEVICE] = "all",
    budget: Annotated[
        float,
        typer.Option("--budget", metavar="SECONDS", help="Time to measure for, once the devices are ready."),
    ] = 60.0,
    expect_gpus: Annotated[
        int | None,
        typer.Option("--expect-gpus", metavar="N", help="How many GPUs a node has; one with fewer is unfit."),
    ] = None,
    expect_hosts: Annotated[
        str | None,
        typer.Option(
            "--expect-hosts",
            metavar="FILE|N",
            help="With DIR: the nodes that should be there: a file, node[01-16], or how many.",
        ),
    ] = None,
    suite: Annotated[str, typer.Option(metavar="SUITE", help="What to measure.")] = "check",
    results: NewRuns = None,
    lang: Lang = "en",
    json: Json = False,
) -> None:
    """Judge whether this node is fit: by its errors, its rating, its siblings and its own past.

    Ends with 0 for fit, 1 for degraded or unfit, 3 for unknown, 2 where nothing can be measured.
    """
    check_language(lang)
    if folder is not None:
        _refuse_what_measures(context)
        _check_folder(folder, expect_gpus, expect_hosts, lang, json=json)
    elif expect_hosts is not None:
        raise InputError(
            "applies to a folder of many nodes alone",
            where="--expect-hosts",
            got=expect_hosts,
            expected="DIR too",
        )
    else:
        _check_node(device, budget, expect_gpus, suite, results, lang, json=json)


def _refuse_what_measures(context: typer.Context) -> None:
    """Raise InputError for a flag that was given and that a folder's runs, measured already, can't take."""
    for name in ("device", "budget", "suite", "results"):
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise InputError(
                "applies to a measurement, and DIR measures nothing",
                where=f"--{name}",
                got=str(context.params[name]),
                expected="DIR alone, or the flag without DIR",
            )


def _check_node(
    device: str,
    budget: float,
    expect_gpus: int | None,
    suite: str,
    results: Path | None,
    lang: str,
    *,
    json: bool,
) -> None:
    from nameplate.health.check import check_node, is_idle_rank
    from nameplate.report.health import node_view
    from nameplate.report.media.progress import LiveProgress

    if is_idle_rank(device):
        print_progress(_("another process of this node measures its CPU"))
        return
    with LiveProgress() as progress:
        found = check_node(
            device=device,
            budget=budget,
            expected_gpus=expect_gpus,
            suite=suite,
            results=results,
            observer=progress,
        )
    folders = [] if progress.folder is None else [str(progress.folder)]
    with output_language(lang, json=json):
        _show(found.as_json(), None if json else node_view(found, folders))
    _end(found.verdict, found.host)
    if not found.complete:
        raise RunIncomplete(f"{found.host} is {found.verdict} by what was measured, but cases lack a record")


def _check_folder(
    folder: Path, expect_gpus: int | None, expect_hosts: str | None, lang: str, *, json: bool
) -> None:
    from nameplate.health.cluster import check_folder
    from nameplate.health.ledger import parse_expected_hosts
    from nameplate.report.health import cluster_view, node_view

    hosts, count = ((), None) if expect_hosts is None else parse_expected_hosts(expect_hosts)
    found = check_folder(folder, expected_gpus=expect_gpus, hosts=hosts, host_count=count)
    with output_language(lang, json=json):
        if json:
            _show(found.as_json(), None)
        elif len(found.nodes) == 1 and not found.missing:
            _show({}, node_view(found.nodes[0], [str(folder)]))
        else:
            _show({}, cluster_view(found))
    _end(found.verdict, str(folder))


def _show(document: dict[str, Any], view: View | None) -> None:
    if view is None:
        print_json(document)
    else:
        show_view(view)


def _end(verdict: Verdict, what: str) -> None:
    """Raise the error that the verdict ends the command with; none for `fit`."""
    if verdict in ("degraded", "unfit"):
        raise CheckFailed(f"{what} is {verdict}")
    if verdict == "unknown":
        raise RunIncomplete(f"whether {what} is fit isn't known")
