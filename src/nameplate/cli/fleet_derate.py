"""`bench fleet derate`: what share of a part's peak a training run reaches."""

from __future__ import annotations

from typing import Annotated

import typer

from nameplate.base.errors import InputError
from nameplate.cli.options import PART, Parts, Printing, Trained, take_options
from nameplate.cli.output import output_language, print_json, print_rows, show_view


@take_options(trained=Trained, printing=Printing)
def derate(
    trained: Trained,
    printing: Printing,
    part: Annotated[str | None, PART] = None,
    devices: Annotated[
        int | None, typer.Option("--devices", metavar="N", help="Devices that train together.")
    ] = None,
    convention: Annotated[
        str, typer.Option("--convention", metavar="NAME", help="How FLOPs are counted; see docs/fleet.md.")
    ] = "megatron",
    parts: Parts = None,
) -> None:
    """Print the MFU of a training run with its interval, from what published runs reached."""
    from nameplate.fleet.mfu import estimate_mfu
    from nameplate.report.fleet.mfu import derate_view

    for flag, given in (("--part", part), ("--devices", devices)):
        if given is None:
            example = "bench fleet derate --part A800 --devices 1024 --params 7e9 --context 4096"
            raise InputError("needed", where=flag, got="nothing", expected=f"a value, as in `{example}`")
    training = trained.read()
    with output_language(printing.lang, json=printing.json, csv=printing.csv):
        found = estimate_mfu(part or "", devices or 0, training, convention=convention, parts=parts or ())
        if printing.csv:
            print_rows([found.as_json()], csv=True)
        elif printing.json:
            print_json(found.as_json())
        else:
            show_view(derate_view(found))
