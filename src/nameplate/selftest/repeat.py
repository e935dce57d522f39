"""Self-test of repeatability: how far does a figure move when the process is started anew?

Each contender runs once a round, in a fresh process and in random order, so that a disturbance of the machine
reaches all of them alike. The spread is the standard deviation over the rounds ÷ their mean.
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
from nameplate.base.processes import usable_cpus
from nameplate.base.text import plain
from nameplate.device.protocol import Counters
from nameplate.engine.conditions import conditions_between
from nameplate.engine.verdict import is_contended
from nameplate.run.measure import SEED
from nameplate.selftest.contenders import NORMALIZED, OURS, RAW, Contender, NoFigure
from nameplate.telemetry.host import read_cpu_totals, read_tick_s

CONFIDENCE = 0.90
FEWEST = 5
GOAL = 0.02
# Where even the best peer spreads by more, the machine is contended, and ours is compared with that peer too.
CONTENDED_SPREAD = 0.08
GOAL_SHARE = 0.25


@dataclass(frozen=True)
class RestartSpread:
    """The spread of one contender's figures; `mean` is in TFLOPS, the rest are fractions of it.

    `upper` is the one-sided upper 90 % confidence limit of `relative`. With fewer than five figures both are
    None, and `reason` says so.
    """

    n: int
    mean: float | None
    relative: float | None = None
    upper: float | None = None
    reason: str | None = None


def spread_of(tflops: Sequence[float]) -> RestartSpread:
    """Return the spread of figures above 0, assumed independent and normal.

    (n − 1) s² ÷ σ² then has a chi-square distribution of n − 1 degrees of freedom, so σ is below
    s √((n − 1) ÷ χ²(10 %)) in 90 % of cases (NIST/SEMATECH e-Handbook of Statistical Methods, 7.2.3.1). The
    uncertainty of the mean is left out: at a spread of 10 % it would move the limit by less than 1 %.
    """
    n = len(tflops)
    mean = statistics.fmean(tflops) if tflops else None
    if mean is None or n < FEWEST:
        reason = _("{count} figures; a spread needs {least}", count=n, least=FEWEST)
        return RestartSpread(n, mean, reason=reason)
    relative = statistics.stdev(tflops) / mean
    factor = math.sqrt((n - 1) / float(chdtri(n - 1, CONFIDENCE)))
    return RestartSpread(n, mean, relative, relative * factor)


@dataclass(frozen=True)
class Round:
    """One turn of every contender, in `order`.

    `tflops` is by row, `failures` by contender: why it gave no figure. The shares are of the time of all
    usable CPUs over the whole round, starts of processes included: `foreign_share` went to processes that
    aren't contenders, `steal_share` to other guests. `loud` is whether either is above the limit for a
    contended record. None: the system doesn't tell.
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
class ContenderRow:
    """A line of the table. `ratio` is our normalized upper limit ÷ this peer's spread, None on our own."""

    contender: str
    spread: RestartSpread
    failed: int
    ratio: float | None = None


@dataclass(frozen=True)
class Goal:
    """A goal of ours in words, with the result, and whether it was met; None: too few figures to tell."""

    words: str
    met: bool | None

    def describe(self) -> str:
        """Return the goal as a sentence that begins with `pass`, `FAIL` or `unknown`."""
        if self.met is None:
            return _("unknown: {goal}", goal=self.words)
        return _(N_("pass: {goal}") if self.met else N_("FAIL: {goal}"), goal=self.words)


