"""What a measuring process takes a run's budget to have lost before it began."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from nameplate.run.worker import find_spent_s


def started(seconds_ago):
    return (datetime.now(UTC) - timedelta(seconds=seconds_ago)).isoformat(timespec="seconds")


def test_on_a_clock_that_is_the_hosts_all_time_since_the_run_began_is_spent():
    for device in ("cpu", "cuda:3"):
        assert find_spent_s(device, [], time.monotonic() - 40) == pytest.approx(40, abs=5)


def test_on_a_clock_of_its_own_only_what_this_runs_records_cost_is_spent(make_record):
    """A process that takes forty seconds to begin costs a twin nothing: its clock stood at 0."""
    began_s = time.monotonic() - 40
    assert find_spent_s("twin:h200", [], began_s) == 0
    records = [
        make_record(device="twin:h200", started=started(30), cost_s=7.0),
        make_record(device="twin:h200", started=None, cost_s=None, status="failed"),
        make_record(device="twin:h200", started=started(3600), cost_s=90.0),  # of what is resumed now
        make_record(device="twin:other", started=started(30), cost_s=50.0),
    ]
    assert find_spent_s("twin:h200", records, began_s) == 7.0
