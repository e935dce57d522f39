"""One case in, one record out: the real engine over devices of a known truth, on a virtual clock."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from nameplate.base.messages import message, text
from nameplate.device.simulated import SimulatedDevice
from nameplate.device.simulated_law import make_steady
from nameplate.engine.group import Allowance
from nameplate.engine.measure import measure_group
from nameplate.engine.pilot import Pilots
from nameplate.engine.record_of import record_without_figures
from nameplate.engine.sampler import SHORTEST_SAMPLE_S
from nameplate.record import Record
from nameplate.silicon.peak import Silicon
from nameplate.specs.rating import Figure
from nameplate.stats.estimate import BATCHES, FEWEST_BATCHES
from nameplate.stats.interval import Interval
from nameplate.suite import Case
from nameplate_kernels import Matmul
from nameplate_kernels.workload import CheckResult

AMPLE = Allowance(share_s=3.0, limit_s=30.0)
FLOPS = 10**9


@dataclass
class Log:
    """What a workload was asked to do, in order."""

    entries: list[str] = field(default_factory=list)

    def __call__(self, entry):
        self.entries.append(entry)


@dataclass
class Work:
    """A workload that computes nothing; `breaks` raises at one of its steps, set-up takes virtual time."""

    flops: int | None = FLOPS
    bytes: int = 10**6
    resident_bytes: int = 2 * 10**6
    dtype: str = "fp32"
    shape: str = "10x10"
    error: float = 0.25
    small: Work | None = None
    reason: str | None = None
    breaks: dict = field(default_factory=dict)
    device: SimulatedDevice | None = None
    setup_s: float = 0.0
    log: Log = field(default_factory=Log)
    bits: str | None = "0123"
    name: str = "nothing"
    represents: str | None = None

    @property
    def dimensions(self):
        return {"edge": 10}

    @property
    def convention(self):
        return None if self.flops is None else "counted by hand"

    def step(self, name):
        self.log(f"{name} {self.shape}")
        if name in self.breaks:
            raise self.breaks[name]

    def unsupported(self, device):
        self.step("unsupported")
        return self.reason

    def pilots(self):
        self.step("pilots")
        return () if self.small is None else (self.small,)

    def prepare(self, device, *, fill, seed, copies=1):
        self.step("prepare")
        if self.device is not None:
            self.device._now_s += self.setup_s
        return Prepared(self, copies)


class Prepared:
    def __init__(self, work, copies):
        self.work = work
        self.launches = [lambda: None] * copies

    @contextmanager
    def numerics(self):
        self.work.step("enter")
        try:
            yield
        finally:
            self.work.log(f"leave {self.work.shape}")

    def compute_reference(self):
        self.work.step("reference")

    def check(self):
        self.work.step("check")
        return CheckResult("fp64", self.work.error, "rounding")

    def digest(self):
        self.work.step("digest")
        return self.work.bits


class Machine(SimulatedDevice):
    """A simulated device that logs its batches; costs that a real one has besides the launches themselves."""

    first_launch_s = 0.0  # a library loaded, a kernel compiled
    flush_s = 0.0  # a sample's flush, outside its time
    breaks = None
    log = None

    def time_batch(self, launches, *, samples, per_sample, flush=False):
        self.batches = [*getattr(self, "batches", []), (len(launches), samples, per_sample, flush)]
        if self.log is not None:
            self.log("batch 10x10")
        if self.breaks is not None:
            raise self.breaks
        timing = super().time_batch(launches, samples=samples, per_sample=per_sample, flush=flush)
        timing.sample_s[0] += self.first_launch_s
        self._now_s += self.first_launch_s + (samples * self.flush_s if flush else 0.0)
        self.first_launch_s = 0.0
        return timing


def machine(launch_s=1e-3, noise=0.01, seed=7, **changes):
    return Machine(make_steady(launch_s, noise), seed=seed, **({"nominal_tflops": 2.0} | changes))


def measure(work=None, device=None, allowance=AMPLE, pilots=None, **axes):
    device = device or machine()
    case = Case(work or Work(), **axes)
    (record,) = measure_group([case], device, pilots or Pilots(device, seed=1), allowance)
    assert Record.model_validate_json(record.model_dump_json()) == record
    assert record.case == case.id
    return record


@pytest.mark.stat
def test_a_known_truth_lies_within_its_interval():
    truth = FLOPS / 1e-3 / 1e12
    records = [measure(device=machine(noise=0.05, seed=seed)) for seed in range(200)]
    assert all(record.verdict == "clean" for record in records)
    held = [record.tflops_low <= truth <= record.tflops_high for record in records]
    assert sum(held) >= 0.9 * len(held)
    assert np.mean([record.tflops for record in records]) == pytest.approx(truth, rel=2e-3)


def test_achieved_is_throughput_and_not_the_median():
    def heavy_tailed(now, count, rng):
        return np.where(rng.random(count) < 0.05, 1e-2, 1e-3)

    record = measure(device=Machine(heavy_tailed, seed=3), allowance=Allowance(20.0, 60.0))
    mean = 0.95 * 1e-3 + 0.05 * 1e-2
    assert record.tflops == pytest.approx(FLOPS / mean / 1e12, rel=0.05)
    assert record.tflops_median == pytest.approx(FLOPS / 1e-3 / 1e12)


def test_the_median_is_per_launch_where_a_sample_has_several():
    record = measure(device=machine(5e-6, noise=0.0))
    assert record.tflops_median == pytest.approx(FLOPS / 5e-6 / 1e12)
    assert record.tflops == pytest.approx(record.tflops_median)


def test_every_figure_follows_from_the_batches():
    record = measure()
    total_s, launches = sum(b.elapsed_s for b in record.batches), sum(b.launches for b in record.batches)
    assert record.launches == launches
    assert record.time_s == pytest.approx(total_s / launches)
    assert record.tflops == pytest.approx(FLOPS * launches / total_s / 1e12)
    assert record.bandwidth_gb_s == pytest.approx(10**6 * launches / total_s / 1e9)
    assert record.efficiency == pytest.approx(record.tflops / 2.0)
    assert record.efficiency_low == pytest.approx(record.tflops_low / 2.0)
    assert record.efficiency_high == pytest.approx(record.tflops_high / 2.0)
    assert record.datasheet_efficiency == pytest.approx(record.efficiency)
    assert record.batches[0].start_s == 0.0
    assert [b.start_s for b in record.batches] == sorted(b.start_s for b in record.batches)
    assert len(record.batches) >= BATCHES
    assert (record.status, record.verdicts, record.warnings) == ("ok", ("clean",), ())


def test_a_record_says_what_was_measured():
    record = measure(fill="zeros", backend="other")
    assert record.case == "nothing/fp32/10x10/zeros/warm/-/other"
    assert (record.device, record.part, record.convention) == ("simulated", "simulated", "counted by hand")
    assert record.nominal_source == "the simulation's own truth"
    assert record.verification.passed
    assert record.verification.reference == "fp64"
    assert (record.power_w, record.ceiling_tflops, record.phase) == (None, None, None)
    assert record.started.endswith("+00:00")


def test_work_without_flops_has_a_bandwidth_and_no_rating():
    record = measure(Work(flops=None))
    assert (record.tflops, record.efficiency, record.nominal_tflops, record.nominal_source) == (None,) * 4
    assert record.bandwidth_low_gb_s < 1.0 < record.bandwidth_high_gb_s
    assert record.verdict == "clean"


def test_a_dtype_without_a_rating_has_no_efficiency_and_says_why():
    record = measure(Work(dtype="fp8_e4m3"))
    assert record.tflops is not None
    assert (record.nominal_tflops, record.efficiency, record.datasheet_efficiency) == (None, None, None)
    assert str(record.nominal_source) == "no rated figure is known for this dtype"


def test_a_record_has_the_physical_limit_of_its_dtype(make_silicon):
    device = machine()
    device.rating = replace(device.rating, silicon=make_silicon(1.25))
    record = measure(device=device)
    assert record.interval("silicon_tflops") == Interval(1.25, 1.25 * 0.99, 1.25 * 1.01)
    assert str(record.silicon_source) == "VFMADD231PS ymm on 2 cores at 3,500 MHz, measured"
    assert "above_silicon" not in record.warning_codes
    other = measure(Work(dtype="bf16"), device)
    assert other.silicon_tflops is None
    assert str(other.silicon_source) == "the CPU's flags show no bf16 instructions that have a loop"
    without = measure(Work(flops=None), device)
    assert (without.silicon_tflops, without.silicon_source) == (None, None)
    assert (measure().silicon_tflops, measure().silicon_source) == (None, None)


def test_a_refused_measurement_of_the_limit_is_its_reason():
    device = machine()
    device.rating = replace(device.rating, silicon=Silicon(absent=message("silicon_system", system="Darwin")))
    record = measure(device=device)
    assert record.silicon_tflops is None
    assert "isn't measured on Darwin" in str(record.silicon_source)


@pytest.mark.parametrize(("silicon", "warned"), [(0.9, True), (0.98, False), (1.1, False)])
def test_a_figure_above_the_physical_limit_is_a_warning_about_the_limit(make_silicon, silicon, warned):
    device = machine()
    device.rating = replace(device.rating, silicon=make_silicon(silicon))
    record = measure(device=device)
    assert record.tflops == pytest.approx(1.0, rel=0.02)
    assert ("above_silicon" in record.warning_codes) == warned


def test_more_than_the_datasheet_is_above_peak():
    assert measure(device=machine(nominal_tflops=0.9)).verdict == "above_peak"
    assert measure(device=machine(nominal_tflops=0.99)).verdict == "clean"


@pytest.mark.parametrize(("error", "kept"), [(1.5, 1.5), (math.inf, None), (math.nan, None)])
def test_a_wrong_result_is_unverified_and_keeps_its_figure(error, kept):
    record = measure(Work(error=error))
    assert (record.status, record.verdict) == ("ok", "unverified")
    assert (record.verification.passed, record.verification.error) == (False, kept)
    assert record.tflops is not None


@pytest.mark.parametrize("load", [{"foreign_cores": 0.3}, {"stolen_cores": 0.2}])
def test_another_load_is_contended(load):
    assert measure(device=machine(**load)).verdict == "contended"
    assert measure(device=machine(**dict.fromkeys(load, 0.01))).verdict == "clean"


def test_a_speed_that_drifts_is_unstable():
    def slowing(now, count, rng):
        return np.full(count, 1e-3 * (1 + 0.2 * now))

    assert measure(device=Machine(slowing)).verdict == "unstable"


def test_a_wide_interval_is_a_warning():
    record = measure(device=machine(0.2, noise=0.3), allowance=Allowance(1.0, 30.0))
    assert record.verdict == "unstable"
    assert any(
        f"{len(record.batches)} batches, fewer than {BATCHES}" in text for text in map(str, record.warnings)
    )
    assert any("interval is ±" in text and "larger --budget" in text for text in map(str, record.warnings))


def test_every_step_has_the_workloads_settings_and_they_are_restored_between_steps():
    work, device = Work(), machine()
    device.log = work.log
    measure(work, device)
    steps, within = [entry.split()[0] for entry in work.log.entries], False
    for step in steps:
        if step in ("enter", "leave"):
            assert within == (step == "leave")
            within = step == "enter"
        else:
            assert within == (step in ("reference", "batch", "digest", "check"))
    assert not within
    first = ["unsupported", "pilots", "prepare", "enter", "reference", "batch", "leave", "digest", "check"]
    assert list(dict.fromkeys(steps)) == first


STEPS = ["unsupported", "pilots", "prepare", "enter", "reference", "digest", "check"]


@pytest.mark.parametrize("step", STEPS)
def test_a_workload_that_breaks_is_a_failed_record_with_one_sentence(step):
    work = Work(breaks={step: RuntimeError("out of memory\nat line 3\nof a long trace")})
    record = measure(work)
    assert (record.status, record.verdict) == ("failed", "unknown")
    assert str(record.reason) == "RuntimeError: out of memory"
    assert record.tflops is None
    assert record.cost_s is not None
    entered = "reference 10x10" in work.log.entries or "check 10x10" in work.log.entries
    assert ("leave 10x10" in work.log.entries) == entered


def test_a_launch_that_breaks_is_a_failed_record():
    device = machine()
    device.breaks = ValueError()
    work = Work()
    record = measure(work, device)
    assert (record.status, str(record.reason)) == ("failed", "ValueError")
    assert "leave 10x10" in work.log.entries


@pytest.mark.parametrize("step", ["prepare", "reference", "digest", "check"])
def test_an_interrupt_passes_through_and_restores_settings(step):
    work = Work(breaks={step: KeyboardInterrupt()})
    with pytest.raises(KeyboardInterrupt):
        measure(work)
    assert work.log.entries.count("enter 10x10") == work.log.entries.count("leave 10x10")


def test_an_unsupported_workload_is_skipped_before_anything_is_allocated():
    work = Work(reason="needs tensor cores")
    record = measure(work)
    assert (record.status, str(record.reason), record.verdict) == ("skipped", "needs tensor cores", "unknown")
    assert "prepare 10x10" not in work.log.entries
    assert record.nominal_tflops == 2.0


def test_what_does_not_fit_the_memory_is_skipped_with_both_numbers():
    work = Work(resident_bytes=7 * 10**9)
    record = measure(work, machine(memory_bytes=8 * 10**9))
    assert record.status == "skipped"
    assert str(record.reason) == "needs about 7.00 GB; this device has 8.00 GB"
    assert "prepare 10x10" not in work.log.entries
    assert measure(Work(resident_bytes=6 * 10**9), machine(memory_bytes=8 * 10**9)).status == "ok"
    assert measure(work, machine(memory_bytes=None)).status == "ok"


def test_every_copy_counts_against_the_memory():
    work = Work(bytes=10**6, resident_bytes=2 * 10**6)
    record = measure(work, machine(cache_bytes=50 * 10**6, memory_bytes=10**8), cache="rotating")
    assert str(record.reason) == "needs about 0.200 GB; this device has 0.100 GB"


@pytest.mark.parametrize(
    ("cache", "cache_bytes", "copies", "flush"),
    [
        ("warm", 4 * 10**6, 1, False),
        ("warm", None, 1, False),
        ("flushed", 4 * 10**6, 1, True),
        ("rotating", 4 * 10**6, 8, False),
        ("rotating", 4 * 10**6 + 1, 9, False),
        ("rotating", 1, 2, False),
    ],
)
def test_the_cache_state_decides_copies_and_flushes(cache, cache_bytes, copies, flush):
    device = machine(cache_bytes=cache_bytes)
    record = measure(device=device, cache=cache)
    assert record.status == "ok"
    assert {batch[0] for batch in device.batches} == {copies}
    assert device.batches[-1][3] is flush
    assert not flush or device.batches[-1][2] == 1


@pytest.mark.parametrize("cache", ["flushed", "rotating"])
def test_a_cache_of_unknown_size_cannot_be_flushed(cache):
    record = measure(device=machine(cache_bytes=None), cache=cache)
    assert record.status == "skipped"
    assert str(record.reason).startswith(f"cache={cache} needs the size of the last-level cache")


def large(times=1000.0, **changes):
    """A workload so many times its pilot."""
    small = Work(shape="1x1", flops=FLOPS, bytes=10**6, resident_bytes=10**6)
    work = Work(flops=int(FLOPS * times), bytes=10**9, resident_bytes=10**9, small=small, **changes)
    small.log = work.log
    return work


def test_a_case_that_its_pilot_predicts_too_long_is_skipped_with_numbers():
    work = large()  # 1000 × 1 ms a launch
    record = measure(work, machine(noise=0.0), Allowance(1.0, 5.0))
    assert record.status == "skipped"
    assert str(record.reason) == (
        "needs about 6.0 s (1.0 s a launch); 4.9 s of the budget are left; try a larger --budget"
    )
    assert "prepare 1x1" in work.log.entries
    assert "prepare 10x10" not in work.log.entries


def test_a_case_that_fits_by_its_pilot_is_measured():
    work = large()
    record = measure(work, machine(1e-3, noise=0.0), Allowance(1.0, 8.0))
    assert record.status == "ok"
    assert "prepare 10x10" in work.log.entries


def test_a_case_that_its_first_launch_shows_too_long_is_skipped():
    record = measure(device=machine(2.0, noise=0.0), allowance=Allowance(1.0, 10.0))
    assert record.status == "skipped"
    assert "needs about 10 s (2.0 s a launch); 6.0 s of the budget are left" in str(record.reason)


def test_with_no_time_left_the_reason_says_none():
    record = measure(allowance=Allowance(0.0, -3.0))
    assert record.status == "skipped"
    assert "0 s of the budget are left" in str(record.reason)


@pytest.mark.parametrize("launch_s", [1e-6, 1e-4, 0.01, 0.3, 0.6])
@pytest.mark.parametrize("share_s", [0.2, 2.0, 20.0])
def test_a_case_keeps_to_its_limit(launch_s, share_s):
    allowance = Allowance(share_s, limit_s=max(8.0, share_s))
    record = measure(device=machine(launch_s, noise=0.5), allowance=allowance)
    assert record.status == "ok"
    assert record.cost_s <= allowance.limit_s * 1.1
    assert len(record.batches) >= FEWEST_BATCHES
    sample_s = record.batches[0].elapsed_s
    assert sample_s >= min(SHORTEST_SAMPLE_S, launch_s) * 0.5


def test_flushes_count_against_the_budget():
    # Emptying a large cache takes far longer than the launch that it is emptied for.
    device = machine(1e-4, cache_bytes=256 << 20)
    device.flush_s = 0.05
    record = measure(device=device, allowance=Allowance(2.0, 10.0), cache="flushed")
    assert record.cost_s <= 10.0


def test_a_slow_first_launch_is_not_taken_as_the_launch_time():
    # A library loads for 0.3 s, then 50 µs a launch: a sample of one launch would time the loop around it.
    device = machine(50e-6)
    device.first_launch_s = 0.3
    record = measure(device=device, allowance=Allowance(0.9, 10.0))
    assert record.status == "ok"
    assert min(batch.elapsed_s for batch in record.batches) >= 0.9 * SHORTEST_SAMPLE_S
    assert record.tflops == pytest.approx(FLOPS / 50e-6 / 1e12, rel=0.02)


def test_a_slow_first_launch_does_not_skip_the_case():
    device = machine(1e-3)
    device.first_launch_s = 2.0
    record = measure(device=device, allowance=Allowance(2.0, 10.0))
    assert record.status == "ok", str(record.reason)


def test_how_split_sums_are_added_is_recorded_where_there_is_a_choice():
    device = machine()
    cases = [Case(Matmul(64, 64, 64, dtype)) for dtype in ("bf16", "fp32")]
    cases.append(Case(Matmul(64, 64, 64, "fp16", fp32_sums=True)))

    def found():
        return [record_without_figures(case, device, text("not run")).reduction for case in cases]

    assert found() == [None, None, None]  # a CPU's libraries have no such choice
    device.kind = "cuda"
    assert found() == ["reduced", None, "fp32"]


def test_an_unmeasured_case_has_its_declared_columns():
    record = record_without_figures(Case(Work()), machine(), text("the budget is spent"))
    assert (record.status, str(record.reason), record.verdicts) == (
        "skipped",
        "the budget is spent",
        ("unknown",),
    )
    assert (record.flops, record.nominal_tflops, record.tflops) == (FLOPS, 2.0, None)
    assert Record.model_validate_json(record.model_dump_json()) == record


def test_a_small_workload_needs_no_pilot():
    device = machine()
    assert Pilots(device, 1).predict(Work(), "normal", 9.0) is None
    assert device.clock() == 0.0


def test_a_prediction_scales_launches_by_flops_and_set_up_by_memory():
    device = machine(noise=0.0)
    work = large(times=50)
    work.small.device, work.small.setup_s = device, 0.01
    prediction = Pilots(device, 1).predict(work, "normal", 9.0)
    assert prediction.launch_s == pytest.approx(50 * 1e-3)
    assert prediction.setup_s == pytest.approx(0.01 * 1000)


def test_work_without_flops_scales_by_bytes():
    small = Work(flops=None, bytes=10**6)
    work = Work(flops=None, bytes=8 * 10**6, small=small)
    assert Pilots(machine(noise=0.0), 1).predict(work, "normal", 9.0).launch_s == pytest.approx(8e-3)


def test_a_pilots_first_launch_compiles_and_does_not_count():
    device = machine(noise=0.0)
    device.first_launch_s = 5.0
    assert Pilots(device, 1).predict(large(times=10), "normal", 9.0).launch_s == pytest.approx(1e-2)


class LoadsOnce(Work):
    """A pilot whose first set-up on a device also pays for the device's context and libraries."""

    def prepare(self, device, **options):
        if "prepare 1x1" not in self.log.entries:
            self.device._now_s += 0.5
        return super().prepare(device, **options)


