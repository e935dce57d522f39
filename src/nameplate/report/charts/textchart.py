"""Charts on a terminal, drawn with block characters: waterfalls, time series and curves only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.cells import cell_len, set_cell_size

from nameplate.base.formatting import duration, figure, percent
from nameplate.base.language import _
from nameplate.report.charts.data import Chart, Curve, TimeChart, TimeSeries, Waterfall

_BLOCKS = "▁▂▃▄▅▆▇█"
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_MOST_COLUMNS = 64
_LEAST_BAR_COLUMNS = 8
# The blocks span at least a tenth of the top value: over a smaller span noise would look like a fall.
_LEAST_SPAN = 0.1


def draw_lines(chart: Chart, width: int) -> list[str]:
    """Draw the chart in lines of at most `width` columns; a kind that has only a table there has no lines."""
    match chart:
        case TimeChart():
            several = len(chart.series) > 1
            return [line for each in chart.series for line in _draw_series(each, width, named=several)]
        case Waterfall():
            return _draw_waterfall(chart, width)
        case Curve():
            return [line for name, values in chart.panels for line in _draw_panel(chart, name, values, width)]
        case _:
            return []


def _draw_waterfall(chart: Waterfall, width: int) -> list[str]:
    """Draw each step as label, bar and share; a dot marks the whole where the bar ends before it."""
    shares = [percent(step.value) for step in chart.steps]
    label_width, share_width = max(cell_len(step.label) for step in chart.steps), max(map(len, shares))
    bar_width = min(width - label_width - share_width - 2, _MOST_COLUMNS)
    if bar_width < _LEAST_BAR_COLUMNS:
        return []
    most = max(1.0, *(step.value for step in chart.steps))
    lines = []
    for step, share in zip(chart.steps, shares, strict=True):
        bar = _bar(step.value / most, bar_width, whole=1 / most)
        lines.append(f"{set_cell_size(step.label, label_width)} {bar} {share:>{share_width}}")
    return lines


def _draw_panel(chart: Curve, name: str, values: Sequence[float], width: int) -> list[str]:
    """Draw the figure's name, then a bar for each point, from 0 to the largest."""
    said = [figure(value) for value in values]
    label_width = max(cell_len(point.label) for point in chart.points)
    said_width, most = max(map(len, said)), max(values)
    bar_width = min(width - label_width - said_width - 2, _MOST_COLUMNS)
    if bar_width < _LEAST_BAR_COLUMNS:
        return []
    lines = [name]
    for point, value, text in zip(chart.points, values, said, strict=True):
        bar = _bar(value / most, bar_width, whole=1.0)
        lines.append(f"{set_cell_size(point.label, label_width)} {bar} {text:>{said_width}}")
    return lines


def _bar(share: float, width: int, *, whole: float) -> str:
    full, eighths = divmod(round(share * width * 8), 8)
    bar = (_EIGHTHS[-1] * full + (_EIGHTHS[eighths] if eighths else "")).ljust(width)
    mark = min(round(whole * width), width) - 1
    return bar if bar[mark] != " " else f"{bar[:mark]}·{bar[mark + 1 :]}"


def _draw_series(series: TimeSeries, width: int, *, named: bool) -> list[str]:
    line, scale = draw_sparkline(series, width)
    return [line, _("{name}: {said}", name=series.label, said=scale) if named else scale]


def draw_sparkline(series: TimeSeries, width: int) -> tuple[str, str]:
    """Return the line of blocks, over logarithmic time, and the sentence that gives its scales."""
    moments = series.moments
    levels = _mean_levels(series, min(len(moments), _MOST_COLUMNS, width))
    top = max(levels)
    bottom = min(*levels, (1 - _LEAST_SPAN) * top)
    line = "".join(_BLOCKS[round((level - bottom) / (top - bottom) * (len(_BLOCKS) - 1))] for level in levels)
    scale = _(
        "{full} {top}, {empty} {bottom} TFLOPS; {start} to {end} since idle, log time",
        full=_BLOCKS[-1],
        top=figure(top),
        empty=_BLOCKS[0],
        bottom=figure(bottom),
        start=duration(moments[0].at_s),
        end=duration(moments[-1].at_s),
    )
    return line, scale


def _mean_levels(series: TimeSeries, count: int) -> Sequence[float]:
    """Return the mean TFLOPS of `count` stretches of equal length in log time.

    A stretch without a moment takes the linear interpolation at its middle.
    """
    tflops = np.array([moment.tflops for moment in series.moments])
    log_s = np.log([moment.at_s for moment in series.moments])
    edges = np.linspace(log_s[0], log_s[-1], count + 1)
    moments_in, _edges = np.histogram(log_s, edges)
    sums, _edges = np.histogram(log_s, edges, weights=tflops)
    between = np.interp((edges[:-1] + edges[1:]) / 2, log_s, tflops)
    levels: list[float] = np.where(moments_in > 0, sums / np.maximum(moments_in, 1), between).tolist()
    return levels
