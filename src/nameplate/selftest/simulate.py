"""Self-test by simulation: does the engine recover the truth of devices whose truth is known?

Each scenario is a device on a virtual clock, measured many times by the real engine, each time with another
seed. The same launches are also read as other tools would read them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import numpy as np
from scipy.special import ndtri

from nameplate.base.errors import InputError
from nameplate.base.formatting import count, percent
from nameplate.base.language import _
from nameplate.device.simulated import SimulatedDevice, SimulatedWork
from nameplate.engine.group import Allowance
from nameplate.engine.measure import measure_group
from nameplate.engine.pilot import Pilots
from nameplate.engine.run_to_run import History, earlier_run_of
from nameplate.record import Record, Verdict
from nameplate.selftest.card_scenarios import load_card_scenarios
from nameplate.selftest.parallel import run_tasks
from nameplate.selftest.probed import ProbedDevice
from nameplate.selftest.readings import READINGS, Trace
from nameplate.selftest.scenarios import Scenario, load_scenarios
from nameplate.stats.between import EarlierRun
from nameplate.stats.interval import CONFIDENCE
from nameplate.suite import Case

RUNS = 1000
_MOST_RUNS = 1_000_000
_CHUNK = 25  # runs that a worker takes at a time
_ORACLE_FACTOR = float(ndtri((1 + CONFIDENCE) / 2))


@dataclass(frozen=True)
class RunFigure:
    """One run's figure in TFLOPS and its truth; `peers` is what other tools read, None where nothing.

    `oracle_width` is a fraction of the truth.
    """

    truth: float
    estimate: float
    low: float
    high: float
    oracle_width: float
    peers: tuple[float | None, ...]


@dataclass(frozen=True)
class RunOutcome:
    """The outcome of one run: whether the record is the due one, and its figure where it has one."""

    as_due: bool
    figure: RunFigure | None


@dataclass(frozen=True)
class PeerReading:
    """What another tool reads of the same launches: mean TFLOPS, and mean bias as a fraction of the truth."""

    estimate: float
    bias: float


@dataclass(frozen=True)
class ScenarioRow:
    """One scenario over all its runs: throughputs are means in TFLOPS, bias and widths fractions of truth.

    `coverage` is the share of intervals that hold the truth: of their own window, of the settled device, or
    of all processes that the machine might have started. `width` is that of the whole interval,
    `oracle_width` that of an interval made from the true noise. `failures` are the bounds that don't hold, a
    sentence each. `is_limit`: what one run can't show, printed without bounds. A figure that no run has is
    None.
    """

    scenario: str
    about: str
    margin: str
    runs: int
    truth: float | None
    estimate: float | None
    bias: float | None
    coverage: float | None
    width: float | None
    oracle_width: float | None
    verdict_due: Verdict | None
    verdict_rate: float | None
    is_limit: bool
    peers: Mapping[str, PeerReading | None]
    failures: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether every bound holds."""
        return not self.failures

    def as_json(self) -> dict[str, Any]:
        """Return every field, and whether it passed."""
        return {**asdict(self), "passed": self.passed}


_Task = tuple[Scenario, range]


def simulate(
    runs: int = RUNS,
    names: Sequence[str] | None = None,
    workers: int | None = None,
    observer: Callable[[ScenarioRow], None] | None = None,
) -> list[ScenarioRow]:
    """Measure each scenario `runs` times and return a row for each; `observer` is called with each at once.

    `names` chooses scenarios (default: all); those of `simulate_cards` are passed over. `workers` is how many
    processes share the work, by default one for each usable CPU; 0: this process does it. The rows are the
    same whatever their number. Raises InputError for an unknown name, and for no runs or more than a million.
    """
    if not 1 <= runs <= _MOST_RUNS:
        expected = f"a number above 0, at most {count(_MOST_RUNS)}"
        raise InputError("not a number of runs", where="--runs", got=runs, expected=expected)
    chosen = _find_scenarios(names)
    tasks = [
        (scenario, range(first, min(first + _CHUNK, runs)))
        for scenario in chosen
        for first in range(0, runs, _CHUNK)
    ]
    rows = []
    with run_tasks(_run_task, tasks, workers) as outcomes:
        for scenario in chosen:
            rows.append(summarize(scenario, list(islice(outcomes, runs))))
            if observer is not None:
                observer(rows[-1])
    return rows


