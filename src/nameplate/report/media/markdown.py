"""The view as Markdown, with its pictures beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote

from nameplate.base.language import _
from nameplate.report.charts.data import described
from nameplate.report.view import Table, View, verdict_words

# CommonMark's punctuation that can open mark-up, and the pipe that would forge a table cell.
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~&])")
# What code hosts make a link of, though nothing marks it as one.
_BARE_LINK = re.compile(r"(?<=www)(?=\.)|(?=://)", re.IGNORECASE)


def escape(text: str) -> str:
    """Escape a value so that Markdown prints it as it is: no HTML, link, emphasis or table cell opens."""
    return _BARE_LINK.sub(r"\\", _SPECIAL.sub(r"\\\1", text))


def render(view: View, pictures: Mapping[str, str] | None = None) -> str:
    """The whole report; `pictures` has the relative path of the SVG of each chart, by the chart's name.

    A chart without a picture is left out: its figures are in the table beneath.
    """
    lines = [f"# {escape(view.title)}", "", f"**{escape(view.meaning)}**", ""]
    if view.answers:
        lines += [*_answers(view), ""]
    lines += [f"- {escape(line)}" for line in view.advice]
    for table in view.tables:
        lines += ["", f"## {escape(table.heading)}"]
        for chart in table.charts:
            if pictures and chart.name in pictures:
                lines += ["", f"![{escape(described(chart))}]({quote(pictures[chart.name])})"]
        lines += ["", escape(table.lead)] if table.lead else []
        lines += ["", *_table(table)] if table.rows else []
    if view.facts:
        lines += ["", f"## {escape(_('This run'))}", "", "| | |", "|---|---|"]
    lines += [f"| {escape(name)} | {escape(value)} |" for name, value in view.facts]
    lines += [f"\n> {escape(line)}" for line in view.problems]
    return "\n".join(lines) + "\n"


def _answers(view: View) -> list[str]:
    rows = [(each.label, each.value, verdict_words(each.verdict)) for each in view.answers]
    head = [(_("of nominal"), _("delivered"), _("verdict")), ("---", "---:", "---")]
    cells = [[escape(cell) for cell in row] if row != head[1] else row for row in (*head, *rows)]
    return [f"| {' | '.join(row)} |" for row in cells]


def _table(table: Table) -> list[str]:
    rule = ["---:" if index in table.numbers else "---" for index in range(len(table.columns))]
    rows = [[escape(table.said(n, cell)) for n, cell in enumerate(row)] for row in table.rows]
    columns = [escape(_(column)) for column in table.columns]
    return [f"| {' | '.join(cells)} |" for cells in (columns, rule, *rows)]
