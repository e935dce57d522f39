"""How one case is drawn, on a virtual clock: first launches, warm-up, sizes of samples and batches."""

from __future__ import annotations

from itertools import pairwise

import pytest

from nameplate.device.simulated import SimulatedDevice
from nameplate.device.simulated_law import make_steady
from nameplate.engine.sampler import MOST_SAMPLES, SHORTEST_SAMPLE_S, TIMER_STEPS, Sampler


class Watched(SimulatedDevice):
    """A simulated device that remembers what it was asked for."""

    def time_batch(self, launches, *, samples, per_sample, flush=False):
        self.asked.append((samples, per_sample, flush))
        return super().time_batch(launches, samples=samples, per_sample=per_sample, flush=flush)


def sampler(launch_s=1e-3, noise=0.0, *, flush=False, seed=1, **device):
    watched = Watched(make_steady(launch_s, noise), seed=seed, **device)
    watched.asked = []
    return Sampler(watched, [lambda: None], flush=flush)


def sized(launch_s, batch_s, **options):
    drawn = sampler(launch_s, **options)
    drawn.launch_s = drawn.cost_s = launch_s
    drawn.choose_size(batch_s)
    return drawn


@pytest.mark.parametrize("launch_s", [1e-7, 3e-6, 99e-6, 101e-6, 2e-3, 0.7])
@pytest.mark.parametrize("resolution_s", [0.0, 4e-8, 0.5e-6])
def test_a_sample_is_long_relative_to_the_timers_step_and_the_loop(launch_s, resolution_s):
    drawn = sized(launch_s, 1.0, timer_resolution_s=resolution_s)
    sample_s, shortest = drawn.per_sample * launch_s, max(TIMER_STEPS * resolution_s, SHORTEST_SAMPLE_S)
    assert sample_s >= shortest * (1 - 1e-9)
    assert drawn.per_sample == 1 or sample_s < shortest + launch_s * 1.001


@pytest.mark.parametrize("launch_s", [1e-6, 1e-3])
def test_a_flushed_sample_is_one_launch(launch_s):
    assert sized(launch_s, 1.0, flush=True, timer_resolution_s=1e-6).per_sample == 1


@pytest.mark.parametrize(
    ("launch_s", "batch_s", "samples"),
    [(1e-3, 0.2, 200), (2.0, 1.0, 1), (1e-3, 0.0, 1), (1e-4, 400.0, MOST_SAMPLES)],
)
def test_a_batch_is_as_long_as_asked_at_least_one_sample_and_bounded(launch_s, batch_s, samples):
    drawn = sized(launch_s, batch_s)
    assert (drawn.per_sample, drawn.samples) == (1, samples)
    assert drawn.batch_cost_s == pytest.approx(samples * launch_s)


@pytest.mark.parametrize(
    ("launch_s", "flush", "samples"), [(1e-3, False, 2), (4e-3, False, 2), (9e-3, False, 1), (4e-3, True, 1)]
)
def test_a_batch_of_a_gpu_has_two_launches_unless_they_are_long(launch_s, flush, samples):
    """With two, an untimed one comes first, and the way from the host to an empty queue doesn't count."""
    assert sized(launch_s, 1e-3, flush=flush, kind="cuda").samples == samples
    assert sized(launch_s, 1e-3, flush=flush).samples == 1


@pytest.mark.parametrize("flush", [False, True])
def test_a_batch_asks_the_device_for_what_was_sized(flush):
    drawn = sized(1e-5, 1.0, flush=flush)
    timing = drawn.draw()
    assert drawn.device.asked == [(drawn.samples, drawn.per_sample, flush)]
    assert timing.launches == drawn.samples * drawn.per_sample
    assert timing.end_s - timing.start_s == pytest.approx(timing.elapsed_s)


def test_a_first_launch_as_fast_as_predicted_is_enough():
    drawn = sampler(0.25)
    assert drawn.launch_first(10.0, predicted_s=0.3) == 0.25
    assert drawn.device.asked == [(1, 1, False)]


@pytest.mark.parametrize("predicted_s", [None, 0.001])
def test_a_first_launch_that_may_have_compiled_is_followed_by_another(predicted_s):
    drawn = sampler()
    drawn.device.durations = lambda now, count, rng: make_steady(0.2 if now == 0 else 1e-3)(now, count, rng)
    assert drawn.launch_first(10.0, predicted_s) == pytest.approx(1e-3)