def test_a_pilot_takes_its_fastest_launch():
    # Half of the first 0.1 s at a tenth of the speed: scaled up, that would skip a case that fits.
    def disturbed(now, count, rng):
        return np.full(count, 1e-2 if 0.05 < now < 0.1 else 1e-3)

    device = Machine(disturbed)
    assert Pilots(device, 1).predict(large(times=10), "normal", 9.0).launch_s == pytest.approx(1e-2)


def test_the_time_to_load_a_library_is_not_scaled():
    # Scaled by the memory of a workload a thousand times larger, it would skip every large case of a run.
    device = machine(noise=0.0)
    work = large()
    work.small = LoadsOnce(shape="1x1", bytes=10**6, resident_bytes=10**6, device=device)
    assert Pilots(device, 1).predict(work, "normal", 9.0).setup_s < 10.0


def test_cases_of_one_kind_share_a_pilot():
    device = machine()
    pilots = Pilots(device, 1)
    works = [large(times=times) for times in (2, 4)]
    first, second = (pilots.predict(work, "normal", 9.0) for work in works)
    assert second.launch_s == pytest.approx(2 * first.launch_s)
    assert "prepare 1x1" in works[0].log.entries
    assert "prepare 1x1" not in works[1].log.entries
    again = large()
    pilots.predict(again, "zeros", 9.0)
    assert "prepare 1x1" in again.log.entries


