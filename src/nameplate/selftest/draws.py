"""Self-test by simulated GPUs: are a card's own figures recovered, whatever the card, and its faults named?

Each draw is another card (`cards.py`), measured from idle by the real engine, with the real CUDA device and
the real code that reads the driver above simulated calls.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import numpy as np
from scipy.special import bdtr

from nameplate.base.formatting import percent
from nameplate.base.language import N_, _
from nameplate.engine.case_run import ContextLost
from nameplate.engine.group import Allowance
from nameplate.engine.measure import measure_group
from nameplate.engine.pilot import Pilots
from nameplate.engine.record_of import record_without_figures
from nameplate.record import Record, Verdict
from nameplate.selftest.card_device import CardDevice, copy_case, product_case
from nameplate.selftest.card_scenarios import CardScenario, DueVerdict, Measured, load_card_scenarios
from nameplate.selftest.cards import Truth, find_truth, make_work
from nameplate.selftest.parallel import run_tasks
from nameplate.suite import Case

# How far any figure of any draw may be from its truth.
TOLERANCE = 0.01
_COPY_SHARE = 0.1
_CHANCE = 0.001  # a coverage that chance explains so seldom is too low
_CHUNK = 5  # draws that a worker takes at a time
# What is recovered, and which record has it; those without a verdict stand beside the one that has it.
_FIGURES: Mapping[str, Measured] = {
    N_("burst"): "burst",
    N_("sustained"): "sustained",
    N_("held clock"): "sustained",
    N_("ceiling"): "sustained",
    N_("bandwidth"): "copy",
}


@dataclass(frozen=True)
class Recovered:
    """One figure of one draw ÷ its truth, and whether its interval holds the truth (None: it has none)."""

    ratio: float
    covered: bool | None


@dataclass(frozen=True)
class DrawOutcome:
    """One draw: its figures by name, and whether each case has its due verdict."""

    figures: Mapping[str, Recovered]
    as_due: Mapping[Measured, bool]


@dataclass(frozen=True)
class CardRow:
    """One figure or one case of a scenario over all its draws; fractions. A figure that none has is None.

    `bias` is the mean error, `worst` the largest one of any draw, `coverage` the share of intervals that hold
    the truth. `failures` are the bounds that don't hold, a sentence each.
    """

    scenario: str
    about: str
    figure: str
    runs: int
    bias: float | None
    worst: float | None
    coverage: float | None
    verdict_due: Verdict | None
    verdict_rate: float | None
    failures: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether every bound holds."""
        return not self.failures

    def as_json(self) -> dict[str, Any]:
        """Return every field, and whether it passed."""
        return {**asdict(self), "passed": self.passed}


def simulate_cards(
    runs: int,
    names: Sequence[str] | None = None,
    workers: int | None = None,
    observer: Callable[[CardRow], None] | None = None,
) -> list[CardRow]:
    """Draw and measure the cards of each scenario, its share of `runs`; return its rows.

    `names` chooses scenarios (default: all); names of others are passed over. `workers` and `observer` are as
    in `simulate`.
    """
    chosen = [each for name, each in load_card_scenarios().items() if names is None or name in names]
    draws = {scenario.name: math.ceil(scenario.share * runs) for scenario in chosen}
    tasks = [
        (scenario, range(first, min(first + _CHUNK, draws[scenario.name])))
        for scenario in chosen
        for first in range(0, draws[scenario.name], _CHUNK)
    ]
    rows: list[CardRow] = []
    with run_tasks(_run_task, tasks, workers) as outcomes:
        for scenario in chosen:
            found = list(summarize_draws(scenario, list(islice(outcomes, draws[scenario.name]))))
            rows += found
            if observer is not None:
                for row in found:
                    observer(row)
    return rows


def _run_task(task: tuple[CardScenario, range]) -> list[DrawOutcome]:
    scenario, numbers = task
    return [measure_draw(scenario, number) for number in numbers]


# ---- one draw ----


def measure_draw(scenario: CardScenario, run: int) -> DrawOutcome:
    """Measure one card of the scenario and compare its records with its truth."""
    card = scenario.draw(run)
    device, work = CardDevice(card), make_work(card)
    product, copy = product_case(device, work), copy_case(device, work)
    soak = [Case(product, phase="burst"), Case(product, phase="sustained")]
    records: dict[Measured, Record] = dict(
        zip(("burst", "sustained"), _measure(soak, device, scenario.seconds), strict=True)
    )
    if "copy" in scenario.due:
        (records["copy"],) = _measure([Case(copy)], device, _COPY_SHARE * scenario.seconds)
    figures = compare_with_truth(records, find_truth(card, work)) if scenario.figures else {}
    return DrawOutcome(figures, {name: _is_as_due(records[name], due) for name, due in scenario.due.items()})


