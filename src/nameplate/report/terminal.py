"""The view on a terminal, by rich. Every value is printed as text, never as mark-up."""

from __future__ import annotations

from typing import Any

from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from nameplate.report.view import Table, View, figure
from nameplate.text import plain

_WIDE = 100
_WORDS = frozenset({"case", "from", "reason", "verdict"})
_VERDICT_STYLES = {"clean": "green", "unknown": "yellow", "throttled": "yellow"}


def render(view: View, width: int = 120) -> RenderableType:
    """Lay the view out for a terminal of `width` columns; a narrow one goes without secondary columns."""
    parts: list[RenderableType] = [Text(view.title, style="bold"), _facts(view)]
    for table in view.tables:
        parts += [Text(f"\n{table.heading}", style="bold"), _table(table, width)]
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


def _cell(column: str, value: str) -> Text:
    if column == "verdict":
        return Text(value, style=_VERDICT_STYLES.get(value.split(" ", maxsplit=1)[0], "red"))
    return Text(value)


def show_device(row: dict[str, Any], console: Console | None = None) -> None:
    """Print what a device is taken for and rated for."""
    out = console or Console()
    grid = RichTable.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column(overflow="fold")
    identity = {name: value for name, value in row["identity"].items() if value not in (None, {}, [])}
    for name, value in {"device": row["device"], "part": row["part"], "evidence": row["evidence"]}.items():
        grid.add_row(Text(name), Text(plain(value if value is not None else "none known")))
    for dtype, tflops in row["nominal_tflops"].items():
        grid.add_row(
            Text(f"nominal {dtype}"), Text(plain(f"{figure(tflops)} TFLOPS: {row['sources'][dtype]}"))
        )
    if not row["nominal_tflops"]:
        grid.add_row(Text("nominal"), Text(plain(f"none: {row['missing']}")))
    for note in row["notes"]:
        grid.add_row(Text("note"), Text(plain(note)))
    for name, value in identity.items():
        shown = " ".join(map(str, value)) if isinstance(value, list) else value
        grid.add_row(Text(name), Text(plain(shown)))
    out.print(grid, highlight=False)
