"""What several processes found of one group, made into one: rounds, checks, conditions, what failed."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

from nameplate.base.messages import message
from nameplate.device.protocol import Counters, Timing
from nameplate.device.simulated import Driver
from nameplate.engine.ceiling import ChosenProbe, ProbeData
from nameplate.engine.conditions import Conditions, conditions_between, merge_conditions
from nameplate.engine.group_data import CaseData, Check, FailureReason, GroupData, merge_processes
from nameplate.engine.window import TimedBatch, Window
from nameplate.stats.settling import UNDETERMINED, Settling

SETTLED, CHANGING = Settling(0.0, None, 0.0, None), Settling(None, None, 0.1, None, is_changing=True)
PROBE = ChosenProbe("a product", 1.0)


def window_of(process, rounds=3, settling=None, at_s=0.0):
    timings = [Timing(at_s + number, np.full(4, 0.1), 2, at_s + number + 0.4) for number in range(rounds)]
    return Window([TimedBatch(n, timing, None, process) for n, timing in enumerate(timings)], 1e-6, settling)


def case_of(process, *, at_s=0.0, digests=("x", "x", "x"), error=0.25, passed=True, **rest):
    check = Check("fp64", error, "rounding", passed)
    found = window_of(process, at_s=at_s, settling=rest.pop("settling", None))
    return CaseData(f"start {process}", 2.0, window=found, digests=digests, check=check, **rest)


def skipped(status="skipped"):
    return CaseData("start", 0.5, FailureReason(status, message("budget_spent", budget_s=1.0)))


NAMES = "abc"


def group_of(*cases, begin_s=0.0, end_s=1.0, conditions=None, **rest):
    by_id = dict(zip(NAMES, cases, strict=False))
    return GroupData(by_id, conditions or Conditions(end_s - begin_s), begin_s, end_s, **rest)


def test_what_one_process_found_is_all():
    alone = group_of(case_of(1))
    assert merge_processes([alone]) is alone


def test_the_batches_of_all_processes_are_one_window_with_rounds_of_their_own():
    first, second = group_of(case_of(1), end_s=3.0), group_of(case_of(2, at_s=10.0), begin_s=10.0, end_s=13.0)
    case = merge_processes([first, second]).cases["a"]
    assert [(batch.process, batch.round) for batch in case.window.batches] == [
        *((1, 0), (1, 1), (1, 2)),
        *((2, 3), (2, 4), (2, 5)),
    ]
    assert case.window.launches == 2 * 3 * 8
    assert (case.started, case.cost_s) == ("start 1", 4.0)
    # What ran between them was no batch of the case: a reading of that time doesn't count for it.
    assert case.other_spans == [(3.0, 10.0)]
    assert case.takes_turns


def test_a_probes_rounds_are_numbered_as_the_cases_are():
    def data(process, *rounds):
        probe = ProbeData(PROBE, 8, dict.fromkeys(rounds, process * 1.0))
        return group_of(case_of(process), probes={"fp32": probe})

    merged = merge_processes([data(1, 0, 1, 4), data(2, 0, 2), data(3, 1)])
    assert merged.probes["fp32"].rounds == {0: 1.0, 1: 1.0, 4: 1.0, 5: 2.0, 7: 2.0, 9: 3.0}
    rounds = [batch.round for batch in merged.cases["a"].window.batches if batch.process == 2]
    assert rounds == [5, 6, 7]


def test_other_bits_in_another_process_are_a_change():
    """The same inputs give the same bits in every process, where the library promises them."""
    same = [group_of(case_of(1)), group_of(case_of(2))]
    assert merge_processes(same).cases["a"].changed_batch is None
    other = [group_of(case_of(1)), group_of(case_of(2, digests=(None, "y", "y")))]
    assert merge_processes(other).cases["a"].changed_batch == 5


def test_the_worst_check_counts():
    groups = [group_of(case_of(1, error=0.1)), group_of(case_of(2, error=3.0, passed=False))]
    assert merge_processes(groups).cases["a"].check == Check("fp64", 3.0, "rounding", False)
    without = group_of(replace(case_of(2), check=None))  # its bits are those of the first
    assert merge_processes([groups[0], without]).cases["a"].check == Check("fp64", 0.1, "rounding", True)


def test_a_case_that_fails_in_one_process_has_failed_and_the_others_go_on():
    groups = [group_of(case_of(1), case_of(1)), group_of(skipped("failed"), case_of(2))]
    failed, kept = merge_processes(groups).cases.values()
    assert failed.failure.status == "failed"
    assert (failed.window, failed.started, failed.cost_s) == (None, "start 1", 2.5)
    assert len(kept.window.batches) == 6


def test_one_that_a_later_process_had_no_time_for_has_the_figure_of_the_others():
    groups = [group_of(case_of(1), case_of(1)), group_of(case_of(2), skipped())]
    whole, part = merge_processes(groups).cases.values()
    assert (len(whole.window.batches), len(part.window.batches)) == (6, 3)
    assert part.failure is None
    assert part.cost_s == 2.5


def test_a_process_that_could_prepare_nothing_leaves_the_others():
    empty = GroupData({"a": skipped()})
    merged = merge_processes([group_of(case_of(1), end_s=2.0), empty, group_of(case_of(3), end_s=9.0)])
    assert [batch.process for batch in merged.cases["a"].window.batches] == [1, 1, 1, 3, 3, 3]
    assert merged.end_s == 9.0
    assert merge_processes([empty, empty]) is empty


@pytest.mark.parametrize(
    ("settlings", "settled"),
    [
        ((SETTLED, SETTLED), True),
        ((SETTLED, CHANGING), False),
        ((UNDETERMINED, CHANGING), False),
        ((SETTLED, UNDETERMINED), None),
    ],
)
def test_it_has_settled_where_each_process_has(settlings, settled):
    groups = [group_of(case_of(number, settling=each)) for number, each in enumerate(settlings, 1)]
    assert merge_processes(groups).cases["a"].window.settling.is_settled is settled


def test_shares_are_of_the_time_of_all_windows():
    long = Conditions(9.0, 0.9, 0.1, 0.0, 0.01, 1.0)
    short = Conditions(1.0, 0.5, 0.6, 0.2, 0.09, 0.8)
    merged = merge_conditions([long, short])
    assert merged.elapsed_s == 10.0
    assert (merged.own_share, merged.foreign_share, merged.steal_share) == pytest.approx((0.86, 0.15, 0.02))
    assert merged.resolution == pytest.approx(0.09 * 2**0.5 / 10)  # 0.09 s each, off independently
    assert merged.parallel_share == 0.8
    assert merge_conditions([long, Conditions(1.0)]).foreign_share is None


def test_a_neighbour_that_came_and_went_between_two_processes_is_seen():
    driver = Driver()

    def between(begin_s, end_s, processes=()):
        before, after = driver.readings(np.asarray([begin_s, end_s]))
        after = after.model_copy(update={"processes": processes})
        return conditions_between(Counters(begin_s, gpu=before), Counters(end_s, gpu=after), 1.0)

    alone = merge_conditions([between(0.0, 1.0), between(2.0, 3.0)]).gpu
    assert alone.change.other_processes is False
    assert alone.change.elapsed_s == 3.0
    neighbour = driver.readings(np.asarray([1.0]))[0].model_validate(
        {**driver.readings(np.asarray([1.0]))[0].model_dump(), "processes": ({"pid": 7},)}
    )
    disturbed = merge_conditions([between(0.0, 1.0, neighbour.processes), between(2.0, 3.0)]).gpu
    assert disturbed.change.other_processes is True
    assert disturbed.count_other_processes() == 1


def test_what_a_process_found_can_be_sent_to_another():
    found = group_of(case_of(1), skipped(), rows=(Counters(1.0),))
    sent = pickle.loads(pickle.dumps(found))
    assert sent.cases["a"].check == found.cases["a"].check
    assert sent.cases["b"] == found.cases["b"]
    assert (sent.rows, sent.conditions) == (found.rows, found.conditions)
