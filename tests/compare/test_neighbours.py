"""Real runs of one machine compared in pairs: outcomes that contradict what is known of them."""

from __future__ import annotations

import numpy as np
import pytest

from nameplate.compare.neighbours import compare_neighbours
from nameplate.record import Ends, Spread
from nameplate.stats.between import Scatter, estimate_run_to_run


@pytest.fixture
def runs_of(make_record, make_run):
    """Twenty runs of a case that scatter by `between`; each claims the spread that its processes show."""

    def make(between, kept=0.01, claims=None, count=20):
        rng = np.random.default_rng(1)
        return [run(n, between * rng.standard_normal(), rng, kept, claims) for n in range(count)]

    def run(number, of_run, rng, kept, claims):
        times = 1e-3 * np.exp(of_run + kept * rng.standard_normal(5))
        known = {} if claims is None else {"between_runs": claims, "between_runs_freedom": 8.0}
        spread = Spread(by_process=tuple(times.tolist()), **known)
        between = None if claims is None else Scatter(claims**2, 8.0)
        half = estimate_run_to_run(times.tolist(), between_runs=between).log_half_width
        tflops = 0.4e-3 / float(times.mean())
        record = make_record(
            tflops=tflops,
            tflops_low=tflops * np.exp(-half),
            tflops_high=tflops * np.exp(half),
            interval_kind="run_to_run",
            interval_within=Ends(figure="tflops", low=tflops * 0.999, high=tflops * 1.001),
            spreads={"time_s": spread},
            processes=5,
        )
        return make_run(record, run=f"20261122T1200{number:02d}-fake-0001")

    return make


def test_honest_runs_have_no_wrong_word_and_more_work_is_seen(runs_of):
    same, more = compare_neighbours(runs_of(0.0, kept=0.004))
    assert (same.runs, more.runs) == (19, 19)
    assert same.passed
    assert same.outcomes["same"] + same.outcomes["ambiguous"] >= 0.95
    assert more.passed
    assert more.outcomes["slower"] > 0.5
    assert more.outcomes["same"] == more.outcomes["faster"] == 0.0


def test_runs_that_differ_by_more_than_they_say_fail(runs_of):
    same, _more = compare_neighbours(runs_of(0.05))
    assert not same.passed
    assert same.wrong > 0.05
    assert "share of wrong outcomes" in same.failures[0]


def test_runs_that_say_what_they_differ_by_pass(runs_of):
    same, more = compare_neighbours(runs_of(0.05, claims=0.05))
    assert same.passed
    assert more.passed
    assert same.outcomes["ambiguous"] > 0.8


def test_runs_with_nothing_in_common_have_no_row(make_record, make_run):
    one, other = (make_run(make_record(case=case)) for case in ("a", "b"))
    assert compare_neighbours([one, other]) == []
