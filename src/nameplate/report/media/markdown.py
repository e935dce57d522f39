"""The view as Markdown, with links to the pictures of its charts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import quote

from nameplate.base.language import _
from nameplate.report.charts.data import describe
from nameplate.report.view import Table, View, translate_verdicts

# CommonMark's punctuation that can open mark-up, and the pipe, which would end a table cell.
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~&])")
# Code hosts make links of these without any mark-up.
_BARE_LINK = re.compile(r"(?<=www)(?=\.)|(?=://)", re.IGNORECASE)


def escape(text: str) -> str:
    """Escape a value so that Markdown prints it unchanged: it opens no HTML, link, emphasis or table cell."""
    return _BARE_LINK.sub(r"\\", _SPECIAL.sub(r"\\\1", text))


def render(view: View, pictures: Mapping[str, str] | None = None) -> str:
    """Return the view; `pictures` has the relative path of the SVG file of each chart, by the chart's name.

    A chart without a picture is left out: its figures are in its table.
    """
    lines = [f"**{escape(view.notice)}**", ""] if view.notice else []
    lines += [f"# {escape(view.title)}", "", f"**{escape(view.meaning)}**", ""]
    if view.answers:
        lines += [*_answer_lines(view), ""]
    lines += [f"- {escape(line)}" for line in view.advice]
    for table in view.tables:
        lines += ["", f"## {escape(table.heading)}"]
        for chart in table.charts:
            if pictures and chart.name in pictures:
                lines += ["", f"![{escape(describe(chart))}]({quote(pictures[chart.name])})"]
        lines += ["", escape(table.lead)] if table.lead else []
        lines += ["", *lines_of(table)] if table.rows else []
    if view.facts:
        facts = [(escape(name), escape(value)) for name, value in view.facts]
        lines += ["", f"## {escape(_('This run'))}", "", "| | |", "|---|---|"]
        lines += [f"| {name} | {value} |" for name, value in facts]
    lines += [f"\n> {escape(line)}" for line in view.problems]
    return "\n".join(lines) + "\n"


def table_lines(
    columns: Sequence[str], is_number: Sequence[bool], rows: Iterable[Sequence[str]]
) -> list[str]:
    """Return the lines of a table; its cells are Markdown already. Columns of numbers are aligned right."""
    rule = ["---:" if number else "---" for number in is_number]
    return [f"| {' | '.join(cells)} |" for cells in (columns, rule, *rows)]


def _answer_lines(view: View) -> list[str]:
    columns = [escape(each) for each in (_("of nominal"), _("delivered"), _("verdict"))]
    rows = [
        [escape(each) for each in (answer.label, answer.value, translate_verdicts(answer.verdict))]
        for answer in view.answers
    ]
    return table_lines(columns, (False, True, False), rows)


def lines_of(table: Table) -> list[str]:
    """Return the lines of a table as it is on the page, without its heading."""
    columns = table.columns
    rows = [
        [escape(column.translate(cell)) for column, cell in zip(columns, row, strict=True)]
        for row in table.rows
    ]
    names = [escape(_(column.name)) for column in columns]
    return table_lines(names, [column.is_number for column in columns], rows)
