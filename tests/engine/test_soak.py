"""One workload without a pause from idle: its burst, the curve, where it settles, and what is left when."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from nameplate.device.simulated import Driver, SimulatedDevice, SimulatedPrepared, SimulatedWork
from nameplate.device.simulated_law import make_steady
from nameplate.engine.group import Allowance
from nameplate.engine.measure import measure_group
from nameplate.engine.pilot import Pilots
from nameplate.engine.soak import DERATES_S, is_soak
from nameplate.record import Record
from nameplate.stats.estimate import BATCHES, FEWEST_BATCHES
from nameplate.suite import Case

# A twentieth of the share is idle: the onset is there, but for the first launches.
AMPLE = Allowance(share_s=60.0, limit_s=90.0)
ONSET_S = 3.0
DRAWN_S = 57.0
LAUNCH_S = 10e-3
BOTH = ("burst", "sustained")
SETTLED, TAU_S = 0.85, 4.0


def decay(settled=SETTLED, tau_s=TAU_S):
    """A clock that falls from 1 to `settled`, from the onset on."""
    return lambda at_s: 1 + (1 - settled) * np.expm1(-np.maximum(at_s - ONSET_S, 0.0) / tau_s)


def step(at_onset_s, level=0.8):
    """A clock that falls at once, so long after the onset."""
    return lambda at_s: np.where(at_s < ONSET_S + at_onset_s, 1.0, level)


def gpu(
    clock=None,
    policy=None,
    held_s=0.0,
    noise=5e-3,
    launch_s=LAUNCH_S,
    of=SimulatedDevice,
    rated=1410.0,
    **options,
):
    """A device of 1 TFLOPS; `policy` holds its clock from `held_s` after the onset on."""
    driver = Driver(clock, policy, ONSET_S + held_s, rated)
    return of(make_steady(launch_s, noise), seed=1, **({"nominal_tflops": 1.25, "driver": driver} | options))


def work(device, kind=SimulatedWork, **options):
    launch_s = device.durations.launch_s
    return kind(device, **({"flops": round(1e12 * launch_s), "bytes": 10**6} | options))


def measured(device, phases=BOTH, allowance=AMPLE, some=None):
    cases = [Case(some or work(device), phase=phase) for phase in phases]
    records = measure_group(cases, device, Pilots(device, seed=1), allowance, name="soak")
    assert [record.case for record in records] == [case.id for case in cases]
    for record in records:
        assert Record.model_validate_json(record.model_dump_json()) == record
        assert record.group == "soak"
    return records


def end_s(record):
    """Seconds from the begin of a record's window to its end."""
    return record.batches[-1].start_s + record.batches[-1].elapsed_s


def timed(device):
    """What a device was asked to run after it had been idle, in order: begin and end of each batch."""
    return [(each.start_s, each.start_s + each.elapsed_s) for each in device.trace if each.start_s >= ONSET_S]


@pytest.fixture(scope="module")
def heated():
    """A device that settles at its power limit, which bites after three seconds, and its records."""
    device = gpu(decay(), "power", held_s=3.0)
    return device, *measured(device)


# ---- burst and sustained from one run ----


def test_burst_is_near_the_top_sustained_near_the_bottom_and_derates_between(heated):
    _, burst, sustained = heated
    assert burst.tflops == pytest.approx(1.0, abs=0.02)
    assert sustained.tflops == pytest.approx(SETTLED, abs=2e-3)
    assert sustained.settled_s == burst.settled_s >= 5 * TAU_S * 0.7
    assert (burst.verdict, sustained.verdict) == ("clean", "power_capped")
    assert (burst.phase, sustained.phase) == BOTH
    at_s = [derate.at_s for derate in burst.derates]
    assert at_s == [each for each in DERATES_S if each < DRAWN_S]
    for derate in burst.derates:
        truth = decay()(ONSET_S + derate.at_s)
        assert derate.tflops == pytest.approx(truth, abs=5e-3)
        assert derate.efficiency == pytest.approx(derate.tflops / 1.25)
        assert derate.of_burst == pytest.approx(derate.tflops / burst.tflops)
    left = [derate.tflops for derate in burst.derates]
    assert burst.tflops > left[0] > left[1] > sustained.tflops
    assert (sustained.derates, sustained.course) == ((), ())


