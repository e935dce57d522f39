"""The view as Markdown, with links to the pictures of its charts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import quote

from nameplate.base.language import _
from nameplate.report.charts.data import Chart, describe
from nameplate.report.view import Table, View, text_table, translate_verdicts

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
    lines += [f"# {escape(view.title)}", ""]
    lines += [f"**{escape(_(each.word))}** {escape(each.text)}  " for each in view.banners]
    lines += [""] if view.banners else []
    if view.answers:
        lines += [*_answer_lines(view), ""]
    if view.chart is not None:
        lines += _picture_lines(view.chart, pictures)
    if view.meaning:
        lines += [f"**{escape(view.meaning)}**", ""]
    lines += [f"- {escape(line)}" for line in view.advice]
    lines += [f"\n> {escape(line)}" for line in view.problems]
    folded = bool(view.summary)
    for table in view.tables:
        charts = [each for each in table.charts if each is not view.chart]
        lines += _section_lines(table, charts, pictures, folded)
    if view.facts:
        lines += _section_lines(text_table(_("This run"), ("", ""), view.facts), (), pictures, folded)
    return "\n".join(lines) + "\n"


def _section_lines(
    table: Table, charts: Sequence[Chart], pictures: Mapping[str, str] | None, folded: bool
) -> list[str]:
    heading = escape(table.heading)
    # Code hosts read Markdown within HTML after a blank line.
    lines = ["", f"<details><summary>{heading}</summary>"] if folded else ["", f"## {heading}"]
    for chart in charts:
        lines += ["", *_picture_lines(chart, pictures)]
    lines += ["", escape(table.lead)] if table.lead else []
    lines += ["", *lines_of(table)] if table.rows else []
    return [*lines, "", "</details>"] if folded else lines


def _picture_lines(chart: Chart, pictures: Mapping[str, str] | None) -> list[str]:
    if not pictures or chart.name not in pictures:
        return []
    return [f"![{escape(describe(chart))}]({quote(pictures[chart.name])})"]


def table_lines(
    columns: Sequence[str], is_number: Sequence[bool], rows: Iterable[Sequence[str]]
) -> list[str]:
    """Return the lines of a table; its cells are Markdown already. Columns of numbers are aligned right."""
    rule = ["---:" if number else "---" for number in is_number]
    return [f"| {' | '.join(cells)} |" for cells in (columns, rule, *rows)]


def _answer_lines(view: View) -> list[str]:
    rows = []
    for each in view.answers:
        value, verdict = escape(each.value), escape(translate_verdicts(each.verdict))
        rows.append([escape(each.label), f"**{value}**", escape(each.detail), verdict])
    return table_lines(("", "", "", escape(_("verdict"))), (False, True, False, False), rows)


def lines_of(table: Table) -> list[str]:
    """Return the lines of a table as it is on the page, without its heading."""
    columns = table.columns
    rows = [
        [escape(column.translate(cell)) for column, cell in zip(columns, row, strict=True)]
        for row in table.rows
    ]
    names = [escape(_(column.name)) for column in columns]
    return table_lines(names, [column.is_number for column in columns], rows)
