"""How often is the outcome of comparing two single runs wrong? Simulated pairs whose truth is known.

Each side is one run of several processes, as the engine summarises them; the comparison is the one that
`bench compare` makes of their records.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nameplate.base.formatting import percent
from nameplate.base.language import _
from nameplate.compare.estimate import RunFigure, estimate_from_runs
from nameplate.compare.rows import classify
from nameplate.compare.validate import THRESHOLD
from nameplate.stats.between import estimate_run_to_run, find_prior, stated_by
from nameplate.stats.interval import CONFIDENCE, Interval

PAIRS = 500
_CASES = 4  # of a group: the others are the prior of the one that is compared
_NOISE = 0.0015  # of a process's mean, by what goes on within it
MOST_WRONG = 0.05
SPEED_OUTCOMES = ("same", "ambiguous", "slower", "faster")
Generator = np.random.Generator
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Pair:
    """Two runs that are compared: how their processes differ, and by how much the new one is slower.

    `keep` draws what each process of each case keeps, as a factor on its times: cases × processes.
    """

    name: str
    about: str
    processes: int
    slower: float
    keep: Callable[[Generator, int], Floats]


@dataclass(frozen=True)
class PairRow:
    """The share of each outcome among simulated pairs; `wrong`: of those that the truth contradicts."""

    scenario: str
    about: str
    runs: int
    outcomes: Mapping[str, float]
    wrong: float

    @property
    def failures(self) -> tuple[str, ...]:
        """A sentence for the bound, where it doesn't hold."""
        if self.wrong <= MOST_WRONG:
            return ()
        ends = {"got": percent(self.wrong), "most": percent(MOST_WRONG)}
        return (_("{what} is {got}; expected at most {most}", what=_("share of wrong outcomes"), **ends),)

    @property
    def passed(self) -> bool:
        """Whether wrong outcomes are rare enough."""
        return not self.failures

    def as_json(self) -> dict[str, Any]:
        """Return every field, and whether it passed."""
        fields = {"words" if name == "outcomes" else name: each for name, each in asdict(self).items()}
        return {**fields, "failures": list(self.failures), "passed": self.passed}


def _place(deviation: float) -> Callable[[Generator, int], Floats]:
    return lambda generator, processes: np.exp(deviation * generator.standard_normal((_CASES, processes)))


def _keep_mode(generator: Generator, processes: int) -> Floats:
    return generator.choice([1.0, 1.12], (_CASES, processes))


def _list_pairs() -> tuple[Pair, ...]:
    placed, mode = (
        "what a process keeps varies by {share}",
        "each process keeps one of two speeds, 12 % apart",
    )
    found = []
    for slower, what in ((0.0, "identical"), (0.05, "5 % more work")):
        for deviation in (0.004, 0.01, 0.04):
            about = placed.format(share=percent(deviation))
            name = f"{what}, placement {percent(deviation)}"
            found.append(Pair(name, about, 5, slower, _place(deviation)))
        found.append(Pair(f"{what}, a mode kept", mode, 5, slower, _keep_mode))
    return tuple(found)


def compare_simulated_pairs(pairs: int = PAIRS, threshold: float = THRESHOLD) -> list[PairRow]:
    """Compare `pairs` simulated pairs of single runs for each case, and return the shares of outcomes."""
    return [_count_outcomes(pair, pairs, threshold, seed) for seed, pair in enumerate(_list_pairs())]


def _count_outcomes(pair: Pair, pairs: int, threshold: float, seed: int) -> PairRow:
    generator = np.random.default_rng(seed)
    counts: Counter[str] = Counter()
    for _number in range(pairs):
        base, new = (_run(pair, generator, factor) for factor in (1.0, 1.0 + pair.slower))
        ratio = estimate_from_runs([base], [new], math.inf, CONFIDENCE)
        counts[classify(ratio, threshold)] += 1
    right = {"ambiguous", "slower" if pair.slower > threshold else "same"}
    wrong = sum(count for outcome, count in counts.items() if outcome not in right) / pairs
    shares = {outcome: counts[outcome] / pairs for outcome in SPEED_OUTCOMES}
    return PairRow(f"compare: {pair.name}", pair.about, pairs, shares, wrong)


def _run(pair: Pair, generator: Generator, factor: float) -> RunFigure:
    """Measure one run: a throughput with the spread that its record would have."""
    kept_CP = factor * pair.keep(generator, pair.processes)
    means_CP = kept_CP * (1 + _NOISE * generator.standard_normal(kept_CP.shape))
    return summarize(means_CP)


def summarize(means_CP: Sequence[Sequence[float]] | Floats) -> RunFigure:
    """Return the first case of a group as a record has it: the means of its processes, and its spread."""
    rows = [list(map(float, row)) for row in means_CP]
    basis = estimate_run_to_run(rows[0], find_prior(rows, 0))
    half, value = basis.log_half_width, 1 / float(np.mean(rows[0]))
    return RunFigure(Interval.from_log_half_width(value, half), stated_by(half, basis.freedom))