def test_both_are_windows_of_one_run_without_a_pause(heated):
    device, burst, sustained = heated
    spans = timed(device)
    assert all(after[0] == pytest.approx(before[1]) for before, after in pairwise(spans))
    assert spans[0][0] == pytest.approx(ONSET_S, abs=0.1)
    begin_s = spans[-1][1] - end_s(sustained)
    half_a_batch_s = 0.03
    assert -half_a_batch_s <= begin_s - spans[0][0] - burst.settled_s <= 1.5
    assert end_s(burst) <= burst.settled_s / 10
    assert burst.cost_s == sustained.cost_s
    assert burst.cost_s + sustained.cost_s == pytest.approx(device.clock() - ONSET_S, rel=0.01)


def test_the_order_of_the_phases_is_that_of_the_cases():
    device = gpu(decay())
    sustained, burst = measured(device, phases=("sustained", "burst"))
    assert (sustained.phase, burst.phase) == ("sustained", "burst")
    assert burst.tflops > sustained.tflops
    assert burst.course


def test_the_time_series_is_in_order_with_clock_power_and_temperature(heated):
    _, burst, _ = heated
    at_s = np.asarray([moment.at_s for moment in burst.course])
    assert (np.diff(at_s) > 0).all()
    assert at_s[0] < 0.5
    assert at_s[-1] == pytest.approx(DRAWN_S, rel=0.01)
    truth = decay()(ONSET_S + at_s)
    np.testing.assert_allclose([moment.tflops for moment in burst.course], truth, rtol=0.02)
    np.testing.assert_allclose([moment.sm_clock_mhz for moment in burst.course], 1410 * truth, rtol=5e-3)
    assert {round(moment.power_w) for moment in burst.course} == {400}
    assert {round(moment.temperature_c) for moment in burst.course} == {60}


def test_without_telemetry_the_time_series_is_of_throughput_alone():
    device = SimulatedDevice(make_steady(LAUNCH_S, 5e-3), seed=1)
    burst, sustained = measured(device)
    shown = {(moment.sm_clock_mhz, moment.power_w, moment.temperature_c) for moment in burst.course}
    assert shown == {(None, None, None)}
    assert {derate.efficiency for derate in burst.derates} == {None}  # nothing it is rated for
    assert (burst.verdict, sustained.verdict) == ("clean", "clean")


class Patchy(SimulatedDevice):
    """A GPU whose sampled telemetry begins 10 s after the onset and has nothing from 30 to 40 s after it."""

    def timeline(self, since_s):
        rows = super().timeline(since_s)
        return tuple(row for row in rows if 10 <= row.at_s - ONSET_S < 30 or row.at_s - ONSET_S >= 40)


def test_the_time_series_has_no_telemetry_where_none_was_read():
    burst, _ = measured(gpu(decay(), of=Patchy))
    seen = [moment for moment in burst.course if moment.sm_clock_mhz is not None]
    near_s = 0.4  # of a reading, and of the onset
    assert not [at for each in seen if (at := each.at_s) < 10 - near_s or 30 + near_s < at < 40 - near_s]
    read = [each for each in burst.course if 10 + near_s < each.at_s < 30 - near_s or each.at_s > 40 + near_s]
    assert len(read) > 100
    assert {round(each.power_w) for each in read} == {400}
    unread = [each for each in burst.course if each.at_s < 10 - near_s]
    assert {(each.sm_clock_mhz, each.power_w, each.temperature_c) for each in unread} == {(None, None, None)}


