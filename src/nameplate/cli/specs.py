"""`bench specs [NAME]`: what is known of a part, with sources, conflicts and flags."""

from __future__ import annotations

from typing import Annotated

import typer

from nameplate.cli.options import Json, Lang, Parts
from nameplate.cli.output import print_json, reader, show_view

Name = Annotated[
    str | None, typer.Argument(metavar="[NAME]", help="An id, a driver name or a name of the table.")
]


def register(app: typer.Typer) -> None:
    """Add this module's command to `app`."""
    app.command("specs")(specs)


def specs(name: Name = None, parts: Parts = None, lang: Lang = "en", json: Json = False) -> None:
    """Print what is known of a part, with sources and conflicts; without NAME, a table of all."""
    from nameplate.report.specs import part_document, part_view, parts_view
    from nameplate.specs.recognition import require
    from nameplate.specs.registry import load_registry

    known = load_registry(parts or ())
    with reader(lang, json=json):
        if name is not None:
            named = require(name, known)
            one = part_document(named.part, named.memory)
            view = part_view(one, named.note)
            if named.note:
                one["notes"] = [named.note, *one["notes"]]
            found: object = one
        else:
            documents = [part_document(part) for part in known.parts.values()]
            found, view = documents, parts_view(documents)
        if json:
            print_json(found)
        else:
            show_view(view)
