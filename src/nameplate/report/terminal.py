"""The view on a terminal, by rich. Every value is printed as text, never as mark-up."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from nameplate.language import _
from nameplate.report import textchart
from nameplate.report.table import VERDICT, Table, verdict_words
from nameplate.report.view import View

_NARROW = 72
_GAP = 2
# Only words may break over lines; a figure and its interval are read as one.
_WORDS = frozenset(
    {
        *("case", "warning", "fleet", "from", "reason", "verdict", "lost to", "when", "scenario"),
        *("contender", "what", "how", "command"),
    }
)
# An id is one word, also where it holds hyphens: it is copied into a command.
_WHOLE = frozenset({"fleet"})
# These read well with a word a line, and so become narrow before others do.
_TERSE = frozenset({"verdict", "lost to"})
# A column of words isn't squeezed below this for the sake of a column that may go.
_READABLE = 24
# Chinese has no spaces: a line may break at any of its characters, but no line begins with a closing mark or
# ends with an opening one. A cell that is short enough to be read as one word isn't broken for others' sake.
_HAN, _OPENING, _CLOSING = "\u3400-\u9fff", "（“", "，。；：、）”"
_WORD = rf"[{_HAN}]|[^\s{_HAN}{_OPENING}{_CLOSING}]+"
_PIECE = re.compile(rf"[{_OPENING}]*(?:{_WORD})?[{_CLOSING}]*\s*")
_VERDICT_STYLES = {"clean": "green", "unknown": "yellow", "throttled": "yellow"}


def render(view: View, width: int = 120) -> RenderableType:
    """Lay the view out for a terminal of `width` columns; a narrow one goes without secondary columns."""
    parts: list[RenderableType] = [Text(view.title, style="bold"), _facts(view, width)]
    for table in view.tables:
        parts += [Text(f"\n{table.heading}", style="bold"), *_section(table, width)]
    parts += [Text(""), *_answers(view)]
    parts += [Text(_wrapped(line, width), style="bold") for line in view.meaning.split("\n")]
    parts += [Padding(Text(_wrapped(f"• {line}", width - 2)), (0, 0, 0, 2)) for line in view.advice]
    parts += [Text(_wrapped(f"! {line}", width), style="yellow") for line in view.problems]
    return Group(*parts)


def show(view: View, console: Console | None = None) -> None:
    """Print the view on standard output."""
    out = console or Console()
    out.print(render(view, out.width), highlight=False, crop=False)


def show_tables(tables: Sequence[Table], console: Console | None = None) -> None:
    """Print tables alone on standard output."""
    out = console or Console()
    for table in tables:
        heading = Text(f"\n{table.heading}", style="bold")
        out.print(Group(heading, *_section(table, out.width)), highlight=False, crop=False)


def _section(table: Table, width: int) -> Iterator[RenderableType]:
    if table.lead:
        yield Text(_wrapped(table.lead, width), style="dim")
    if table.rows:
        yield _fitting(table, width)
    for chart in table.charts:
        yield from (Text(line) for line in textchart.lines(chart, width))


def _answers(view: View) -> Iterator[RenderableType]:
    for each in view.answers:
        verdict = Text(verdict_words(each.verdict), style=_VERDICT_STYLES.get(each.verdict, "red"))
        yield Text.assemble((f"{each.value:>14}", "bold"), f"  {each.label}  ", verdict)


def _facts(view: View, width: int) -> RichTable:
    grid = RichTable.grid(padding=(0, _GAP))
    grid.add_column(style="dim")
    grid.add_column(overflow="fold")
    room = width - max((cell_len(name) for name, _value in view.facts), default=0) - _GAP
    for name, value in view.facts:
        grid.add_row(Text(name), Text(_wrapped(value, room)))
    return grid


def _fitting(table: Table, width: int) -> RenderableType:
    """A table, or a block a row where a table would have to crop figures."""
    fits = _total([_least(table, index) for index in _shown(table, width)]) <= width
    return _table(table, width) if fits and width >= _NARROW else _list(table, width)


def _table(table: Table, width: int) -> RichTable:
    drawn = RichTable(box=None, pad_edge=False, header_style="dim", padding=(0, _GAP, 0, 0))
    shown = _shown(table, width)
    widths = _widths(table, shown, width)
    for index, columns in zip(shown, widths, strict=True):
        name = table.columns[index]
        justify: JustifyMethod = "right" if index in table.numbers else "left"
        drawn.add_column(_(name), justify=justify, overflow="fold", no_wrap=name not in _WORDS, width=columns)
    for row in table.rows:
        cells = zip(shown, widths, strict=True)
        drawn.add_row(*(_cell(table, at, _broken(row[at], to, table.columns[at])) for at, to in cells))
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
    widths = [max(map(cell_len, _column(table, index))) for index in shown]
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
    return [_(table.columns[index]), *(table.said(index, row[index]) for row in table.rows)]


def _least(table: Table, index: int) -> int:
    """How narrow a column may be: a figure's whole width, words without breaking one before its hyphen."""
    cells = _column(table, index)
    widest = max(map(cell_len, cells))
    if table.columns[index] not in _WORDS:
        return widest
    longest = max(cell_len(piece) for cell in cells for piece in _pieces(cell, table.columns[index]))
    return max(longest, min(widest, _READABLE)) if table.columns[index] == "case" else longest