class Fetched(SimulatedDevice):
    """A device that notes when its telemetry is fetched, and since when; it has none."""

    def timeline(self, since_s):
        self.__dict__.setdefault("fetched", []).append((self.clock(), since_s))
        return ()


@pytest.mark.parametrize("phases", [BOTH, (None,)], ids=["soak", "rounds"])
def test_the_telemetry_of_a_long_case_is_fetched_before_its_sampler_drops_it(phases):
    device = gpu(of=Fetched, launch_s=1.0, noise=0.3)
    measured(device, phases, Allowance(share_s=2000.0, limit_s=3000.0))
    assert device.clock() > 1600.0
    fetched_s = [0.0, *(at_s for at_s, _ in device.fetched)]
    assert max(after - before for before, after in pairwise(fetched_s)) < 400.0
    assert len({since_s for _, since_s in device.fetched}) == 1


def test_work_without_flops_has_bandwidths_and_no_time_series():
    device = gpu(decay())
    burst, sustained = measured(device, some=work(device, flops=None))
    assert burst.bandwidth_gb_s > sustained.bandwidth_gb_s
    assert (burst.course, burst.derates, burst.tflops) == ((), (), None)


def test_the_ceiling_follows_the_clock_that_each_window_held(heated):
    _, burst, sustained = heated
    assert burst.efficiency > 1.1 * sustained.efficiency
    assert sustained.ceiling_tflops == pytest.approx(1.25 * SETTLED, rel=3e-3)
    assert burst.normalized_efficiency == pytest.approx(0.8, rel=5e-3)
    assert sustained.normalized_efficiency == pytest.approx(0.8, rel=5e-3)
    assert str(sustained.loss) == "power limit 15%"


def test_a_record_has_at_most_a_hundred_batches(heated):
    device, burst, sustained = heated
    assert len(timed(device)) > 500
    assert BATCHES <= len(sustained.batches) <= 100
    assert sum(batch.launches for batch in sustained.batches) == sustained.launches
    drawn = device.trace[-1].launches
    sizes = {batch.launches for batch in sustained.batches}  # none is left out: some have one more
    assert max(sizes) - min(sizes) <= drawn
    assert len(burst.batches) >= FEWEST_BATCHES


# ---- where the burst ends ----


@pytest.mark.parametrize("held_s", [0.33, 0.48, 0.61])
def test_a_burst_ends_where_telemetry_shows_a_limit(held_s):
    """Also where the limit costs no speed yet: a hundred readings a second, and batches as short."""
    burst, sustained = measured(gpu(None, "power", held_s=held_s))
    assert held_s - 0.06 <= end_s(burst) <= held_s
    assert burst.verdict == "clean"
    assert not any("the clock was held down" in text for text in map(str, burst.warnings))
    assert sustained.verdict == "power_capped"
    assert sustained.warnings


@pytest.mark.parametrize("policy", ["software_thermal", "hardware_thermal", "power_brake"])
def test_heat_and_brakes_are_limits_too(policy):
    burst, sustained = measured(gpu(decay(), policy, held_s=0.55))
    assert end_s(burst) <= 0.55
    assert (burst.verdict, sustained.verdict) == ("clean", "throttled")


def test_a_burst_limited_from_the_start_is_power_capped_and_not_trusted():
    burst, _ = measured(gpu(lambda at_s: np.full_like(at_s, 0.8), "power", held_s=-ONSET_S))
    assert "power_capped" in burst.verdicts
    assert not burst.trusted
    assert any("no burst" in text for text in map(str, burst.warnings))
    assert len(burst.batches) >= FEWEST_BATCHES


def test_without_telemetry_the_time_series_shows_where_the_burst_ends():
    slowed = SimulatedDevice(make_steady(LAUNCH_S, 5e-3), seed=1)
    clock = decay()
    slowed.durations = lambda now_s, count, rng: np.full(count, LAUNCH_S / clock(now_s))
    slowed.durations.launch_s = LAUNCH_S
    burst, sustained = measured(slowed)
    assert burst.tflops == pytest.approx(1.0, abs=0.02)
    assert sustained.tflops == pytest.approx(SETTLED, abs=3e-3)


