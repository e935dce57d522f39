"""Cases measured in turn until they have settled: when a sustained window begins, and if none does."""

from __future__ import annotations

import numpy as np
import pytest

from nameplate.device.simulated import Driver
from nameplate.engine.group import Allowance
from nameplate.engine.measure import measure_group
from nameplate.engine.pilot import Pilots
from nameplate.engine.rounds import AIMED_BATCHES, SETTLING_BATCHES
from nameplate.stats.estimate import BATCHES
from nameplate.suite import Case
from timed_work import TAU_S, PerLaunchDevice, first_start, heating, measured, works


def test_a_sustained_window_begins_once_it_has_settled():
    device = PerLaunchDevice(noise=0.01, slowdown=heating)
    first, second = measured(device, works(device, 5e-3, 5e-3), Allowance(60.0, 120.0), phase="sustained")
    for record in (first, second):
        assert record.settled_s >= 5 * TAU_S * 0.7
        assert first_start(device, record) >= record.settled_s
        assert record.tflops == pytest.approx(1e-3 / (5e-3 * 1.2), rel=5e-3)
        assert record.verdict == "clean"
        assert len(record.batches) >= BATCHES
    assert first.settled_s == second.settled_s


def test_a_sustained_case_of_a_steady_device_is_measured_from_the_start():
    device = PerLaunchDevice()
    (record,) = measured(device, works(device, 5e-3), Allowance(20.0, 60.0), phase="sustained")
    assert record.settled_s == 0.0
    assert record.verdict == "clean"
    assert record.batches[0].round == 0


def test_a_sustained_window_spans_whole_periods():
    device = PerLaunchDevice(noise=0.005, slowdown=lambda at_s: 1 + 0.05 * np.sin(2 * np.pi * at_s / 3.0))
    (record,) = measured(device, works(device, 5e-3), Allowance(40.0, 90.0), phase="sustained")
    span_s = record.batches[-1].start_s + record.batches[-1].elapsed_s
    assert span_s / 3.0 == pytest.approx(round(span_s / 3.0), abs=0.5)
    assert record.tflops == pytest.approx(1e-3 / 5e-3, rel=5e-3)


def test_a_series_that_has_not_settled_is_unstable_with_a_warning():
    device = PerLaunchDevice(slowdown=lambda at_s: 1.5 - 0.5 * np.exp(-at_s / 30.0))
    (record,) = measured(device, works(device, 5e-3), Allowance(20.0, 60.0), phase="sustained")
    assert (record.settled_s, record.verdict) == (None, "unstable")
    assert any("had not settled when the time was up" in text for text in map(str, record.warnings))
    (warning,) = filter(None, (each.find("still_settling") for each in record.warnings))
    assert 60.0 < warning.values["lacking_s"] < 600.0  # of a change whose time constant is 30 s


def test_only_sustained_cases_are_judged_by_settling():
    device = PerLaunchDevice()
    settling, plain = works(device, 1e-3, 1e-3)
    sustained, copied = measured(
        device, [Case(settling, phase="sustained"), Case(plain)], Allowance(5.0, 60.0)
    )
    assert (sustained.settled_s, sustained.verdict) == (None, "unknown")  # too short to say
    assert (copied.settled_s, copied.verdict, copied.warnings) == (None, "clean", ())
    assert copied.batches[0].round == 0 == sustained.batches[0].round


def test_an_undetermined_series_is_unknown_and_uses_every_batch():
    device = PerLaunchDevice()
    (record,) = measured(device, works(device, 0.5), Allowance(2.0, 60.0), phase="sustained")
    assert (record.settled_s, record.verdict) == (None, "unknown")
    assert record.batches[0].round == 0
    assert any(
        "the run was too short or too noisy to tell whether throughput had settled" in text
        for text in map(str, record.warnings)
    )


def test_a_group_with_a_sustained_case_has_more_batches():
    for phase, batches in ((None, AIMED_BATCHES), ("sustained", SETTLING_BATCHES)):
        device = PerLaunchDevice(noise=0.5)
        (record,) = measured(device, works(device, 5e-3), Allowance(20.0, 60.0), phase=phase)
        assert record.batches[0].elapsed_s == pytest.approx(19 / batches, rel=0.2)


def swinging(at_s):
    """A clock at its power limit: the reading of one, ±1.2 % with a period of 3 s."""
    return 1 + 0.012 * np.sin(2 * np.pi * at_s / 3.0)


@pytest.mark.parametrize(
    ("slowdown", "verdict"),
    [
        (swinging, "clean"),
        (lambda at_s: swinging(at_s) * (1.1 - 0.1 * np.exp(-at_s / 30.0)), "unstable"),
    ],
    ids=["a swing alone", "heat beneath a swing"],
)
def test_processes_of_a_gpu_tell_together_what_none_of_them_tells_alone(slowdown, verdict):
    """Each sees two swings, half of which don't count: one alone can't tell, or is misled."""
    for seed in (1, 2, 3):
        device = PerLaunchDevice(noise=0.002, kind="cuda", driver=Driver(), cores=1.0, slowdown=slowdown)
        cases = [Case(work, phase="sustained") for work in works(device, 1e-3, 2e-3, 5e-3)]
        records = measure_group(
            cases, device, Pilots(device, seed), Allowance(30.0, 90.0), busy_s=60.0, processes=4
        )
        assert [record.verdict for record in records] == [verdict] * 3
        assert {record.processes for record in records} <= {3, 4}
