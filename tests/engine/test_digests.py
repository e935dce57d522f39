"""Digests of results: a change of the bits is silent corruption, and what looking for one may cost."""

from __future__ import annotations

import pytest

from nameplate.engine.group import Allowance
from timed_work import PerLaunchDevice, first_start, heating, measured, works


@pytest.mark.parametrize("phase", [None, "sustained"])
def test_a_change_of_the_bits_is_silent_corruption_and_names_the_batch(phase):
    device = PerLaunchDevice(corrupts_at_s=3.0)
    (record,) = measured(device, works(device, 1e-3), Allowance(8.0, 80.0), phase=phase)
    assert (record.status, record.verdict) == ("ok", "unverified")
    assert record.digest == "right"
    assert record.verification.passed  # it samples, and what it samples is right
    (said,) = (text for text in map(str, record.warnings) if "the bits of the result changed" in text)
    assert "silent data corruption; take this device out of use" in said


def test_the_changed_batch_is_numbered_in_the_order_drawn():
    device = PerLaunchDevice(noise=0.0)
    (record,) = measured(device, works(device, 1e-3), Allowance(8.0, 80.0))
    assert not any("the bits of the result changed" in text for text in map(str, record.warnings))
    begins = [begin for _, begin, _ in device.turns][-len(record.batches) :]
    device = PerLaunchDevice(noise=0.0, corrupts_at_s=begins[7] + 1e-6)  # while the eighth runs
    (record,) = measured(device, works(device, 1e-3), Allowance(8.0, 80.0))
    assert f"changed in batch 8 of {len(record.batches)}" in str(record.warnings[0])


def test_corruption_before_the_sustained_window_is_found():
    device = PerLaunchDevice(slowdown=heating, corrupts_at_s=4.0)
    (record,) = measured(device, works(device, 5e-3), Allowance(60.0, 120.0), phase="sustained")
    assert first_start(device, record) > 4.0
    assert "unverified" in record.verdicts


def test_a_corruption_after_the_last_batch_but_before_the_check_is_found():
    device = PerLaunchDevice(noise=0.0)
    some = works(device, 1e-3, takes={"digest": 0.5})
    (record,) = measured(device, some)
    end_s = sum(device.turns[-1][1:])
    device = PerLaunchDevice(noise=0.0, corrupts_at_s=end_s)
    (record,) = measured(device, works(device, 1e-3, takes={"digest": 0.5}))
    assert record.verdict == "unverified"


@pytest.mark.parametrize("cost_s", [1e-4, 2e-3, 0.05])
def test_digests_take_one_twentieth_of_the_time_at_the_most(cost_s):
    device = PerLaunchDevice(noise=3.0)
    (work,) = works(device, 1e-3, takes={"digest": cost_s})
    (record,) = measured(device, [work], Allowance(20.0, 80.0))
    drawing = work.done["digest"] - 2  # the first, whose cost nobody knows, and the last, which is due
    elapsed_s = sum(batch.elapsed_s for batch in record.batches)
    assert drawing * cost_s <= 0.05 * elapsed_s
    assert drawing > 0


def test_cheap_digests_are_taken_after_every_batch():
    device = PerLaunchDevice()
    (work,) = works(device, 1e-3)
    (record,) = measured(device, [work])
    assert work.done["digest"] == len(record.batches) + 1


def test_without_promised_bits_there_is_no_digest_and_no_verdict_by_it():
    device = PerLaunchDevice(corrupts_at_s=3.0)
    (record,) = measured(device, works(device, 1e-3, has_digest=False))
    assert (record.digest, record.verdict) == (None, "clean")


def test_a_digest_is_not_timed():
    device = PerLaunchDevice()
    (record,) = measured(device, works(device, 1e-3, takes={"digest": 0.01}))
    assert record.time_s == pytest.approx(1e-3, rel=5e-3)
