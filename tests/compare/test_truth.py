"""How often `bench compare` finds a wrong outcome for two single runs whose truth is known."""

from __future__ import annotations

import pytest

from nameplate.compare.simulated_pairs import PairRow, compare_simulated_pairs


@pytest.fixture(scope="module")
def rows():
    return {row.scenario: row for row in compare_simulated_pairs(100)}


@pytest.mark.stat
def test_identical_runs_are_same_or_ambiguous(rows):
    identical = [row for name, row in rows.items() if "identical" in name]
    assert len(identical) == 4
    for row in identical:
        assert row.outcomes["same"] + row.outcomes["ambiguous"] >= 0.95
        assert row.passed


@pytest.mark.stat
def test_more_work_is_never_called_faster_or_the_same(rows):
    for row in (row for name, row in rows.items() if "more work" in name):
        assert row.outcomes["same"] + row.outcomes["faster"] <= 0.05
        assert row.passed


@pytest.mark.stat
def test_single_runs_decide_where_processes_agree(rows):
    """Without folders of runs: that is what processes of one run are for."""
    assert rows["compare: identical, placement 0.40%"].outcomes["same"] >= 0.9
    assert rows["compare: 5 % more work, placement 1.0%"].outcomes["slower"] >= 0.9


def test_too_many_wrong_words_fail():
    row = PairRow("compare: x", "", 100, {"slower": 0.06, "same": 0.94}, 0.06)
    assert not row.passed
    assert "6.0%" in row.failures[0]
