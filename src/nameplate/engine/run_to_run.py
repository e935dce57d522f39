"""The run-to-run estimates of a group's cases: from its processes, other cases, and earlier runs.

What earlier runs showed is data in the run's manifest (`store/history.py` reads it from other runs); to it
`History` adds what the run's own earlier groups showed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from nameplate.engine.ceiling import Calibration, Ceiling
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
    student_half_width,
)
from nameplate.stats.interval import Interval
from nameplate.suite import Case
from nameplate.workload import Workload

# The figures that have a spread of their own; others are one of them × or ÷ what has no spread.
TIME, NORMALIZED = "time_s", "normalized_efficiency"
# Of a calibration that was given, and of one that an older record keeps without its degrees of freedom.
_GIVEN_FREEDOM = 1e6  # Student's law is then the normal one
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
    process, all divided by the same `calibration`, where there is one.
    """

    case: str
    kind: str
    within: Interval
    values: Sequence[float]
    calibration: Calibration | None = None


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
    kind = name_kind(case.workload)
    return Measured(case.id, kind, ceiling.normalized, ceiling.by_process, ceiling.calibration)


def estimate_group(
    figure: str, measured: Sequence[Measured | None], history: History
) -> list[Estimate | None]:
    """Return the estimate of one figure for each case of a group; None for a case without it.

    The cases were measured in the same processes. Their spread, that of their calibrations, of the run's
    earlier cases and of earlier runs are the prior for each. (A calibration is a product in a typical round ÷
    the probe, as a normalized figure is.)
    """
    known = [each for each in measured if each is not None]
    calibrations = {id(each.calibration): each.calibration for each in known if each.calibration is not None}
    rows = {id(each): each.values for each in known}
    rows |= {key: each.by_process for key, each in calibrations.items() if len(each.by_process) > 1}
    return [None if each is None else _estimate(figure, each, rows, history) for each in measured]


def _estimate(figure: str, one: Measured, rows: Mapping[int, Sequence[float]], history: History) -> Estimate:
    earlier = history.earlier.get((one.case, figure), ())
    others = [*(run.scatter for run in earlier), *history.own.get(figure, ())]
    prior = _find_prior(rows, one, others)
    known = estimate_between_runs(earlier)
    usual = history.usual.get((one.kind, figure)) if known is None else None
    shared = NO_SCATTER if one.calibration is None else _estimate_calibration(one.calibration, rows, others)
    between = known or usual
    basis = estimate_run_to_run(one.values, prior, between, is_usual=usual is not None, shared=shared)
    is_used = known is not None or (basis.prior.freedom > 0 and bool(earlier))
    return Estimate(one.within, tuple(one.values), basis, len(earlier) if is_used else 0)


def _find_prior(
    rows: Mapping[int, Sequence[float]], one: Measured | Calibration, others: Sequence[Scatter]
) -> Scatter:
    return find_prior(list(rows.values()), list(rows).index(id(one)), others)


def _estimate_calibration(
    calibration: Calibration, rows: Mapping[int, Sequence[float]], others: Sequence[Scatter]
) -> Scatter:
    """Return the variance of a calibration's mean over the processes that measured it.

    That is what they differ by, and not the interval within them: this knows nothing of what a process keeps,
    and of four short rounds in each it has hardly any degrees of freedom. One that a single process measured,
    or that was given, has no other.
    """
    if id(calibration) in rows:
        prior = _find_prior(rows, calibration, others)
        return estimate_run_to_run(calibration.by_process, prior).of_processes
    freedom = sum(each.kept - 1 for each in calibration.rounds) or _GIVEN_FREEDOM
    return stated_by(calibration.ratio.log_half_width, freedom) or NO_SCATTER


def as_spread(found: Estimate) -> Spread:
    """Return what a record keeps of an estimate, so that its interval can be computed again."""
    prior, between, shared = found.basis.prior, found.basis.between_runs, found.basis.shared
    return Spread(
        by_process=found.values,
        prior=prior.deviation,
        prior_freedom=prior.freedom,
        between_runs=None if between is None else between.deviation,
        between_runs_freedom=None if between is None else between.freedom,
        is_usual=found.basis.is_usual,
        shared=student_half_width(shared) if shared.variance else 0.0,
        shared_freedom=shared.freedom if shared.variance else 0.0,
        earlier_runs=found.earlier_runs,
    )


def basis_of(spread: Spread) -> RunToRun:
    """Return what the run-to-run interval of a record's figure follows from."""
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
    shared = basis.shared if spread.shared_freedom else NO_SCATTER
    return EarlierRun(began_s, math.log(value), basis.own, basis.processes, shared)


def half_width_of(spread: Spread) -> float:
    """Return half the run-to-run interval's width on a log scale, before it is held to that within."""
    return basis_of(spread).log_half_width


def half_width_within_run(spread: Spread) -> float:
    """Return the same without what runs differ by."""
    return basis_of(spread).log_half_width_within_run
