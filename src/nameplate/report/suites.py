"""The suites that can be run here, for a reader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nameplate.report.table import Field, table_of
from nameplate.report.view import View
from nameplate.text import plain

_Row = Mapping[str, Any]


def suites_view(rows: Sequence[_Row]) -> View:
    """Each suite with the time that it takes and what it measures."""
    fields = [
        Field[_Row]("suite", lambda row: plain(row["suite"])),
        Field[_Row]("time", lambda row: _time(row["budget_s"]), is_number=True),
        Field[_Row]("what", lambda row: plain(row["description"])),
    ]
    return View(
        "What can be run here", (), (table_of("", fields, rows),), "Run one: `bench run SUITE`.", (), ()
    )


def _time(budget_s: float | None) -> str:
    return "–" if budget_s is None else f"{budget_s:g} s"
