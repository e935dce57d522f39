"""What rows of telemetry, about ten a second, tell of the batches of one case among those of others."""

from __future__ import annotations

import numpy as np
import pytest

from nameplate.base.messages import message
from nameplate.device.protocol import Counters
from nameplate.engine.conditions import GpuConditions, add_telemetry, conditions_between, summarize_gpu
from nameplate.engine.warnings import gpu_warnings
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
    ],
)
def test_throttling_is_counted_in_the_batches_only(spans, held_s):
    found = summarize_gpu(rows(power_throttle_s=since(3.0, 5.0)), spans)
    length_s = sum(end - begin for begin, end in spans)
    assert found.spans_s == pytest.approx(length_s)
    assert found.share("power") == pytest.approx(held_s / length_s, abs=1e-9)
    assert found.share("thermal") == 0.0


def test_energy_is_counted_in_the_batches_only_by_both_methods():
    found = summarize_gpu(rows(), [(1.05, 2.05), (7.0, 7.5)])
    assert found.energy_j == pytest.approx(450)
    assert found.energy_integrated_j == pytest.approx(450)
    assert summarize_gpu(rows(), [(1.0, 2.0)], batches_s=0.9).energy_j == pytest.approx(270)
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
    assert (found.power_w, found.energy_integrated_j, found.counted_share["power"]) == (None, None, None)
    assert found.sm_clock_mhz == pytest.approx(1410)
    assert found.energy_j == pytest.approx(600)


def test_a_counter_that_gains_more_than_the_time_is_ignored():
    found = summarize_gpu(rows(power_throttle_s=lambda at_s: 1e3 * at_s), [(1.0, 3.0)])
    assert found.share("power") == 0.0  # by the readings, none of which shows the reason
    assert found.absent["power_throttle_s"].code == "counter_outran"
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


def test_reasons_overrule_a_counter_only_where_it_should_have_moved_and_did_not():
    def held(until_s):
        return lambda at_s: ("sw_power_cap", "sw_thermal_slowdown") if at_s < until_s else ()

    spans = [(2.0, 4.0)]
    still = summarize_gpu(rows(clock_event_reasons=held(3.05)), spans)
    assert (still.share("power"), still.share("software_thermal")) == (pytest.approx(0.525),) * 2
    moving = summarize_gpu(rows(clock_event_reasons=held(9.0), power_throttle_s=since(3.0)), spans)
    assert moving.share("power") == pytest.approx(0.5)
    rare = summarize_gpu(rows(clock_event_reasons=held(2.25)), spans)
    assert rare.share("power") == 0.0  # a reading or two beside a counter's own steps


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
            at_s / 10,
            mhz=3500.0 if at_s < 50 else 2500.0,
            temperature_c=40.0 + at_s / 10,
            energy_j=9.0 * at_s,
        )
        for at_s in range(101)
    ]
    short = [(at_s + 0.02, at_s + 0.12) for at_s in (1.0, 2.0, 3.0)]
    missed = [(at_s + 0.02, at_s + 0.08) for at_s in (1.0, 1.5, 2.0, 2.5, 3.0, 3.5)]
    assert conditions(seen, *short).mhz == pytest.approx(3500.0)
    assert conditions(seen, *short, *missed).mhz is None  # readings by chance
    early, late = conditions(seen, (1.0, 3.0)), conditions(seen, (6.0, 7.0), (8.0, 9.0))
    assert (early.mhz, late.mhz) == (pytest.approx(3500.0), pytest.approx(2500.0))
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


# ---- whose readings they are ----


def in_turn(begin_s, turn_s, rounds):
    """The batches of two cases, A and B, that take turns of `turn_s`."""
    starts = [begin_s + 2 * turn_s * number for number in range(rounds)]
    return [(at_s, at_s + turn_s) for at_s in starts], [(at_s + turn_s, at_s + 2 * turn_s) for at_s in starts]


def capped_within(spans):
    """Rows of a GPU that is capped, at 1,200 MHz and 400 W, whenever one of these spans runs."""

    def runs(at_s):
        return any(begin_s <= at_s < end_s for begin_s, end_s in spans)

    def held_s(at_s):
        return 7.0 + sum(max(0.0, min(at_s, end_s) - begin_s) for begin_s, end_s in spans)

    return rows(
        20.0,
        sm_clock_mhz=lambda at_s: 1200 if runs(at_s) else 1410,
        power_w=lambda at_s: 400.0 if runs(at_s) else 150.0,
        clock_event_reasons=lambda at_s: ("sw_power_cap",) if runs(at_s) else (),
        power_throttle_s=held_s,
    )


