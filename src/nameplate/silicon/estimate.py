"""Estimates an instruction path's peak from the time stamps of its loop.

A *stretch* is about a millisecond of the loop between two readings of the time stamp counter; a chain of
dependent adds after it gives the clock. A *visit* is one run of some stretches, on one core alone or on all
cores at once. Other work only ever slows a stretch, so the estimate is near the fastest ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nameplate.silicon.loops import CHAIN_ADDS, Loop
from nameplate.silicon.peak import Peak
from nameplate.stats.interval import Interval

# The maximum counts as found where this many stretches lie within this share of it. On a loaded machine they
# may be one in twenty.
_AGREE, _WITHIN = 4, 0.99
# Least half-width of the interval, as a share: what two starts differ by (docs/validation.md). A host may
# change the clock over minutes.
_LEAST_HALF_WIDTH = 0.01
# Cores are independent where their sum is at least this share of cores × one alone.
_FULL_SHARE = 0.97
# A CPU had no other work where the loop's thread ran on it for this share of the time.
_OURS = 0.9
# Changes of the clock between visits stay within this share of the highest. A slower visit that no other one
# repeats was disturbed by another guest of the host, which CPU time doesn't show.
_SAME_STATE = 0.9
# Ratio of FLOP per cycle above which cores are of two kinds: efficiency cores do a half or less.
_OTHER_KIND = 1.1

_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Visit:
    """One run of a loop on some CPUs at once: `stamps` in ticks, by CPU, round, and begin, between, end.

    `busy` is the share of the time that the loop's thread ran on its CPU, the least of all CPUs.
    """

    turns: int
    chain: int
    hz: float
    stamps: _Floats
    busy: float

    @classmethod
    def of_answer(cls, turns: int, chain: int, answer: Mapping[str, Any]) -> Visit:
        """Make a visit of what the child process answered."""
        stamps: Sequence[Sequence[int]] = answer["stamps"]
        # Counted from the first stamp: 64-bit ticks since the machine started needn't fit a float.
        first = min(each[0] for each in stamps)
        ticks = [[tick - first for tick in each] for each in stamps]
        shaped = np.asarray(ticks, dtype=float).reshape(len(stamps), -1, 3)
        return cls(turns, chain, float(answer["hz"]), shaped, min(answer["busy"]))

    def loop_s(self) -> _Floats:
        """Seconds of each stretch of the loop, by CPU and round."""
        return (self.stamps[:, :, 1] - self.stamps[:, :, 0]) / self.hz

    def clock_hz(self) -> _Floats:
        """The clock of each stretch, by CPU and round: adds a second of the chain that follows it."""
        return CHAIN_ADDS * self.chain * self.hz / (self.stamps[:, :, 2] - self.stamps[:, :, 1])


def is_supported(loop: Loop, alone: Sequence[Visit], together: Sequence[Visit]) -> bool:
    """Return whether enough undisturbed stretches were seen, of one core and of all of them at once."""
    single, every = _stretches(loop, alone, together)
    return single.is_supported and every.is_consistent and _is_sum_supported(single, every)


def _is_sum_supported(single: _Stretches, every: _Stretches) -> bool:
    """Whether the sum of all cores is their peak, and not one that other work lowered.

    A sum below cores × one alone counts only where the CPUs had no other work: then the cores share
    something, as the two threads of one physical core do.
    """
    share = every.top / every.cpus / single.top
    is_full = share >= _FULL_SHARE and not single.kinds_differ
    return every.is_supported and (is_full or every.busy >= _OURS)


def estimate(loop: Loop, alone: Sequence[Visit], together: Sequence[Visit], cores: float) -> Peak:
    """Estimate a path's peak from visits of one core alone and of all cores together.

    `cores` may be less than the CPUs of `together`, where a quota leaves a fraction of one. Where other work
    disturbed every visit of all cores, the peak is cores × one alone, and the interval's low end is that of
    the sum that was seen.
    """
    single, every = _stretches(loop, alone, together)
    half = _LEAST_HALF_WIDTH + every.spread()
    total = Interval.from_log_half_width(every.top, half)
    share: float | None = every.top / every.cpus / single.top
    clock_hz = every.clock_hz
    if not _is_sum_supported(single, every):
        bound = Interval.from_log_half_width(max(single.top * every.cpus, every.top), half)
        total, share, clock_hz = Interval(bound.value, total.low, bound.high), None, single.clock_hz
    if single.kinds_differ:
        share = None
    total = total.scaled(cores / every.cpus / 1e12)
    return Peak(
        loop=loop.name,
        instruction=loop.instruction,
        dtypes=loop.dtypes,
        tflops=total.value,
        tflops_low=total.low,
        tflops_high=total.high,
        clock_mhz=clock_hz / 1e6,
        core_gflops=single.top / 1e9,
        core_clock_mhz=single.clock_hz / 1e6,
        flop_per_cycle=single.top / single.clock_hz,
        parallel_share=share,
    )


def _stretches(
    loop: Loop, alone: Sequence[Visit], together: Sequence[Visit]
) -> tuple[_Stretches, _Stretches]:
    """Return the stretches of one core alone, and those of all cores at once."""
    return (
        _Stretches(alone, [_stretches_of(loop, visit) for visit in alone]),
        _Stretches(together, [_sum_of_cores(loop, visit) for visit in together]),
    )


class _Stretches:
    """The stretches of some visits: FLOP a second and the clock of each."""

    def __init__(self, visits: Sequence[Visit], found: Sequence[tuple[_Floats, _Floats]]) -> None:
        self.cpus = visits[0].stamps.shape[0]
        self.busy = max(visit.busy for visit in visits)
        self._by_visit = [(rates, visit.busy) for visit, (rates, _) in zip(visits, found, strict=True)]
        self._per_cycle = [
            _find_top(rates) / _find_top(clocks)
            for rates, clocks in found
            if _count_near_top(rates) >= _AGREE
        ]
        self._rates = np.concatenate([rates for rates, _ in found])
        self._clocks = np.concatenate([clocks for _, clocks in found])
        self.top = _find_top(self._rates)

    @property
    def is_supported(self) -> bool:
        """Whether enough stretches agree with the fastest."""
        return _count_near_top(self._rates) >= _AGREE

    @property
    def kinds_differ(self) -> bool:
        """Whether visits of different cores did different work a cycle."""
        return bool(self._per_cycle) and max(self._per_cycle) > _OTHER_KIND * min(self._per_cycle)

    @property
    def clock_hz(self) -> float:
        """The clock of the undisturbed stretches, near its maximum: other work only lowers a reading."""
        return _find_top(self._clocks[self._rates >= _WITHIN * self.top])

    @property
    def is_consistent(self) -> bool:
        """Whether two undisturbed visits are in the fastest state, or all are."""
        tops, fast = self._tops(), self._fast()
        return len(fast) >= 2 or len(fast) == len(tops)

    def spread(self) -> float:
        """Return how far undisturbed visits differ, as the logarithm of a ratio.

        Of those in the fastest state, where there are two of them; else of all.
        """
        tops, fast = self._tops(), self._fast()
        counted = fast if len(fast) >= 2 else tops
        return math.log(max(counted) / min(counted)) if counted else 0.0

    def _tops(self) -> list[float]:
        """Return the rate of each undisturbed visit: its CPUs had no other work, or it is near the top."""
        return [
            _find_top(rates)
            for rates, busy in self._by_visit
            if _count_near_top(rates) >= _AGREE
            and (busy >= _OURS or _find_top(rates) >= _FULL_SHARE * self.top)
        ]

    def _fast(self) -> list[float]:
        return [top for top in self._tops() if top >= _SAME_STATE * self.top]


def _find_top(rates: _Floats) -> float:
    """Return the second largest rate, so that no single time stamp decides; the only one of one."""
    return float(np.sort(rates)[-2:][0])


def _count_near_top(rates: _Floats) -> int:
    return int(np.count_nonzero(rates >= _WITHIN * _find_top(rates)))


def _stretches_of(loop: Loop, visit: Visit) -> tuple[_Floats, _Floats]:
    """Return FLOP a second and clock of each stretch of one core."""
    flop = loop.flop_per_turn * visit.turns
    return (flop / visit.loop_s()).ravel(), visit.clock_hz().ravel()


def _sum_of_cores(loop: Loop, visit: Visit) -> tuple[_Floats, _Floats]:
    """Return FLOP a second of all cores, and their mean clock, during each stretch of the first core.

    The other cores' rates are averaged over the same time, so that two threads of one physical core, which
    take turns, can't each contribute their best moment.
    """
    flop = loop.flop_per_turn * visit.turns
    begin, end = visit.stamps[:, :, 0], visit.stamps[:, :, 1]
    rates = flop / visit.loop_s()
    # Only while every core is at work.
    inside = (begin[0] >= begin[:, 0].max()) & (end[0] <= end[:, -1].min())
    if not inside.any():
        inside[:] = True
    windows = zip(begin[0][inside], end[0][inside], strict=True)
    sums, clocks = [], []
    for first, last in windows:
        overlap = np.clip(np.minimum(end, last) - np.maximum(begin, first), 0.0, None)
        weight = overlap / np.maximum(overlap.sum(axis=1, keepdims=True), 1e-9)
        sums.append(float((rates * weight).sum()))
        clocks.append(float((visit.clock_hz() * weight).sum(axis=1).mean()))
    return np.asarray(sums), np.asarray(clocks)
