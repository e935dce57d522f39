"""Charts as data: what each shows, in plain values.

`vega` draws every kind for the page and as SVG; `textchart` draws two kinds on a terminal. Each chart belongs
to the table that has the same figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nameplate.base.language import N_, _
from nameplate.base.text import make_plain
from nameplate.record import Moment

# A chart with more can't be read; its table has them all.
MOST_BARS = 40
MOST_POINTS = 1_000
# The name of the chart of fleets: the page's what-if panel follows it.
FLEETS = "fleets"


@dataclass(frozen=True)
class Titled:
    """What every chart has: a name for file names and element ids, a title, and what it shows in words."""

    name: str
    title: str
    alt: str

    def __post_init__(self) -> None:
        """Take out what can't be printed."""
        make_plain(self)


@dataclass(frozen=True)
class Bar:
    """A bar; `low` and `high` are the ends of its interval, `kind` its entry in the legend."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    kind: str = ""

    def __post_init__(self) -> None:
        """Take out what can't be printed."""
        make_plain(self)


@dataclass(frozen=True)
class Bars(Titled):
    """Bars from 0, one for each label, or several side by side, one for each kind.

    `axis` names what is drawn; a share is drawn against the whole. `label_title` and `interval_title` name
    the labels and the intervals where a bar is hovered.
    """

    axis: str
    bars: tuple[Bar, ...]
    kinds: tuple[str, ...]
    is_share: bool = False
    side_by_side: bool = False
    label_title: str = N_("case")
    interval_title: str = N_("95 % interval")


@dataclass(frozen=True)
class Step:
    """What is left of nominal after a stage, with its interval; `how` is how the stage is known."""

    label: str
    value: float
    low: float | None
    high: float | None
    how: str

    def __post_init__(self) -> None:
        """Take out what can't be printed."""
        make_plain(self)


@dataclass(frozen=True)
class Waterfall(Titled):
    """What is left of nominal, stage by stage; the first step is the whole.

    `whole` and `step_title` name it and the steps where they are others.
    """

    steps: tuple[Step, ...]
    whole: str = N_("of nominal")
    step_title: str = N_("stage")


@dataclass(frozen=True)
class Cell:
    """A field of a grid: `value` decides its shade, `text` is printed on it."""

    row: str
    column: str
    value: float
    text: str

    def __post_init__(self) -> None:
        """Take out what can't be printed."""
        make_plain(self)


@dataclass(frozen=True)
class Grid(Titled):
    """A figure by two axes, whose order `rows` and `columns` give.

    `whole` is the value of the darkest shade; None: the largest value.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[Cell, ...]
    whole: float | None


@dataclass(frozen=True)
class Point:
    """A case of a roofline."""

    label: str
    flop_per_byte: float
    tflops: float
    kind: str
    said: str = ""  # where it is hovered: its share of the roof

    def __post_init__(self) -> None:
        """Take out what can't be printed."""
        make_plain(self)


@dataclass(frozen=True)
class Roof:
    """A bound on throughput: `tflops` by compute, or `gb_s` × FLOP a byte by memory; the other is None."""

    label: str
    tflops: float | None = None
    gb_s: float | None = None

    def __post_init__(self) -> None:
        """Take out what can't be printed."""
        make_plain(self)


@dataclass(frozen=True)
class Roofline(Titled):
    """Achieved throughput by arithmetic intensity, under the roofs of compute and memory."""

    points: tuple[Point, ...]
    kinds: tuple[str, ...]
    roofs: tuple[Roof, ...]


@dataclass(frozen=True)
class TimeSeries:
    """A case that began from idle; `settled_s`: seconds until its throughput had settled, None: not known."""

    label: str
    moments: tuple[Moment, ...]
    settled_s: float | None = None

    def __post_init__(self) -> None:
        """Take out what can't be printed."""
        make_plain(self)


@dataclass(frozen=True)
class TimeChart(Titled):
    """Throughput over time, with clock, power and temperature below where they are known."""

    series: tuple[TimeSeries, ...]


@dataclass(frozen=True)
class CurvePoint:
    """A point of a curve: its place on the axis, its value with its interval, and a second value there."""

    label: str
    at: float
    value: float
    low: float
    high: float
    second: float | None

    def __post_init__(self) -> None:
        """Take out what can't be printed."""
        make_plain(self)


@dataclass(frozen=True)
class Curve(Titled):
    """A figure over a quantity, such as throughput over the power limit, and a second one below it.

    `names` are those of both; the second is left out where a point lacks it.
    """

    axis: str
    names: tuple[str, str]
    points: tuple[CurvePoint, ...]

    @property
    def panels(self) -> tuple[tuple[str, tuple[float, ...]], ...]:
        """The figures that are drawn: name, and a value for each point."""
        seconds = tuple(point.second for point in self.points if point.second is not None)
        first = (self.names[0], tuple(point.value for point in self.points))
        return (first, (self.names[1], seconds)) if len(seconds) == len(self.points) else (first,)


Chart = Bars | Waterfall | Grid | Roofline | TimeChart | Curve


def title_of_first(most: int, items: Sequence[object], title: str) -> str:
    """Return a chart's title; where it shows only the first `most` of its items, the title says so."""
    if len(items) <= most:
        return title
    return _("{title}: the first {count} of {all}", title=title, count=most, all=len(items))


def describe(chart: Titled) -> str:
    """Return the title and what the chart shows, for a medium that has one line for both."""
    return _("{title}. {alt}", title=chart.title, alt=chart.alt)
