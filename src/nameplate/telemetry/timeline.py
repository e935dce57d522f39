"""Sampled figures over spans of time: the gain of a counter, the integral and the mean of a gauge.

Throughout, `times` [N] are seconds on time.perf_counter's clock, which the processes of one Linux host
share, in any order; `values` [N] are the samples, None where there was no figure; `spans` [M] are pairs
(begin_s, end_s) on the same clock. Between samples a figure is interpolated linearly. Before the first and
after the last sample it is extrapolated by half a second at most: a counter at its mean pace, a gauge as a
constant. Further out nothing is known, and the result is None. It is None too for no spans, and for one that
ends before it begins.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# How far from a sample its figure still counts: five sampling periods.
REACH_S = 0.5

Values = Sequence[float | None] | NDArray[np.float64]
Times = Sequence[float] | NDArray[np.float64]
Spans = Sequence[tuple[float, float]]
_Array = NDArray[np.float64]


def gain_within(times: Times, values: Values, spans: Spans) -> float | None:
    """Return how much a counter gained within the spans together, in its own unit.

    None with fewer than two samples that have a value, and for a counter that falls: it was reset.
    """
    times_N, values_N = _known(times, values)
    if not _has_pace(times_N) or not _covers(times_N, spans) or np.any(np.diff(values_N) < 0):
        return None
    times_N, values_N = _extrapolate(times_N, values_N)
    begins, ends = np.interp(np.asarray(spans, dtype=np.float64).T, times_N, values_N)
    return float(np.sum(ends - begins))


def integrate_within(times: Times, values: Values, spans: Spans) -> float | None:
    """Return the integral of a gauge over the spans together, in its unit times seconds: joules, of watts.

    By trapezoids from sample to sample. None where a span has no sample in it or near.
    """
    times_N, values_N = _known(times, values)
    if not _covers(times_N, spans) or not all(_is_near(times_N, span) for span in spans):
        return None
    return sum(_trapezoids(times_N, values_N, span) for span in spans)


def mean_within(times: Times, values: Values, spans: Spans) -> float | None:
    """Return the mean of a gauge over the spans together, weighted by time, in its own unit.

    None where a span has no sample in it or near, and where the spans have no length.
    """
    total = integrate_within(times, values, spans)
    length_s = sum(end_s - begin_s for begin_s, end_s in spans)
    return None if total is None or not length_s else total / length_s


def _known(times: Times, values: Values) -> tuple[_Array, _Array]:
    """Return the samples that have a value, in order of time."""
    times_N, values_N = np.asarray(times, dtype=np.float64), np.asarray(values, dtype=np.float64)
    known = np.flatnonzero(np.isfinite(values_N))
    known = known[np.argsort(times_N[known], kind="stable")]
    return times_N[known], values_N[known]


def _has_pace(times_N: _Array) -> bool:
    """Return whether the samples are of two moments at least."""
    return len(times_N) > 1 and bool(times_N[0] < times_N[-1])


def _covers(times_N: _Array, spans: Spans) -> bool:
    """Return whether there are spans, none of them reversed, and samples around all of them."""
    if len(times_N) == 0 or len(spans) == 0:
        return False
    first_s, last_s = times_N[0] - REACH_S, times_N[-1] + REACH_S
    return all(first_s <= begin_s <= end_s <= last_s for begin_s, end_s in spans)


def _is_near(times_N: _Array, span: tuple[float, float]) -> bool:
    """Return whether there is a sample in the span, or within reach of it."""
    first = np.searchsorted(times_N, span[0] - REACH_S)
    return bool(first < len(times_N) and times_N[first] <= span[1] + REACH_S)


def _extrapolate(times_N: _Array, values_N: _Array) -> tuple[_Array, _Array]:
    """Add a sample `REACH_S` beyond each end of a counter, at its mean pace over `REACH_S` within."""
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