def test_on_a_steady_device_the_burst_is_a_third_and_both_are_equal():
    burst, sustained = measured(gpu())
    assert burst.settled_s == sustained.settled_s == 0.0
    assert burst.tflops == pytest.approx(sustained.tflops, rel=1e-3)
    assert end_s(burst) == pytest.approx(DRAWN_S / 3, rel=0.02)
    assert end_s(sustained) == pytest.approx(DRAWN_S, rel=0.02)
    assert (burst.verdict, sustained.verdict) == ("clean", "clean")


def test_a_burst_reaches_to_the_step_that_ends_it():
    burst, _ = measured(gpu(step(5.0), "power", held_s=5.0))
    assert end_s(burst) >= 0.8
    assert len(burst.batches) >= BATCHES


# ---- from idle: the climb of the clock, and the first limit ----

IDLE = 345 / 1980
CAPPED = 0.75


class Idling(SimulatedDevice):
    """A GPU whose clock falls to 345 MHz while it idles, and climbs to 1,980 when there is work again."""

    def idle(self, seconds):
        super().idle(seconds)
        self.driver.clock.begin_s = self._now_s
        object.__setattr__(self.driver, "held_from_s", self._now_s + self.driver.clock.cap_s)


class Clock:
    """`climb_s` after idle the clock is up, in a straight line or with a fifth of it as time constant.

    The power limit takes effect at `cap_s`, with 20 ms.
    """

    def __init__(self, climb_s, cap_s=math.inf, level=CAPPED, straight=True):
        self.climb_s, self.cap_s, self.level, self.straight = climb_s, cap_s, level, straight
        self.begin_s = 0.0

    def __call__(self, at_s):
        since = np.maximum(at_s - self.begin_s, 0.0)
        part = np.minimum(since / self.climb_s, 1) if self.straight else -np.expm1(-5 * since / self.climb_s)
        held = -np.expm1(-np.maximum(since - self.cap_s, 0.0) / 0.02)
        return (IDLE + (1 - IDLE) * part) * (1 - (1 - self.level) * held)


def from_idle(clock, launch_s=1.5e-3, policy="power", telemetry=True, **options):
    device = gpu(clock, policy, rated=1980.0, of=Idling, launch_s=launch_s, **options)
    if not telemetry:
        device.timeline = lambda since_s: ()
    return measured(device)


@pytest.mark.parametrize("telemetry", [True, False])
@pytest.mark.parametrize("launch_s", [1.5e-3, 12e-3])
@pytest.mark.parametrize(
    ("climb_s", "cap_s"),
    [
        (5e-3, 0.15),
        pytest.param(0.05, 0.15, marks=pytest.mark.long),
        pytest.param(0.02, 0.25, marks=pytest.mark.long),
        (0.05, 0.4),
    ],
)
def test_a_burst_lies_between_the_climb_of_the_clock_and_the_power_limit(climb_s, cap_s, launch_s, telemetry):
    """A window from the first launch to the last of ten readings a second gave up to 1.37 × the cool time."""
    burst, sustained = from_idle(Clock(climb_s, cap_s), launch_s, telemetry=telemetry)
    assert burst.time_s == pytest.approx(launch_s, rel=0.01)
    assert burst.tflops_low * 0.997 <= 1.0 <= burst.tflops_high * 1.003
    assert end_s(burst) <= cap_s - climb_s + 0.02
    assert end_s(burst) >= 0.6 * (cap_s - climb_s) - 2 * launch_s
    assert sustained.time_s == pytest.approx(launch_s / CAPPED, rel=0.01)
    assert sustained.settled_s >= cap_s
    if telemetry:
        assert burst.verdict == "clean"
        assert "power_capped" in sustained.verdicts