def _pieces(cell: str, column: str) -> list[str]:
    """What of a cell should stay on one line: a word as far as its hyphen, of `lost to` each loss."""
    if column == "lost to":
        return re.split(r"(?<=,) |(?<=、)", cell)
    if column == VERDICT:
        return cell.split()
    if re.search(f"[{_HAN}]", cell) and cell_len(cell) <= _READABLE:
        return [cell]
    return [each.rstrip() for each in _PIECE.findall(cell if column in _WHOLE else cell.replace("-", "- "))]


def _broken(text: str, width: int, column: str) -> str:
    """Let a word that is wider than its column break after its hyphens, rather than anywhere."""
    if column in _WHOLE:
        return text
    if re.search(f"[{_HAN}]", text):
        return _wrapped(text, width)
    return " ".join(word if len(word) <= width else word.replace("-", "- ") for word in text.split(" "))


def _wrapped(text: str, width: int) -> str:
    """Text in Chinese as lines of at most `width` columns; of other text rich breaks the lines, at spaces."""
    if not re.search(f"[{_HAN}]", text):
        return text
    lines = [""]
    for piece in _PIECE.findall(text):
        if cell_len(lines[-1] + piece.rstrip()) > width and lines[-1]:
            lines.append("")
        lines[-1] += piece
    return "\n".join(map(str.rstrip, lines))


def _list(table: Table, width: int) -> RenderableType:
    """A block a row, for a terminal on which a table would have to crop figures."""
    lines = []
    for row in table.rows:
        # A name without a space may be an id, which is copied into a command: it stays whole at any width.
        whole = " " not in row[0]
        lines.append(Text(row[0], "bold", no_wrap=whole, overflow="ignore" if whole else None))
        lines += [_named(table, index, row[index], width) for index in range(1, len(table.columns))]
    return Group(*lines)


def _named(table: Table, index: int, value: str, width: int) -> Text:
    """`  name: value` in at most `width` columns."""
    name = _("{name}: {said}", name=_(table.columns[index]), said="")
    if table.columns[index] == VERDICT:
        return Text(f"  {name}").append(_cell(table, index, value))
    return Text(_wrapped(f"  {name}{value}", width))


def _cell(table: Table, index: int, value: str) -> Text:
    if table.columns[index] == VERDICT:
        style = _VERDICT_STYLES.get(value.split(" ", maxsplit=1)[0], "red")
        return Text(table.said(index, value), style=style)
    return Text(value)
