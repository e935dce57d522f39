"""A record's intervals: run-to-run from several processes, within one, and what each follows from."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from nameplate.device.protocol import Timing
from nameplate.engine.conditions import Conditions
from nameplate.engine.run_to_run import (
    TIME,
    History,
    Measured,
    as_spread,
    basis_of,
    estimate_group,
    half_width_of,
    measure_time,
)
from nameplate.engine.verdict import Observation, judge
from nameplate.engine.window import TimedBatch, Window
from nameplate.record import Spread
from nameplate.stats.between import EarlierRun, Scatter, student_half_width
from nameplate.stats.interval import Interval
from nameplate.suite import Case
from nameplate_kernels import Memory
from nameplate_kernels.workload import CheckResult

CLEAN = Observation(
    kind="cpu",
    check=CheckResult("fp64", 0.5, "rounding"),
    time_s=Interval(1.0, 1.0, 1.0),
    middle_s=np.arange(20.0),
    launch_s=np.ones(20),
    samples_s=(),
    peak_efficiency=None,
    conditions=Conditions(2.0, 0.99, 0.0, 0.0, 0.005, 1.0),
)
WITHIN = Interval(1.0, 0.999, 1.001)
VALUES = (0.98, 1.0, 1.02, 0.99, 1.01)


def earlier(runs, between=0.0, deviation=0.01):
    rng = np.random.default_rng(1)
    return [
        EarlierRun(60.0 * n, between * float(rng.standard_normal()), Scatter(deviation**2, 4), 5)
        for n in range(runs)
    ]


def estimate(values=VALUES, history=None, others=()):
    group = [
        Measured("a", "matmul", WITHIN, values),
        *(Measured(str(n), "matmul", WITHIN, each) for n, each in enumerate(others)),
    ]
    return estimate_group(TIME, group, history or History())[0]


def test_several_processes_make_it_run_to_run():
    found = estimate()
    assert found.is_run_to_run
    half = 2.7764 * np.log(VALUES).std(ddof=1) / math.sqrt(5)
    assert found.interval.log_half_width == pytest.approx(half, rel=1e-3)
    assert found.next.log_half_width == pytest.approx(math.sqrt(2) * half, rel=1e-3)
    assert found.within == WITHIN


def test_one_process_keeps_the_interval_within_it_and_expects_nothing_of_the_next():
    found = estimate([1.0])
    assert (found.is_run_to_run, found.interval, found.next) == (False, WITHIN, None)


def test_one_process_expects_of_the_next_what_earlier_runs_showed():
    found = estimate([1.0], History({("a", TIME): earlier(10, 0.02)}))
    assert found.interval == WITHIN
    assert 0.03 < found.next.log_half_width < 0.12
    assert found.earlier_runs == 10


def test_it_is_never_narrower_than_within():
    found = estimate([1.0] * 5)
    assert (found.interval.low, found.interval.high) == pytest.approx((0.999, 1.001))


def test_earlier_runs_widen_by_what_differs_between_them():
    alone, known = estimate(), estimate(history=History({("a", TIME): earlier(10, 0.05)}))
    assert known.basis.between_runs.deviation == pytest.approx(0.05, rel=0.5)
    assert known.interval.log_half_width > 2 * alone.interval.log_half_width
    assert (alone.earlier_runs, known.earlier_runs) == (0, 10)


def test_earlier_runs_of_another_case_say_nothing():
    assert estimate(history=History({("b", TIME): earlier(10, 0.05)})) == estimate()


def test_what_the_run_measured_before_narrows_what_comes_later(make_record):
    history = History()
    record = make_record(spreads={TIME: as_spread(estimate())}, processes=5)
    history.learn([record] * 6)
    later = estimate(history=history)
    assert later.basis.freedom > 20
    assert later.earlier_runs == 0
    assert later.interval.log_half_width < estimate().interval.log_half_width


def test_a_record_keeps_what_its_interval_follows_from():
    found = estimate(history=History({("a", TIME): earlier(10, 0.02)}))
    spread = as_spread(found)
    assert basis_of(spread).variance == pytest.approx(found.basis.variance)
    assert half_width_of(spread) == pytest.approx(found.interval.log_half_width)


def test_a_record_of_before_keeps_the_width_of_its_calibration():
    """Up to method 7 all processes' normalized figures were divided by one calibration."""
    spread = Spread(by_process=VALUES, shared=0.04)
    assert student_half_width(basis_of(spread).shared) == pytest.approx(0.04)
    assert half_width_of(spread) > half_width_of(Spread(by_process=VALUES)) > 0.0


def window_of(*means):
    batches = [
        TimedBatch(n, Timing(float(n), np.asarray([mean]), 1, n + 0.9, None), process=number)
        for number, mean in enumerate(means, 1)
        for n in range(5 * number, 5 * number + 5)
    ]
    return Window(batches, 0.0)


def test_processes_have_equal_weight_and_their_levels_are_no_noise_within():
    found = measure_time(Case(Memory("copy", "fp32", 1)), window_of(1.0, 1.2, 1.4))
    assert found.values == pytest.approx([1.0, 1.2, 1.4])
    assert (found.within.value, found.within.low, found.within.high) == pytest.approx((1.2, 1.2, 1.2))


def kept_by_processes(*levels):
    """Batches of processes that each keep a level; the interval is said to be narrow."""
    launch_s = np.repeat(levels, 5) * (1 + 1e-4 * np.random.default_rng(2).standard_normal(5 * len(levels)))
    changes = {"launch_s": launch_s, "middle_s": np.arange(launch_s.size, dtype=float)}
    return changes | {"process": np.repeat(range(len(levels)), 5).tolist()}


@pytest.mark.parametrize(
    ("levels", "verdict"),
    [
        ((1.0, 1.1, 1.1, 1.0, 1.1, 1.0), "clean"),  # modes that processes keep are in the interval
        ((1.0, 1.03, 1.06, 1.09, 1.12), "unstable"),  # drift over the run isn't
    ],
)
def test_what_a_process_keeps_is_no_instability_and_a_drift_over_them_is(levels, verdict):
    seen = replace(CLEAN, **kept_by_processes(*levels))
    assert judge(seen) == (verdict,)


def test_levels_within_a_process_are_unstable_as_ever():
    changes = kept_by_processes(*[1.0] * 6)
    changes["launch_s"] = changes["launch_s"] * np.where(np.arange(30) % 5 < 2, 1.0, 1.2)
    noise = 1e-3 * np.random.default_rng(3).standard_normal(10)
    changes["samples_s"] = [each * (1 + noise) for each in changes["launch_s"]]
    assert judge(replace(CLEAN, **changes)) == ("unstable",)