def _find_scenarios(names: Sequence[str] | None) -> list[Scenario]:
    known, cards = load_scenarios(), load_card_scenarios()
    for name in names or ():
        if name not in known and name not in cards:
            raise InputError("unknown scenario", got=name, expected=" or ".join((*known, *cards)))
    return [scenario for name, scenario in known.items() if names is None or name in names]


# ---- one run ----


def simulate_run(scenario: Scenario, run: int, earlier: Sequence[EarlierRun] = ()) -> RunOutcome:
    """Measure one device of the scenario and compare the record with its truth."""
    device = scenario.make_device(run)
    before, record = _measure(scenario, device, earlier)
    due = scenario.due
    kept = all(each.status == "ok" for each in before)
    as_due = due is not None and kept and (record.verdict, record.status) == (due.verdict, due.status)
    return RunOutcome(as_due, _figure_of(scenario, device, record))


def _measure(
    scenario: Scenario, device: SimulatedDevice, earlier: Sequence[EarlierRun] = ()
) -> tuple[list[Record], Record]:
    """Return the records finished before the device dies (if it does), and the record that is judged."""
    case = Case(SimulatedWork(device, scenario.flops), phase=scenario.phase)
    history = History({(case.id, scenario.figure): earlier})
    allowance, pilots = Allowance(scenario.share_s, scenario.limit_s), Pilots(device, seed=0)
    before: list[Record] = []
    if scenario.dies_after_s is not None:
        before = measure_group([case], device, pilots, allowance)
        device.dies_at_s = device.clock() + scenario.dies_after_s
    processes = scenario.processes
    (record,) = measure_group([case], device, pilots, allowance, processes=processes, history=history)
    return before, record


def simulate_earlier_runs(scenario: Scenario, first: int) -> list[EarlierRun]:
    """Measure as many runs of the machine as its history has, before the run `first`: a minute apart."""
    found = []
    for number in range(scenario.earlier_runs):
        # Seeds of their own: a run is never part of its own history.
        device = scenario.make_device(_MOST_RUNS + first * scenario.earlier_runs + number)
        _before, record = _measure(scenario, device)
        found.append(
            earlier_run_of(60.0 * number, getattr(record, scenario.figure), record.spreads[scenario.figure])
        )
    return found


def _figure_of(scenario: Scenario, device: SimulatedDevice, record: Record) -> RunFigure | None:
    if isinstance(device, ProbedDevice):
        return _normalized_figure_of(scenario, device, record)
    if record.tflops is None or record.tflops_low is None or record.tflops_high is None:
        return None
    window = device.window(record.batches)
    expected_s = sum(drawn.expected_s for drawn in window)
    launch_s = scenario.true_launch_s or expected_s / sum(drawn.launches for drawn in window)
    # A clock reading that is rounded down is uniform within a step; each batch lies between two readings.
    steps_s2 = 2 * len(window) * device.timer_resolution_s**2 / 12
    variance_s2 = sum(drawn.variance_s2 for drawn in window) + steps_s2
    deviation = math.sqrt(variance_s2 / expected_s**2 + scenario.between_variance)
    return RunFigure(
        _tflops(scenario, launch_s),
        record.tflops,
        record.tflops_low,
        record.tflops_high,
        2 * _ORACLE_FACTOR * deviation,
        tuple(_read_as_peers(scenario, device)),
    )


def _normalized_figure_of(scenario: Scenario, device: ProbedDevice, record: Record) -> RunFigure | None:
    """Return achieved ÷ ceiling, whose truth is 1; other tools have no such figure."""
    found = record.interval(scenario.figure)
    if found is None:
        return None
    deviation = math.sqrt(device.log_variance + scenario.run_deviation**2)
    width = 2 * _ORACLE_FACTOR * deviation
    return RunFigure(1.0, found.value, found.low, found.high, width, (None,) * len(READINGS))


