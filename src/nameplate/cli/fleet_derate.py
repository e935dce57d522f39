"""`bench fleet derate`: what share of a part's peak a training run reaches."""

from __future__ import annotations

from typing import Annotated

import typer

from nameplate.base.errors import InputError
from nameplate.cli.options import (
    PART,
    ActiveParams,
    Context,
    Csv,
    Json,
    Lang,
    Params,
    Parts,
    Stack,
    TrainingPrecision,
    Year,
    read_training,
)
from nameplate.cli.output import output_language, print_json, print_rows, show_view


def derate(
    part: Annotated[str | None, PART] = None,
    devices: Annotated[
        int | None, typer.Option("--devices", metavar="N", help="Devices that train together.")
    ] = None,
    params: Params = None,
    active_params: ActiveParams = None,
    context: Context = None,
    precision: TrainingPrecision = None,
    stack: Stack = None,
    year: Year = None,
    convention: Annotated[
        str, typer.Option("--convention", metavar="NAME", help="How FLOPs are counted; see docs/fleet.md.")
    ] = "megatron",
    parts: Parts = None,
    lang: Lang = "en",
    json: Json = False,
    csv: Csv = False,
) -> None:
    """Print the MFU of a training run with its interval, from what published runs reached."""
    from nameplate.fleet.mfu import Training, estimate_mfu
    from nameplate.report.fleet.mfu import derate_view

    for flag, given in (("--part", part), ("--devices", devices)):
        if given is None:
            example = "bench fleet derate --part A800 --devices 1024 --params 7e9 --context 4096"
            raise InputError("needed", where=flag, got="nothing", expected=f"a value, as in `{example}`")
    training = read_training(
        params=params,
        active_params=active_params,
        context=context,
        precision=precision,
        stack=stack,
        year=year,
    )
    with output_language(lang, json=json, csv=csv):
        found = estimate_mfu(
            part or "", devices or 0, training or Training(), convention=convention, parts=parts or ()
        )
        if csv:
            print_rows([found.as_json()], csv=True)
        elif json:
            print_json(found.as_json())
        else:
            show_view(derate_view(found))
