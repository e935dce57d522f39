"""How often is the outcome of comparing two real runs wrong? Runs of one machine, one after the other.

Each run is compared with the one before it, as `bench compare` does: they did the same work, so `faster` and
`slower` are wrong. Then once more with the later run's figures as they would be with 5 % more work, all its
times longer by that and scattered as they are: then `same` and `faster` are wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from scipy.special import bdtrc

from nameplate.base.errors import InputError
from nameplate.compare.comparison import compare_sides
from nameplate.compare.results import RunResults, Side, results_of_run
from nameplate.compare.simulated_pairs import MOST_WRONG, SPEED_OUTCOMES, PairRow
from nameplate.compare.validate import CompareOptions
from nameplate.store.folder import Run

MORE_WORK = 0.05
# Twenty runs can't tell 5 wrong outcomes in 100 from 8: more than 5 fail if chance explains them so rarely.
_CHANCE = 0.01


@dataclass(frozen=True)
class NeighbourRow(PairRow):
    """The outcomes of neighbouring runs; `runs` is how many there are, of all cases."""

    @property
    def failures(self) -> tuple[str, ...]:
        """A sentence for the bound, where it doesn't hold and chance doesn't explain that."""
        wrong = round(self.wrong * self.runs)
        return super().failures if wrong and bdtrc(wrong - 1, self.runs, MOST_WRONG) < _CHANCE else ()


def compare_neighbours(runs: Sequence[Run], slower: Sequence[float] = (0.0, MORE_WORK)) -> list[NeighbourRow]:
    """Compare each run with the one before it, a row for each share of more work, with all cases' outcomes.

    There is no row where no case can be compared.
    """
    results = [results_of_run(run) for run in runs]
    return [row for share in slower if (row := _count_outcomes(results, share)) is not None]


def _count_outcomes(results: Sequence[RunResults], slower: float) -> NeighbourRow | None:
    options, counts = CompareOptions(), Counter[str]()
    for before, after in pairwise(results):
        try:
            rows = compare_sides(
                Side("before", (before,)), Side("after", (_with_more_work(after, slower),)), options
            ).rows
        except InputError:  # nothing of these two can be compared
            continue
        counts.update(row.outcome for row in rows if row.outcome in SPEED_OUTCOMES)
    if not counts:
        return None
    right = {"ambiguous", "slower" if slower > options.threshold else "same"}
    wrong = sum(count for outcome, count in counts.items() if outcome not in right) / counts.total()
    name = "5 % more work" if slower else "the same work"
    about = "each run against the one before it, by case"
    shares = {outcome: counts[outcome] / counts.total() for outcome in SPEED_OUTCOMES}
    return NeighbourRow(f"compare: neighbouring runs, {name}", about, counts.total(), shares, wrong)


def _with_more_work(run: RunResults, share: float) -> RunResults:
    """Return the results that the run would have had if each launch had taken longer by `share`."""
    cases = [
        replace(
            case,
            metrics={
                metric: replace(value, interval=value.interval.scaled(1 / (1 + share)))
                for metric, value in case.metrics.items()
            },
        )
        for case in run.cases
    ]
    return replace(run, cases=tuple(cases))
