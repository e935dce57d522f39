"""What rows of telemetry, about ten a second, tell of the batches of one case among those of others."""

from __future__ import annotations

import numpy as np
import pytest

from nameplate.device.protocol import Counters
from nameplate.engine.conditions import GpuConditions, add_telemetry, conditions_between, summarize_gpu
from nameplate.telemetry.gpu import POLICIES, GpuReading, subtract_readings

NOT_COUNTED = dict.fromkeys((f"{policy}_throttle_s" for policy in POLICIES), None)


def told(at_s, **changes):
    figures = {
        **dict.fromkeys((f"{policy}_throttle_s" for policy in POLICIES), 7.0),
        "sm_clock_mhz": 1410,
        "memory_clock_mhz": 1593,
        "temperature_c": 50,
        "power_w": 300.0,
        "energy_j": 300.0 * at_s,
        "clock_event_reasons": (),
    }
    return GpuReading(uuid="GPU-1", at_s=at_s, **(figures | changes))


def rows(until_s=10.0, **figures):
    """Rows from 0 s on, ten a second; each figure is a function of time."""
    ticks = [float(at_s) for at_s in np.arange(0, round(until_s * 10) + 1) / 10]
    return [
        Counters(at_s, gpu=told(at_s, **{name: how(at_s) for name, how in figures.items()})) for at_s in ticks
    ]


def since(begin_s, end_s=100.0):
    """A counter that runs from one moment to another."""
    return lambda at_s: 7.0 + min(max(at_s - begin_s, 0.0), end_s - begin_s)


def conditions(seen, *spans):
    return add_telemetry(conditions_between(seen[0], seen[-1], 1.0), seen, spans)


# ---- telemetry of a GPU ----


@pytest.mark.parametrize(
    ("spans", "held_s"),
    [
        ([(2.0, 4.0)], 1.0),
        ([(0.0, 3.0)], 0.0),
        ([(3.5, 4.5)], 1.0),
        ([(0.0, 1.0), (2.5, 3.5), (4.5, 6.0)], 1.0),
        ([(3.32, 3.34)], 0.02),  # shorter than the time between two rows
    ],
)
def test_throttling_is_counted_in_the_batches_only(spans, held_s):
    found = summarize_gpu(rows(power_throttle_s=since(3.0, 5.0)), spans)
    length_s = sum(end - begin for begin, end in spans)
    assert found.spans_s == pytest.approx(length_s)
    assert found.throttle_s["power"] == pytest.approx(held_s, abs=1e-9)
    assert found.share("power") == pytest.approx(held_s / length_s, abs=1e-9)
    assert found.share("thermal") == 0.0


def test_energy_is_counted_in_the_batches_only_by_both_methods():
    found = summarize_gpu(rows(), [(1.05, 2.05), (7.0, 7.5)])
    assert found.energy_j == pytest.approx(450)
    assert found.energy_integrated_j == pytest.approx(450)
    assert found.power_w == pytest.approx(300)


def test_clocks_and_temperatures_are_means_over_the_batches():
    warming = rows(
        sm_clock_mhz=lambda at_s: 1410 if at_s <= 5.0 else 1200, temperature_c=lambda at_s: round(40 + at_s)
    )
    found = summarize_gpu(warming, [(4.0, 6.0)])
    assert found.sm_clock_mhz == pytest.approx(1305, abs=6)
    assert found.temperature_c == pytest.approx(45, abs=0.2)
    assert found.memory_clock_mhz == pytest.approx(1593)
    assert found.readings == 21
    assert summarize_gpu(warming, [(1.0, 4.0), (4.5, 5.0)]).sm_clock_mhz == pytest.approx(1410)


def test_without_a_gpus_row_there_is_no_telemetry():
    assert summarize_gpu([], [(0.0, 1.0)]) is None
    assert summarize_gpu([Counters(0.0), Counters(1.0)], [(0.0, 1.0)]) is None


def test_rows_that_end_before_the_batches_give_no_figures():
    found = summarize_gpu(rows(2.0), [(1.0, 2.0), (5.0, 6.0)])
    assert (found.sm_clock_mhz, found.energy_j, found.energy_integrated_j) == (None, None, None)
    assert found.share("power") is None


def test_a_figure_that_the_driver_lacks_is_null_and_the_others_stay():
    found = summarize_gpu(rows(power_w=lambda _: None, power_throttle_s=lambda _: None), [(1.0, 3.0)])
    assert (found.power_w, found.energy_integrated_j, found.throttle_s["power"]) == (None, None, None)
    assert found.sm_clock_mhz == pytest.approx(1410)
    assert found.energy_j == pytest.approx(600)


def test_a_counter_that_gains_more_than_the_time_is_ignored():
    found = summarize_gpu(rows(power_throttle_s=lambda at_s: 1e3 * at_s), [(1.0, 3.0)])
    assert found.share("power") == 0.0  # by the readings, none of which shows the reason
    unread = rows(power_throttle_s=lambda at_s: 1e3 * at_s, clock_event_reasons=lambda _: None)
    assert summarize_gpu(unread, [(1.0, 3.0)]).share("power") is None
    assert conditions(unread, (1.0, 3.0)).gpu.share("power") is None


