"""The suites that can be run here, for a reader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nameplate.base.formatting import duration
from nameplate.base.language import _
from nameplate.base.text import plain
from nameplate.report.table import Field, table_of
from nameplate.report.view import View

_Row = Mapping[str, Any]


def suites_view(rows: Sequence[_Row]) -> View:
    """Each suite with the time that it takes and what it measures."""
    fields = [
        Field[_Row]("suite", lambda row: plain(row["suite"])),
        Field[_Row]("time", lambda row: duration(row["budget_s"]), is_number=True),
        Field[_Row]("what", lambda row: plain(_(row["description"]))),
    ]
    return View(
        _("What can be run here"),
        (),
        (table_of("", fields, rows),),
        _("Run one: `bench run SUITE`."),
        (),
        (),
    )