def _read_as_peers(scenario: Scenario, device: SimulatedDevice) -> Iterator[float | None]:
    """Yield what other tools read, in TFLOPS, from the first launch that the engine timed on."""
    launches = [drawn.launch_s for drawn in device.trace if drawn.launch_s is not None]
    trace = Trace(np.concatenate(launches), device.timer_resolution_s)
    for read in READINGS.values():
        launch_s = read(trace)
        yield None if launch_s is None else _tflops(scenario, launch_s)


def _tflops(scenario: Scenario, launch_s: float) -> float:
    return scenario.flops / launch_s / 1e12


# ---- all runs of a scenario ----


def summarize(scenario: Scenario, outcomes: Sequence[RunOutcome]) -> ScenarioRow:
    """Return the row of a scenario from the outcomes of its runs."""
    figures = [each.figure for each in outcomes if each.figure is not None]
    truth = np.asarray([each.truth for each in figures])
    value = np.asarray([each.estimate for each in figures])
    low, high = np.asarray([each.low for each in figures]), np.asarray([each.high for each in figures])
    found = {
        "truth": _mean(truth),
        "estimate": _mean(value),
        "bias": _mean(value / truth - 1),
        "coverage": _mean((low <= truth) & (truth <= high)),
        "width": _mean((high - low) / truth),
        "oracle_width": _mean([each.oracle_width for each in figures]),
        "verdict_rate": _mean([each.as_due for each in outcomes]) if scenario.due else None,
    }
    read = zip(*(each.peers for each in figures), strict=True) if figures else ((),) * len(READINGS)
    return ScenarioRow(
        scenario=scenario.name,
        about=scenario.about,
        margin=scenario.margin,
        runs=len(outcomes),
        verdict_due=None if scenario.due is None else scenario.due.verdict,
        is_limit=scenario.is_limit,
        peers={name: _summarize_peer(values, truth) for name, values in zip(READINGS, read, strict=True)},
        failures=tuple(_describe_failures(scenario, found)),
        **found,
    )


def _mean(values: Any) -> float | None:
    return float(np.mean(values)) if len(values) else None


def _summarize_peer(values: Sequence[float | None], truth: np.ndarray[Any, Any]) -> PeerReading | None:
    """Return what one tool reads on average over the runs in which it reads anything."""
    known = [(value, true) for value, true in zip(values, truth, strict=True) if value is not None]
    if not known:
        return None
    value, true = np.asarray(known).T
    return PeerReading(float(value.mean()), float((value / true).mean() - 1))


def _describe_failures(scenario: Scenario, found: Mapping[str, float | None]) -> Iterator[str]:
    """Yield a sentence for each bound that doesn't hold: what, got, expected."""
    bounds, due, bias = scenario.bounds, scenario.due, found["bias"]
    low, high = bounds.coverage or (None, None)
    widest = bounds.oracle_widths and bounds.oracle_widths * (found["oracle_width"] or 0.0)
    for what, got, least, most in (
        (_("bias"), None if bias is None else abs(bias), None, bounds.bias),
        (_("coverage"), found["coverage"], low, high),
        (_("width"), found["width"], None, bounds.width),
        (_("width"), found["width"], None, widest),
        (
            _("share of runs {verdict}", verdict=_(due.verdict) if due else ""),
            found["verdict_rate"],
            due.rate if due else None,
            None,
        ),
    ):
        if got is None and (least is not None or most is not None):
            yield _("{what} isn't known: no run gave a figure", what=what)
        elif got is not None and least is not None and got < least:
            ends = {"got": percent(got), "least": percent(least)}
            yield _("{what} is {got}; expected at least {least}", what=what, **ends)
        elif got is not None and most is not None and got > most:
            ends = {"got": percent(got), "most": percent(most)}
            yield _("{what} is {got}; expected at most {most}", what=what, **ends)


def _run_task(task: _Task) -> list[RunOutcome]:
    scenario, numbers = task
    # The runs of a task are of one machine, and have the same history.
    earlier = simulate_earlier_runs(scenario, numbers.start)
    return [simulate_run(scenario, run, earlier) for run in numbers]