@pytest.mark.parametrize("turn_s", [0.02, 0.04])
def test_a_copy_is_not_credited_with_the_throttling_of_the_product_beside_it(turn_s):
    """Batches of 20 to 40 ms: a reading in one is chance, and what lies between is the neighbour's."""
    product, copy = in_turn(1.0, turn_s, 200)
    seen = capped_within(product)
    now = add_telemetry(conditions_between(seen[0], seen[-1], 1.0), seen, copy, product, takes_turns=True).gpu
    assert now.share("power") is None
    assert now.share("thermal") == 0.0  # nobody was held by heat
    for figure in ("sm_clock_mhz", "power_w", "temperature_c"):
        assert getattr(now.telemetry, figure) is None
        assert now.telemetry.absent[figure].code == "too_few_readings"
    (said,) = [each for each in gpu_warnings(now) if each.code == "not_credited"]
    assert "power_w, sm_clock_mhz, memory_clock_mhz, temperature_c (only" in str(said)


def test_turns_of_more_than_half_a_second_tell_two_cases_apart():
    product, copy = in_turn(1.03, 0.6, 10)
    seen = capped_within(product)
    shared = conditions_between(seen[0], seen[-1], 1.0)
    capped = add_telemetry(shared, seen, product, copy, takes_turns=True).gpu
    free = add_telemetry(shared, seen, copy, product, takes_turns=True).gpu
    assert (capped.share("power"), free.share("power")) == (pytest.approx(1.0), pytest.approx(0.0))
    assert capped.telemetry.sm_clock_mhz == pytest.approx(1200)
    assert free.telemetry.sm_clock_mhz == pytest.approx(1410)
    assert (capped.telemetry.power_w, free.telemetry.power_w) == (pytest.approx(400), pytest.approx(150))
    assert not free.telemetry.absent


def test_a_mean_over_the_last_second_is_not_of_a_shorter_turn():
    """`nvmlDeviceGetPowerUsage` gives a second's mean on most parts; a soak has no neighbour to mix in."""
    _, copy = in_turn(1.0, 0.6, 10)
    seen = rows(20.0, power_source=lambda _: "usage")
    found = summarize_gpu(seen, copy, takes_turns=True)
    assert (found.power_w, found.energy_integrated_j) == (None, None)
    assert found.absent["power_w"].code == "too_few_readings"
    assert found.energy_j == pytest.approx(300 * 6.0, rel=0.01)  # the counter still tells
    assert summarize_gpu(seen, [(1.0, 4.0)]).power_w == pytest.approx(300)


def test_what_a_group_counted_is_nobodys_where_cases_took_turns():
    first, last = told(0.0), told(10.0, power_throttle_s=9.5)
    change = subtract_readings(first, last)
    assert GpuConditions(first, last, change, batches_s=4.0).share("power") is None
    assert GpuConditions(first, last, change, batches_s=4.0).share("thermal") == 0.0
    assert GpuConditions(first, last, change, batches_s=9.0).share("power") == pytest.approx(0.25)
    always = subtract_readings(first, told(10.0, power_throttle_s=17.0))
    assert GpuConditions(first, last, always, batches_s=0.3).share("power") == 1.0
    assert GpuConditions(first, last, always, batches_s=0.0).share("power") is None


def test_a_gap_amid_the_readings_is_not_filled_in():
    seen = [row for row in rows() if not 2.0 < row.at_s < 8.0]
    assert summarize_gpu(seen, [(1.0, 9.0)]).sm_clock_mhz is None
    assert summarize_gpu(seen, [(0.0, 2.0)]).sm_clock_mhz == pytest.approx(1410)


# ---- a window in which every clock was nonsense ----


def nonsense(at_s):
    why = message("implausible", figure="sm_clock_mhz", found=4294967295, least=1, most=1440)
    return Counters(at_s, gpu=told(at_s, sm_clock_mhz=None, absent={"sm_clock_mhz": why}))


def test_a_window_in_which_every_clock_was_nonsense_has_a_reason_and_is_unknown():
    seen = [nonsense(row.at_s) for row in rows()]
    now = conditions(seen, (1.0, 9.0))
    assert now.gpu.telemetry.has_impossible_clock
    (said,) = [each for each in gpu_warnings(now.gpu) if each.code == "not_credited"]
    assert str(said).startswith("not known for this case: sm_clock_mhz (the driver reported 4.29497e+09 for")
    one = [nonsense(row.at_s) if row.at_s == 5.0 else row for row in rows()]
    now = conditions(one, (1.0, 9.0))
    assert not now.gpu.telemetry.has_impossible_clock
    assert now.gpu.telemetry.sm_clock_mhz == pytest.approx(1410)
