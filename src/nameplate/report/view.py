"""What a reader sees, whatever the medium: plain strings in the order in which they are read.

Every text passes `base.text.plain` as it is put into these classes, so that no text of a device, a host, a
label or a file can move a cursor. Each medium escapes its own mark-up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Generic, Literal, TypeVar

from nameplate.base.language import _
from nameplate.base.text import make_plain, plain
from nameplate.report.charts.data import Chart

Item = TypeVar("Item")
Fact = tuple[str, str]
VERDICT = "verdict"
# The colour of a word alone can't say more: a burst that was power-capped has its doubt in a sentence.
_RATINGS: dict[str, Literal["good", "doubt"]] = {
    "clean": "good",
    "power_capped": "good",
    "unknown": "doubt",
    # The words of a banner.
    "fit": "good",
    "degraded": "doubt",
}


def translate_verdicts(verdicts: str) -> str:
    """Return verdicts, which are separated by spaces, in the reader's language."""
    return " ".join(_(verdict) for verdict in verdicts.split())


def rate_verdicts(verdicts: str) -> Literal["good", "doubt", "bad"]:
    """Return how bad verdicts are by the first, which is the gravest; media choose colours by this."""
    return _RATINGS.get(verdicts.split(" ", maxsplit=1)[0], "bad")


@dataclass(frozen=True)
class Column:
    """A column of a table. Its name is an English message, which the medium translates.

    Numbers are aligned right. A narrow terminal leaves out the columns that have a `drop_priority`, the
    lowest first; a column of ids has none. The cells of an `unbroken` column are never broken over lines: a
    reader may paste them into a command, with their spaces.
    """

    name: str
    _: KW_ONLY
    is_number: bool = False
    drop_priority: int | None = None
    unbroken: bool = False

    def __post_init__(self) -> None:
        """Take out what can't be printed: a column may be named by a record's dtype."""
        make_plain(self)

    def translate(self, cell: str) -> str:
        """Return a cell in the reader's language: verdicts are the only cells that aren't yet."""
        return translate_verdicts(cell) if self.name == VERDICT else cell


@dataclass(frozen=True)
class Field(Column, Generic[Item]):
    """A column with the function that makes its cell for an item."""

    text: Callable[[Item], str]


@dataclass(frozen=True)
class Table:
    """A heading, columns and rows; `charts` draw the same figures, and `lead` says how to read them."""

    heading: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    charts: tuple[Chart, ...] = ()
    lead: str = ""
    name: str = ""  # by which a reader asks for it: one of `section_names.SECTIONS`

    def __post_init__(self) -> None:
        """Take out what can't be printed."""
        make_plain(self)

    @property
    def column_names(self) -> tuple[str, ...]:
        """The names of the columns, in English."""
        return tuple(column.name for column in self.columns)

    @property
    def droppable(self) -> list[int]:
        """The positions of the columns that a narrow terminal leaves out, in the order in which it does."""
        priorities = [(column.drop_priority, index) for index, column in enumerate(self.columns)]
        return [index for priority, index in sorted((p, n) for p, n in priorities if p is not None)]


def table_of(
    heading: str,
    fields: Sequence[Field[Item]],
    items: Iterable[Item],
    *,
    charts: Sequence[Chart] = (),
    lead: str = "",
) -> Table:
    """Return a table with a row for each item."""
    rows = tuple(tuple(field.text(item) for field in fields) for item in items)
    return Table(heading, tuple(fields), rows, tuple(charts), lead)


def text_table(heading: str, names: Sequence[str], rows: Iterable[tuple[str, ...]]) -> Table:
    """Return a table whose columns, of these names, hold text and are never left out."""
    return Table(heading, tuple(Column(name) for name in names), tuple(rows))


@dataclass(frozen=True)
class Banner:
    """Whether a device is fit: one of four words, the device, and the reason in one sentence."""

    word: str  # fit, degraded, unfit or unknown
    device: str
    reason: str

    def __post_init__(self) -> None:
        """Take out what can't be printed."""
        make_plain(self)

    @property
    def text(self) -> str:
        """The device and the reason in one line."""
        return _("{name}: {said}", name=self.device, said=self.reason) if self.reason else self.device


@dataclass(frozen=True)
class Answer:
    """One of the figures that matter most: its name, the figure with its interval, and its verdict.

    `detail` says what the figure is of: "of nominal: 225 of 320 TFLOPS".
    """

    label: str
    value: str
    verdict: str
    detail: str = ""

    def __post_init__(self) -> None:
        """Take out what can't be printed."""
        make_plain(self)


@dataclass(frozen=True, kw_only=True)
class View:
    """Everything that is said of a run, of fleets, of a check.

    `notice` comes before everything else: that no figure is a measurement. Then comes the answer: `banners`
    (a device each), `answers` (the figures that matter most), `chart` (the one picture beside them),
    `meaning` (the answer in a sentence, or a line each), `advice` (what to do) and `problems` (what could
    not be read). `facts` and `tables` are what it rests on. Where there is a `summary`, the answer as a few
    named lines, that is all that a terminal shows by default, with `footer` below it, and media that can fold
    the tables do so.
    """

    title: str
    notice: str = ""
    facts: tuple[Fact, ...] = ()
    tables: tuple[Table, ...] = ()
    meaning: str = ""
    advice: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    answers: tuple[Answer, ...] = ()
    banners: tuple[Banner, ...] = ()
    summary: tuple[Fact, ...] = ()
    footer: tuple[Fact, ...] = ()
    chart: Chart | None = None

    def __post_init__(self) -> None:
        """Take out what can't be printed, but keep the lines of `meaning`."""
        lines = self.meaning.split("\n")
        make_plain(self)
        object.__setattr__(self, "meaning", "\n".join(map(plain, lines)))
