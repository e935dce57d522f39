"""The view as Markdown, with its pictures beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote

from nameplate.report.table import Table
from nameplate.report.view import View

# CommonMark's punctuation that can open mark-up, and the pipe that would forge a table cell.
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~&])")


def escape(text: str) -> str:
    """Escape a value so that Markdown prints it as it is: no HTML, link, emphasis or table cell opens."""
    return _SPECIAL.sub(r"\\\1", text)


def render(view: View, pictures: Mapping[str, str] | None = None) -> str:
    """The whole report; `pictures` has the relative path of each SVG by what it shows."""
    lines = [f"# {escape(view.title)}", "", f"**{escape(view.meaning)}**", ""]
    lines += [f"- {escape(line)}" for line in view.advice]
    for shows, path in (pictures or {}).items():
        lines += ["", f"![{escape(shows)}]({quote(path)})"]
    for table in view.tables:
        lines += ["", f"## {escape(table.heading)}", "", *_table(table)]
    lines += ["", "## This run", "", "| | |", "|---|---|"]
    lines += [f"| {escape(name)} | {escape(value)} |" for name, value in view.facts]
    lines += [f"\n> {escape(line)}" for line in view.problems]
    return "\n".join(lines) + "\n"


def _table(table: Table) -> list[str]:
    rule = ["---:" if index in table.numbers else "---" for index in range(len(table.columns))]
    rows = [[escape(cell) for cell in row] for row in table.rows]
    return [f"| {' | '.join(cells)} |" for cells in (list(table.columns), rule, *rows)]
