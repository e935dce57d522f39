"""Charts on a terminal, as lines of blocks: what reads well there, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

from nameplate.base.formatting import duration, figure, percent
from nameplate.base.language import _
from nameplate.report.charts.data import Chart, Course, Courses, Waterfall

_BLOCKS = "▁▂▃▄▅▆▇█"
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_WIDEST = 64
_NARROWEST_BAR = 8
# Less than a tenth from top to bottom isn't stretched over all blocks: noise would look like a fall.
_LEAST_SPAN = 0.1


def lines(chart: Chart, width: int) -> list[str]:
    """The chart in lines of at most `width` columns; none for a kind that a terminal shows as its table."""
    match chart:
        case Courses():
            return [line for course in chart.courses for line in _course(course, chart, width)]
        case Waterfall():
            rows = [(step.label, step.value, percent(step.value)) for step in chart.steps]
            return _bars(rows, 1.0, width)
        case _:
            return []


def _bars(rows: Sequence[tuple[str, float, str]], whole: float, width: int) -> list[str]:
    """Labels, bars against the whole (a dot marks it where a bar doesn't reach), figures."""
    labels, figures = max(cell_len(row[0]) for row in rows), max(len(row[2]) for row in rows)
    room = min(width - labels - figures - 2, _WIDEST)
    if room < _NARROWEST_BAR:
        return []
    most = max(whole, *(row[1] for row in rows))
    return [
        f"{set_cell_size(label, labels)} {_bar(value / most, room, whole / most)} {text:>{figures}}"
        for label, value, text in rows
    ]


def _bar(share: float, room: int, whole: float) -> str:
    eighths = round(share * room * 8)
    full, rest = divmod(eighths, 8)
    bar = (_EIGHTHS[-1] * full + (_EIGHTHS[rest] if rest else "")).ljust(room)
    mark = min(round(whole * room), room) - 1
    return bar if bar[mark] != " " else f"{bar[:mark]}·{bar[mark + 1 :]}"


def _course(course: Course, among: Courses, width: int) -> list[str]:
    line, scale = sparkline(course, width)
    named = _("{name}: {said}", name=course.label, said=scale) if len(among.courses) > 1 else scale
    return [line, named]


def sparkline(course: Course, width: int) -> tuple[str, str]:
    """The line of blocks, its time logarithmic, and the words that say what its scales are."""
    moments = course.moments
    levels = _levels(course, min(len(moments), _WIDEST, width))
    top = max(levels)
    bottom = min(*levels, (1 - _LEAST_SPAN) * top)
    line = "".join(_BLOCKS[round((level - bottom) / (top - bottom) * (len(_BLOCKS) - 1))] for level in levels)
    scale = _(
        "{full} {top}, {empty} {bottom} TFLOPS; {start} to {end} after the onset, log time",
        full=_BLOCKS[-1],
        top=figure(top),
        empty=_BLOCKS[0],
        bottom=figure(bottom),
        start=duration(moments[0].at_s),
        end=duration(moments[-1].at_s),
    )
    return line, scale


def _levels(course: Course, count: int) -> list[float]:
    """The mean of each of `count` stretches that are equally long in log time; one without a point takes the
    straight line between its neighbours.
    """
    tflops = [moment.tflops for moment in course.moments]
    log_s = [math.log(moment.at_s) for moment in course.moments]
    step = (log_s[-1] - log_s[0]) / count
    inside: list[list[float]] = [[] for _each in range(count)]
    for at, each in zip(log_s, tflops, strict=True):
        inside[min(int((at - log_s[0]) / step), count - 1) if step > 0 else 0].append(each)
    middles = [log_s[0] + (n + 0.5) * step for n in range(count)]
    return [
        sum(found) / len(found) if found else _between(log_s, tflops, at)
        for at, found in zip(middles, inside, strict=True)
    ]


def _between(log_s: Sequence[float], tflops: Sequence[float], at: float) -> float:
    after = next(n for n, each in enumerate(log_s) if each >= at)
    share = (at - log_s[after - 1]) / (log_s[after] - log_s[after - 1])
    return tflops[after - 1] + share * (tflops[after] - tflops[after - 1])
