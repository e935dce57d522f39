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
    NO_SCATTER,
    EarlierRun,
    Estimate,
    RunToRun,
    Scatter,
    estimate_between_runs,
    estimate_run_to_run,
    find_prior,
    scatter_of,
    stated_by,
)
from nameplate.stats.interval import Interval
from nameplate.suite import Case
from nameplate.workload import Workload

# The figures that have a spread of their own; others are one of them × or ÷ what has no spread.
TIME, NORMALIZED = "time_s", "normalized_efficiency"
# Of what an older record's processes shared, where it keeps no degrees of freedom: Student's law is then the
# normal one.
_GIVEN_FREEDOM = 1e6
_Key = tuple[str, str]  # case and figure


@dataclass
class History:
    """What is known of a figure's spread before it is measured.

    `earlier` is what earlier runs showed, by case and figure; empty where there are none, or none are wanted.
    `own` is the spread between processes of the cases that this run has measured so far, by figure. `usual`
    is how far runs differ on machines like this one, by kind of work (`name_kind`) and figure
    (`usual_spread.py`): it counts until the machine's own earlier runs tell.
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

    `kind` is the kind of work. `within` has the interval within the processes; `values` are those of each
    process.
    """

    case: str
    kind: str
    within: Interval
    values: Sequence[float]


def name_kind(work: Workload) -> str:
    """Return the kind of work by which it is known how far runs usually differ: the workload's name.

    Of work in a cache, or over a link, with that level: main memory's figure isn't theirs.
    """
    level = work.dimensions.get("level")
    return work.name if level is None else f"{work.name} in {level}"


def measure_time(case: Case, window: Window) -> Measured:
    """Return the mean seconds per launch of a case's window."""
    return Measured(case.id, name_kind(case.workload), window.interval(), window.means_s())


def measure_normalized(case: Case, ceiling: Ceiling | None) -> Measured | None:
    """Return achieved ÷ ceiling where it was measured beside a probe; None where there is no such figure."""
    if ceiling is None or not ceiling.by_process:
        return None
    return Measured(case.id, name_kind(case.workload), ceiling.normalized, ceiling.by_process)


def estimate_group(
    figure: str, measured: Sequence[Measured | None], history: History
) -> list[Estimate | None]:
    """Return the estimate of one figure for each case of a group; None for a case without it.

    The cases were measured in the same processes. Their spread, that of the run's earlier cases and of
    earlier runs are the prior for each.
    """
    known = [each for each in measured if each is not None]
    rows, places = [each.values for each in known], {id(each): place for place, each in enumerate(known)}
    return [
        None if each is None else _estimate(figure, each, rows, places[id(each)], history)
        for each in measured
    ]


def _estimate(
    figure: str, one: Measured, rows: Sequence[Sequence[float]], place: int, history: History
) -> Estimate:
    """Return the estimate of one case; its values are the row at `place` of those of its group."""
    earlier = history.earlier.get((one.case, figure), ())
    others = [*(run.scatter for run in earlier), *history.own.get(figure, ())]
    prior = find_prior(rows, place, others)
    known = estimate_between_runs(earlier)
    usual = history.usual.get((one.kind, figure)) if known is None else None
    basis = estimate_run_to_run(one.values, prior, known or usual, is_usual=usual is not None)
    is_used = known is not None or (basis.prior.freedom > 0 and bool(earlier))
    return Estimate(one.within, tuple(one.values), basis, len(earlier) if is_used else 0)


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
        earlier_runs=found.earlier_runs,
    )


def basis_of(spread: Spread) -> RunToRun:
    """Return what the run-to-run interval of a record's figure follows from.

    `shared` is of records up to method 7, whose normalized figures were divided by a calibration of the run.
    """
    between = None
    if spread.between_runs is not None:
        between = Scatter(spread.between_runs**2, spread.between_runs_freedom or 0.0)
    prior = Scatter(spread.prior**2, spread.prior_freedom)
    shared = None
    if spread.shared:
        shared = stated_by(spread.shared, spread.shared_freedom or _GIVEN_FREEDOM)
    own = scatter_of(spread.by_process)
    return RunToRun(len(spread.by_process), own, prior, between, spread.is_usual, shared or NO_SCATTER)


def earlier_run_of(began_s: float, value: float, spread: Spread) -> EarlierRun:
    """Return what a record of an earlier run says of a figure: its value above 0, and its spread."""
    basis = basis_of(spread)
    return EarlierRun(began_s, math.log(value), basis.own, basis.processes)


def half_width_of(spread: Spread) -> float:
    """Return half the run-to-run interval's width on a log scale, before it is held to that within."""
    return basis_of(spread).log_half_width


def half_width_within_run(spread: Spread) -> float:
    """Return the same without what runs differ by."""
    return basis_of(spread).log_half_width_within_run
