"""What the ways of judging tell of simulated nodes, and that a threshold which is too sharp is seen."""

from __future__ import annotations

import json

import pytest

import nameplate.health.simulated_nodes
from nameplate.health.simulated_nodes import simulate_checks
from nameplate.health.thresholds import health_thresholds


def change(part, **values):
    limits = health_thresholds()
    return limits.model_copy(update={part: getattr(limits, part).model_copy(update=values)})


def rows_of(found, way):
    return [row for row in found if row.way == way]


@pytest.mark.stat
def test_healthy_nodes_are_left_alone_and_a_drop_of_5_percent_of_the_own_past_is_found():
    found = simulate_checks(800)
    assert [row.failures for row in found] == [()] * len(found)
    assert all(row.most <= 0.007 for row in found if row.most is not None)
    quiet, usual, _noisy = rows_of(found, "past")
    assert 0.02 < quiet.found < usual.found < 0.05
    # The more cards differ, the less of one is told from chance.
    siblings = [row.found for row in rows_of(found, "siblings")]
    assert siblings == sorted(siblings)
    assert siblings[0] < 0.12
    # The usual rule accuses every tenth healthy node.
    assert all(0.08 < row.alarms < 0.16 for row in rows_of(found, "median"))


@pytest.mark.stat
def test_thresholds_that_are_too_sharp_or_too_blunt_fail():
    sharp = simulate_checks(400, change("alarm", level=0.05))
    assert all(row.alarms <= row.most for row in sharp if row.way in ("siblings", "past") and row.most)
    sharp = simulate_checks(400, change("rating", degraded=0.95))
    assert any(row.failures and "accused" in row.failures[0] for row in rows_of(sharp, "rating"))
    blunt = simulate_checks(400, change("past", least_drop=0.1))
    assert any("the smallest drop" in line for row in rows_of(blunt, "past") for line in row.failures)


def test_the_command_prints_the_table_and_fails_where_a_bound_does(bench, monkeypatch):
    monkeypatch.setattr(nameplate.health.simulated_nodes, "NODES", 200)
    monkeypatch.setattr(nameplate.health.simulated_nodes.simulate_checks, "__defaults__", (200, None))
    ended = bench("selftest", "--check", "--json")
    assert ended.status == 0
    rows = json.loads(ended.out)
    assert {row["way"] for row in rows} == {"siblings", "past", "rating", "median"}
    assert all(row["passed"] for row in rows)
    blunt = change("past", least_drop=0.1)
    monkeypatch.setattr(nameplate.health.simulated_nodes.simulate_checks, "__defaults__", (200, blunt))
    ended = bench("selftest", "--check", "--lang", "zh")
    assert ended.status == 1
    assert "未通过：自身以往的运行" in ended.out
