"""The suites that can be run here, for a reader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nameplate.formatting import duration
from nameplate.report.table import Field, table_of
from nameplate.report.view import View
from nameplate.text import plain

_Row = Mapping[str, Any]


def suites_view(rows: Sequence[_Row]) -> View:
    """Each suite with the time that it takes and what it measures."""
    fields = [
        Field[_Row]("suite", lambda row: plain(row["suite"])),
        Field[_Row]("time", lambda row: duration(row["budget_s"]), is_number=True),
        Field[_Row]("what", lambda row: plain(row["description"])),
    ]
    return View(
        "What can be run here", (), (table_of("", fields, rows),), "Run one: `bench run SUITE`.", (), ()
    )
