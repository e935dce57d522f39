"""The view on a terminal, by rich. Every value is printed as text, never as mark-up."""

from __future__ import annotations

from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from nameplate.report.view import Table, View

_WIDE = 100
_NARROW = 72
_WORDS = frozenset({"case", "warning", "fleet", "from", "reason", "verdict"})
_VERDICT_STYLES = {"clean": "green", "unknown": "yellow", "throttled": "yellow"}


def render(view: View, width: int = 120) -> RenderableType:
    """Lay the view out for a terminal of `width` columns; a narrow one goes without secondary columns."""
    parts: list[RenderableType] = [Text(view.title, style="bold"), _facts(view)]
    for table in view.tables:
        drawn = _table(table, width) if width >= _NARROW else _list(table)
        parts += [Text(f"\n{table.heading}", style="bold"), drawn]
    parts += [Text(f"\n{view.meaning}", style="bold")]
    parts += [Padding(Text(f"• {line}"), (0, 0, 0, 2)) for line in view.advice]
    parts += [Text(f"! {line}", style="yellow") for line in view.problems]
    return Group(*parts)


def show(view: View, console: Console | None = None) -> None:
    """Print the view on standard output."""
    out = console or Console()
    out.print(render(view, out.width), highlight=False)


def _facts(view: View) -> RichTable:
    grid = RichTable.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column(overflow="fold")
    for name, value in view.facts:
        grid.add_row(Text(name), Text(value))
    return grid


def _table(table: Table, width: int) -> RichTable:
    drawn = RichTable(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    hidden = table.secondary if width < _WIDE else frozenset()
    shown = [index for index in range(len(table.columns)) if index not in hidden]
    for index in shown:
        name = table.columns[index]
        # Only words may break over lines; a figure and its interval are read as one.
        justify: JustifyMethod = "right" if index in table.numbers else "left"
        drawn.add_column(name, justify=justify, overflow="fold", no_wrap=name not in _WORDS)
    for row in table.rows:
        drawn.add_row(*(_cell(table.columns[index], row[index]) for index in shown))
    return drawn


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