def test_a_clock_that_climbs_ever_more_slowly_is_waited_for():
    burst, _ = from_idle(Clock(0.05, 0.3, straight=False))
    assert burst.time_s == pytest.approx(1.5e-3, rel=0.01)


def test_a_climb_without_a_limit_is_left_out_of_burst_and_sustained():
    burst, sustained = from_idle(Clock(0.05), policy=None)
    assert burst.time_s == pytest.approx(1.5e-3, rel=0.002)
    assert sustained.time_s == pytest.approx(1.5e-3, rel=0.002)
    assert (burst.settled_s, sustained.settled_s) == (0.0, 0.0)
    assert (burst.verdict, sustained.verdict) == ("clean", "clean")


@pytest.mark.parametrize("cap_s", [0.03, 0.08])
def test_a_burst_that_a_limit_ends_too_soon_is_not_told(cap_s):
    """Before full speed, or two launches after it: there is no cool figure, and the record says so."""
    burst, sustained = from_idle(Clock(0.05, cap_s), launch_s=12e-3)
    assert "clean" not in burst.verdicts
    assert not burst.trusted
    assert any("the burst can't be measured" in str(each) for each in burst.warnings)
    assert sustained.time_s == pytest.approx(12e-3 / CAPPED, rel=0.01)
    assert "unknown" not in sustained.verdicts


def test_the_onset_is_drawn_in_short_batches_and_read_closely():
    device = gpu(Clock(0.02, 0.3), "power", of=Idling, launch_s=1.5e-3)
    measured(device)
    begin_s = device.driver.clock.begin_s
    early = [each for each in device.trace if begin_s + 0.05 <= each.start_s < begin_s + 0.25]
    assert max(each.elapsed_s for each in early) < 0.011
    late = [each for each in device.trace if each.start_s > begin_s + 3.0]
    assert np.median([each.elapsed_s for each in late]) > 0.05
    rows = device.timeline(begin_s)
    at_s = np.asarray([row.at_s for row in rows]) - begin_s
    assert (at_s < 1.0).sum() >= 95
    assert ((at_s > 10.0) & (at_s < 11.0)).sum() <= 11  # ten a second later on, as ever


# ---- when it ends ----


@pytest.mark.parametrize("share_s", [AMPLE.share_s, 600.0])
def test_a_burst_alone_ends_when_it_has_settled(share_s):
    device = gpu(decay())
    (burst,) = measured(device, phases=("burst",), allowance=Allowance(share_s, share_s))
    assert burst.settled_s + 0.9 <= timed(device)[-1][1] - timed(device)[0][0] <= 45.0
    assert burst.verdict == "clean"


def test_a_burst_on_a_steady_device_ends_when_its_interval_is_narrow():
    device = gpu()
    (burst,) = measured(device, phases=("burst",))
    assert device.clock() < AMPLE.share_s / 2
    assert len(burst.batches) >= BATCHES
    assert end_s(burst) >= 0.8


def test_with_a_sustained_case_the_run_takes_its_whole_share():
    device = gpu()
    measured(device)
    assert device.clock() == pytest.approx(AMPLE.share_s, rel=5e-3)


def test_ten_minutes_tell_the_derate_at_ten_minutes():
    device = gpu(launch_s=0.5)
    burst, _ = measured(device, allowance=Allowance(600.0, 600.0))
    assert [derate.at_s for derate in burst.derates] == pytest.approx(list(DERATES_S), rel=0.02)


def test_too_short_a_run_is_not_settled_with_a_warning():
    device = gpu(decay(tau_s=30.0))
    burst, sustained = measured(device, allowance=Allowance(30.0, 60.0))
    assert (burst.settled_s, sustained.settled_s) == (None, None)
    assert sustained.verdict == "unstable"
    assert any(
        "had not settled when the time was up (" in text and "more would do)" in text
        for text in map(str, sustained.warnings)
    )
    assert burst.verdict == "clean"
    assert end_s(burst) <= 1.0
    assert end_s(sustained) == pytest.approx(28.5 / 3, rel=0.05)