@dataclass(frozen=True)
class Repeated:
    """Every round, and what follows from them."""

    peers: tuple[str, ...]
    rounds: tuple[Round, ...]
    seed: int

    def spread(self, row: str) -> RestartSpread:
        """Return the spread of one row: RAW, NORMALIZED or a peer's name."""
        return spread_of([each.tflops[row] for each in self.rounds if row in each.tflops])

    @property
    def rows(self) -> tuple[ContenderRow, ...]:
        """The table: ours, raw and normalized, then the peers."""
        ours = (ContenderRow(name, self.spread(name), self._failed(OURS)) for name in (RAW, NORMALIZED))
        spreads = {name: self.spread(name) for name in self.peers}
        theirs = (
            ContenderRow(name, spread, self._failed(name), self._ratio_to(spread))
            for name, spread in spreads.items()
        )
        return (*ours, *theirs)

    @property
    def best_peer(self) -> str | None:
        """The peer with the smallest spread; None where no peer has a spread."""
        spreads = {name: self.spread(name).relative for name in self.peers}
        known = {name: relative for name, relative in spreads.items() if relative is not None}
        return min(known, key=known.__getitem__, default=None)

    @property
    def ratio(self) -> float | None:
        """Our normalized upper limit ÷ the best peer's spread; None where either is missing."""
        return None if self.best_peer is None else self._ratio_to(self.spread(self.best_peer))

    @property
    def contended_rounds(self) -> int:
        """In how many rounds other work was seen on the machine."""
        return sum(each.loud is True for each in self.rounds)

    @property
    def goals(self) -> tuple[Goal, ...]:
        """Our goals: no failure, a small spread, and a fraction of the best peer's on a contended machine."""
        return self._no_failures(), self._small_spread(), self._fraction_of_best_peer()

    @property
    def has_figures(self) -> bool:
        """Whether any process of ours gave a figure."""
        return self._failed(OURS) < len(self.rounds)

    @property
    def passed(self) -> bool:
        """Whether every goal was met."""
        return all(goal.met for goal in self.goals)

    @property
    def failed(self) -> bool:
        """Whether a goal was missed; where none was and not all were met, the others couldn't be told."""
        return any(goal.met is False for goal in self.goals)

    def as_json(self) -> dict[str, Any]:
        """Return the table, the goals, and the values of every round that both are computed from."""
        return {
            "rows": [asdict(row) for row in self.rows],
            "best_peer": self.best_peer,
            "ratio": self.ratio,
            "goals": [asdict(goal) for goal in self.goals],
            "passed": self.passed,
            "confidence": CONFIDENCE,
            "assumes": "independent, normal figures",
            "seed": self.seed,
            "loud_rounds": self.contended_rounds,
            "rounds": [asdict(each) for each in self.rounds],
        }

    def _failed(self, contender: str) -> int:
        return sum(contender in each.failures for each in self.rounds)

    def _ratio_to(self, peer: RestartSpread) -> float | None:
        upper = self.spread(NORMALIZED).upper
        return upper / peer.relative if upper is not None and peer.relative else None

    def _no_failures(self) -> Goal:
        failed = self._failed(OURS)
        count, all_ = len(self.rounds) - failed, len(self.rounds)
        return Goal(_("{count} of {all} rounds of ours gave a figure", count=count, all=all_), not failed)

    def _small_spread(self) -> Goal:
        ours = self.spread(NORMALIZED)
        goal = _(
            "normalized spread's upper {confidence}% limit at most {goal}",
            confidence=stated(100 * CONFIDENCE),
            goal=percent(GOAL),
        )
        if ours.upper is None:
            return _goal(goal, ours.reason, None)
        return _goal(goal, percent(ours.upper), ours.upper <= GOAL)

    def _fraction_of_best_peer(self) -> Goal:
        goal = _(
            "at most {share} of the best peer's spread where that is above {limit}",
            share=stated(GOAL_SHARE),
            limit=percent(CONTENDED_SPREAD),
        )
        best, ours = self.best_peer, self.spread(NORMALIZED)
        spread = None if best is None else self.spread(best).relative
        if spread is None:
            return _goal(goal, _("no peer has a spread"), None)
        if spread <= CONTENDED_SPREAD:
            calm = _("the machine isn't contended, {peer} has {spread}", peer=best, spread=percent(spread))
            return _goal(goal, calm, True)
        if ours.upper is None:
            return _goal(goal, ours.reason, None)
        share = ratio(ours.upper / spread)
        got = _("{share} of {peer}'s {spread}", share=share, peer=best, spread=percent(spread))
        return _goal(goal, got, ours.upper <= GOAL_SHARE * spread)


def _goal(goal: str, result: str | None, met: bool | None) -> Goal:
    return Goal(_("{name}: {said}", name=goal, said=result), met)


def repeat(
    times: int,
    ours: Contender,
    peers: Mapping[str, Contender],
    *,
    seed: int = SEED,
    progress: Callable[[int, str], None] = lambda number, contender: None,
    counters: Callable[[], Counters] | None = None,
) -> Repeated:
    """Run every contender once in each of `times` rounds, in an order drawn from `seed`.

    A contender that raises, or returns a figure that isn't finite and above 0, has failed in that round; the
    others go on. `progress` is called before each turn with the round's number, from 0, and the contender.
    `counters` reads CPU time, by default this system's. Raises InputError for no rounds at all.
    """
    if times < 1:
        raise InputError("no rounds to run", where="--repeat", got=times, expected="1 or more")
    draw = random.Random(seed)
    contenders = {OURS: ours, **peers}
    rounds = tuple(
        _run_round(
            number,
            {name: contenders[name] for name in draw.sample(list(contenders), k=len(contenders))},
            progress,
            counters or _read_counters,
        )
        for number in range(times)
    )
    return Repeated(tuple(peers), rounds, seed)


def _run_round(
    number: int,
    contenders: Mapping[str, Contender],
    progress: Callable[[int, str], None],
    counters: Callable[[], Counters],
) -> Round:
    tflops: dict[str, float] = {}
    failures: dict[str, str] = {}
    before = counters()
    for name, contender in contenders.items():
        progress(number, name)
        try:
            found = contender(number)
            _check_figures(found)
        except Exception as error:  # whatever it is, it is a failure of this turn, not of the test
            known = isinstance(error, NameplateError)
            failures[name] = plain(error if known else f"{type(error).__name__}: {error}")
        else:
            tflops |= found
    conditions = conditions_between(before, counters(), len(usable_cpus()))
    return Round(
        number,
        tuple(contenders),
        tflops,
        failures,
        conditions.elapsed_s,
        conditions.foreign_share,
        conditions.steal_share,
        is_contended(conditions),
    )


def _check_figures(tflops: Mapping[str, float]) -> None:
    for name, figure in tflops.items():
        if not (math.isfinite(figure) and figure > 0):
            raise NoFigure(f"{name}: {figure} TFLOPS is no finite figure above 0")


def _read_counters() -> Counters:
    """Read CPU seconds of this process with its ended children, and of all on the CPUs it may use."""
    busy, steal = read_cpu_totals(cpus=usable_cpus()) or (None, None)
    own = os.times()
    return Counters(
        at_s=time.perf_counter(),
        process_cpu_s=own.user + own.system + own.children_user + own.children_system,
        busy_cpu_s=busy,
        steal_s=steal,
        tick_s=None if busy is None else read_tick_s(),
    )
