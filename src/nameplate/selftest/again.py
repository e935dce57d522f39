"""Self-test by repetition: do the intervals of one run hold what other runs of the same command give?

    bench selftest --again 20 --suite smoke

The runs follow one another in a folder of their own, so each takes its history from those before it, as a
user's runs do. `summarize` computes everything from runs; it can be given some that were measured earlier.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from scipy.special import bdtr

from nameplate.base.errors import InputError
from nameplate.base.files import temporary_folder
from nameplate.base.formatting import count, percent, ratio
from nameplate.base.language import _
from nameplate.record import INTERVALS, Record
from nameplate.run.measure import measure
from nameplate.stats.between import predict_next
from nameplate.stats.interval import CONFIDENCE, Interval
from nameplate.store.folder import Run

FEWEST, MOST = 3, 1000
# Below this share of intervals that hold, the test fails. Twenty runs can't tell 95 of 100 from 90.
LEAST_HELD = 0.85
# One case alone fails the test only where chance would give so few of its intervals this rarely: with twenty
# runs, 15 or fewer. At 16, one test of ten cases in six would fail where all is as it should be.
_CHANCE = 0.001
# An interval that is too wide is as false as one too narrow. Who knows the law of a figure needs 2 standard
# deviations on either side, a run that knows them badly 3; a series of twenty finds them to a sixth.
WIDEST = 4.0
_FIGURES = ("tflops", "bandwidth_gb_s", "normalized_efficiency")


@dataclass(frozen=True)
class Shown:
    """What one run says of a figure: value and interval, where the next run is expected, the verdict."""

    value: float
    low: float
    high: float
    next_low: float | None
    next_high: float | None
    verdict: str


@dataclass(frozen=True)
class AgainRow:
    """One figure of one case over all runs; shares are of those runs that can be judged.

    `deviation` is the standard deviation between runs ÷ their mean, `half_width` the median of half the
    intervals' widths ÷ their figure. `held` is the share of intervals that hold the mean of the other runs,
    `next_held` the share of runs that lie where the run before expected them. `clean` counts verdicts.
    """

    case: str
    device: str
    figure: str
    runs: int
    processes: int
    mean: float
    deviation: float
    half_width: float
    held: float
    next_held: float | None
    clean: int
    values: tuple[Shown, ...]

    @property
    def is_by_chance(self) -> bool:
        """Whether chance explains how few of its intervals hold, if 95 of 100 do in the long run."""
        return _is_by_chance(self.held, self.runs) and (
            self.next_held is None or _is_by_chance(self.next_held, self.runs - 1)
        )


@dataclass(frozen=True)
class Again:
    """The rows of every case that at least three runs measured, and what they were made of."""

    suite: str
    runs: int
    rows: tuple[AgainRow, ...]

    @property
    def failures(self) -> tuple[str, ...]:
        """A sentence for each share that is too low: of each figure over all cases, and of single cases."""
        return (*self._check_figures(), *self._check_cases())

    @property
    def passed(self) -> bool:
        """Whether the intervals hold often enough."""
        return bool(self.rows) and not self.failures

    def as_json(self) -> dict[str, Any]:
        """Return the rows with every run's figures, what failed, and whether it passed."""
        return {
            "suite": self.suite,
            "runs": self.runs,
            "rows": [asdict(row) for row in self.rows],
            "failures": list(self.failures),
            "passed": self.passed,
        }

    def _check_figures(self) -> Iterator[str]:
        if not self.rows:
            yield _("no case has a figure in {count} runs", count=FEWEST)
        for figure in dict.fromkeys(row.figure for row in self.rows):
            rows = [row for row in self.rows if row.figure == figure]
            held = statistics.fmean(row.held for row in rows)
            wide = [row.half_width / row.deviation for row in rows if row.deviation]
            if wide and statistics.fmean(wide) > WIDEST:
                said = {"got": ratio(statistics.fmean(wide)), "most": ratio(WIDEST)}
                what = _("half an interval's width ÷ what runs differ by")
                yield _(
                    "{name}: {said}",
                    name=figure,
                    said=_("{what} is {got}; expected at most {most}", what=what, **said),
                )
            expected = [row.next_held for row in rows if row.next_held is not None]
            for what, share in (
                (_("intervals that hold the mean of the other runs"), held),
                (_("next runs where they were expected"), statistics.fmean(expected) if expected else None),
            ):
                if share is not None and share < LEAST_HELD:
                    said = {"got": percent(share), "least": percent(LEAST_HELD)}
                    yield _(
                        "{name}: {said}",
                        name=figure,
                        said=_("{what} is {got}; expected at least {least}", what=what, **said),
                    )

    def _check_cases(self) -> Iterator[str]:
        for row in self.rows:
            if not row.is_by_chance:
                yield _(
                    "{case}, {figure}: of {count} runs too few intervals hold for chance",
                    case=row.case,
                    figure=row.figure,
                    count=count(row.runs),
                )


