"""What a reader sees, independent of the medium: plain strings, in the order they are read.

Values from a device, a host name, a label or a file come through `plain`, so that none can move a cursor;
each medium escapes its own mark-up on top.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from nameplate.base.language import _
from nameplate.report.charts.data import Chart

Item = TypeVar("Item")
Fact = tuple[str, str]


@dataclass(frozen=True)
class Table:
    """A heading, column names, and rows of strings; columns in `numbers` are aligned right.

    Column names are messages in English, which a medium says in the reader's language, as it does the words
    of a verdict (`said`): a medium lays columns out by their names. A narrow medium may leave out the columns
    in `secondary`, in that order. `charts` draw the table's figures; `lead` says how to read them. Cells of
    columns in `whole` may be copied into a command, spaces and all: they are never broken over lines.
    """

    heading: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: frozenset[int]
    secondary: Collection[int] = ()
    charts: tuple[Chart, ...] = ()
    lead: str = ""
    whole: Collection[int] = ()

    def said(self, index: int, cell: str) -> str:
        """A cell of column `index` in the language that is spoken."""
        return verdict_words(cell) if self.columns[index] == VERDICT else cell


VERDICT = "verdict"


def verdict_words(verdicts: str) -> str:
    """Verdicts, joined by spaces, in the language that is spoken."""
    return " ".join(_(each) for each in verdicts.split())


@dataclass(frozen=True)
class Field(Generic[Item]):
    """A column to be: its name, and what it says of one item.

    `goes` is its place in the order in which a narrow medium leaves columns out; None: it stays. A column of
    ids stays. `whole` cells are never broken over lines.
    """

    name: str
    text: Callable[[Item], str]
    is_number: bool = False
    goes: int | None = None
    whole: bool = False


def table_of(
    heading: str,
    fields: Sequence[Field[Item]],
    items: Sequence[Item],
    *,
    charts: Sequence[Chart] = (),
    lead: str = "",
) -> Table:
    """A table with a row an item."""
    going = sorted((field.goes, index) for index, field in enumerate(fields) if field.goes is not None)
    return Table(
        heading,
        tuple(field.name for field in fields),
        tuple(tuple(field.text(item) for field in fields) for item in items),
        frozenset(index for index, field in enumerate(fields) if field.is_number),
        tuple(index for _place, index in going),
        tuple(charts),
        lead,
        tuple(index for index, field in enumerate(fields) if field.whole),
    )


@dataclass(frozen=True)
class Answer:
    """A figure that matters most: of what, the figure with its interval, whether it may be believed."""

    label: str
    value: str
    verdict: str


@dataclass(frozen=True)
class View:
    """Everything that is said of a run, of fleets, of a check.

    `answers` are the figures that matter most and `meaning` says them in a sentence; `facts` are what a
    reader must know beside them, `advice` what to do, and `problems` what could not be read.
    """

    title: str
    facts: tuple[Fact, ...]
    tables: tuple[Table, ...]
    meaning: str
    advice: tuple[str, ...]
    problems: tuple[str, ...]
    answers: tuple[Answer, ...] = ()
