"""`bench devices`: what is here, what it is taken for, its health, what stands in the way of measuring."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from nameplate.cli.options import Device, Json, Lang
from nameplate.cli.output import print_json, reader, show_view

if TYPE_CHECKING:
    from nameplate.device.survey import Survey


def register(app: typer.Typer) -> None:
    """Add this module's command to `app`."""
    app.command("devices")(devices)


def devices(device: Device = "all", lang: Lang = "en", json: Json = False) -> None:
    """Print every device here, the part it is taken for and by which evidence, its rating and its health."""
    from nameplate.report.devices import devices_document, devices_view

    with reader(lang, json=json):
        found = devices_document(_survey(device))
        if json:
            print_json(found)
        else:
            show_view(devices_view(found))


def _survey(device: str) -> Survey:
    from nameplate.device import survey

    return survey.survey() if device == "all" else survey.survey_one(device)