def test_a_sustained_window_spans_whole_periods():
    device = gpu(lambda at_s: 1 - 0.03 * np.sin(2 * np.pi * at_s / 3.0) * (at_s > ONSET_S))
    _, sustained = measured(device)
    assert end_s(sustained) / 3.0 == pytest.approx(round(end_s(sustained) / 3.0), abs=0.4)
    assert sustained.tflops == pytest.approx(1.0, abs=3e-3)


@pytest.mark.parametrize("launch_s", [1e-5, 0.05, 0.4, 1.2])
@pytest.mark.parametrize("limit_s", [12.0, 30.0])
def test_batches_are_never_planned_past_the_limit(launch_s, limit_s):
    device = gpu(launch_s=launch_s)
    records = measured(device, allowance=Allowance(limit_s, limit_s))
    assert [record.status for record in records] == ["ok", "ok"]
    assert device.clock() <= limit_s * 1.01
    assert all(len(record.batches) >= FEWEST_BATCHES for record in records)


def test_a_soak_that_does_not_fit_is_skipped_with_numbers_in_both_records():
    device = gpu(launch_s=3.0, noise=0.0)
    records = measured(device, allowance=Allowance(10.0, 12.0))
    reason = "needs about 15 s (3.0 s a launch); 6.0 s of the budget are left; try a larger --budget"
    assert [(record.status, str(record.reason)) for record in records] == [("skipped", reason)] * 2


# ---- what goes wrong ----


class Prepared(SimulatedPrepared):
    """Its check breaks."""

    def check(self):
        raise RuntimeError("lost\nand a trace")


class Unchecked(SimulatedWork):
    def prepare(self, device, *, fill, seed, copies=1):
        return Prepared(self.device)


class Unprepared(SimulatedWork):
    def prepare(self, device, *, fill, seed, copies=1):
        raise RuntimeError("lost\nand a trace")


@pytest.mark.parametrize("kind", [Unprepared, Unchecked])
def test_an_error_ends_both_phases_with_the_same_reason(kind):
    device = gpu()
    records = measured(device, some=work(device, kind))
    assert [(record.status, str(record.reason)) for record in records] == [
        ("failed", "RuntimeError: lost")
    ] * 2
    assert [record.phase for record in records] == list(BOTH)
    assert all(record.course == () for record in records)


def test_a_card_that_dies_meanwhile_is_a_failed_record_of_each_phase():
    records = measured(gpu(dies_at_s=20.0))
    assert {str(record.reason) for record in records} == {
        "RuntimeError: CUDA error: unspecified launch failure"
    }
    assert {(record.status, record.verdict) for record in records} == {("failed", "unknown")}


def test_a_card_that_corrupts_meanwhile_is_unverified_in_both_phases():
    burst, sustained = measured(gpu(corrupts_at_s=20.0))
    assert (burst.verdict, sustained.verdict) == ("unverified", "unverified")
    assert any("the bits of the result changed" in text for text in map(str, sustained.warnings))


class Interrupted(SimulatedDevice):
    def time_batch(self, launches, **options):
        if self.clock() > ONSET_S + 2:
            raise KeyboardInterrupt
        return super().time_batch(launches, **options)


def test_an_interrupt_passes_through():
    with pytest.raises(KeyboardInterrupt):
        measured(gpu(of=Interrupted))


def test_a_soak_has_one_workload():
    device = gpu()
    cases = [Case(work(device), phase="burst"), Case(work(device, shape="2"), phase="sustained")]
    with pytest.raises(ValueError, match="a run from idle is of one workload"):
        measure_group(cases, device, Pilots(device, 1), AMPLE)


def test_only_a_burst_is_soak():
    device = gpu()
    phases = {phase: is_soak([Case(work(device), phase=phase)]) for phase in (None, *BOTH)}
    assert phases == {None: False, "burst": True, "sustained": False}
