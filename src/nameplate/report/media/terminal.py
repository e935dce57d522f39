"""The view on a terminal, by rich. Every value is printed as text, never as mark-up.

At every width, no word is broken or cropped, and nothing but line ends is added to a text: an id, a path or
a command can be copied from the screen into the next command. That is why lines are broken here and not by
rich, which breaks commands at their spaces, crops what is too long, and doesn't break Chinese text. A table
whose columns would be narrower than their longest words becomes one block a row, and a word that is longer
than a line overflows it.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import zip_longest
from typing import NamedTuple, TextIO, cast

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.text import Text

from nameplate.base.language import _
from nameplate.report.charts.textchart import draw_lines
from nameplate.report.view import (
    VERDICT,
    Answer,
    Column,
    Table,
    View,
    rate_verdicts,
    text_table,
    translate_verdicts,
)

_GAP = 2
# What COLUMNS may say, and LINES up to as many. Narrower, hardly a word fits; rich prints nothing at 0.
_LEAST_COLUMNS, _MOST_COLUMNS = 20, 10_000
# A narrower column of text is hard to read: rather leave a column out, or print a block a row.
_READABLE_WIDTH = 16
# Chinese has no spaces: a line may break at any character, but it never begins with a closing mark or ends
# with an opening one. Chinese next to Latin letters without a space is a path or a name, and so is one word.
_CHINESE, _OPENING, _CLOSING = "\u3400-\u9fff", "（“", "，。；：、）”"
# A command between backquotes is one word, with its spaces.
_WORD = re.compile(rf"[{_OPENING}]*(?:`[^`\n]*`|[^\s{_OPENING}{_CLOSING}])*[{_CLOSING}]*\s*")
_CHINESE_WORD = re.compile(rf"[{_CHINESE}{_OPENING}{_CLOSING}]+\s*")
_CHINESE_CHARACTER = re.compile(rf"[{_OPENING}]*[{_CHINESE}]?[{_CLOSING}]*\s*")
_LETTER = re.compile(r"[^\W\d_]")
# The answer alone fills so many lines, from so many columns on.
_MOST_LINES, _FULL_WIDTH = 12, 80
# The column of the figures that matter most.
_FIGURE_WIDTH = 14
_VERDICT_STYLES = {"good": "green", "doubt": "yellow", "bad": "red"}


def open_console(file: TextIO | None = None) -> Console:
    """Open the console of `file`, by default standard output; its width is COLUMNS where that can be one.

    Else it has the terminal's width, and 80 columns where there is no terminal.
    """
    bounds = {"COLUMNS": (_LEAST_COLUMNS, _MOST_COLUMNS), "LINES": (1, _MOST_COLUMNS)}
    settings = {
        name: value
        for name, value in os.environ.items()
        if name not in bounds or _is_size(value, *bounds[name])
    }
    return Console(file=file, _environ=settings)


def _is_size(given: str, least: int, most: int) -> bool:
    """Whether an environment variable says a size. rich itself would fail at a number such as ²."""
    return given.isdecimal() and len(given) < 10 and least <= int(given) <= most


def show(view: View, console: Console | None = None) -> None:
    """Print the view on standard output."""
    out = console or open_console()
    out.print(render(view, out.width), highlight=False, soft_wrap=True)


def show_tables(tables: Sequence[Table], console: Console | None = None) -> None:
    """Print tables alone on standard output."""
    out = console or open_console()
    for table in tables:
        out.print(Group(*_render_section(table, out.width)), highlight=False, soft_wrap=True)


def show_summary(view: View, console: Console | None = None) -> None:
    """Print the answer alone on standard output: at most twelve lines at 80 columns and above."""
    out = console or open_console()
    out.print(render_summary(view, out.width), highlight=False, soft_wrap=True)


def summary_text(view: View, width: int = 80) -> str:
    """Return what `show_summary` prints, as plain text without colours."""
    out = Console(file=io.StringIO(), width=width, color_system=None, force_terminal=False, _environ={})
    show_summary(view, out)
    return cast(io.StringIO, out.file).getvalue().rstrip("\n")


def render(view: View, width: int = 120) -> RenderableType:
    """Lay the view out for a terminal of `width` columns: the answer, then what it rests on."""
    parts: list[RenderableType] = [wrap(Text(view.notice, style="yellow"), width)] if view.notice else []
    parts.append(wrap(Text(view.title, style="bold"), width))
    parts += _render_rows([*_banner_rows(view), *_summary_rows(view)], width)
    parts += _render_rows(list(map(_answer_row, view.answers)), width)
    if view.meaning:
        parts += [wrap(Text(line, style="bold"), width) for line in view.meaning.split("\n")]
    parts += [wrap(Text(f"• {line}"), width, indent=2, hang=4) for line in view.advice]
    parts += [wrap(Text(f"! {line}", style="yellow"), width, hang=2) for line in view.problems]
    for table in (*_facts(view), *view.tables):
        parts += _render_section(table, width)
    return Group(*parts)


def _facts(view: View) -> Sequence[Table]:
    return (text_table("", ("", ""), view.facts),) if view.facts else ()


def render_summary(view: View, width: int = 80) -> RenderableType:
    """Lay the answer out alone.

    From 80 columns on it has at most twelve lines: what is longer ends with "…", since `bench show` has it
    whole. Figures, the run's path and the commands are never cut.
    """
    first = [wrap(Text(view.notice, style="yellow"), width)] if view.notice else []
    most = _MOST_LINES - sum(text.plain.count("\n") + 1 for text in first) if width >= _FULL_WIDTH else None
    if view.summary:
        rows = [*_banner_rows(view), *_summary_rows(view), *_next_rows(view), *_footer_rows(view)]
        return Group(*first, *_render_rows(rows, width, most))
    said = [wrap(Text(view.title, style="bold"), width)]
    said += [wrap(Text(line), width) for line in view.meaning.split("\n")]
    said += [wrap(Text(f"• {line}"), width, hang=2) for line in view.advice]
    lines = [line for text in said if text for line in text.split("\n")]
    if most is not None and len(lines) > most:
        lines = [*lines[: most - 1], _end_with_ellipsis(lines[most - 1], width)]
    return Group(*first, *lines)


class _Row(NamedTuple):
    """A line of the answer: its name, its text, and how far it may be cut where there is no room.

    Those of the highest `cut_rank` are cut first; with rank 0 none is. `least` lines are always left.
    """

    name: Text
    text: Text
    cut_rank: int = 0
    least: int = 1


def _banner_rows(view: View) -> Iterator[_Row]:
    for banner in view.banners:
        style = f"bold {_VERDICT_STYLES[rate_verdicts(banner.word)]}"
        rank, least = {"fit": (4, 1), "unknown": (3, 1)}.get(banner.word, (1, 2))
        yield _Row(Text(_(banner.word), style=style), Text(banner.text, style="bold"), rank, least)


def _summary_rows(view: View) -> Iterator[_Row]:
    for name, said in view.summary:
        yield _Row(Text(name, style="dim"), Text(said), cut_rank=1, least=2)


def _answer_row(answer: Answer) -> _Row:
    """A figure in its column, aligned right, and what it is of."""
    value = Text(answer.value, style="bold")
    value.pad_left(max(0, _FIGURE_WIDTH - value.cell_len))
    verdict = Text(translate_verdicts(answer.verdict), style=_VERDICT_STYLES[rate_verdicts(answer.verdict)])
    said = _("{name}, {said}", name=answer.label, said=answer.detail) if answer.detail else answer.label
    return _Row(value, Text.assemble(f"{said}  ", verdict))


def _next_rows(view: View) -> Iterator[_Row]:
    """The first advice and the first of what could not be read; how many more there are."""
    rows = ((_("next"), view.advice, 2, 1), (_("note"), view.problems, 5, 0))
    for name, said, rank, least in rows:
        if said:
            more = _(" ({count} more: section advice)", count=len(said) - 1) if len(said) > 1 else ""
            yield _Row(Text(name, style="yellow"), Text(said[0] + more), rank, least)


def _footer_rows(view: View) -> Iterator[_Row]:
    for name, said in view.footer:
        yield _Row(Text(name, style="dim"), Text(said), cut_rank=4)


def _render_rows(rows: Sequence[_Row], width: int, most: int | None = None) -> list[RenderableType]:
    """Lay named lines out with their names in a column; `most` lines in all, by cutting those that may be."""
    if not rows:
        return []
    name_width = max(row.name.cell_len for row in rows) + _GAP
    room = width - name_width
    if room < _READABLE_WIDTH:
        return [wrap(Text.assemble(row.name, "  ", row.text), width, hang=2) for row in rows]
    laid = [list(wrap(row.text, room).split("\n")) for row in rows]
    if most is not None:
        _cut(laid, rows, most, room)
    parts: list[RenderableType] = []
    for row, lines in zip(rows, laid, strict=True):
        for number, line in enumerate(lines):
            name = row.name.copy() if number == 0 else Text()
            name.pad_right(name_width - name.cell_len)
            parts.append(Text.assemble(name, line))
    return parts


def _cut(laid: list[list[Text]], rows: Sequence[_Row], most: int, room: int) -> None:
    """Cut the lines of rows by their rank until there are at most so many; at last to one line a row."""
    for least in ([row.least for row in rows], [min(row.least, 1) for row in rows]):
        while sum(map(len, laid)) > most:
            may_be = [n for n, row in enumerate(rows) if row.cut_rank and len(laid[n]) > least[n]]
            if not may_be:
                break
            longest = max(may_be, key=lambda n: (rows[n].cut_rank, len(laid[n])))
            laid[longest] = laid[longest][:-1]
            if laid[longest]:
                laid[longest][-1] = _end_with_ellipsis(laid[longest][-1], room)


def _end_with_ellipsis(line: Text, room: int) -> Text:
    """The line without the words that leave no room for " …"."""
    pieces = _split(line.plain.removesuffix(" …"))
    while len(pieces) > 1 and cell_len("".join(pieces).rstrip()) + 2 > room:
        pieces.pop()
    kept = line[: len("".join(pieces).rstrip())]
    return Text.assemble(kept, " …")


def _render_section(table: Table, width: int) -> Iterator[RenderableType]:
    if table.heading:
        yield Text("")
        yield wrap(Text(table.heading, style="bold"), width)
    if table.lead:
        yield wrap(Text(table.lead, style="dim"), width)
    if table.rows:
        yield _render_table(table, width)
    for chart in table.charts:
        yield from (wrap(Text(line), width) for line in draw_lines(chart, width))


class _PrintedColumn:
    """A column as it is printed: its translated name, its cells, and how narrow it may become."""

    def __init__(self, column: Column, *cells: str) -> None:
        self.name = _(column.name) if column.name else ""
        self.is_number = column.is_number
        self.cells = [
            Text(
                column.translate(cell),
                style=_VERDICT_STYLES[rate_verdicts(cell)] if column.name == VERDICT else "",
            )
            for cell in cells
        ]
        self.never_broken = column.unbroken
        # Figures with their units and intervals stay on one line, unless that is all the terminal's width.
        has_words = any(_LETTER.search(cell.plain) and "…" not in cell.plain for cell in self.cells)
        self.unbroken = column.unbroken or column.is_number or not has_words

    @cached_property
    def least_width(self) -> int:
        """The width of its longest word; of its longest cell where cells are unbroken."""
        return max([*map(cell_len, self.name.split()), *map(self._least_width_of, self.cells)], default=0)

    @cached_property
    def full_width(self) -> int:
        """The width at which nothing is broken."""
        return max([cell_len(self.name), *(cell.cell_len for cell in self.cells)])

    def _least_width_of(self, cell: Text) -> int:
        if self.unbroken:
            return cell.cell_len
        longest_word = max((cell_len(piece.rstrip()) for piece in _split(cell.plain)), default=0)
        return max(longest_word, min(cell.cell_len, _READABLE_WIDTH))

    def split(self, cell: Text, room: int) -> list[str]:
        """The pieces of a cell in a block where a line has that much room."""
        on_one_line = self.never_broken or (self.unbroken and cell.cell_len <= room)
        return [cell.plain] if on_one_line else _split(cell.plain)


def _render_table(table: Table, width: int) -> RenderableType:
    """Return a table with as many of its columns as fit, and the names of the others below it.

    Where the least of them don't fit, it is one block a row.
    """
    columns = [_PrintedColumn(*column) for column in zip(table.columns, *table.rows, strict=True)]
    droppable = table.droppable
    for count in range(len(droppable) + 1):
        kept = [column for index, column in enumerate(columns) if index not in droppable[:count]]
        widths = _fit(kept, width)
        if widths is not None:
            grid = _render_grid(kept, widths)
            left_out = [_full_name(columns, index) for index in sorted(droppable[:count])]
            return Group(grid, _name_left_out(left_out, width)) if left_out else grid
    return _render_blocks(columns, width)


def _full_name(columns: Sequence[_PrintedColumn], index: int) -> str:
    """The name of a column; where several have it, as ranges do, after the name of the one before it."""
    name = columns[index].name
    is_alone = sum(column.name == name for column in columns) == 1
    return name if is_alone or index == 0 else f"{columns[index - 1].name} {name}"


def _name_left_out(names: Sequence[str], width: int) -> Text:
    said = _("not shown at this width: {columns}", columns=_(", ").join(names))
    return wrap(Text(said, style="dim"), width)


def _fit(columns: Sequence[_PrintedColumn], width: int) -> list[int] | None:
    """Return the widths of columns that fill at most `width`; None where there is no room for them.

    rich would narrow the widest columns too, but also to less than their longest word.
    """
    room = width - _GAP * (len(columns) - 1)
    for widest in range(width, 0, -1):
        widths = [min(column.full_width, max(column.least_width, widest)) for column in columns]
        if sum(widths) <= room:
            return widths
    return None


def _render_grid(columns: Sequence[_PrintedColumn], widths: Sequence[int]) -> Text:
    """Return the names of the columns and their rows, in columns of at most these widths."""
    laid = []
    for column, width in zip(columns, widths, strict=True):
        name = wrap(Text(column.name, style="dim"), width, pieces=re.findall(r"\S+\s*", column.name))
        cells = [name, *(wrap(cell, width) for cell in column.cells)]
        laid.append([cell.split("\n", allow_blank=True) for cell in cells])
    # Where words are long, a broken column is narrower than it may be.
    used = [max(line.cell_len for lines in cells for line in lines) for cells in laid]
    rows = list(zip(*laid, strict=True))
    if not any(column.name for column in columns):
        del rows[0]
    return Text("\n").join(line for row in rows for line in _lay_row(row, columns, used))


def _lay_row(
    cells: Sequence[Sequence[Text]], columns: Sequence[_PrintedColumn], widths: Sequence[int]
) -> Iterator[Text]:
    """Yield the lines of a row, of which each cell gives one or none; numbers are aligned right."""
    for parts in zip_longest(*cells):
        line = Text()
        for part, column, width in zip(parts, columns, widths, strict=True):
            blank = " " * (width - (part.cell_len if part else 0))
            line.append(blank if column.is_number else "")
            line.append_text(part or Text())
            line.append(" " * _GAP if column.is_number else f"{blank}{' ' * _GAP}")
        line.rstrip()
        yield line


def _render_blocks(columns: Sequence[_PrintedColumn], width: int) -> RenderableType:
    """Return the rows one under another: the first cell, then a line `  name: value` for each other cell."""
    first, *others = columns
    lines = []
    for number, head in enumerate(first.cells):
        if head.plain:
            lines.append(wrap(Text.assemble(head, style="bold"), width, pieces=first.split(head, width)))
        for column in others:
            cell = column.cells[number]
            name = _("{name}: {said}", name=column.name, said="") if column.name else ""
            pieces = [*_split(name), *column.split(cell, width - 4)]
            lines.append(wrap(Text.assemble(name, cell), width, indent=2, hang=4, pieces=pieces))
    return Group(*lines)


def wrap(
    text: Text, width: int, *, indent: int = 0, hang: int = 0, pieces: Sequence[str] | None = None
) -> Text:
    """Break the text between its pieces into lines of at most `width` columns.

    The first line is indented by `indent`, those after it by `hang`. A piece that is longer than a line has
    its own.
    """
    if pieces is None and indent + text.cell_len <= width and "\n" not in text.plain:
        line = text.copy()
        line.rstrip()
        line.pad_left(indent)
        return line
    breaks, at, used, start = [], 0, indent, indent
    for piece in _split(text.plain) if pieces is None else pieces:
        if used > start and used + cell_len(piece.rstrip()) > width:
            breaks.append(at)
            used = start = hang
        at, used = at + len(piece), used + cell_len(piece)
    lines = text.divide(breaks)
    for number, line in enumerate(lines):
        line.rstrip()
        line.pad_left(hang if number else indent)
    return Text("\n").join(lines)


def _split(text: str) -> list[str]:
    """Return the words, commands and Chinese characters of a text, each with the spaces after it."""
    pieces: list[str] = []
    for word in _WORD.findall(text):
        pieces += _CHINESE_CHARACTER.findall(word) if _CHINESE_WORD.fullmatch(word) else [word]
    return list(filter(None, pieces))
