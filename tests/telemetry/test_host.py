"""CPU time of a whole host, from recorded /proc/stat lines."""

from __future__ import annotations

import pytest

from nameplate.telemetry import host

#                user nice system idle iowait irq softirq steal guest guest_nice
RECORDED = "cpu  4000 100 900 500000 700 30 70 250 1234 0\ncpu0 1 2 3 4 5 6 7 8 9 10\nintr 1\n"


@pytest.fixture(autouse=True)
def hundred_ticks(monkeypatch):
    monkeypatch.setattr(host.os, "sysconf", lambda name: 100)


def test_busy_is_all_but_idle_and_waiting_and_guests_count_once(tmp_path):
    stat = tmp_path / "stat"
    stat.write_text(RECORDED)
    busy, steal = host.read_cpu_totals(stat)
    assert busy == pytest.approx(51.0)
    assert steal == pytest.approx(2.5)
    assert host.read_tick_s() == 0.01


@pytest.mark.parametrize(
    "text",
    ["", "\n", "cpu 1 2 3\n", "intr 1 2 3 4 5 6 7 8 9\n", "cpu a b c d e f g h\n", "cpu ½ 2 3 4 5 6 7 8\n"],
)
def test_what_does_not_say_is_not_known(tmp_path, text):
    stat = tmp_path / "stat"
    stat.write_text(text, encoding="utf-8")
    assert host.read_cpu_totals(stat) is None


def test_no_such_file_is_not_known(tmp_path):
    assert host.read_cpu_totals(tmp_path / "stat") is None