def test_a_pilot_that_breaks_is_a_failed_record():
    work = large()
    work.small.breaks = {"reference": RuntimeError("no such kernel")}
    record = measure(work)
    assert (record.status, str(record.reason)) == ("failed", "RuntimeError: no such kernel")
    assert "leave 1x1" in work.log.entries


def test_a_rating_by_the_user_is_a_peak_too():
    # An unknown device has no datasheet; a mistyped --nominal must not pass for clean all the same.
    device = machine(nominal_tflops=None)
    device.rating = device.rating.with_nominal({"fp32": 0.5})
    record = measure(device=device)
    assert (record.datasheet_efficiency, record.verdict) == (None, "above_peak")


@pytest.mark.parametrize("basis", ["table", "measured"])
def test_a_rating_by_the_user_is_the_peak_of_a_cpu_whatever_evidence_says(basis):
    device = machine(nominal_tflops=2.0)
    device.rating = replace(device.rating, datasheet={"fp32": Figure(2.0, "evidence", basis)})
    assert measure(device=device).verdict == "clean"
    device.rating = device.rating.with_nominal({"fp32": 0.5})
    assert measure(device=device).verdict == "above_peak"
    device.rating = device.rating.with_nominal({"fp32": 4.0})
    record = measure(device=device)
    assert (record.verdict, record.datasheet_tflops) == ("clean", 2.0)
    assert record.efficiency == pytest.approx(0.25, rel=0.02)


def test_the_interval_of_a_measured_nominal_is_part_of_the_efficiencys():
    device = machine(nominal_tflops=2.0)
    exact = measure(device=device)
    device = machine(nominal_tflops=2.0)
    nominal = Figure(2.0, "measured", "measured", 1.9, 2.1)
    device.rating = replace(device.rating, nominal={"fp32": nominal})
    record = measure(device=device)
    assert record.efficiency == pytest.approx(exact.efficiency, rel=1e-3)
    half = math.log(record.efficiency_high / record.efficiency_low) / 2
    assert half == pytest.approx(
        math.hypot(0.05, math.log(exact.tflops_high / exact.tflops_low) / 2), rel=0.05
    )