def _measure(cases: Sequence[Case], device: CardDevice, seconds: float) -> list[Record]:
    try:
        return measure_group(cases, device, Pilots(device, seed=0), Allowance(seconds, 1.5 * seconds))
    except ContextLost as lost:  # a worker records it so, and another process measures the rest
        return [record_without_figures(case, device, lost.reason, "failed") for case in cases]


def compare_with_truth(records: Mapping[Measured, Record], truth: Truth) -> dict[str, Recovered]:
    """Return each figure that the records have ÷ its truth."""
    burst, sustained, copy = records["burst"], records["sustained"], records["copy"]
    held_mhz = sustained.conditions.get("gpu_sm_clock_mhz")
    pairs = {
        "burst": (burst.tflops, burst.tflops_low, burst.tflops_high, truth.burst_tflops),
        "sustained": (
            *(sustained.tflops, sustained.tflops_low, sustained.tflops_high),
            truth.sustained_tflops,
        ),
        "held clock": (held_mhz if isinstance(held_mhz, float) else None, None, None, truth.held_mhz),
        "ceiling": (sustained.ceiling_tflops, None, None, truth.ceiling_tflops),
        "bandwidth": (
            *(copy.bandwidth_gb_s, copy.bandwidth_low_gb_s, copy.bandwidth_high_gb_s),
            truth.bandwidth_gb_s,
        ),
    }
    return {
        name: Recovered(found / true, _covers(low, high, true))
        for name, (found, low, high, true) in pairs.items()
        if found is not None
    }


def _covers(low: float | None, high: float | None, truth: float) -> bool | None:
    """Whether an interval holds the truth; None where there is none."""
    return None if low is None or high is None else low <= truth <= high


def _is_as_due(record: Record, due: DueVerdict) -> bool:
    said = " ".join(str(each) for each in (*record.warnings, record.reason or ""))
    return (record.verdict, record.status) == (due.verdict, due.status) and (due.said or "") in said


# ---- all draws of a scenario ----


def summarize_draws(scenario: CardScenario, outcomes: Sequence[DrawOutcome]) -> Iterator[CardRow]:
    """Yield a row for each figure, and for each case with a due verdict."""
    judged: set[Measured] = set()
    for name, case in _FIGURES.items():
        if not scenario.figures and (case in judged or case not in scenario.due):
            continue
        due = scenario.due.get(case) if case not in judged else None
        judged.add(case)
        ratios = np.asarray([each.figures[name].ratio for each in outcomes if name in each.figures])
        covered = [each.figures[name].covered for each in outcomes if name in each.figures]
        known = [each for each in covered if each is not None]
        rate = float(np.mean([each.as_due[case] for each in outcomes])) if due else None
        worst = float(np.abs(ratios - 1).max()) if ratios.size else None
        yield CardRow(
            scenario=scenario.name,
            about=scenario.about,
            figure=name,
            runs=len(outcomes),
            bias=float(ratios.mean() - 1) if ratios.size else None,
            worst=worst,
            coverage=float(np.mean(known)) if known else None,
            verdict_due=due.verdict if due else None,
            verdict_rate=rate,
            failures=(
                *_describe_failures(scenario, worst, len(outcomes) - ratios.size, due, rate),
                *_describe_low_coverage(scenario.coverage, known),
            ),
        )


def _describe_failures(
    scenario: CardScenario, worst: float | None, missing: int, due: DueVerdict | None, rate: float | None
) -> Iterator[str]:
    """Yield a sentence for each bound that doesn't hold: what, got, expected."""
    if scenario.figures and missing:
        yield _("{count} draws have no such figure; expected one of each", count=missing)
    if worst is not None and worst > TOLERANCE:
        ends = {"got": percent(worst), "most": percent(TOLERANCE)}
        yield _("{what} is {got}; expected at most {most}", what=_("the largest error"), **ends)
    if due is not None and rate is not None and rate < due.rate:
        what = _("share of runs {verdict}", verdict=_(due.verdict))
        ends = {"got": percent(rate), "least": percent(due.rate)}
        yield _("{what} is {got}; expected at least {least}", what=what, **ends)


def _describe_low_coverage(least: float | None, covered: Sequence[bool]) -> Iterator[str]:
    """Yield a sentence where so few intervals hold the truth that chance hardly explains it."""
    held, number = sum(covered), len(covered)
    if least is not None and number and held < least * number and bdtr(held, number, least) < _CHANCE:
        ends = {"got": percent(held / number), "least": percent(least)}
        yield _("{what} is {got}; expected at least {least}", what=_("coverage"), **ends)
