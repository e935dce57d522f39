"""`bench selftest`: show that figures can be trusted, on simulated devices and on this machine."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from nameplate.base.errors import InputError, RunIncomplete
from nameplate.base.exit_status import ExitStatus
from nameplate.cli.options import Budget, Device, Json, Lang, Only, path_parser, take_flags
from nameplate.cli.output import output_language, print_json, print_progress, show_tables


@dataclass(frozen=True)
class SelfTestFlags:
    """Which test is asked for, at most one of them; with none, simulated devices are measured."""

    bare: Annotated[
        bool, typer.Option("--bare", help="Compare the engine with a hand-written timing loop, in turn.")
    ] = False
    repeat: Annotated[
        int | None,
        typer.Option(metavar="N", help="Restart the process N times; compare our spread with other tools'."),
    ] = None
    again: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Run a suite N times, and count how often each run's intervals hold the others' figures.",
        ),
    ] = None
    on: Annotated[
        str | None,
        typer.Option(
            metavar="cpu|cuda[:N]|twin:NAME",
            help="Check the harness on this device: a CPU's arithmetic peak; a GPU's times, energy, driver.",
        ),
    ] = None
    search: Annotated[
        bool,
        typer.Option(
            "--search",
            help="Search simulated surfaces for their best shape, as suite ceiling does; "
            "with --on cpu, compare the ceiling with whole grids.",
        ),
    ] = False
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Judge simulated nodes: false alarms, and the slow cards that are found."
        ),
    ] = False
    collectives: Annotated[
        bool,
        typer.Option(
            "--collectives",
            help="Compare collectives with a hand-written loop, in turn; every process of a job runs it.",
        ),
    ] = False

    @property
    def searches_grids(self) -> bool:
        """Whether the ceiling of this CPU is compared with whole grids: two flags that go together."""
        return self.search and self.on == "cpu"

    def require_one(self) -> None:
        """Raise InputError for several tests at once, and for one that can't be done."""
        if self.repeat is not None and self.repeat < 1:
            raise InputError(
                "no restart to compare", where="--repeat", got=self.repeat, expected="a number above 0"
            )
        asked = [self.bare, self.collectives, self.search, self.check]
        asked += [self.repeat is not None, self.again is not None]
        if sum(asked) + (self.on is not None and not self.searches_grids) > 1:
            expected = "--bare, --collectives, --search, --check, --repeat, --again or --on"
            raise InputError("two tests at once", where="bench selftest", expected=expected)
        if self.on is not None and re.fullmatch(r"cpu|cuda(:\d+)?|twin:.+", self.on) is None:
            expected = "cpu, cuda, cuda:N or twin:NAME"
            raise InputError("no such device to prove", where="--on", got=self.on, expected=expected)


@dataclass(frozen=True)
class SettingFlags:
    """How a test is done; which of these apply to which test, the command's help says."""

    suite: Annotated[str, typer.Option(metavar="SUITE", help="The suite that --again runs.")] = "smoke"
    only: Only = None
    results: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            parser=path_parser("--results", "folder"),
            help="Folder that keeps the runs of --again and --search; else none does.",
        ),
    ] = None
    twin: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            parser=path_parser("--twin", "file"),
            help="File for the card's twin, which --on cuda writes from what it saw.",
        ),
    ] = None
    runs: Annotated[
        int,
        typer.Option(
            metavar="N", help="Simulated runs of each scenario; fewer where several cards are drawn."
        ),
    ] = 1000
    scenario: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Simulate only this scenario (repeatable).")
    ] = None
    dtype: Annotated[
        str, typer.Option(help="The dtype of the matrix product that --repeat times: bf16 or fp32.")
    ] = "bf16"
    device: Device = "auto"
    budget: Budget = None
    lang: Lang = "en"
    json: Json = False

    def budget_or(self, default_s: float) -> float:
        """The budget that was given, or a test's own, in seconds."""
        return default_s if self.budget is None else self.budget


@take_flags(test=SelfTestFlags, settings=SettingFlags)
def selftest(test: SelfTestFlags, settings: SettingFlags) -> None:
    """Measure simulated devices of known throughput, and check figures, intervals and verdicts.

    Exits with 1 where one is wrong.

    --device and --budget apply to --bare, --collectives and --again, --budget and --results to --search with
    --on cpu, --suite, --only and --results to --again, --dtype to --repeat, --runs and --scenario to the
    simulation.
    """
    if settings.twin is not None and (test.on is None or test.on == "cpu"):
        raise InputError(
            "only a GPU has a twin", where="--twin", got=str(settings.twin), expected="--on cuda beside it"
        )
    test.require_one()
    with output_language(settings.lang, json=settings.json):
        passed = _do_test(test, settings)
    if not passed:
        raise typer.Exit(ExitStatus.CHECK_FAILED)


