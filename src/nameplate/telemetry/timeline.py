"""Samples of a figure inside spans of time: the mean of a gauge, the pace of a counter, what they cover.

A sample tells of the work that ran when it was taken, so only samples inside a span count for it: nothing is
interpolated from samples outside, which are of other work. Times are seconds on time.perf_counter's clock,
which the processes of one Linux host share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# How far from a sample its figure still counts, within the span: two and a half sampling periods.
REACH_S = 0.25
# A longer pause between two spans isn't part of a stretch: clocks and power fall in it.
_MOST_GAP_S = 0.1

Values = Sequence[float | None] | NDArray[np.float64]
Times = Sequence[float] | NDArray[np.float64]
Spans = Sequence[tuple[float, float]]
_Array = NDArray[np.float64]


@dataclass(frozen=True)
class Samples:
    """The samples of one figure inside spans: for each span `times` and `values` [N], in order."""

    spans: Spans
    times: tuple[_Array, ...]
    values: tuple[_Array, ...]

    @property
    def count(self) -> int:
        """How many samples lie inside the spans."""
        return sum(times_N.size for times_N in self.times)

    @property
    def length_s(self) -> float:
        """Seconds of the spans together."""
        return sum(end_s - begin_s for begin_s, end_s in self.spans)

    @property
    def covered(self) -> float:
        """The share of the spans that is within REACH_S of a sample of the same span; 0 for no length."""
        return self._share_of_length(sum(float(weights_N.sum()) for weights_N in self._weights()))

    @property
    def observed(self) -> float:
        """The share of the spans that lies between the first and the last sample of the same span."""
        return self._share_of_length(sum(_extent(times_N) for times_N in self.times))

    def mean(self) -> float | None:
        """Return the mean of a gauge, weighted by the time that samples cover; None without samples."""
        weights = self._weights()
        total = sum(float(weights_N.sum()) for weights_N in weights)
        if not total:
            return None
        weighted = zip(weights, self.values, strict=True)
        return sum(float(weights_N @ values_N) for weights_N, values_N in weighted) / total

    def pace(self) -> float | None:
        """Return what a counter gains a second, between the first and the last sample of each span.

        None where no span has two samples, and for a counter that falls: it was reset.
        """
        passed_s = sum(_extent(times_N) for times_N in self.times)
        values_N = np.concatenate(self.values) if self.values else np.empty(0)
        if not passed_s or np.any(np.diff(values_N) < 0):
            return None
        return sum(_extent(values_N) for values_N in self.values) / passed_s

    def _weights(self) -> list[_Array]:
        """Seconds that samples stand for: half way to the next, or to the span's end; REACH_S at most."""
        weights = []
        for (begin_s, end_s), times_N in zip(self.spans, self.times, strict=True):
            half_N = np.diff(times_N) / 2
            before_N = np.concatenate(([times_N[0] - begin_s], half_N)) if times_N.size else half_N
            after_N = np.concatenate((half_N, [end_s - times_N[-1]])) if times_N.size else half_N
            weights.append(np.minimum(before_N, REACH_S) + np.minimum(after_N, REACH_S))
        return weights

    def _share_of_length(self, seconds: float) -> float:
        return seconds / self.length_s if self.length_s else 0.0


def samples_inside(times: Times, values: Values, spans: Spans) -> Samples:
    """Return the samples that have a value and lie inside each span, in order; `times` may be in any order.

    A span that ends before it begins has none.
    """
    times_N, values_N = np.asarray(times, dtype=np.float64), np.asarray(values, dtype=np.float64)
    known = np.flatnonzero(np.isfinite(values_N))
    known = known[np.argsort(times_N[known], kind="stable")]
    times_N, values_N = times_N[known], values_N[known]
    kept = [
        slice(np.searchsorted(times_N, begin_s, "left"), np.searchsorted(times_N, end_s, "right"))
        for begin_s, end_s in spans
    ]
    return Samples(
        tuple((begin_s, max(begin_s, end_s)) for begin_s, end_s in spans),
        tuple(times_N[each] for each in kept),
        tuple(values_N[each] for each in kept),
    )


def find_stretches(spans: Spans, others: Spans = ()) -> list[tuple[float, float]]:
    """Join spans, in order of time, to stretches without a pause in which none of `others` began."""
    starts = np.sort(np.asarray([begin_s for begin_s, _ in others], dtype=np.float64))
    found: list[tuple[float, float]] = []
    for begin_s, end_s in spans:
        if found and begin_s - found[-1][1] <= _MOST_GAP_S:
            between = np.searchsorted(starts, begin_s) - np.searchsorted(starts, found[-1][1])
            if not between:
                found[-1] = found[-1][0], end_s
                continue
        found.append((begin_s, end_s))
    return found


def _extent(ordered_N: _Array) -> float:
    """The last value less the first; 0 for fewer than two."""
    return float(ordered_N[-1] - ordered_N[0]) if ordered_N.size > 1 else 0.0
