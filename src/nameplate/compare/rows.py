"""One case of a comparison: its ratio with the interval, the outcome, and the reason."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from nameplate.base.messages import Message, message, own_text
from nameplate.compare.estimate import (
    FEWEST_FOR_SCATTER,
    RestartSpread,
    RunFigure,
    estimate_from_pairs,
    estimate_from_runs,
    find_restart_spread,
)
from nameplate.compare.results import CaseResult, Metric, MetricValue, State
from nameplate.compare.validate import CompareOptions, choose_metric
from nameplate.stats.between import HOUR_S
from nameplate.stats.interval import Interval

# The last three say nothing about speed. missing: only base has a figure. added: only new has one.
Outcome = Literal["slower", "faster", "same", "ambiguous", "incomparable", "missing", "added"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
# What says by how much runs of the same code differ: three runs or more of a side (or pairs); the processes
# of each run; or nothing, so that a restart spread is allowed for.
ScatterBasis = Literal["measured", "processes", "allowed for"]
# More runs than this are never advised: nobody would measure them.
_MOST_ADVISED_RUNS = 100
# Which of a side's runs a result is from (by its position), and on which of its devices.
RunDevice = tuple[int, str]
CaseResults = Mapping[RunDevice, CaseResult]


@dataclass(frozen=True)
class Row:
    """One case. `ratio` is new ÷ base with its interval: above 1, new is faster. Unknown values are None.

    `base` and `new` are geometric means of the figures, in `unit`; `base_runs` and `new_runs` are how many
    figures (or pairs) there are. `scatter` is what says by how much runs differ. `runs_needed` are the
    runs a side, or the pairs, that would decide an ambiguous case: infinite where no reasonable number would.
    `broken`: in new, the case failed, is missing or has a wrong result. `device` is a kind, such as `cuda`,
    where all devices of that kind were taken together.
    """

    case: str
    device: str
    outcome: Outcome
    ratio: Interval | None = None
    metric: Metric | None = None
    unit: str | None = None
    base: float | None = None
    new: float | None = None
    base_runs: int = 0
    new_runs: int = 0
    scatter: ScatterBasis | None = None
    broken: bool = False
    reason: Message | None = None
    runs_needed: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the row as a flat JSON object; an end of the interval that isn't finite is null."""
        ends = (None,) * 3 if self.ratio is None else (self.ratio.value, self.ratio.low, self.ratio.high)
        value, low, high = (end if end is not None and math.isfinite(end) else None for end in ends)
        return {
            "case": self.case,
            "device": self.device,
            "word": self.outcome,
            "ratio": value,
            "ratio_low": low,
            "ratio_high": high,
            "basis": self.metric,
            "unit": self.unit,
            "base": self.base,
            "new": self.new,
            "base_runs": self.base_runs,
            "new_runs": self.new_runs,
            "scatter": self.scatter,
            "runs_needed": self.runs_needed if self.runs_needed and math.isfinite(self.runs_needed) else None,
            "broken": self.broken,
            "reason": None if self.reason is None else str(self.reason),
        }


@dataclass(frozen=True)
class PairedCase:
    """A case of which both sides have figures of one metric.

    Its outcome is decided later, once the number of such cases is known: they share one significance level.
    `doubt` says why its runs can't decide anything, whatever their interval.
    """

    case: str
    device: str
    metric: Metric
    base: Mapping[RunDevice, MetricValue]
    new: Mapping[RunDevice, MetricValue]
    restart_spread: RestartSpread
    same_hour: bool = True  # whether all its runs began within an hour of one another
    broken: bool = False
    doubt: Message | None = None
    notes: tuple[Message, ...] = ()

    @property
    def shows_scatter(self) -> bool:
        """Whether a side has enough runs to estimate their scatter."""
        return max(len(self.base), len(self.new)) >= FEWEST_FOR_SCATTER

    def find_scatter_basis(self, options: CompareOptions) -> ScatterBasis:
        """Return what says by how much runs differ.

        A run's processes show what differs from run to run within an hour. On a CPU, which other guests may
        share, raw throughput of two different hours differs by more: then a restart spread is allowed for.
        """
        if self.shows_scatter:
            return "measured"
        figures = (*self.base.values(), *self.new.values())
        by_hour = self.metric != "normalized" and self.restart_spread.kind != "cuda"
        shows = options.restart_spread is None and (self.same_hour or not by_hour)
        return "processes" if shows and all(each.run_to_run for each in figures) else "allowed for"

    @property
    def pairs(self) -> list[tuple[RunDevice, float, float]]:
        """Run and device, base figure and new figure of each pair of runs."""
        common = sorted(self.base.keys() & self.new.keys())
        return [(place, self.base[place].interval.value, self.new[place].interval.value) for place in common]


