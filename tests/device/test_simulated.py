"""A device whose truth is known: it must keep to its law, and its counters, clock and trace must agree."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from nameplate.device.simulated import Driver, SimulatedDevice, SimulatedWork
from nameplate.device.simulated_law import (
    Decay,
    Drift,
    Law,
    Noise,
    Steps,
    make_constant,
    make_steady,
    make_switching,
)
from nameplate.record import Batch

NOTHING = [lambda: None]


def draw(device, samples=100, per_sample=1, launches=NOTHING):
    return device.time_batch(launches, samples=samples, per_sample=per_sample)


def recorded(timings):
    """A window of these timings as a record keeps it."""
    return [
        Batch(start_s=each.start_s - timings[0].start_s, elapsed_s=each.elapsed_s, launches=each.launches)
        for each in timings
    ]


# ---- the law ----


@pytest.mark.parametrize(
    "noise",
    [
        Noise(0.02),
        Noise(0.01, levels=(1.0, 1.12)),
        Noise(0.01, tail_share=0.02, tail_excess=0.5),
        Noise(0.03, (0.9, 1.0, 1.4), 0.1, 0.3),
    ],
)
def test_noise_is_one_on_average_and_as_wide_as_it_says(noise):
    drawn = noise.factors(400_000, np.random.default_rng(1))
    assert drawn.mean() == pytest.approx(1, abs=5 * noise.relative_sd / math.sqrt(drawn.size))
    assert drawn.std() == pytest.approx(noise.relative_sd, rel=0.02)


def test_without_noise_every_launch_takes_what_it_should():
    timing = draw(SimulatedDevice(make_steady(2e-3)), samples=3, per_sample=4)
    assert timing.sample_s == pytest.approx([8e-3] * 3)
    assert (timing.launches, timing.per_sample) == (12, 4)


def test_the_same_seed_gives_the_same_launches_and_another_gives_others():
    first, again, other = (
        draw(SimulatedDevice(make_steady(1e-3, 0.02), seed=seed)).sample_s for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_bare_function_of_durations_is_a_law():
    device = SimulatedDevice(lambda now, count, generator: np.full(count, 1e-3 * (1 + now)))
    device.idle(1.0)
    assert draw(device).elapsed_s == pytest.approx(0.2)


def test_a_law_draws_without_a_device_too():
    drawn = Law(1e-3, Noise(0.01), Drift(0.5))(2.0, 1000, np.random.default_rng(1))
    assert drawn.mean() == pytest.approx(2e-3, rel=2e-3)


@pytest.mark.parametrize("course", [Drift(0.05), lambda at_s: 1 + 0.1 * np.sin(at_s)])
def test_launches_in_a_row_follow_the_course_as_time_goes_on(course):
    # As many launches as fit are the integral of 1 ÷ what each takes.
    device = SimulatedDevice(Law(1e-3, time_series=course))
    timing = draw(device, samples=3000)
    at_s = np.linspace(0, timing.end_s, 100_001)
    assert timing.launches == pytest.approx(np.trapezoid(1e3 / course(at_s), at_s), rel=1e-4)


# ---- courses ----


def test_steps_have_levels_and_areas():
    steps = Steps([0.0, 1.0, 3.0], [2.0, 0.0, 5.0])
    assert steps(np.asarray([0.0, 0.99, 1.0, 2.0, 3.0, 99.0])) == pytest.approx([2, 2, 0, 0, 5, 5])
    assert steps.area(0.5, 4.0) == pytest.approx(2 * 0.5 + 5 * 1)
    assert steps.area(2.0, 2.5) == 0.0
    assert (steps.switches(0.0, 4.0), steps.switches(1.0, 2.9)) == (2, 0)
    assert make_constant(3.0).area(1.0, 2.0) == pytest.approx(3.0)


def test_switching_goes_round_its_levels_within_the_times_it_promises():
    for seed in range(50):
        steps = make_switching([1.0, 2.0], [0.2, 0.6], 30.0, np.random.default_rng(seed))
        at_s = np.arange(0, 30, 1e-3)
        levels = steps(at_s)
        changes = np.flatnonzero(np.diff(levels))
        stays_s = np.diff(changes) * 1e-3
        after = levels[changes[:-1] + 1]
        assert set(levels) == {1.0, 2.0}
        assert stays_s[after == 1.0].min() > 0.09
        assert stays_s[after == 1.0].max() < 0.31
        assert stays_s[after == 2.0].min() > 0.29
        assert stays_s[after == 2.0].max() < 0.91
        assert 30 / 0.9 / 2 < steps.switches(0.0, 30.0) < 30 / 0.2


def test_a_decay_falls_from_one_to_its_level_and_never_passes_one():
    clock = Decay(0.85, 8.0, 0.02, 3.0)
    at_s = np.linspace(0, 100, 100_001)
    assert clock(np.asarray(0.0)) == 1.0
    assert clock(at_s).max() <= 1.0
    late = clock(at_s[at_s > 50])
    assert (late.min(), late.max()) == (pytest.approx(0.83, abs=1e-3), pytest.approx(0.87, abs=1e-3))
    assert Decay(0.85, 8.0)(np.asarray(8.0)) == pytest.approx(0.85 + 0.15 / math.e)


# ---- the trace ----


def test_the_truth_of_a_window_is_the_sum_over_its_batches():
    device = SimulatedDevice(Law(1e-3, Noise(0.05), Drift(0.1)), seed=3, keep_launches=True)
    draw(device, 7)
    timings = [draw(device) for _ in range(20)]
    draw(device, 5)
    found = device.window(recorded(timings))
    assert [each.start_s for each in found] == [each.start_s for each in timings]
    truth_s = sum(each.expected_s for each in found)
    error_s = math.sqrt(sum(each.variance_s2 for each in found))
    assert abs(sum(each.elapsed_s for each in timings) - truth_s) < 4 * error_s
    assert error_s == pytest.approx(truth_s * 0.05 / math.sqrt(2000), rel=0.02)
    for each in found:
        assert each.launch_s.sum() == pytest.approx(each.elapsed_s)


def test_a_batch_put_together_from_neighbours_is_found():
    device = SimulatedDevice(make_steady(1e-3, 0.05))
    timings = [draw(device) for _ in range(6)]
    pairs = [
        Batch(
            start_s=first.start_s - timings[0].start_s,
            elapsed_s=first.elapsed_s + second.elapsed_s,
            launches=200,
        )
        for first, second in zip(timings[::2], timings[1::2], strict=True)
    ]
    assert len(device.window(pairs)) == 6


def test_a_window_of_another_device_is_refused():
    mine, other = (SimulatedDevice(make_steady(1e-3, 0.05), seed=seed) for seed in (1, 2))
    draw(mine)
    with pytest.raises(ValueError, match="none of the 1 batches"):
        mine.window(recorded([draw(other)]))


def test_launches_are_kept_only_where_asked():
    device = SimulatedDevice(make_steady(1e-3))
    draw(device)
    assert device.trace[0].launch_s is None


# ---- the timer ----


def test_readings_are_whole_steps_and_right_on_average():
    step_s = 1e-4
    device = SimulatedDevice(
        make_steady(0.37e-3, 0.05), timer_resolution_s=step_s, between_s=5e-4, keep_launches=True
    )
    timings = [draw(device, 10) for _ in range(2000)]
    spans = np.concatenate([each.sample_s for each in timings]) / step_s
    assert np.allclose(spans, np.round(spans))
    assert device.clock() / step_s == pytest.approx(round(device.clock() / step_s))
    off_s = np.asarray([each.elapsed_s - each.launch_s.sum() for each in device.trace])
    assert np.abs(off_s).max() < step_s
    assert off_s.mean() == pytest.approx(0, abs=step_s / 30)
    assert off_s.std() == pytest.approx(step_s / math.sqrt(6), rel=0.1)


def test_time_passes_between_batches_only_where_it_is_told_to():
    dense, loose = (SimulatedDevice(make_steady(1e-3), between_s=between_s) for between_s in (0.0, 1e-2))
    for device in (dense, loose):
        timings = [draw(device) for _ in range(50)]
        assert timings[0].end_s == pytest.approx(timings[0].start_s + timings[0].elapsed_s)
    assert dense.clock() == pytest.approx(5.0)
    assert loose.clock() == pytest.approx(5.5, rel=0.05)


# ---- others' work ----


@pytest.mark.parametrize("which", ["foreign_cores", "stolen_cores"])
def test_what_others_take_shows_in_time_and_counters(which):
    bursts = make_switching([0.0, 1.0], [0.4, 0.2], 60.0, np.random.default_rng(1))
    device = SimulatedDevice(make_steady(1e-3), **{which: bursts})
    timing = draw(device, 8000)
    seen = device.counters()
    taken_s = bursts.area(0.0, timing.end_s)
    shown = {"foreign_cores": seen.busy_cpu_s - seen.process_cpu_s, "stolen_cores": seen.steal_s}
    assert shown.pop(which) == pytest.approx(taken_s)
    assert next(iter(shown.values())) == pytest.approx(0.0)
    # A launch is a millisecond of two cores, however long it takes them.
    assert timing.cpu_s == pytest.approx(2 * 8.0, rel=2e-3)
    assert timing.elapsed_s == pytest.approx((2 * 8.0 + taken_s) / 2, rel=2e-3)
    assert seen.tick_s == 0.0


def test_half_of_the_cores_taken_doubles_the_time():
    assert draw(SimulatedDevice(make_steady(1e-3), foreign_cores=1.0)).elapsed_s == pytest.approx(0.2)


# ---- a GPU ----


def test_a_driver_counts_for_how_long_it_held_the_clock_down():
    driver = Driver(Steps([0.0, 3.0], [1.0, 0.8]), "software_thermal", held_from_s=3.0, rated_mhz=1000)
    device = SimulatedDevice(make_steady(1e-3), driver=driver, cores=1.0)
    fast = draw(device, 1000)
    before = device.counters().gpu
    device.idle(4.0)
    slow = draw(device, 1000)
    after = device.counters().gpu
    assert slow.elapsed_s == pytest.approx(fast.elapsed_s / 0.8)
    assert (before.sm_clock_mhz, after.sm_clock_mhz) == (1000, 800)
    assert (before.throttle_reasons, after.throttle_reasons) == ((), ("sw_thermal_slowdown",))
    assert before.software_thermal_throttle_s == 0.0
    assert after.software_thermal_throttle_s == pytest.approx(device.clock() - 3.0)
    assert (after.power_throttle_s, after.hardware_thermal_throttle_s) == (0.0, 0.0)
    assert after.energy_j - before.energy_j == pytest.approx(400 * (after.at_s - before.at_s))
    assert after.other_processes is False
    assert device.rating.rated_clock_mhz == {"fp32": 1000}


def test_a_timeline_has_ten_rows_a_second_and_the_counters_between():
    device = SimulatedDevice(make_steady(1e-3), driver=Driver(policy="power"))
    draw(device, 1234)
    read = device.counters()
    draw(device, 1000)
    rows = device.timeline(1.0)
    assert read in rows
    at_s = [row.at_s for row in rows]
    assert at_s == sorted(at_s)
    assert at_s[0] == pytest.approx(1.0)
    assert 2.1 < at_s[-1] <= device.clock()
    assert np.diff(at_s).max() == pytest.approx(0.1)
    assert all(row.gpu.power_throttle_s == pytest.approx(row.at_s) for row in rows)


def test_a_host_slower_than_its_kernels_is_what_is_timed_and_a_graph_is_free_of_it():
    device = SimulatedDevice(make_steady(20e-6, 0.01), host_launch_s=50e-6)
    timing = draw(device, samples=100, per_sample=20)
    assert timing.elapsed_s == pytest.approx(2000 * 50e-6, rel=1e-3)
    assert device.time_enqueue(NOTHING) == pytest.approx(50e-6)
    graph = device.capture(NOTHING, 50)
    replayed = draw(device, samples=40, launches=[graph])
    assert replayed.launches == 40
    assert replayed.elapsed_s == pytest.approx(2000 * 20e-6, rel=1e-3)


def test_without_a_host_there_is_nothing_to_capture():
    device = SimulatedDevice(make_steady(1e-3))
    assert device.capture(NOTHING, 50) is None
    assert device.time_enqueue(NOTHING) is None
    assert device.probes("bf16") == ()


def test_a_card_dies_in_the_middle_of_a_batch_and_its_driver_loses_it():
    device = SimulatedDevice(make_steady(1e-3), driver=Driver(), dies_at_s=0.25)
    draw(device)
    draw(device)
    assert device.counters().gpu.sm_clock_mhz == 1410
    for _ in range(2):
        with pytest.raises(RuntimeError, match="unspecified launch failure"):
            draw(device)
        assert device.clock() == pytest.approx(0.25)
    assert device.counters().gpu.lost
    assert len(device.trace) == 2


# ---- a workload ----


def test_a_simulated_workload_does_nothing_and_passes_its_check():
    device = SimulatedDevice(make_steady(1e-3), corrupts_at_s=0.15)
    work = SimulatedWork(device, flops=123)
    prepared = work.prepare(device.torch_device, fill="normal", seed=1)
    (launch,) = prepared.launches
    assert launch() is None
    digests = []
    for _ in range(3):
        draw(device)
        with prepared.numerics():
            digests.append(prepared.digest())
    assert digests[0] != digests[1] == digests[2]
    assert prepared.check().passed
    assert (work.flops, work.pilots(), work.unsupported(device.torch_device)) == (123, (), None)
    assert replace(work, flops=5).flops == 5