def test_a_first_launch_that_took_all_the_time_is_not_repeated():
    drawn = sampler(0.25)
    assert drawn.launch_first(0.2, None) == 0.25
    assert len(drawn.device.asked) == 1


def test_the_cost_of_flushes_is_counted_apart_from_the_launch():
    drawn = sampler(1e-4, flush=True)
    flushes = drawn.device.time_batch

    def slow(launches, *, samples, per_sample, flush):
        drawn.device._now_s += 0.05 * samples
        return flushes(launches, samples=samples, per_sample=per_sample, flush=flush)

    drawn.device.time_batch = slow
    assert drawn.launch_first(10.0, None) == pytest.approx(0.0501)
    assert drawn.launch_s == pytest.approx(1e-4)
    drawn.choose_size(0.2)
    assert (drawn.per_sample, drawn.samples) == (1, int(0.2 / 0.0501))
    assert drawn.batch_cost_s == pytest.approx(3 * 0.0501)


@pytest.mark.parametrize("launch_s", [1e-6, 1e-4, 0.03, 0.7])
def test_warm_up_lasts_as_long_as_asked_in_doubling_stretches(launch_s):
    drawn = sampler(launch_s)
    drawn.warm_up(0.5)
    assert drawn.launch_s == pytest.approx(launch_s)
    assert 0.5 - 1e-9 <= drawn.device.clock() < 0.5 + 2 * launch_s
    counts = [per_sample for _, per_sample, _ in drawn.device.asked]
    assert len(counts) <= 25
    assert all(later <= 2 * earlier for earlier, later in pairwise(counts))


def test_warm_up_takes_the_latest_launch_time():
    drawn = sampler()
    drawn.device.durations = lambda now, count, rng: make_steady(1e-3 if now > 0.3 else 9e-3)(now, count, rng)
    drawn.warm_up(1.0)
    assert drawn.launch_s == pytest.approx(1e-3)


@pytest.mark.parametrize("warm_up_s", [0.0, 0.3])
def test_a_launch_of_no_measured_time_counts_as_one_step_of_the_clock(warm_up_s):
    drawn = sampler(1e-5, timer_resolution_s=1e-3)
    drawn.launch_first(10.0, None)
    assert (drawn.launch_s, drawn.cost_s) == (1e-3, 1e-3)
    drawn.warm_up(warm_up_s)
    drawn.choose_size(5.0)
    assert drawn.per_sample >= TIMER_STEPS
    assert drawn.samples >= 1


def test_a_short_last_part_of_the_warm_up_is_ignored():
    # All that is left of the warm-up is half a launch, and that one is interrupted.
    drawn = sampler()
    drawn.device.durations = lambda now, count, rng: make_steady(50e-3 if now > 0.29 else 1e-3)(
        now, count, rng
    )
    drawn.warm_up(0.2905)
    assert drawn.launch_s == drawn.cost_s == pytest.approx(1e-3)


def test_back_to_back_samples_share_clock_readings_and_flushed_ones_do_not():
    warm = sized(1e-3, 0.2, timer_resolution_s=1e-6)
    cold = sized(1e-3, 0.2, timer_resolution_s=1e-6, flush=True)
    assert (warm.samples, warm.resolution_s) == (200, 1e-6)
    assert (cold.samples, cold.resolution_s) == (200, pytest.approx(200e-6))


class Ring(SimulatedDevice):
    """A device that launches what it is given, as a real one does."""

    def time_batch(self, launches, *, samples, per_sample, flush=False):
        for n in range(samples * per_sample):
            launches[n % len(launches)]()
        return super().time_batch(launches, samples=samples, per_sample=per_sample, flush=flush)


def test_buffer_sets_rotate_from_batch_to_batch():
    used = []
    drawn = Sampler(Ring(make_steady(0.1)), [lambda n=n: used.append(n) for n in range(5)], takes_turns=True)
    drawn.launch_first(10.0, None)
    drawn.choose_size(0.2)
    for _ in range(4):
        drawn.rewarm()  # five sets overflow the cache by themselves: no launch is needed between others' work
        drawn.draw()
    assert used == [n % 5 for n in range(2 + 4 * 2)]
