"""Simulated nodes, healthy or with one slow card, judged by the real rules: false alarms and drops found.

Each way of judging shows how often it accuses a healthy node, and the smallest drop of one card that it finds
in 99 of 100 nodes. Cards differ by a deviation from card to card, in each case by itself; a card's runs
differ by a deviation from run to run. So the thresholds of health.toml are shown, not promised.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from nameplate.base.formatting import percent
from nameplate.base.language import N_, _
from nameplate.health.thresholds import HealthThresholds, health_thresholds
from nameplate.stats.between import moderate
from nameplate.stats.stragglers import Examination, compare_with_past, pool_past

NODES = 10_000
GPUS, CASES, PAST = 8, 4, 5  # of a node, of a check, and earlier runs of it
CARD_DEVIATIONS = (0.005, 0.0135, 0.0175, 0.037)
RUN_DEVIATIONS = (0.003, 0.005, 0.01)
FOUND = 0.99
# What must be found against the own past, where runs differ by no more than health.toml takes for it.
BOUND_OF_PAST = 0.05
# A share of alarms that the level makes in one of a thousand simulations.
_MOST_ALARMS = 0.999
SEED = 20
WAYS = {
    "siblings": N_("the node's other devices"),
    "past": N_("its own earlier runs"),
    "rating": N_("rating and published figures"),
    "median": N_("median − 3 × 1.4826 × MAD"),
}
Floats = NDArray[np.float64]
Generator = np.random.Generator


@dataclass(frozen=True)
class CheckRow:
    """One way of judging nodes that differ so: its false alarms a node, and the drop that it finds.

    `card_deviation` is from card to card, `run_deviation` from run to run; None: it has no effect here. The
    row passes with at most the share `most` of alarms and the drop `bound`; None: whatever it is.
    """

    way: str
    card_deviation: float | None
    run_deviation: float | None
    nodes: int
    alarms: float
    most: float | None
    found: float
    bound: float | None

    @property
    def failures(self) -> tuple[str, ...]:
        """A sentence for each bound that doesn't hold."""
        way, said = _(WAYS[self.way]), []
        if self.most is not None and self.alarms > self.most:
            said.append(
                _(
                    "{way}: {alarms} of healthy nodes are accused, more than {most}",
                    way=way,
                    alarms=percent(self.alarms),
                    most=percent(self.most),
                )
            )
        if self.bound is not None and self.found > self.bound:
            said.append(
                _(
                    "{way}: the smallest drop that is found is {found}, more than {bound}",
                    way=way,
                    found=percent(self.found),
                    bound=percent(self.bound),
                )
            )
        return tuple(said)

    @property
    def passed(self) -> bool:
        """Whether every bound holds."""
        return not self.failures

    def as_json(self) -> dict[str, Any]:
        """Return the row as plain JSON values."""
        return {**asdict(self), "passed": self.passed}


def simulate_checks(nodes: int = NODES, limits: HealthThresholds | None = None) -> list[CheckRow]:
    """Return what each way of judging makes of so many simulated nodes."""
    rules, rng = limits or health_thresholds(), np.random.default_rng(SEED)
    rows = [_judge_siblings(rng, nodes, each, rules) for each in CARD_DEVIATIONS]
    rows += [_judge_past(rng, nodes, each, rules) for each in RUN_DEVIATIONS]
    rows += [_judge_rating(rng, nodes, each, rules) for each in CARD_DEVIATIONS]
    return [*rows, *(_judge_median(rng, nodes, each) for each in CARD_DEVIATIONS)]


def _most_alarms(nodes: int, level: float) -> float:
    return float(binom.ppf(_MOST_ALARMS, nodes, level)) / nodes


def _find_least(needed_R: Floats) -> float:
    """Return the drop, as a fraction, that is found in `FOUND` of the nodes; `needed_R` are log ratios."""
    return float(-np.expm1(-np.quantile(needed_R, FOUND)))


def _least_log(drop: float) -> float:
    return -math.log1p(-drop)