def pair_case(
    case: str, device: str, base: CaseResults, new: CaseResults, options: CompareOptions, *, in_pairs: bool
) -> PairedCase | Row | None:
    """Pair the results of one case; a Row where they can't be compared, None where no side has a figure."""
    base_ok, new_ok = _select_ok(base), _select_ok(new)
    broken = next((result for result in new.values() if result.state in (*_NO_FIGURE, "failed")), None)
    if not base_ok and new_ok:
        return _make_row_without_base(case, device, base)
    if broken is not None and broken.state in _NO_FIGURE:
        reason = message("of_new", why=broken.reason)
        return Row(case, device, "incomparable", broken=True, reason=reason)
    if not base_ok:
        return None
    if not new_ok:
        return Row(case, device, "missing", broken=True, reason=_explain_no_figure(new))
    difference = _explain_incomparable(base_ok, new_ok, options)
    if difference is not None:
        return Row(case, device, "incomparable", reason=difference)
    metric, why_metric = choose_metric([*base_ok.values()], [*new_ok.values()], options)
    base_values, new_values = _select_metric(base_ok, metric), _select_metric(new_ok, metric)
    if not base_values or not new_values:
        code = "nothing_achieved" if metric == "achieved" else "nothing_by_basis"
        return Row(case, device, "incomparable", reason=message(code, basis=own_text(metric)))
    notes = [
        why_metric,
        _note_other_kernel(base_ok, new_ok),
        _note_some(new, "failed", "new_failed_in"),
        _note_some(base, "wrong", "base_wrong_in"),
        _note_some(base, "unreadable", "base_unreadable_in"),
    ]
    shared = _shared_doubts(base_ok, new_ok)
    doubt = _explain_doubt(base_ok, "base_doubted", shared) or _explain_doubt(new_ok, "new_doubted", shared)
    return PairedCase(
        case,
        device,
        metric,
        base_values,
        new_values,
        find_restart_spread(next(iter(base_ok.values())).kind, metric),
        same_hour=_is_same_hour([*base_ok.values(), *new_ok.values()]),
        broken=broken is not None,
        doubt=None if in_pairs else doubt,
        notes=tuple(note for note in notes if note is not None),
    )


def _is_same_hour(results: Sequence[CaseResult]) -> bool:
    """Whether their runs began within an hour of one another; not where one doesn't say."""
    began = [result.began for result in results if result.began is not None]
    if len(began) < len(results):
        return False
    return (max(began) - min(began)).total_seconds() <= HOUR_S


def _select_ok(results: CaseResults) -> dict[RunDevice, CaseResult]:
    return {place: result for place, result in results.items() if result.state == "ok"}


def _select_metric(results: CaseResults, metric: Metric) -> dict[RunDevice, MetricValue]:
    return {place: result.metrics[metric] for place, result in results.items() if metric in result.metrics}


def _make_row_without_base(case: str, device: str, base: CaseResults) -> Row:
    if not base:
        return Row(case, device, "added", reason=message("base_lacks"))
    return Row(case, device, "incomparable", reason=message("of_base", why=_explain_no_figure(base)))


# States in which a case was measured, and yet there is nothing to compare.
_NO_FIGURE = ("wrong", "unreadable")
# The message that explains each state in which a result has no figure.
_STATE_MESSAGES = {
    "missing": "is_missing",
    "failed": "is_failed",
    "skipped": "is_skipped",
    "wrong": "is_wrong",
    "unreadable": "is_unreadable",
}


def _explain_no_figure(results: CaseResults) -> Message:
    result = next(iter(results.values()), None)
    if result is None:
        return message("new_lacks")
    return message(_STATE_MESSAGES[result.state], why=result.reason)


def _explain_incomparable(base: CaseResults, new: CaseResults, options: CompareOptions) -> Message | None:
    """Say how part or work of the two sides differ; None where they are the same."""
    if not options.across_parts and len({result.part for result in (*base.values(), *new.values())}) > 1:
        return message("two_parts")
    base_work, new_work = (
        dict.fromkeys(result.work for result in results.values()) for results in (base, new)
    )
    if len(base_work | new_work) == 1:
        return None
    return message("two_works", base=list(base_work), new=list(new_work))


def _note_other_kernel(base: CaseResults, new: CaseResults) -> Message | None:
    """`another kernel ran: … in base, … in new`; None where both sides ran the same, or one doesn't tell."""
    of_base, of_new = (
        list(dict.fromkeys(one.kernel for one in side.values() if one.kernel)) for side in (base, new)
    )
    if not of_base or not of_new or set(of_base) == set(of_new):
        return None
    return message("other_kernel", base=of_base, new=of_new)


def _note_some(results: CaseResults, state: State, code: str) -> Message | None:
    """`new: failed in 1 of 5 runs: …`; None where no result has that state."""
    found = [result for result in results.values() if result.state == state]
    return message(code, count=len(found), all=len(results), why=found[0].reason) if found else None


