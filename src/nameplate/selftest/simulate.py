"""Self-test by simulation: does the engine recover the truth of devices whose truth is known?

Each scenario is a device on a virtual clock, measured many times by the real engine, each time from another
seed; beside ours, the same launches are read as other tools would read them.
"""

from __future__ import annotations

import math
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import chain, islice
from multiprocessing import connection, get_context, parent_process
from typing import Any

import numpy as np
from scipy.special import ndtri

from nameplate.base.errors import InputError
from nameplate.base.exit_status import ExitStatus
from nameplate.base.formatting import percent
from nameplate.base.language import _
from nameplate.device.simulated import SimulatedDevice, SimulatedWork
from nameplate.engine.group import Allowance
from nameplate.engine.measure import measure_group
from nameplate.engine.pilot import Pilots
from nameplate.record import Record, Verdict
from nameplate.selftest.readings import PEERS, Trace
from nameplate.selftest.scenarios import Scenario, scenarios
from nameplate.stats.interval import CONFIDENCE
from nameplate.suite import Case

RUNS = 1000
_CHUNK = 25  # runs that a worker takes at a time
# Threads of a BLAS wait by spinning, on the very cores that the other workers need.
_ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"), "1")
_ORACLE_FACTOR = float(ndtri((1 + CONFIDENCE) / 2))


@dataclass(frozen=True)
class Figure:
    """One run's figure in TFLOPS beside its truth; `peers` is what other tools read, None where nothing.

    `oracle_width` is a fraction of the truth.
    """

    truth: float
    estimate: float
    low: float
    high: float
    oracle_width: float
    peers: tuple[float | None, ...]


@dataclass(frozen=True)
class Outcome:
    """What came of one run: whether the record is the due one, and its figure where it has one."""

    as_due: bool
    figure: Figure | None


@dataclass(frozen=True)
class Peer:
    """What another tool reads of the same launches: mean TFLOPS, and mean bias as a fraction of the truth."""

    estimate: float
    bias: float


@dataclass(frozen=True)
class Row:
    """One scenario over all its runs: throughputs are means in TFLOPS, bias and widths fractions of truth.

    `coverage` is the share of intervals that hold the truth of their own window; `width` is that of the whole
    interval, `oracle_width` that of one who knows the noise. `failures` are the bounds that don't hold, a
    sentence each. A figure that no run has is None.
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
    peers: Mapping[str, Peer | None]
    failures: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether every bound holds."""
        return not self.failures

    def as_json(self) -> dict[str, Any]:
        """Every field, and whether it passed."""
        return {**asdict(self), "passed": self.passed}


_Task = tuple[Scenario, range]


def simulate(
    runs: int = RUNS,
    names: Sequence[str] | None = None,
    workers: int | None = None,
    watch: Callable[[Row], None] | None = None,
) -> list[Row]:
    """Measure each scenario `runs` times and return a row for each; `watch` is called as each is known.

    `names` chooses scenarios (all). `workers` is how many processes share the work: one a usable CPU unless
    told otherwise; 0 is none but this one. The rows are the same whatever their number.
    Raises InputError for an unknown name and for no runs.
    """
    if runs < 1:
        raise InputError("nothing to simulate", where="--runs", got=runs, expected="a number above 0")
    chosen = _chosen(names)
    tasks = [
        (scenario, range(first, min(first + _CHUNK, runs)))
        for scenario in chosen
        for first in range(0, runs, _CHUNK)
    ]
    rows = []
    with _done(tasks, _usable_cpus() if workers is None else workers) as done:
        outcomes = chain.from_iterable(done)
        for scenario in chosen:
            rows.append(summarized(scenario, list(islice(outcomes, runs))))
            if watch is not None:
                watch(rows[-1])
    return rows


def _chosen(names: Sequence[str] | None) -> list[Scenario]:
    known = scenarios()
    for name in names or ():
        if name not in known:
            raise InputError("unknown scenario", got=name, expected=" or ".join(known))
    return [scenario for name, scenario in known.items() if names is None or name in names]


# ---- one run ----


def outcome(scenario: Scenario, run: int) -> Outcome:
    """Measure one device of the scenario and hold the record against its truth."""
    device = scenario.device(run)
    before, record = _measured(scenario, device)
    due = scenario.due
    kept = all(each.status == "ok" for each in before)
    as_due = due is not None and kept and (record.verdict, record.status) == (due.verdict, due.status)
    return Outcome(as_due, _figure(scenario, device, record))


