"""What rows of samples say of spans of time between them: counters gained, gauges averaged.

Throughout, `times` [N] are seconds on time.perf_counter's clock, which the processes of one Linux host
share, in any order; `values` [N] are what was seen then, None where there was no figure; `spans` [M] are
pairs (begin_s, end_s) on the same clock. Between rows a figure is taken to move in a straight line. Beyond
the first and the last row it is taken to go on for half a second at most, a counter at the pace it had, a
gauge as it was. Further out nothing is known, and the answer is None, as it is for no spans, and for one that
ends before it begins.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# How far from a row its figure still counts: five periods of sampling.
REACH_S = 0.5

Values = Sequence[float | None] | NDArray[np.float64]
Times = Sequence[float] | NDArray[np.float64]
Spans = Sequence[tuple[float, float]]
_Array = NDArray[np.float64]


def at(times: Times, values: Values, t: float) -> float | None:
    """Return the value at one moment, in the unit of `values`; None with fewer than two rows that tell."""
    times_N, values_N = _known(times, values)
    if not _is_line(times_N) or not _reach(times_N, [(t, t)]):
        return None
    return float(np.interp(t, times_N, values_N))


def gained(times: Times, values: Values, spans: Spans) -> float | None:
    """Return how much a running counter gained within the spans together, in its own unit.

    None with fewer than two rows that have a value, and for a counter that falls: it was set back.
    """
    times_N, values_N = _known(times, values)
    if not _is_line(times_N) or not _reach(times_N, spans) or np.any(np.diff(values_N) < 0):
        return None
    times_N, values_N = _continued(times_N, values_N)
    begins, ends = np.interp(np.asarray(spans, dtype=np.float64).T, times_N, values_N)
    return float(np.sum(ends - begins))


def integrated(times: Times, values: Values, spans: Spans) -> float | None:
    """Return the integral of a gauge over the spans together, in its unit times seconds: joules, of watts.

    By trapezoids from row to row. None where a span has no row in it or near.
    """
    times_N, values_N = _known(times, values)
    if not _reach(times_N, spans) or not all(_is_near(times_N, span) for span in spans):
        return None
    return sum(_trapezoids(times_N, values_N, span) for span in spans)


def mean_within(times: Times, values: Values, spans: Spans) -> float | None:
    """Return the mean of a gauge over the spans together, weighted by time, in its own unit.

    None where a span has no row in it or near, and where they last no time at all.
    """
    total = integrated(times, values, spans)
    length_s = sum(end_s - begin_s for begin_s, end_s in spans)
    return None if total is None or not length_s else total / length_s


def _known(times: Times, values: Values) -> tuple[_Array, _Array]:
    """The rows that have a value, in order of time."""
    times_N, values_N = np.asarray(times, dtype=np.float64), np.asarray(values, dtype=np.float64)
    known = np.flatnonzero(np.isfinite(values_N))
    known = known[np.argsort(times_N[known], kind="stable")]
    return times_N[known], values_N[known]


def _is_line(times_N: _Array) -> bool:
    return len(times_N) > 1 and bool(times_N[0] < times_N[-1])


def _reach(times_N: _Array, spans: Spans) -> bool:
    """Whether there are spans, each the right way round, and rows from the first to the last."""
    if len(times_N) == 0 or len(spans) == 0:
        return False
    first_s, last_s = times_N[0] - REACH_S, times_N[-1] + REACH_S
    return all(first_s <= begin_s <= end_s <= last_s for begin_s, end_s in spans)


def _is_near(times_N: _Array, span: tuple[float, float]) -> bool:
    """Whether there is a row in the span, or within reach of it."""
    first = np.searchsorted(times_N, span[0] - REACH_S)
    return bool(first < len(times_N) and times_N[first] <= span[1] + REACH_S)


def _continued(times_N: _Array, values_N: _Array) -> tuple[_Array, _Array]:
    """The rows of a counter, and a row `REACH_S` beyond each end, by its mean pace as far within."""
    first_s, last_s = times_N[0], times_N[-1]
    within_s = min(REACH_S, last_s - first_s)
    early, late = np.interp((first_s + within_s, last_s - within_s), times_N, values_N)
    before = values_N[0] - (early - values_N[0]) / within_s * REACH_S
    after = values_N[-1] + (values_N[-1] - late) / within_s * REACH_S
    return (
        np.concatenate(([first_s - REACH_S], times_N, [last_s + REACH_S])),
        np.concatenate(([before], values_N, [after])),
    )


def _trapezoids(times_N: _Array, values_N: _Array, span: tuple[float, float]) -> float:
    inside = slice(*np.searchsorted(times_N, span))
    corners = np.concatenate((span[:1], times_N[inside], span[1:]))
    heights = np.interp(corners, times_N, values_N)
    return float(np.sum((heights[1:] + heights[:-1]) / 2 * np.diff(corners)))