# ---- where the driver's counters are absent ----


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        ("power", "sw_power_cap"),
        ("thermal", "sw_thermal_slowdown"),
        ("thermal", "hw_thermal_slowdown"),
        ("software_thermal", "sw_thermal_slowdown"),
        ("hardware_thermal", "hw_thermal_slowdown"),
        ("power_brake", "hw_power_brake_slowdown"),
    ],
)
def test_reasons_replace_a_missing_counter(policy, reason):
    def reasons(at_s):
        return (reason, "gpu_idle") if at_s < 3.05 else ("gpu_idle", "reliability")

    found = summarize_gpu(
        rows(clock_event_reasons=reasons, **{n: lambda _: None for n in NOT_COUNTED}), [(2.0, 4.0)]
    )
    assert found.share(policy) == pytest.approx(0.525)  # of 2 s, half an interval after the last
    assert found.readings == 21


def test_reasons_do_not_overrule_a_counter():
    found = summarize_gpu(rows(clock_event_reasons=lambda _: ("sw_power_cap",)), [(2.0, 4.0)])
    assert found.share("power") == 0.0


@pytest.mark.parametrize(("end_s", "known"), [(2.35, False), (2.45, True)])
def test_a_share_of_few_readings_is_unknown(end_s, known):
    seen = rows(clock_event_reasons=lambda _: ("sw_power_cap",), power_throttle_s=lambda _: None)
    assert summarize_gpu(seen, [(2.0, end_s)]).share("power") == (1.0 if known else None)


def test_failed_readings_do_not_count_as_readings():
    lost = [Counters(row.at_s, gpu=GpuReading.without_figures("GPU-1", "lost", row.at_s)) for row in rows()]
    found = summarize_gpu(lost, [(2.0, 8.0)])
    assert {found.share(policy) for policy in POLICIES} == {None}
    assert found.sm_clock_mhz is None


# ---- what a record keeps ----


def test_throttling_during_the_batches_overrules_the_whole_window():
    # Held while others of its group ran: nothing of this case.
    seen = rows(thermal_throttle_s=since(6.0))
    assert conditions(seen, (1.0, 3.0)).gpu.share("thermal") == 0.0
    assert conditions(seen, (7.0, 9.0)).gpu.share("thermal") == pytest.approx(1.0)
    assert conditions_between(seen[0], seen[-1], 1.0).gpu.share("thermal") == pytest.approx(0.4)


def test_without_telemetry_the_counters_at_both_ends_are_used():
    first, last = told(0.0), told(10.0, power_throttle_s=9.5)
    assert GpuConditions(first, last, subtract_readings(first, last)).share("power") == pytest.approx(0.25)


def test_a_cpus_clock_heat_and_energy_are_of_the_batches_only():
    seen = [
        Counters(
            float(at_s), mhz=3500.0 if at_s < 5 else 2500.0, temperature_c=40.0 + at_s, energy_j=90.0 * at_s
        )
        for at_s in range(11)
    ]
    early, late = conditions(seen, (1.0, 3.0)), conditions(seen, (6.0, 7.0), (8.0, 9.0))
    assert (early.mhz, late.mhz) == (3500.0, 2500.0)
    assert (early.temperature_c, late.temperature_c) == (pytest.approx(42.0), pytest.approx(47.5))
    assert (early.energy_j, late.energy_j) == (pytest.approx(180.0), pytest.approx(180.0))


def test_rows_of_other_figures_do_not_hide_a_figure():
    # The host's sampler and this process take rows of their own, each without the other's figures.
    seen = sorted(
        [Counters(at_s / 10, mhz=3500.0) for at_s in range(101)]
        + [
            Counters(at_s, process_cpu_s=2 * at_s, busy_cpu_s=2 * at_s, steal_s=0.0, tick_s=0.01)
            for at_s in (0.0, 10.0)
        ],
        key=lambda row: row.at_s,
    )
    now = conditions([seen[1], *seen[2:-1], seen[-1]], (1.0, 2.0))
    assert now.mhz == 3500.0
    assert now.temperature_c is None


def test_a_record_holds_the_telemetry(make_record):
    columns = conditions(rows(), (1.0, 3.0)).as_columns()
    kept = make_record(conditions=columns).conditions
    expected = {
        "gpu_readings": 21,
        "gpu_sm_clock_mhz": pytest.approx(1410),
        "gpu_memory_clock_mhz": pytest.approx(1593),
        "gpu_temperature_c": pytest.approx(50),
        "gpu_power_w": pytest.approx(300),
        "cpu_mhz": None,
    }
    assert {name: kept[name] for name in expected} == expected


def test_an_energy_counter_that_stands_still_gives_no_energy():
    found = summarize_gpu(rows(energy_j=lambda _: 5000.0), [(1.0, 3.0)])
    assert found.energy_j is None
    assert found.energy_integrated_j > 0  # the power readings still do