def _is_by_chance(share: float, number: int) -> bool:
    held = round(share * number)
    return share >= LEAST_HELD or float(bdtr(held, number, CONFIDENCE)) >= _CHANCE


def run_again(
    times: int,
    suite: str = "smoke",
    *,
    device: str = "auto",
    only: str | None = None,
    budget: float | None = None,
    results: Path | None = None,
    progress: Callable[[int], None] = lambda number: None,
) -> list[Run]:
    """Run a suite so many times, one run after the other, and return the runs; `summarize` says how far they
    agree.

    They are kept in the folder `results`, where one is named; earlier runs in it are their history.
    `progress` is told the number of each run, from 1, before it begins. Raises InputError for too few runs to
    compare, too many, and whatever `measure` refuses.
    """
    if not FEWEST <= times <= MOST:
        expected = f"a number from {FEWEST} to {count(MOST)}"
        raise InputError("not a number of runs", where="--again", got=times, expected=expected)
    with temporary_folder() if results is None else nullcontext(results) as folder:
        runs = []
        for number in range(1, times + 1):
            progress(number)
            runs.append(measure(suite, device=device, only=only, budget=budget, results=folder))
        return runs


def summarize(runs: Sequence[Run]) -> Again:
    """Return how far runs of one suite agree, in the order given."""
    by_case: dict[tuple[str, str], list[Record]] = {}
    for run in runs:
        for record in run.records:
            if record.status == "ok":
                by_case.setdefault((record.device, record.case), []).append(record)
    rows = [
        row
        for (device, case), records in by_case.items()
        for figure in _FIGURES
        if (row := _make_row(case, device, figure, records)) is not None
    ]
    return Again(runs[0].manifest.suite if runs else "", len(runs), tuple(rows))


def _make_row(case: str, device: str, figure: str, records: Sequence[Record]) -> AgainRow | None:
    if figure == "bandwidth_gb_s" and any(record.tflops is not None for record in records):
        return None  # its throughput is a row already
    shown = [each for record in records if (each := _read(record, figure)) is not None]
    if len(shown) < FEWEST:
        return None
    values = [each.value for each in shown]
    expected = [
        before.next_low <= after.value <= before.next_high
        for before, after in pairwise(shown)
        if before.next_low is not None and before.next_high is not None
    ]
    others = [_mean([*values[:n], *values[n + 1 :]]) for n in range(len(values))]
    return AgainRow(
        case,
        device,
        figure,
        len(shown),
        round(statistics.median(record.processes or 1 for record in records)),
        _mean(values),
        statistics.stdev(values) / statistics.fmean(values),
        statistics.median((each.high - each.low) / 2 / each.value for each in shown),
        statistics.fmean(each.low <= mean <= each.high for each, mean in zip(shown, others, strict=True)),
        statistics.fmean(expected) if expected else None,
        sum(each.verdict == "clean" for each in shown),
        tuple(shown),
    )


def _read(record: Record, figure: str) -> Shown | None:
    interval = record.interval(figure)
    if interval is None:
        return None
    following = _expect_next(record, figure, interval)
    return Shown(
        interval.value,
        interval.low,
        interval.high,
        None if following is None else following.low,
        None if following is None else following.high,
        record.verdict,
    )


def _expect_next(record: Record, figure: str, interval: Interval) -> Interval | None:
    """Where the record expects the next run; of another than its main figure, by that one's own interval."""
    ends = record.interval_next
    if ends is not None and ends.figure == figure:
        return Interval(interval.value, ends.low, ends.high)
    main = "tflops" if record.tflops is not None else "bandwidth_gb_s"
    is_other = figure != main and figure in INTERVALS
    return predict_next(interval) if is_other and record.interval_kind == "run_to_run" else None


def _mean(values: Sequence[float]) -> float:
    """The mean of throughputs, by the time that the same work takes."""
    return statistics.harmonic_mean(values)