def _do_test(test: SelfTestFlags, settings: SettingFlags) -> bool:
    """Do the test that is asked for, print what was found, and return whether it passed."""
    if test.collectives:
        return _compare_collectives(settings)
    if test.bare:
        return _compare_with_bare_loop(settings)
    if test.searches_grids:
        return _compare_with_grids(settings)
    if test.search:
        return _prove_search(settings)
    if test.check:
        return _prove_check(settings)
    if test.on == "cpu":
        return _check_cpu(settings)
    if test.on is not None:
        return _prove_on_gpu(test.on, settings)
    if test.again is not None:
        return _run_again(test.again, settings)
    if test.repeat is not None:
        return _repeat(test.repeat, settings)
    return _simulate(settings)


def _compare_with_bare_loop(settings: SettingFlags) -> bool:
    from nameplate.selftest.bare import BUDGET_S, compare_with_bare_loop

    result = compare_with_bare_loop(device=settings.device, budget_s=settings.budget_or(BUDGET_S))
    if settings.json:
        print_json(result.as_json())
    else:
        print(result.describe())
    if not (result.passed or result.differs):
        raise RunIncomplete("too few rounds to tell: --budget gives it more time")
    return result.passed


def _compare_collectives(settings: SettingFlags) -> bool:
    """Compare on every process of the job; rank 0 prints what was found."""
    from nameplate.report.selftest import collectives_table
    from nameplate.selftest.collectives import BUDGET_S, compare_collectives

    rows = compare_collectives(settings.device, settings.budget_or(BUDGET_S))
    if settings.json and rows:
        print_json([row.as_json() for row in rows])
    elif rows:
        show_tables([collectives_table(rows)])
    return all(row.passed for row in rows)


def _prove_search(settings: SettingFlags) -> bool:
    from nameplate.report.selftest import search_table
    from nameplate.selftest.search import prove_search

    proof = prove_search()
    if settings.json:
        print_json(proof.as_json())
    else:
        show_tables([search_table(proof)])
        _print_failures(proof.failures)
    return proof.passed


def _compare_with_grids(settings: SettingFlags) -> bool:
    from nameplate.report.selftest import ceilings_table
    from nameplate.selftest.search_on_cpu import BUDGET_S, prove_on_cpu

    proof = prove_on_cpu(settings.budget_or(BUDGET_S), settings.results, print_progress)
    if settings.json:
        print_json(proof.as_json())
    else:
        show_tables([ceilings_table(proof)])
        _print_failures(proof.failures)
    return proof.passed


def _prove_check(settings: SettingFlags) -> bool:
    from nameplate.health.simulated_nodes import find_failures, simulate_checks
    from nameplate.report.selftest import checks_table

    rows = simulate_checks()
    if settings.json:
        print_json([row.as_json() for row in rows])
    else:
        show_tables([checks_table(rows)])
        _print_failures(find_failures(rows))
    return all(row.passed for row in rows)


def _check_cpu(settings: SettingFlags) -> bool:
    from nameplate.device.host import set_default_threads
    from nameplate.report.selftest import products_table, silicon_table
    from nameplate.selftest.silicon import check_cpu

    with set_default_threads():
        checked = check_cpu()
    if settings.json:
        print_json(checked.as_json())
    else:
        show_tables([silicon_table(checked), products_table(checked)])
        _print_failures(checked.failures)
    return checked.passed


