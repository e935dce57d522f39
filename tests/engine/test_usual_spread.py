"""How far runs usually differ, for a machine without earlier runs."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from nameplate.device.identity import CpuIdentity
from nameplate.engine.run_to_run import (
    NORMALIZED,
    TIME,
    History,
    Measured,
    as_spread,
    basis_of,
    estimate_group,
    half_width_of,
    half_width_within_run,
    measure_time,
)
from nameplate.engine.usual_spread import find_usual_spreads, load_usual_spreads
from nameplate.stats.between import EarlierRun, Scatter
from nameplate.stats.interval import Interval
from nameplate.suite import Case
from nameplate_kernels import CacheMemory, Memory

CASE = "memory/fp32/copy-64MiB/normal/rotating/-/torch"
WITHIN = Interval(1.0, 0.999, 1.001)
USUAL = History(usual={("memory", TIME): Scatter(0.1**2, 4)})


def estimate(history, values=(0.99, 1.0, 1.01, 0.98, 1.02), case=CASE):
    return estimate_group(TIME, [Measured(case, case.split("/")[0], WITHIN, values)], history)[0]


def test_a_first_run_allows_for_what_runs_of_such_machines_differ_by():
    alone, found = estimate(History()), estimate(USUAL)
    assert found.interval.log_half_width == pytest.approx(2.78 * 0.1, rel=0.05)
    assert found.of_this_run == alone.interval  # what the run itself has shown
    spread = as_spread(found)
    assert (spread.is_usual, spread.between_runs, spread.earlier_runs) == (True, pytest.approx(0.1), 0)
    assert half_width_of(spread) == pytest.approx(found.interval.log_half_width)
    assert half_width_within_run(spread) == pytest.approx(alone.interval.log_half_width)
    assert basis_of(spread) == found.basis
    assert estimate(USUAL, case="matmul/bf16/1x1x1/normal/warm/-/torch").basis.between_runs is None


def test_the_machines_own_earlier_runs_replace_it():
    rng = np.random.default_rng(1)
    runs = [EarlierRun(60.0 * n, 0.01 * float(rng.standard_normal()), Scatter(1e-6, 4), 5) for n in range(6)]
    few = estimate(replace(USUAL, earlier={(CASE, TIME): runs[:3]}))
    own = estimate(replace(USUAL, earlier={(CASE, TIME): runs}))
    assert few.basis.is_usual
    assert not own.basis.is_usual
    assert own.basis.between_runs.deviation == pytest.approx(0.01, rel=0.6)
    assert own.earlier_runs == 6


def test_main_memorys_figure_isnt_that_of_a_cache():
    main, cache = Memory("copy", "fp32", 64), CacheMemory("copy", "L1d", 8, 2, 3, "avx2")
    window = SimpleNamespace(interval=lambda: WITHIN, means_s=lambda: (1.0, 1.01))
    found = estimate_group(TIME, [measure_time(Case(each), window) for each in (main, cache)], USUAL)
    assert [each.basis.is_usual for each in found] == [True, False]
    assert found[1].basis.between_runs is None
    assert found[1].interval.log_half_width < found[0].interval.log_half_width


@pytest.mark.stat
def test_a_first_run_then_holds_what_the_next_ones_give():
    """Of runs that differ by 10 %, each of five processes that agree, most hold the mean only with it."""
    rng = np.random.default_rng(3)
    held = {"usual": 0, "alone": 0}
    for _ in range(300):
        logs = 0.1 * rng.standard_normal() + 0.05 * rng.standard_normal(5)
        for name, history in (("usual", USUAL), ("alone", History())):
            half = estimate(history, np.exp(logs).tolist()).basis.log_half_width
            held[name] += abs(logs.mean()) <= half
    assert held["usual"] >= 0.93 * 300
    assert held["alone"] < 0.7 * 300


def test_only_machines_like_those_that_were_measured_have_such_figures():
    def spreads(kind="cpu", measured=True, **fields):
        identity = CpuIdentity.model_construct(virtual_machine=True, **fields)
        identity = identity if kind == "cpu" else SimpleNamespace(kind=kind)
        return find_usual_spreads(SimpleNamespace(identity=identity, measured=measured))

    guest = spreads()
    assert {("matmul", TIME), ("memory", TIME), ("transformer_block", NORMALIZED)} <= set(guest)
    assert guest["memory", TIME].variance > guest["matmul", TIME].variance
    assert not spreads(measured=False)
    assert not spreads("cuda")
    assert all(each.source and each.date for each in load_usual_spreads())
