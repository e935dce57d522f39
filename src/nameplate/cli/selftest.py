"""`bench selftest`: shows that figures can be trusted, on devices of a known truth and on this machine."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nameplate.base.errors import InputError
from nameplate.base.exit_status import ExitStatus
from nameplate.cli.options import Budget, Device, Json, Lang
from nameplate.cli.output import print_json, reader

if TYPE_CHECKING:
    from nameplate.report.view import Table


def register(app: typer.Typer) -> None:
    """Add this module's command to `app`."""
    app.command("selftest")(selftest)


def selftest(
    bare: Annotated[
        bool, typer.Option("--bare", help="The engine against a bare hand-written loop, in turn.")
    ] = False,
    repeat: Annotated[
        int | None,
        typer.Option(metavar="N", help="Restart the process N times: our spread beside other tools'."),
    ] = None,
    runs: Annotated[int, typer.Option(metavar="N", help="Simulated runs of each scenario.")] = 1000,
    scenario: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Simulate this one alone (repeatable).")
    ] = None,
    dtype: Annotated[str, typer.Option(help="Of the product that --repeat times: bf16 or fp32.")] = "bf16",
    device: Device = "auto",
    budget: Budget = None,
    lang: Lang = "en",
    json: Json = False,
) -> None:
    """Show that the engine recovers a known truth, on simulated devices; exits 1 where it doesn't.

    --device and --budget belong to --bare, --dtype to --repeat, --runs and --scenario to what is simulated.
    """
    if bare and repeat is not None:
        raise InputError("two tests at once", where="bench selftest", expected="--bare or --repeat")
    with reader(lang, json=json):
        if bare:
            passed = _bare(device, budget, json)
        elif repeat is not None:
            passed = _repeat(repeat, dtype, json)
        else:
            passed = _simulate(runs, scenario, json)
    if not passed:
        raise typer.Exit(ExitStatus.CHECK_FAILED)


def _bare(device: str, budget: float | None, json: bool) -> bool:
    from nameplate.selftest.bare import BUDGET_S, against_bare_loop

    result = against_bare_loop(device=device, budget_s=BUDGET_S if budget is None else budget)
    if json:
        print_json(result.as_json())
    else:
        print(result.sentence())
    return result.passed


def _simulate(runs: int, names: list[str] | None, json: bool) -> bool:
    from nameplate.base.language import _
    from nameplate.report.selftest import failures, readings_table, simulated_table
    from nameplate.selftest.simulate import simulate

    rows = simulate(runs, names, watch=lambda row: _say(f"{row.scenario}: {'; '.join(row.failures) or 'ok'}"))
    if json:
        print_json([row.as_json() for row in rows])
        return all(row.passed for row in rows)
    _show([simulated_table(rows), readings_table(rows)])
    for line in failures(rows):
        print(_("FAIL: {goal}", goal=line))
    return all(row.passed for row in rows)


def _repeat(times: int, dtype: str, json: bool) -> bool:
    from nameplate.device.host import set_default_threads
    from nameplate.report.selftest import repeated_table
    from nameplate.selftest.ours import ours
    from nameplate.selftest.peers import peers
    from nameplate.selftest.repeat import repeat

    with set_default_threads():
        rivals = peers(dtype)
        _say("calibrating")
        result = repeat(times, ours(dtype), rivals, progress=lambda n, who: _say(f"{n + 1}/{times} {who}"))
    if json:
        print_json(result.as_json())
        return result.passed
    _show([repeated_table(result)])
    for goal in result.goals:
        print(goal.sentence())
    return result.passed


def _show(tables: list[Table]) -> None:
    from nameplate.report.media.terminal import show_tables

    show_tables(tables)


def _say(line: Any) -> None:
    print(line, file=sys.stderr)
