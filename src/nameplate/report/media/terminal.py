"""The view on a terminal, by rich. Every value is printed as text, never as mark-up.

Whatever the width, no word is broken or cropped, and nothing but line ends is added to a text: an id, a path
or a command on the screen can be copied into the next command. A table whose columns would have to be
narrower than their longest words becomes one block a row; a word that is longer than a line overflows it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from rich.cells import cell_len
from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from nameplate.base.language import _
from nameplate.report.charts import textchart
from nameplate.report.view import VERDICT, Table, View, verdict_words

_GAP = 2
# A column of words that had to be narrower than this reads badly: secondary columns go, or a block a row.
_READABLE = 16
# Chinese has no spaces: a line may break at any of its characters, but no line begins with a closing mark or
# ends with an opening one. Chinese beside Latin letters without a space is a path or a name: one word.
_HAN, _OPENING, _CLOSING = "\u3400-\u9fff", "（“", "，。；：、）”"
# A command between backquotes is one word, spaces and all.
_WORD = re.compile(rf"[{_OPENING}]*(?:`[^`\n]*`|[^\s{_OPENING}{_CLOSING}])*[{_CLOSING}]*\s*")
_CHINESE = re.compile(rf"[{_HAN}{_OPENING}{_CLOSING}]+\s*")
_CHARACTER = re.compile(rf"[{_OPENING}]*[{_HAN}]?[{_CLOSING}]*\s*")
_LETTER = re.compile(r"[^\W\d_]")
_VERDICT_STYLES = {"clean": "green", "unknown": "yellow", "throttled": "yellow"}


def render(view: View, width: int = 120) -> RenderableType:
    """Lay the view out for a terminal of `width` columns; a narrow one goes without secondary columns."""
    parts: list[RenderableType] = [_wrapped(Text(view.title, style="bold"), width)]
    for table in (Table("", ("", ""), view.facts, frozenset()), *view.tables):
        parts += _section(table, width)
    parts.append(Text(""))
    parts += [_wrapped(answer, width) for answer in _answers(view)]
    parts += [_wrapped(Text(line, style="bold"), width) for line in view.meaning.split("\n")]
    parts += [_wrapped(Text(f"• {line}"), width, indent=2) for line in view.advice]
    parts += [_wrapped(Text(f"! {line}", style="yellow"), width) for line in view.problems]
    return Group(*parts)


def show(view: View, console: Console | None = None) -> None:
    """Print the view on standard output."""
    out = console or Console()
    out.print(render(view, out.width), highlight=False, soft_wrap=True)


def show_tables(tables: Sequence[Table], console: Console | None = None) -> None:
    """Print tables alone on standard output."""
    out = console or Console()
    for table in tables:
        out.print(Group(*_section(table, out.width)), highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class _Column:
    """A column as it is printed: its heading and its cells.

    Figures with their units and intervals are `unbroken` in a table; `whole` cells are everywhere.
    """

    name: str
    cells: Sequence[Text]
    is_number: bool
    unbroken: bool
    whole: bool

    @cached_property
    def least(self) -> int:
        """How narrow it may be: its longest word, and where cells are whole its longest cell."""
        return max([*map(cell_len, self.name.split()), *map(self._least_of, self.cells)], default=0)

    @cached_property
    def most(self) -> int:
        """How wide it is where nothing is broken."""
        return max([cell_len(self.name), *(cell.cell_len for cell in self.cells)])

    def _least_of(self, cell: Text) -> int:
        if self.unbroken:
            return cell.cell_len
        return max(_longest(cell.plain), min(cell.cell_len, _READABLE))


def _section(table: Table, width: int) -> Iterator[RenderableType]:
    if table.heading:
        yield Text("")
        yield _wrapped(Text(table.heading, style="bold"), width)
    if table.lead:
        yield _wrapped(Text(table.lead, style="dim"), width)
    if table.rows:
        yield _fitting(table, width)
    for chart in table.charts:
        yield from (_wrapped(Text(line), width) for line in textchart.draw_lines(chart, width))


def _answers(view: View) -> Iterator[Text]:
    for each in view.answers:
        verdict = Text(verdict_words(each.verdict), style=_VERDICT_STYLES.get(each.verdict, "red"))
        yield Text.assemble((f"{each.value:>14}", "bold"), f"  {each.label}  ", verdict)


def _fitting(table: Table, width: int) -> RenderableType:
    """A table, with as many of its secondary columns as there is room for; a block a row where none fits."""
    columns = [_column(table, index) for index in range(len(table.columns))]
    left_out = tuple(table.secondary)
    for count in range(len(left_out) + 1):
        shown = [column for index, column in enumerate(columns) if index not in left_out[:count]]
        widths = _widths(shown, width)
        if widths is not None:
            return _grid(shown, widths)
    return _blocks(columns, width)


def _column(table: Table, index: int) -> _Column:
    name, is_number = table.columns[index], index in table.numbers
    cells = [_cell(table, index, row[index]) for row in table.rows]
    whole = index in table.whole
    in_words = any(_LETTER.search(cell.plain) and "…" not in cell.plain for cell in cells)
    return _Column(_(name) if name else "", cells, is_number, is_number or whole or not in_words, whole)


def _cell(table: Table, index: int, value: str) -> Text:
    if table.columns[index] != VERDICT:
        return Text(value)
    return Text(table.said(index, value), style=_VERDICT_STYLES.get(value.split(" ", maxsplit=1)[0], "red"))


def _widths(columns: Sequence[_Column], width: int) -> list[int] | None:
    """As wide as what they hold, the widest as much narrower as it takes; None where there is no room."""
    ends = [(column.least, column.most) for column in columns]
    room = width - _GAP * (len(columns) - 1)
    for widest in range(width, 0, -1):
        widths = [min(most, max(least, widest)) for least, most in ends]
        if sum(widths) <= room:
            return widths
    return None


def _grid(columns: Sequence[_Column], widths: Sequence[int]) -> RichTable:
    named = any(column.name for column in columns)
    drawn = RichTable(
        box=None, pad_edge=False, show_header=named, header_style="dim", padding=(0, _GAP, 0, 0)
    )
    for column, width in zip(columns, widths, strict=True):
        justify: JustifyMethod = "right" if column.is_number else "left"
        heading = _wrapped(Text(column.name), width, pieces=re.findall(r"\S+\s*", column.name))
        drawn.add_column(heading, justify=justify, no_wrap=True)
    for row in zip(*(column.cells for column in columns), strict=True):
        drawn.add_row(*(_wrapped(cell, width) for cell, width in zip(row, widths, strict=True)))
    return drawn


def _blocks(columns: Sequence[_Column], width: int) -> RenderableType:
    """The rows one under another: the first cell, then a line `  name: value` for each other."""
    first, *others = columns
    lines = []
    for number, head in enumerate(first.cells):
        if head.plain:
            bold = Text.assemble(head, style="bold")
            lines.append(_wrapped(bold, width, pieces=_value_pieces(first, head, width)))
        for column in others:
            cell = column.cells[number]
            name = _("{name}: {said}", name=column.name, said="") if column.name else ""
            pieces = [*_pieces(name), *_value_pieces(column, cell, width - 4)]
            lines.append(_wrapped(Text.assemble(name, cell), width, indent=2, pieces=pieces))
    return Group(*lines)


def _value_pieces(column: _Column, cell: Text, room: int) -> list[str]:
    """A whole value is one piece, and so is an unbroken one that has room on a line."""
    one = column.whole or (column.unbroken and cell.cell_len <= room)
    return [cell.plain] if one else _pieces(cell.plain)


def _wrapped(text: Text, width: int, *, indent: int = 0, pieces: Sequence[str] | None = None) -> Text:
    """The text in lines of at most `width` columns, indented, those after the first twice as far.

    A piece that is longer than a line has one to itself.
    """
    breaks, at, used, begin = [], 0, indent, indent
    for piece in _pieces(text.plain) if pieces is None else pieces:
        if used > begin and used + cell_len(piece.rstrip()) > width:
            breaks.append(at)
            used = begin = 2 * indent
        at, used = at + len(piece), used + cell_len(piece)
    lines = text.divide(breaks)
    for count, line in enumerate(lines):
        line.rstrip()
        line.pad_left(2 * indent if count else indent)
    return Text("\n").join(lines)


def _pieces(text: str) -> list[str]:
    """What of a text stays on one line, each piece with the spaces after it: words, commands, characters."""
    found: list[str] = []
    for word in _WORD.findall(text):
        found += _CHARACTER.findall(word) if _CHINESE.fullmatch(word) else [word]
    return list(filter(None, found))


def _longest(text: str) -> int:
    return max((cell_len(piece.rstrip()) for piece in _pieces(text)), default=0)
