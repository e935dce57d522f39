"""Charts as data: what each shows, in plain values; a medium draws them.

`vega` defines each as Vega-Lite, for the page and for SVG alike; `textchart` draws on a terminal what reads
well there. Every chart belongs to the table that holds its figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nameplate.base.language import N_, _
from nameplate.record import Moment

# More than this is no picture any more; the table has them all.
MOST_BARS = 40
MOST_POINTS = 1_000
# The name of the chart of fleets, which the page looks for.
FLEETS = "fleets"


@dataclass(frozen=True)
class Titled:
    """What every chart has: a name for files and anchors, a title, and what it shows in words."""

    name: str
    title: str
    alt: str


@dataclass(frozen=True)
class Bar:
    """One bar; `low` and `high` are the ends of its interval, `kind` its entry in the legend."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    kind: str = ""


@dataclass(frozen=True)
class Bars(Titled):
    """Bars from 0, one a label, or one a label and kind side by side. A share is drawn against the whole.

    `of` says what the labels are, `ends` what the ends of a bar hold.
    """

    axis: str
    bars: tuple[Bar, ...]
    kinds: tuple[str, ...]
    is_share: bool = False
    side_by_side: bool = False
    of: str = N_("case")
    ends: str = N_("95 % interval")


@dataclass(frozen=True)
class Step:
    """What is left of nominal after one stage: `value` with its interval, and how the last ratio is known."""

    label: str
    value: float
    low: float | None
    high: float | None
    how: str


@dataclass(frozen=True)
class Waterfall(Titled):
    """What is left of nominal, stage by stage; the first step is nominal itself, or what comes first."""

    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Cell:
    """One field of a grid: `value` decides its shade, `text` stands in it."""

    row: str
    column: str
    value: float
    text: str


@dataclass(frozen=True)
class Grid(Titled):
    """A figure by two axes; `rows` and `columns` give their order, `whole` the value of the fullest shade."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[Cell, ...]
    whole: float | None


@dataclass(frozen=True)
class Point:
    """A case: FLOP a byte, achieved TFLOPS."""

    label: str
    flop_per_byte: float
    tflops: float
    kind: str


@dataclass(frozen=True)
class Roof:
    """What bounds a case: so many TFLOPS, or so many GB/s × FLOP a byte; the other is None."""

    label: str
    tflops: float | None = None
    gb_s: float | None = None


@dataclass(frozen=True)
class Roofline(Titled):
    """Achieved throughput over arithmetic intensity, under the roofs of compute and memory."""

    points: tuple[Point, ...]
    kinds: tuple[str, ...]
    roofs: tuple[Roof, ...]


@dataclass(frozen=True)
class Course:
    """What one case delivered over the time since its onset; `settled_s`: since when it had settled."""

    label: str
    moments: tuple[Moment, ...]
    settled_s: float | None = None


@dataclass(frozen=True)
class Courses(Titled):
    """Throughput over time, with clock, power and temperature beneath where known."""

    courses: tuple[Course, ...]


Chart = Bars | Waterfall | Grid | Roofline | Courses


def title_of_first(most: int, items: Sequence[object], title: str) -> str:
    """Return a chart's title; where it shows only the first `most` of its items, the title says so."""
    if len(items) <= most:
        return title
    return _("{title}: the first {count} of {all}", title=title, count=most, all=len(items))


def describe(chart: Titled) -> str:
    """The chart's title and what it shows, for a medium that has one line for both."""
    return _("{title}. {alt}", title=chart.title, alt=chart.alt)