# Verdicts on what both figures are divided by, and not on the figures: on both sides they say nothing about
# their ratio.
_ON_THE_RATING = frozenset({"above_peak"})


def _shared_doubts(base: CaseResults, new: CaseResults) -> frozenset[str]:
    """Return the doubts on the rating that every result of either side has."""
    sides = [result.doubts for result in (*base.values(), *new.values())]
    return frozenset(doubt for doubt in _ON_THE_RATING if all(doubt in doubts for doubts in sides))


def _explain_doubt(results: CaseResults, code: str, shared: frozenset[str]) -> Message | None:
    """Say which verdicts stand against a side, those `shared` by both left out.

    None for trusted records, and where scatter is measured.
    """
    left = [[doubt for doubt in result.doubts if doubt not in shared] for result in results.values()]
    doubts = next(filter(None, left), None)
    if doubts is None or len(results) >= FEWEST_FOR_SCATTER:
        return None
    return message(code, verdicts=[own_text(verdict) for verdict in doubts], least=FEWEST_FOR_SCATTER)


def make_row(case: PairedCase, options: CompareOptions, confidence: float, *, in_pairs: bool) -> Row:
    """Estimate the ratio with an interval of that confidence, and decide the outcome."""
    basis: ScatterBasis = "measured" if in_pairs else case.find_scatter_basis(options)
    if in_pairs and not case.pairs:
        reason = message("no_pair")
        return Row(case.case, case.device, "ambiguous", broken=case.broken, reason=reason)
    if in_pairs:
        log_ratios = [math.log(new / base) for _place, base, new in case.pairs]
        ratio = estimate_from_pairs(log_ratios, confidence)
        base_runs = new_runs = len(case.pairs)
    else:
        spread = case.restart_spread.value if options.restart_spread is None else options.restart_spread
        base, new = (_figures_of(side.values(), basis) for side in (case.base, case.new))
        ratio = estimate_from_runs(base, new, spread, confidence)
        base_runs, new_runs = len(base), len(new)
    outcome = "ambiguous" if case.doubt is not None else classify(ratio, options.threshold)
    why, needed = case.doubt, None
    if why is None and outcome == "ambiguous":
        needed = _count_needed(ratio, base_runs, new_runs, options.threshold)
        why = _explain_ambiguous(ratio, needed, in_pairs)
    clauses = [*([] if why is None else [why]), *case.notes]
    return Row(
        case.case,
        case.device,
        outcome,
        ratio,
        case.metric,
        next(iter(case.base.values())).unit,
        _geometric_mean(case.base.values()),
        _geometric_mean(case.new.values()),
        base_runs,
        new_runs,
        scatter=basis,
        broken=case.broken,
        reason=message("clauses", each=clauses) if len(clauses) > 1 else next(iter(clauses), None),
        runs_needed=needed,
    )


def _figures_of(values: Iterable[MetricValue], basis: ScatterBasis) -> list[RunFigure]:
    return [RunFigure(each.interval, each.run_to_run if basis == "processes" else None) for each in values]


def classify(ratio: Interval, threshold: float) -> Outcome:
    """Return the outcome that the whole interval supports; `ambiguous` where it crosses a threshold."""
    if ratio.high < 1 - threshold:
        return "slower"
    if ratio.low > 1 + threshold:
        return "faster"
    return "same" if ratio.low >= 1 - threshold and ratio.high <= 1 + threshold else "ambiguous"


def _count_needed(ratio: Interval, base_runs: int, new_runs: int, threshold: float) -> float | None:
    """Return how many runs a side, or pairs, would decide; infinite for more than anybody would measure.

    None where more wouldn't help, since the ratio is at the threshold, and where nothing is known yet.
    """
    half = ratio.log_half_width
    if not math.isfinite(half) or half <= threshold:
        return None
    # The number of runs on both sides that would give the same interval. Intervals narrow with its root.
    equivalent_runs = 2 / (1 / base_runs + 1 / new_runs)
    needed = math.ceil(equivalent_runs * (half / (threshold / 2)) ** 2)
    return needed if needed <= _MOST_ADVISED_RUNS else math.inf


def _explain_ambiguous(ratio: Interval, needed: float | None, in_pairs: bool) -> Message:
    """Say how wide the interval is, and how many runs or pairs would decide."""
    half = ratio.log_half_width
    if not math.isfinite(half):
        return message("few_pairs" if in_pairs else "few_runs")
    if needed is None:
        return message("at_threshold")
    if math.isfinite(needed):
        would = message("pairs_would_tell" if in_pairs else "runs_would_tell", count=int(needed))
    else:
        would = message("no_pairs_would_tell" if in_pairs else "no_runs_would_tell")
    return message("wider_than_threshold", half_width=half, would=would)


def _geometric_mean(values: Iterable[MetricValue]) -> float:
    logs = [math.log(value.interval.value) for value in values]
    return math.exp(sum(logs) / len(logs))