def _prove_on_gpu(device: str, settings: SettingFlags) -> bool:
    """Return whether nothing failed; raises RunIncomplete where something couldn't be told."""
    from nameplate.base.language import _
    from nameplate.report.labels import describe_twins
    from nameplate.report.selftest import describe_unpassed, proof_table
    from nameplate.selftest.gpu.check import Outcome
    from nameplate.selftest.gpu.prove import prove
    from nameplate.selftest.gpu.twin_file import default_path, write_twin_file

    proof = prove(device, observer=print_progress)
    if settings.json:
        print_json(proof.as_json())
    else:
        if not proof.seen.measured:
            print(describe_twins([proof.seen.identity.name]))
        show_tables([proof_table(proof.checks, proof.seen.device, proof.seen.identity.name)])
        for line in describe_unpassed(proof.checks):
            print(line)
    path = write_twin_file(proof.seen, settings.twin or default_path(proof.seen))
    print_progress(_("what was seen of the card is in {path}, as its twin", path=path))
    if proof.untold and not proof.failed:
        untold = sum(each.outcome is Outcome.UNKNOWN for each in proof.checks)
        raise RunIncomplete(
            _("{count} of {all} checks could not be told", count=untold, all=len(proof.checks))
        )
    return not proof.failed


def _simulate(settings: SettingFlags) -> bool:
    from nameplate.compare.simulated_pairs import PAIRS, PairRow, compare_simulated_pairs
    from nameplate.report.selftest import (
        cards_table,
        describe_failures,
        pairs_table,
        readings_table,
        simulated_table,
    )
    from nameplate.selftest.draws import CardRow, simulate_cards
    from nameplate.selftest.simulate import ScenarioRow, simulate

    def show_progress(row: ScenarioRow) -> None:
        print_progress(f"{row.scenario}: {'; '.join(row.failures) or 'ok'}")

    def show_card_progress(row: CardRow) -> None:
        print_progress(f"{row.scenario}, {row.figure}: {'; '.join(row.failures) or 'ok'}")

    runs, names = settings.runs, settings.scenario
    rows = simulate(runs, names, observer=show_progress)
    cards = simulate_cards(runs, names, observer=show_card_progress)
    pairs = compare_simulated_pairs(min(runs, PAIRS)) if names is None else []
    found: list[ScenarioRow | CardRow | PairRow] = [*rows, *cards, *pairs]
    if settings.json:
        print_json([row.as_json() for row in found])
    else:
        tables = [*((simulated_table(rows), readings_table(rows)) if rows else ())]
        tables += [*((cards_table(cards),) if cards else ()), *((pairs_table(pairs),) if pairs else ())]
        show_tables(tables)
        _print_failures(describe_failures(found))
    return all(row.passed for row in found)


def _run_again(times: int, settings: SettingFlags) -> bool:
    from nameplate.compare.neighbours import compare_neighbours
    from nameplate.report.media.markdown import lines_of
    from nameplate.report.selftest import again_table, describe_failures, neighbours_table
    from nameplate.selftest.again import run_again, summarize

    def show_progress(number: int) -> None:
        print_progress(f"{number}/{times} {settings.suite}")

    runs = run_again(
        times,
        settings.suite,
        device=settings.device,
        only=settings.only,
        budget=settings.budget,
        results=settings.results,
        progress=show_progress,
    )
    found, pairs = summarize(runs), compare_neighbours(runs)
    if settings.json:
        print_json({**found.as_json(), "pairs": [row.as_json() for row in pairs]})
    else:
        # As Markdown, so that it can be put into a document as it is.
        tables = [again_table(found), *((neighbours_table(pairs),) if pairs else ())]
        print("\n\n".join("\n".join(lines_of(table)) for table in tables))
        _print_failures([*found.failures, *describe_failures(pairs)])
    return found.passed and all(row.passed for row in pairs)


def _repeat(times: int, settings: SettingFlags) -> bool:
    from nameplate.device.host import set_default_threads
    from nameplate.report.selftest import repeated_table
    from nameplate.selftest.contenders import OURS, make_ours, make_peers
    from nameplate.selftest.repeat import repeat

    with set_default_threads():
        ours, peers = make_ours(settings.dtype), make_peers(settings.dtype)
        result = repeat(times, ours, peers, progress=lambda n, who: print_progress(f"{n + 1}/{times} {who}"))
    if settings.json:
        print_json(result.as_json())
    else:
        show_tables([repeated_table(result)])
        for goal in result.goals:
            print(goal.describe())
    if not result.has_figures:
        raise RunIncomplete(f"none of our processes gave a figure: {result.rounds[0].failures[OURS]}")
    if not (result.passed or result.failed):
        raise RunIncomplete("too few figures to tell: --repeat with a larger number gives more")
    return result.passed


def _print_failures(failures: Iterable[str]) -> None:
    """Print a line for each goal that was missed, below the tables."""
    from nameplate.base.language import _

    for line in failures:
        print(_("FAIL: {goal}", goal=line))
