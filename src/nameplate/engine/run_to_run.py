"""The run-to-run estimates of a group's cases: from its processes, other cases, and earlier runs.

What earlier runs showed is data in the run's manifest (`store/history.py` reads it from other runs); to it
`History` adds what the run's own earlier groups showed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from nameplate.engine.ceiling import Ceiling
from nameplate.engine.window import Window
from nameplate.record import Record, Spread
from nameplate.stats.between import (
    EarlierRun,
    Estimate,
    RunToRun,
    Scatter,
    estimate_between_runs,
    estimate_run_to_run,
    find_prior,
    scatter_of,
)
from nameplate.stats.interval import Interval

# The figures that have a spread of their own; others are one of them × or ÷ what has no spread.
TIME, NORMALIZED = "time_s", "normalized_efficiency"
_Key = tuple[str, str]  # case and figure


@dataclass
class History:
    """What is known of a figure's spread before it is measured.

    `earlier` is what earlier runs showed, by case and figure; empty where there are none, or none are wanted.
    `own` is the spread between processes of the cases that this run has measured so far, by figure. `usual`
    is how far runs differ on machines like this one, by workload and figure (`usual_spread.py`): it counts
    until the machine's own earlier runs tell.
    """

    earlier: Mapping[_Key, Sequence[EarlierRun]] = field(default_factory=dict)
    usual: Mapping[_Key, Scatter] = field(default_factory=dict)
    own: dict[str, list[Scatter]] = field(default_factory=dict)

    def learn(self, records: Iterable[Record]) -> None:
        """Add the spread of cases that this run has measured."""
        for record in records:
            for figure, spread in record.spreads.items():
                if len(spread.by_process) > 1:
                    self.own.setdefault(figure, []).append(scatter_of(spread.by_process))


@dataclass(frozen=True)
class Measured:
    """One figure of one case, before other cases are looked at.

    `within` has the interval within the processes; `values` are those of each process. `shared` is half the
    width, on a log scale, of what the processes have in common.
    """

    case: str
    within: Interval
    values: Sequence[float]
    shared: float = 0.0


def measure_time(case: str, window: Window) -> Measured:
    """Return the mean seconds per launch of a case's window."""
    return Measured(case, window.interval(), window.means_s())


def measure_normalized(case: str, ceiling: Ceiling | None) -> Measured | None:
    """Return achieved ÷ ceiling where it was measured beside a probe; None where there is no such figure."""
    if ceiling is None or not ceiling.by_process:
        return None
    return Measured(case, ceiling.normalized, ceiling.by_process, ceiling.shared)


def estimate_group(
    figure: str, measured: Sequence[Measured | None], history: History
) -> list[Estimate | None]:
    """Return the estimate of one figure for each case of a group; None for a case without it.

    The cases were measured in the same processes. Their spread, that of the run's earlier cases and that of
    earlier runs are the prior for each.
    """
    known = [each for each in measured if each is not None]
    rows = [each.values for each in known]
    found = {id(each): _estimate(figure, each, rows, number, history) for number, each in enumerate(known)}
    return [None if each is None else found[id(each)] for each in measured]


def _estimate(
    figure: str, one: Measured, rows: Sequence[Sequence[float]], number: int, history: History
) -> Estimate:
    earlier = history.earlier.get((one.case, figure), ())
    others = [*(run.scatter for run in earlier), *history.own.get(figure, ())]
    prior = find_prior(rows, number, others)
    known = estimate_between_runs(earlier)
    usual = history.usual.get((one.case.split("/")[0], figure)) if known is None else None
    basis = estimate_run_to_run(one.values, prior, known or usual, is_usual=usual is not None)
    is_used = known is not None or (basis.prior.freedom > 0 and bool(earlier))
    return Estimate(one.within, tuple(one.values), basis, len(earlier) if is_used else 0, one.shared)


def as_spread(found: Estimate) -> Spread:
    """Return what a record keeps of an estimate, so that its interval can be computed again."""
    prior, between = found.basis.prior, found.basis.between_runs
    return Spread(
        by_process=found.values,
        prior=prior.deviation,
        prior_freedom=prior.freedom,
        between_runs=None if between is None else between.deviation,
        between_runs_freedom=None if between is None else between.freedom,
        is_usual=found.basis.is_usual,
        shared=found.shared,
        earlier_runs=found.earlier_runs,
    )


def basis_of(spread: Spread) -> RunToRun:
    """Return what the run-to-run interval of a record's figure follows from."""
    between = None
    if spread.between_runs is not None:
        between = Scatter(spread.between_runs**2, spread.between_runs_freedom or 0.0)
    prior = Scatter(spread.prior**2, spread.prior_freedom)
    return RunToRun(len(spread.by_process), scatter_of(spread.by_process), prior, between, spread.is_usual)


def half_width_of(spread: Spread) -> float:
    """Return half the run-to-run interval's width on a log scale, before it is held to that within."""
    return math.hypot(basis_of(spread).log_half_width, spread.shared)


def half_width_within_run(spread: Spread) -> float:
    """Return the same without what runs differ by."""
    return math.hypot(basis_of(spread).log_half_width_within_run, spread.shared)