def _judge_siblings(rng: Generator, nodes: int, deviation: float, rules: HealthThresholds) -> CheckRow:
    """Compare each card with the others of its node."""
    accused_R = np.zeros(nodes, dtype=bool)
    needed_R = np.full(nodes, np.inf)
    least = _least_log(rules.siblings.least_drop)
    for _case in range(CASES):
        x_RN = rng.normal(0.0, deviation, (nodes, GPUS))
        found = Examination.of(x_RN, rules.alarm.level / CASES, rules.siblings.prior)
        deepest_R = found.means[:, 0] - x_RN.min(axis=1)
        accused_R |= (found.accused > 0) & (deepest_R > least)
        # The first card is the slow one: its own deviation stays, the others are the rest.
        slow_RN = x_RN.copy()
        slow_RN[:, 0] -= 10.0
        beside = Examination.of(slow_RN, rules.alarm.level / CASES, rules.siblings.prior)
        below_R = beside.means[:, 0] - x_RN[:, 0]
        needed_R = np.minimum(needed_R, np.maximum(beside.limits[:, 0], least) - below_R)
    most = _most_alarms(nodes, rules.alarm.level)
    return CheckRow(
        "siblings", deviation, None, nodes, float(accused_R.mean()), most, _find_least(needed_R), None
    )


def _judge_past(rng: Generator, nodes: int, deviation: float, rules: HealthThresholds) -> CheckRow:
    """Compare each card with its own earlier runs; how cards differ from one another has no effect."""
    accused_R = np.zeros(nodes, dtype=bool)
    needed_R = np.full(nodes, np.inf)
    least = _least_log(rules.past.least_drop)
    level = rules.alarm.level / (GPUS * CASES)
    for _case in range(CASES):
        past_RNK = rng.normal(0.0, deviation, (nodes, GPUS, PAST))
        now_RN = rng.normal(0.0, deviation, (nodes, GPUS))
        for node in range(nodes):
            scatter = moderate(pool_past(list(past_RNK[node])), rules.past.gpu_prior)
            change = compare_with_past(0.0, past_RNK[node, 0], scatter, level)
            assert change is not None
            drop_N = past_RNK[node].mean(axis=1) - now_RN[node]
            limit = max(change.limit, least)
            accused_R[node] |= bool((drop_N > limit).any())
            needed_R[node] = min(needed_R[node], limit - drop_N[0])
    bound = BOUND_OF_PAST if deviation <= rules.past.gpu_deviation else None
    most = _most_alarms(nodes, rules.alarm.level) if bound is not None else None
    return CheckRow(
        "past", None, deviation, nodes, float(accused_R.mean()), most, _find_least(needed_R), bound
    )


def _judge_rating(rng: Generator, nodes: int, deviation: float, rules: HealthThresholds) -> CheckRow:
    """Compare each card with a published one, which is a card like any other."""
    x_RN = rng.normal(0.0, deviation, (nodes, GPUS)) - rng.normal(0.0, deviation, (nodes, 1))
    threshold = -math.log(rules.rating.degraded)
    needed_R = threshold + x_RN[:, 0]
    accused_R = (-x_RN > threshold).any(axis=1)
    most = _most_alarms(nodes, rules.alarm.level)
    return CheckRow(
        "rating", deviation, None, nodes, float(accused_R.mean()), most, _find_least(needed_R), None
    )


def _judge_median(rng: Generator, nodes: int, deviation: float) -> CheckRow:
    """Accuse what lies three robust deviations below the median, as is often done; for comparison."""
    x_RN = rng.normal(0.0, deviation, (nodes, GPUS))
    median_R = np.median(x_RN, axis=1)
    spread_R = 1.4826 * np.median(np.abs(x_RN - median_R[:, None]), axis=1)
    alarms = float((x_RN.min(axis=1) < median_R - 3 * spread_R).mean())
    needed_R = 3 * spread_R - (median_R - x_RN[:, 0])
    return CheckRow("median", deviation, None, nodes, alarms, None, _find_least(needed_R), None)


def find_failures(rows: Sequence[CheckRow]) -> list[str]:
    """Return a sentence for each bound that doesn't hold."""
    return [line for row in rows for line in row.failures]
