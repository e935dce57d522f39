"""Self-test of repeatability: how far does a figure move when the process is started anew?

Every contender runs once a round, each in a fresh process, in random order, so that what disturbs the machine
disturbs all of them alike. The spread is the standard deviation over the rounds ÷ their mean.
"""

from __future__ import annotations

import math
import os
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from scipy.special import chdtri

from nameplate.base.errors import InputError, NameplateError
from nameplate.base.formatting import percent, ratio, stated
from nameplate.base.language import N_, _
from nameplate.base.text import plain
from nameplate.device.protocol import Counters
from nameplate.engine.conditions import conditions_between
from nameplate.engine.verdict import is_contended
from nameplate.run.measure import SEED
from nameplate.selftest.peers import NoFigure
from nameplate.telemetry.host import read_cpu_totals, read_tick_s

OURS = "nameplate"
RAW = "nameplate raw"
NORMALIZED = "nameplate normalized"

CONFIDENCE = 0.90
FEWEST = 5
GOAL = 0.02
# Where even the best peer spreads by more, the hour is loud, and ours is held against that peer too.
LOUD_HOUR = 0.08
GOAL_SHARE = 0.25

_Turn = Callable[[int], Mapping[str, float]]  # round → TFLOPS by row


@dataclass(frozen=True)
class Figures:
    """What one process of ours found, in TFLOPS: as measured, and normalized by its probe."""

    raw: float
    normalized: float


@dataclass(frozen=True)
class Spread:
    """How far one contender's figures lie apart; `mean` is in TFLOPS, the rest are fractions of it.

    `upper` is the one-sided upper 90 % confidence limit of `relative`. With fewer than five figures both are
    None, and `reason` says so.
    """

    n: int
    mean: float | None
    relative: float | None = None
    upper: float | None = None
    reason: str | None = None


def spread_of(tflops: Sequence[float]) -> Spread:
    """Spread of figures above 0, taken for independent and normal.

    (n − 1) s² ÷ σ² then has a chi-square distribution of n − 1 degrees of freedom, so σ is below
    s √((n − 1) ÷ χ²(10 %)) in 90 % of cases (NIST/SEMATECH e-Handbook of Statistical Methods, 7.2.3.1). What
    the mean itself is unsure of is left out: at a spread of 10 % it would move the limit by less than 1 %.
    """
    n = len(tflops)
    mean = statistics.fmean(tflops) if tflops else None
    if mean is None or n < FEWEST:
        return Spread(n, mean, reason=_("{count} figures; a spread needs {least}", count=n, least=FEWEST))
    relative = statistics.stdev(tflops) / mean
    factor = math.sqrt((n - 1) / float(chdtri(n - 1, CONFIDENCE)))
    return Spread(n, mean, relative, relative * factor)


@dataclass(frozen=True)
class Round:
    """One turn of every contender, in `order`.

    `tflops` is by row, `failures` by contender: why it gave no figure. The shares are of the time of all
    usable CPUs over the whole round, starts of processes included: `foreign_share` went to processes that
    aren't ours or a peer's, `steal_share` to other guests. `loud` is whether either is above the limit for
    a contended record. None: the system doesn't tell.
    """

    number: int
    order: tuple[str, ...]
    tflops: Mapping[str, float]
    failures: Mapping[str, str]
    elapsed_s: float
    foreign_share: float | None
    steal_share: float | None
    loud: bool | None


@dataclass(frozen=True)
class Row:
    """A line of the table. `ratio` is our normalized upper limit ÷ this peer's spread, None on our own."""

    contender: str
    spread: Spread
    failed: int
    ratio: float | None = None


@dataclass(frozen=True)
class Goal:
    """What was asked of us, and whether it was met."""

    words: str
    met: bool

    def sentence(self) -> str:
        """The goal in words, its outcome first."""
        return _(N_("pass: {goal}") if self.met else N_("FAIL: {goal}"), goal=self.words)


