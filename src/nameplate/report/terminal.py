"""The view on a terminal, by rich. Every value is printed as text, never as mark-up."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from nameplate.report.sparkline import sparkline
from nameplate.report.table import Table
from nameplate.report.view import View

_NARROW = 72
_GAP = 2
# Only words may break over lines; a figure and its interval are read as one.
_WORDS = frozenset(
    {"case", "warning", "fleet", "from", "reason", "verdict", "lost to", "when", "scenario", "contender"}
)
# An id is one word, also where it holds hyphens: it is copied into a command.
_WHOLE = frozenset({"fleet"})
# These read well with a word a line, and so become narrow before others do.
_TERSE = frozenset({"verdict", "lost to"})
# A column of words isn't squeezed below this for the sake of a column that may go.
_READABLE = 24
_VERDICT_STYLES = {"clean": "green", "unknown": "yellow", "throttled": "yellow"}


def render(view: View, width: int = 120) -> RenderableType:
    """Lay the view out for a terminal of `width` columns; a narrow one goes without secondary columns."""
    parts: list[RenderableType] = [Text(view.title, style="bold"), _facts(view)]
    for table in view.tables:
        parts += [Text(f"\n{table.heading}", style="bold"), _fitting(table, width)]
        for curve in table.curves:
            line, scale = sparkline(curve, width)
            named = f"{curve.name}: " if len(table.curves) > 1 else ""
            parts += [Text(line), Text(f"{named}{scale}", style="dim")]
    parts += [Text(f"\n{view.meaning}", style="bold")]
    parts += [Padding(Text(f"• {line}"), (0, 0, 0, 2)) for line in view.advice]
    parts += [Text(f"! {line}", style="yellow") for line in view.problems]
    return Group(*parts)


def show(view: View, console: Console | None = None) -> None:
    """Print the view on standard output."""
    out = console or Console()
    out.print(render(view, out.width), highlight=False)


def show_tables(tables: Sequence[Table], console: Console | None = None) -> None:
    """Print tables alone on standard output."""
    out = console or Console()
    for table in tables:
        heading = Text(f"\n{table.heading}", style="bold")
        out.print(Group(heading, _fitting(table, out.width)), highlight=False)


def _facts(view: View) -> RichTable:
    grid = RichTable.grid(padding=(0, _GAP))
    grid.add_column(style="dim")
    grid.add_column(overflow="fold")
    for name, value in view.facts:
        grid.add_row(Text(name), Text(value))
    return grid


def _fitting(table: Table, width: int) -> RenderableType:
    """A table, or a block a row where a table would have to crop figures."""
    fits = _total([_least(table, index) for index in _shown(table, width)]) <= width
    return _table(table, width) if fits and width >= _NARROW else _list(table)


def _table(table: Table, width: int) -> RichTable:
    drawn = RichTable(box=None, pad_edge=False, header_style="dim", padding=(0, _GAP, 0, 0))
    shown = _shown(table, width)
    widths = _widths(table, shown, width)
    for index, columns in zip(shown, widths, strict=True):
        name = table.columns[index]
        justify: JustifyMethod = "right" if index in table.numbers else "left"
        drawn.add_column(name, justify=justify, overflow="fold", no_wrap=name not in _WORDS, width=columns)
    for row in table.rows:
        cells = zip(shown, widths, strict=True)
        drawn.add_row(
            *(_cell(table.columns[at], _broken(row[at], to, table.columns[at])) for at, to in cells)
        )
    return drawn


def _shown(table: Table, width: int) -> list[int]:
    """The columns to print: all, or without as many secondary ones as the others need to be readable."""
    shown = list(range(len(table.columns)))
    for index in table.secondary:
        if _total([_least(table, each) for each in shown]) <= width:
            break
        shown.remove(index)
    return shown


def _widths(table: Table, shown: Sequence[int], width: int) -> list[int]:
    """As wide as what they hold; where that is too much, terse words give way first, then the widest."""
    widths = [max(map(len, _column(table, index))) for index in shown]
    excess = _total(widths) - width
    for at, index in enumerate(shown):
        if excess > 0 and table.columns[index] in _TERSE:
            given = min(excess, widths[at] - _least(table, index))
            widths[at], excess = widths[at] - given, excess - given
    words = [at for at, index in enumerate(shown) if table.columns[index] in _WORDS]
    while excess > 0 and any(widths[at] > 1 for at in words):
        widest = max(words, key=lambda at: widths[at])
        widths[widest], excess = widths[widest] - 1, excess - 1
    return widths


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)


def _column(table: Table, index: int) -> list[str]:
    return [table.columns[index], *(row[index] for row in table.rows)]


def _least(table: Table, index: int) -> int:
    """How narrow a column may be: a figure's whole width, words without breaking one before its hyphen."""
    cells = _column(table, index)
    widest = max(map(len, cells))
    if table.columns[index] not in _WORDS:
        return widest
    longest = max(len(piece) for cell in cells for piece in _pieces(cell, table.columns[index]))
    return max(longest, min(widest, _READABLE)) if table.columns[index] == "case" else longest


def _pieces(cell: str, column: str) -> list[str]:
    """What of a cell should stay on one line: a word as far as its hyphen, of `lost to` each loss."""
    if column == "lost to":
        return re.split(r"(?<=,) ", cell)
    return (cell if column in _WHOLE else cell.replace("-", "- ")).split()


def _broken(text: str, width: int, column: str) -> str:
    """Let a word that is wider than its column break after its hyphens, rather than anywhere."""
    if column in _WHOLE:
        return text
    return " ".join(word if len(word) <= width else word.replace("-", "- ") for word in text.split(" "))


def _list(table: Table) -> RenderableType:
    """A block a row, for a terminal on which a table would have to crop figures."""
    lines = []
    for row in table.rows:
        lines.append(Text(row[0], style="bold"))
        lines += [
            Text(f"  {name}: ").append(_cell(name, value))
            for name, value in list(zip(table.columns, row, strict=True))[1:]
        ]
    return Group(*lines)


def _cell(column: str, value: str) -> Text:
    if column == "verdict":
        return Text(value, style=_VERDICT_STYLES.get(value.split(" ", maxsplit=1)[0], "red"))
    return Text(value)
