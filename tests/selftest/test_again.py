"""The arithmetic of `bench selftest --again`, on runs that were made up."""

from __future__ import annotations

import statistics

import numpy as np
import pytest

from nameplate.record import Ends
from nameplate.selftest import again
from nameplate.selftest.again import FEWEST, summarize


@pytest.fixture
def runs_of(make_record, make_run):
    """Runs of one case with these TFLOPS, each with an interval of ± `half`, and one for the next run."""

    def make(tflops, half=0.02, **changes):
        return [make_run(record(each, half, **changes)) for each in tflops]

    def record(value, half, **changes):
        ends = {"tflops_low": value * (1 - half), "tflops_high": value * (1 + half)}
        following = Ends(figure="tflops", low=value * (1 - 1.5 * half), high=value * (1 + 1.5 * half))
        fields = {"interval_kind": "run_to_run", "processes": 5, "interval_next": following}
        return make_record(tflops=value, **ends, **(fields | changes))

    return make


def normal(deviation, count=20, seed=1):
    return 0.4 * np.exp(deviation * np.random.default_rng(seed).standard_normal(count))


def test_a_row_says_how_far_runs_agree(runs_of):
    values = [0.40, 0.41, 0.39, 0.40]
    (row,) = summarize(runs_of(values)).rows
    assert (row.figure, row.runs, row.processes, row.clean) == ("tflops", 4, 5, 4)
    assert row.mean == pytest.approx(statistics.harmonic_mean(values))
    assert row.deviation == pytest.approx(statistics.stdev(values) / 0.4)
    assert row.half_width == pytest.approx(0.02)
    # 0.39 to 0.4079 doesn't hold the others' mean of 0.4033 … each within 2 % but the two at the ends.
    assert row.held == 0.5
    assert row.next_held == pytest.approx(2 / 3)  # 0.39 is more than 3 % below 0.41


def test_intervals_that_hold_pass(runs_of):
    found = summarize(runs_of(normal(0.01), half=0.02))
    assert found.passed
    assert found.rows[0].held >= 0.9


def test_intervals_within_a_process_that_are_too_narrow_fail(runs_of):
    found = summarize(runs_of(normal(0.04), half=0.02, interval_next=None, interval_kind="within"))
    assert not found.passed
    assert found.rows[0].next_held is None
    assert "intervals that hold the mean of the other runs is" in found.failures[0]


def test_next_runs_outside_what_was_expected_fail(runs_of):
    narrow = Ends(figure="tflops", low=0.0, high=100.0)
    found = summarize(runs_of(normal(0.02), half=0.04, interval_next=narrow))
    assert found.passed
    tight = summarize(runs_of(normal(0.02), half=0.02))
    assert any("next runs where they were expected" in line for line in tight.failures) == (
        tight.rows[0].next_held < 0.85
    )


def test_intervals_that_are_much_too_wide_fail_though_all_of_them_hold(runs_of):
    found = summarize(runs_of(normal(0.019), half=0.16))
    assert found.rows[0].held == 1.0
    assert not found.passed
    assert "half an interval's width ÷ what runs differ by is" in found.failures[0]
    assert summarize(runs_of([0.4] * 5, half=0.16)).passed  # nothing differs: no width can be told too large


def test_runs_are_kept_where_a_folder_is_named(monkeypatch, tmp_path, make_run):
    folders = []
    monkeypatch.setattr(again, "measure", lambda *_, results, **__: folders.append(results) or make_run())
    assert len(again.run_again(3, results=tmp_path)) == 3
    again.run_again(3)
    assert folders[:3] == [tmp_path] * 3
    assert not folders[3].exists()


def test_too_few_runs_have_no_row(runs_of):
    found = summarize(runs_of(normal(0.01, FEWEST - 1)))
    assert (found.rows, found.passed) == ((), False)
    assert found.failures


@pytest.mark.parametrize("times", ["0", "-1", "2", "1001", "x", "1.5"])
def test_a_bad_number_is_refused(bench, times):
    done = bench("selftest", "--again", times)
    assert done.status == 2
    assert "--again" in done.err


def test_two_tests_at_once_are_refused(bench):
    done = bench("selftest", "--again", "5", "--bare")
    assert done.status == 2