@dataclass(frozen=True)
class Repeated:
    """Every round, and what follows from them."""

    peers: tuple[str, ...]
    rounds: tuple[Round, ...]
    seed: int

    def spread(self, row: str) -> Spread:
        """Spread of one row: RAW, NORMALIZED or a peer's name."""
        return spread_of([each.tflops[row] for each in self.rounds if row in each.tflops])

    @property
    def rows(self) -> tuple[Row, ...]:
        """The table: ours, raw and normalized, then the peers."""
        ours = tuple(Row(name, self.spread(name), self._failed(OURS)) for name in (RAW, NORMALIZED))
        theirs = tuple(
            Row(name, self.spread(name), self._failed(name), self._ratio_to(self.spread(name)))
            for name in self.peers
        )
        return ours + theirs

    @property
    def best_peer(self) -> str | None:
        """The peer of the smallest spread; None where none has one."""
        spreads = {name: self.spread(name).relative for name in self.peers}
        known = {name: relative for name, relative in spreads.items() if relative is not None}
        return min(known, key=known.__getitem__, default=None)

    @property
    def ratio(self) -> float | None:
        """Our normalized upper limit ÷ the best peer's spread; None where either is missing."""
        return None if self.best_peer is None else self._ratio_to(self.spread(self.best_peer))

    @property
    def loud_rounds(self) -> int:
        """Rounds in which someone else's work was seen."""
        return sum(each.loud is True for each in self.rounds)

    @property
    def goals(self) -> tuple[Goal, ...]:
        """The goals: no failure of ours, a small spread, and a fraction of the best peer's in a loud hour."""
        return self._no_failures(), self._small(), self._fraction_of_best_peer()

    @property
    def passed(self) -> bool:
        """Whether every goal was met."""
        return all(goal.met for goal in self.goals)

    def as_json(self) -> dict[str, Any]:
        """The table, the goals, and every round's own values, from which both can be computed again."""
        return {
            "rows": [asdict(row) for row in self.rows],
            "best_peer": self.best_peer,
            "ratio": self.ratio,
            "goals": [asdict(goal) for goal in self.goals],
            "passed": self.passed,
            "confidence": CONFIDENCE,
            "assumes": "independent, normal figures",
            "seed": self.seed,
            "loud_rounds": self.loud_rounds,
            "rounds": [asdict(each) for each in self.rounds],
        }

    def _failed(self, contender: str) -> int:
        return sum(contender in each.failures for each in self.rounds)

    def _ratio_to(self, peer: Spread) -> float | None:
        upper = self.spread(NORMALIZED).upper
        return upper / peer.relative if upper is not None and peer.relative else None

    def _no_failures(self) -> Goal:
        failed = self._failed(OURS)
        count, all_ = len(self.rounds) - failed, len(self.rounds)
        return Goal(_("{count} of {all} rounds of ours gave a figure", count=count, all=all_), not failed)

    def _small(self) -> Goal:
        ours = self.spread(NORMALIZED)
        asked = _(
            "normalized spread's upper {confidence}% limit at most {goal}",
            confidence=stated(100 * CONFIDENCE),
            goal=percent(GOAL),
        )
        if ours.upper is None:
            return _goal(asked, ours.reason, False)
        return _goal(asked, percent(ours.upper), ours.upper <= GOAL)

    def _fraction_of_best_peer(self) -> Goal:
        loud = percent(LOUD_HOUR)
        asked = _(
            "at most {share} of the best peer's spread where that is above {loud}",
            share=stated(GOAL_SHARE),
            loud=loud,
        )
        best, ours = self.best_peer, self.spread(NORMALIZED)
        spread = None if best is None else self.spread(best).relative
        if spread is None:
            return _goal(asked, _("no peer has a spread"), False)
        if spread <= LOUD_HOUR:
            quiet = _("not a loud hour, {peer} has {spread}", peer=best, spread=percent(spread))
            return _goal(asked, quiet, True)
        if ours.upper is None:
            return _goal(asked, ours.reason, False)
        share = ratio(ours.upper / spread)
        got = _("{share} of {peer}'s {spread}", share=share, peer=best, spread=percent(spread))
        return _goal(asked, got, ours.upper <= GOAL_SHARE * spread)


def _goal(asked: str, got: str | None, met: bool) -> Goal:
    return Goal(_("{name}: {said}", name=asked, said=got), met)


def read_counters() -> Counters:
    """CPU seconds of this process with its ended children, and of all on the CPUs it may use."""
    totals = read_cpu_totals(cpus=_cpus())
    busy, steal = totals or (None, None)
    own = os.times()
    return Counters(
        at_s=time.perf_counter(),
        process_cpu_s=own.user + own.system + own.children_user + own.children_system,
        busy_cpu_s=busy,
        steal_s=steal,
        tick_s=read_tick_s() if totals else None,
    )


def repeat(
    times: int,
    ours: Callable[[int], Figures],
    peers: Mapping[str, Callable[[int], float]],
    *,
    seed: int = SEED,
    progress: Callable[[int, str], None] = lambda number, contender: None,
    counters: Callable[[], Counters] = read_counters,
) -> Repeated:
    """Run every contender once in each of `times` rounds, in an order drawn from `seed`.

    `ours` and each of `peers` start a fresh process and return its figures in TFLOPS; they are given the
    round's number, from 0. One that raises, or returns what is no finite figure above 0, has failed in that
    round; the others go on. `progress` is called before each turn. Raises InputError for no rounds at all.
    """
    if times < 1:
        raise InputError("no rounds to run", where="--repeat", got=times, expected="1 or more")
    draw = random.Random(seed)
    turns: dict[str, _Turn] = {OURS: _both(ours)}
    turns |= {name: _one(name, peer) for name, peer in peers.items()}
    rounds = tuple(
        _round(number, draw.sample(list(turns), k=len(turns)), turns, progress, counters)
        for number in range(times)
    )
    return Repeated(tuple(peers), rounds, seed)


def _round(
    number: int,
    order: Sequence[str],
    turns: Mapping[str, _Turn],
    progress: Callable[[int, str], None],
    counters: Callable[[], Counters],
) -> Round:
    tflops: dict[str, float] = {}
    failures: dict[str, str] = {}
    before = counters()
    for contender in order:
        progress(number, contender)
        try:
            tflops |= _checked(turns[contender](number))
        except Exception as error:  # whatever it died of is a failure of this turn, not of the test
            failures[contender] = _reason(error)
    now = conditions_between(before, counters(), len(_cpus()))
    return Round(
        number,
        tuple(order),
        tflops,
        failures,
        now.elapsed_s,
        now.foreign_share,
        now.steal_share,
        is_contended(now),
    )


def _both(ours: Callable[[int], Figures]) -> _Turn:
    def turn(number: int) -> Mapping[str, float]:
        figures = ours(number)
        return {RAW: figures.raw, NORMALIZED: figures.normalized}

    return turn


def _one(name: str, peer: Callable[[int], float]) -> _Turn:
    return lambda number: {name: peer(number)}


def _checked(tflops: Mapping[str, float]) -> Mapping[str, float]:
    for name, figure in tflops.items():
        if not (math.isfinite(figure) and figure > 0):
            raise NoFigure(f"{name}: {figure} TFLOPS is no finite figure above 0")
    return tflops


def _reason(error: Exception) -> str:
    return plain(error if isinstance(error, NameplateError) else f"{type(error).__name__}: {error}")


def _cpus() -> frozenset[int]:
    """CPUs that this process, and so its children, may use."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))
