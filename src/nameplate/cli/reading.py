"""`bench show`, `bench suites`, `bench devices`: what was measured, what can be, and on what."""

from __future__ import annotations

from typing import Annotated

import typer

from nameplate.cli.options import DEFAULT_RESULTS, Json, Results, RunName
from nameplate.cli.output import print_json, print_run


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    app.command("show")(show)
    app.command("suites")(suites)
    app.command("devices")(devices)


def show(run: RunName, results: Results = DEFAULT_RESULTS, json: Json = False) -> None:
    """Print one run as tables and the chain."""
    from nameplate.store.folder import find_run, read_run

    print_run(read_run(find_run(run, results)), json=json)


def suites(json: Json = False) -> None:
    """List what can be run here."""
    from nameplate import suite

    rows = []
    for name in suite.names():
        found = suite.find(name)
        rows.append({"suite": name, "budget_s": found.budget_s, "description": found.description})
    if json:
        print_json(rows)
    else:
        for row in rows:
            print(f"{row['suite']:12} {row['budget_s']:>6g} s  {row['description']}")


def devices(
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto", json: Json = False
) -> None:
    """Print what is here, the part it is taken for, and what that part is rated for."""
    from nameplate.device.find import open_device

    found = open_device(device)
    rating = found.rating
    row = {
        "device": found.name,
        "part": rating.part,
        "evidence": rating.evidence,
        "nominal_tflops": {dtype: rating.nominal_for(dtype).tflops for dtype in rating.nominal},
        "sources": {dtype: figure.source for dtype, figure in rating.nominal.items()},
        "missing": rating.missing,
        "notes": list(rating.notes),
        "identity": found.identity.model_dump(mode="json"),
    }
    if json:
        print_json([row])
    else:
        from nameplate.report.terminal import show_device

        show_device(row)