def _measured(scenario: Scenario, device: SimulatedDevice) -> tuple[list[Record], Record]:
    """The record that is judged, and those finished before it."""
    case = Case(SimulatedWork(device, scenario.flops), phase=scenario.phase)
    allowance, pilots = Allowance(scenario.share_s, scenario.limit_s), Pilots(device, seed=0)
    before: list[Record] = []
    if scenario.dies_after_s is not None:
        before = measure_group([case], device, pilots, allowance)
        device.dies_at_s = device.clock() + scenario.dies_after_s
    (record,) = measure_group([case], device, pilots, allowance)
    return before, record


def _figure(scenario: Scenario, device: SimulatedDevice, record: Record) -> Figure | None:
    if record.tflops is None or record.tflops_low is None or record.tflops_high is None:
        return None
    window = device.window(record.batches)
    expected_s = sum(drawn.expected_s for drawn in window)
    launch_s = scenario.processes_launch_s or expected_s / sum(drawn.launches for drawn in window)
    # A reading that is cut off to whole steps is anywhere within one; each batch is between two of them.
    steps_s2 = 2 * len(window) * device.timer_resolution_s**2 / 12
    variance_s2 = sum(drawn.variance_s2 for drawn in window) + steps_s2
    return Figure(
        _tflops(scenario, launch_s),
        record.tflops,
        record.tflops_low,
        record.tflops_high,
        2 * _ORACLE_FACTOR * math.sqrt(variance_s2) / expected_s,
        tuple(_peers(scenario, device)),
    )


def _peers(scenario: Scenario, device: SimulatedDevice) -> Iterator[float | None]:
    """What other tools read, in TFLOPS, from the first launch that the engine timed on."""
    launches = [drawn.launch_s for drawn in device.trace if drawn.launch_s is not None]
    trace = Trace(np.concatenate(launches), device.timer_resolution_s)
    for read in PEERS.values():
        launch_s = read(trace)
        yield None if launch_s is None else _tflops(scenario, launch_s)


def _tflops(scenario: Scenario, launch_s: float) -> float:
    return scenario.flops / launch_s / 1e12


# ---- all runs of a scenario ----


def summarized(scenario: Scenario, outcomes: Sequence[Outcome]) -> Row:
    """The row of a scenario from the outcomes of its runs."""
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
    read = zip(*(each.peers for each in figures), strict=True) if figures else ((),) * len(PEERS)
    return Row(
        scenario=scenario.name,
        about=scenario.about,
        margin=scenario.margin,
        runs=len(outcomes),
        verdict_due=None if scenario.due is None else scenario.due.verdict,
        peers={name: _peer(values, truth) for name, values in zip(PEERS, read, strict=True)},
        failures=tuple(_failures(scenario, found)),
        **found,
    )


def _mean(values: Any) -> float | None:
    return float(np.mean(values)) if len(values) else None


def _peer(values: Sequence[float | None], truth: np.ndarray[Any, Any]) -> Peer | None:
    """What one tool reads on average over the runs in which it reads anything."""
    known = [(value, true) for value, true in zip(values, truth, strict=True) if value is not None]
    if not known:
        return None
    value, true = np.asarray(known).T
    return Peer(float(value.mean()), float((value / true).mean() - 1))


def _failures(scenario: Scenario, found: Mapping[str, float | None]) -> Iterator[str]:
    """Which bound doesn't hold: what, got, expected."""
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


# ---- who does the work ----


@contextmanager
def _done(tasks: Sequence[_Task], workers: int) -> Iterator[Iterable[list[Outcome]]]:
    """What came of each task, in order, as processes of ours do them; for 0 workers, as this one does."""
    if workers == 0:
        yield map(_outcomes, tasks)
        return
    # Started afresh: a copy of a process in which torch's threads ran may stand still for ever.
    with ProcessPoolExecutor(workers, get_context("spawn"), _begin_worker) as executor:
        try:
            with _environment(_ONE_THREAD):
                done = executor.map(_outcomes, tasks)  # starts the processes
            yield done
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            raise


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(settings)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _outcomes(task: _Task) -> list[Outcome]:
    scenario, numbers = task
    return [outcome(scenario, run) for run in numbers]


def _begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent, which is interrupted too, ends it
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(ExitStatus.HANGUP)


def _usable_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
