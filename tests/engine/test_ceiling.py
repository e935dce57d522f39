"""What a device could have done meanwhile: by a probe beside the cases, or by the clock that it held."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest

from nameplate.device.protocol import Probe
from nameplate.device.simulated import Driver, SimulatedDevice, SimulatedPrepared, SimulatedWork
from nameplate.device.simulated_law import make_steady
from nameplate.engine.ceiling import (
    ChosenProbe,
    ProbeChoice,
    ceiling_by_clock,
    is_bound_by_memory,
    probe_losses,
)
from nameplate.engine.group import Allowance
from nameplate.engine.measure import measure_group
from nameplate.engine.pilot import Pilots
from nameplate.specs.rating import Figure, Rating
from nameplate.stats.interval import Interval
from nameplate.suite import Case

AMPLE = Allowance(share_s=6.0, limit_s=60.0)
NOMINAL = 2.5
BEST = 2.0  # the truth of this device, in TFLOPS: what its best product reaches


@dataclass
class Product:
    """A launch with a speed of its own."""

    name: str
    flops: int
    tflops: float
    fails_after: int | None = None
    launched: int = 0

    def __call__(self):
        """Do nothing: the device draws what it takes."""
        self.launched += 1
        if self.fails_after is not None and self.launched > self.fails_after:
            raise Refused("out of memory")


class Refused(Exception):
    """What a library raises."""


@dataclass(frozen=True)
class Prepared(SimulatedPrepared):
    product: Product | None = None

    @property
    def launches(self):
        return (self.product,)


@dataclass(frozen=True)
class Work(SimulatedWork):
    """A product of two GFLOP that reaches `tflops` where nothing slows the device."""

    flops: int = 2 * 10**9
    tflops: float = BEST

    def prepare(self, device, *, fill, seed, copies=1):
        return Prepared(self.device, Product(self.shape, self.flops, self.tflops))


class Probed(SimulatedDevice):
    """A device that is probed by a product; everything on it is slowed by one factor, and a law of noise."""

    def __init__(self, noise=0.01, slowdown: Callable[[float], float] = lambda at_s: 1.0, **options):
        super().__init__(self._draw_launches, **({"nominal_tflops": NOMINAL} | options))
        self.noise, self.slowdown, self.drawn, self.candidates = noise, slowdown, [], {}

    def _draw_launches(self, now_s, count, generator):
        launch_s = self._running.flops / self._running.tflops / 1e12 * self.slowdown(now_s)
        return launch_s * (1 + self.noise * generator.standard_normal(count))

    def time_batch(self, launches, *, samples, per_sample, flush=False):
        self._running = launches[0]
        if self._running.fails_after is not None:
            self._running()
        timing = super().time_batch(launches, samples=samples, per_sample=per_sample, flush=flush)
        self.drawn.append((self._running.name, timing.elapsed_s))
        return timing

    def probes(self, dtype):
        if dtype == "fp8_e4m3":
            return ()
        products = (
            _probe("small", 10**9, 1.0),
            _probe("large", 2 * 10**9, 1.6),
            _probe("huge", 4 * 10**9, BEST),
        )
        return self.candidates.setdefault(dtype, products)


def _probe(name, flops, tflops, **options):
    return Probe(name, flops, Product(name, flops, tflops, **options))


def measured(device, work=None, probes=None, allowance=AMPLE, **axes):
    case = Case(work or Work(device), **axes)
    probes = probes or ProbeChoice(device, seed=1)
    (record,) = measure_group([case], device, Pilots(device, seed=1), allowance, probes)
    assert record.status == "ok", str(record.reason)
    return record


# ---- by probe ----


def test_the_best_product_equals_its_ceiling():
    record = measured(Probed(noise=1e-3, seed=3))
    assert record.ceiling_tflops == pytest.approx(BEST, rel=0.02)
    assert record.normalized_efficiency == pytest.approx(1.0, rel=0.02)
    assert record.normalized_efficiency_low < 1.001
    assert record.normalized_efficiency_high > 0.999
    assert record.efficiency == pytest.approx(BEST / NOMINAL, rel=0.02)
    assert str(record.loss) == "library 20%"


def test_a_slower_product_is_below_its_ceiling_by_its_ratio():
    device = Probed(seed=3)
    record = measured(device, Work(device, tflops=1.5))
    assert record.ceiling_tflops == pytest.approx(BEST, rel=0.02)
    assert record.normalized_efficiency == pytest.approx(0.75, rel=0.02)
    assert record.tflops == pytest.approx(1.5, rel=0.02)


def test_contention_lowers_efficiency_and_not_normalized_efficiency():
    device = Probed(noise=1e-3, seed=3)
    probes = ProbeChoice(device, seed=1)
    idle = measured(device, probes=probes)
    device.slowdown = lambda at_s: 2.0
    loaded = measured(device, probes=probes)
    assert loaded.efficiency == pytest.approx(idle.efficiency / 2, rel=0.02)
    assert loaded.ceiling_tflops == pytest.approx(idle.ceiling_tflops / 2, rel=0.02)
    assert loaded.normalized_efficiency == pytest.approx(idle.normalized_efficiency, rel=0.02)
    assert (str(idle.loss), str(loaded.loss)) == ("library 20%", "library 20%, contention 50%")


def test_what_slowed_the_probe_in_an_earlier_group_is_no_loss_of_the_library():
    device = Probed(noise=1e-3, seed=3, slowdown=lambda at_s: 1.25)
    probes = ProbeChoice(device, seed=1)
    measured(device, probes=probes)
    device.slowdown = lambda at_s: 1.0
    record = measured(device, probes=probes)
    assert record.ceiling_tflops == pytest.approx(BEST, rel=0.02)
    assert str(record.loss) == "library 20%"


@pytest.mark.parametrize(
    ("peak", "loss"),
    [
        ({"tflops": 2.5}, "library 20%"),  # the silicon reaches nominal
        ({"tflops": 2.25}, "clock 10%, library 11%"),
        ({"tflops": 2.0}, "clock 20%"),  # the library leaves nothing
        ({"tflops": 3.0}, "library 33%"),  # more than nominal: the library's loss is against what there is
        ({"tflops": 2.25, "parallel_share": 0.9}, "shared cores 10%, library 11%"),
        ({"tflops": 2.125, "parallel_share": 0.9}, "shared cores 10%, clock 6%, library 6%"),
        # All at once at a lower clock is the clock's loss, not their sharing.
        ({"tflops": 2.25, "parallel_share": 0.9, "clock_mhz": 3150.0}, "clock 10%, library 11%"),
        ({"tflops": 2.25, "parallel_share": None}, "clock 10%, library 11%"),
        # A nominal that was measured counts the sharing already.
        ({"tflops": 2.5, "parallel_share": 0.5}, "library 20%"),
    ],
)
def test_the_librarys_loss_is_counted_from_the_silicon(make_silicon, peak, loss):
    device = Probed(noise=1e-3, seed=3)
    device.rating = replace(device.rating, silicon=make_silicon(**peak))
    assert device.rating.nominal_for("fp32").tflops == NOMINAL
    record = measured(device)
    assert record.silicon_tflops == peak["tflops"]
    assert str(record.loss) == loss


def test_under_contention_too_the_probes_loss_is_counted_from_the_silicon(make_silicon):
    peak = make_silicon(2.25).peak("fp32")
    losses = probe_losses(1.0, 2.0, 2.5, peak, idle=False)
    expected = {"lost_to_library_or_contention": 2.0 / 2.25, "lost_to_contention": 0.5}
    assert losses == pytest.approx({"lost_to_shared_cores": 1.0, "lost_to_clock": 0.9} | expected)


def test_a_disturbance_of_some_rounds_affects_case_and_probe_alike():
    device = Probed(seed=5, slowdown=lambda at_s: 1.6 if int(at_s * 3) % 3 == 0 else 1.0)
    probes = ProbeChoice(device, 1)
    records = [measured(device, probes=probes, allowance=Allowance(20.0, 60.0)) for _ in range(3)]
    for record in records:
        # Neighbours in time share a disturbance of a third of a second, and the few that don't are left out.
        assert record.normalized_efficiency == pytest.approx(1.0, rel=0.01)
        assert record.tflops < 0.95 * BEST


@pytest.mark.stat
def test_the_normalized_interval_contains_the_truth():
    held = []
    for seed in range(60):
        record = measured(Probed(noise=0.2, seed=seed))
        held.append(record.normalized_efficiency_low <= 1.0 <= record.normalized_efficiency_high)
    assert sum(held) >= 0.85 * len(held)


def test_a_record_names_its_probe_and_what_it_reached_at_its_best():
    record = measured(Probed(noise=0.0))
    expected = {
        "probe": "huge",
        "probe_tflops": pytest.approx(BEST),
        "probe_best_tflops": pytest.approx(BEST),
    }
    assert {name: value for name, value in record.conditions.items() if "probe" in name} == expected


def test_of_products_that_are_about_as_fast_the_smaller_one_is_the_probe():
    device = Probed(noise=0.0)
    device.candidates["fp32"] = _probe("small", 10**9, 1.97), _probe("large", 4 * 10**9, BEST)
    assert measured(device).conditions["probe"] == "small"
    device.candidates["fp32"] = _probe("small", 10**9, 1.9), _probe("large", 4 * 10**9, BEST)
    assert measured(device).conditions["probe"] == "large"


def test_where_others_use_the_cores_the_library_cant_be_told_from_them():
    record = measured(Probed(noise=1e-3, seed=3, foreign_cores=0.5, cores=2.0))
    assert record.verdict == "contended"
    assert record.normalized_efficiency == pytest.approx(1.0, rel=0.01)
    assert str(record.loss) == "library or contention 40%"


def test_a_probe_that_another_process_chose_is_used():
    device = Probed(noise=1e-3, seed=3)
    given = ChosenProbe("large", best_tflops=3.2)
    record = measured(device, probes=ProbeChoice(device, 1, {"fp32": given}))
    assert {name for name, _ in device.drawn} == {"large", "1"}
    assert record.ceiling_tflops == pytest.approx(1.6, rel=0.01)
    assert str(record.loss) == "contention 50%"  # of what it reached there, which was above nominal


def test_a_probe_is_chosen_once_however_many_groups_need_it():
    device = Probed()
    probes = ProbeChoice(device, seed=1)
    measured(device, probes=probes)
    before = len(device.drawn)
    measured(device, probes=probes)
    assert {name for name, _ in device.drawn[before:]} == {"huge", "1"}


def test_the_probe_has_its_turn_in_every_round_for_as_long_as_the_cases():
    device = Probed(noise=0.0)
    probes = ProbeChoice(device, seed=1)
    probes.open("fp32", AMPLE.share_s)
    begun = len(device.drawn)
    record = measured(device, probes=probes)
    rounds = {batch.round for batch in record.batches}
    drawn = [elapsed_s for name, elapsed_s in device.drawn[begun:] if name == "huge"]
    untimed = 4e9 / BEST / 1e12
    timed = [each for each in drawn if each > 2 * untimed][-len(rounds) :]
    assert len(timed) == len(rounds) >= 20
    assert timed == pytest.approx([record.batches[0].elapsed_s] * len(rounds), rel=0.2)


def test_beside_a_slow_case_a_faster_one_and_its_probe_have_more_rounds():
    device = Probed(noise=0.0)
    slow, fast = Work(device, flops=2 * 10**11, shape="slow"), Work(device, flops=2 * 10**9, dtype="bf16")
    of_slow, of_fast = measure_group([Case(slow), Case(fast)], device, Pilots(device, 1), AMPLE)
    rounds, more = ({batch.round for batch in each.batches} for each in (of_slow, of_fast))
    assert rounds < more
    assert len(more) >= 3 * len(rounds)
    assert of_fast.normalized_efficiency == pytest.approx(1.0, rel=0.01)
    assert of_slow.normalized_efficiency == pytest.approx(1.0, rel=0.01)


def test_each_dtype_has_a_probe_of_its_own_and_what_moves_memory_has_none():
    device = Probed(seed=2)
    half = Work(device, dtype="bf16", tflops=1.0)
    copy = Work(device, flops=10**6, bytes=2 * 10**6, shape="2", tflops=0.001)
    cases = [Case(work) for work in (Work(device), half, copy)]
    whole, half, copied = measure_group(cases, device, Pilots(device, 1), AMPLE)
    assert whole.normalized_efficiency == pytest.approx(1.0, rel=0.03)
    assert half.normalized_efficiency == pytest.approx(0.5, rel=0.03)
    assert half.loss is None  # no nominal to lose from
    assert (copied.ceiling_tflops, copied.normalized_efficiency) == (None, None)
    assert copied.tflops is not None


def test_a_group_of_memory_alone_is_not_probed():
    device = Probed()
    measured(device, Work(device, flops=10**6, bytes=2 * 10**6, shape="2", tflops=0.001))
    assert {name for name, _ in device.drawn} == {"2"}


def test_without_a_probe_or_a_clock_there_is_no_ceiling():
    device = Probed()
    record = measured(device, Work(device, dtype="fp8_e4m3"))
    assert (record.ceiling_tflops, record.normalized_efficiency, record.loss) == (None, None, None)
    assert not [name for name in record.conditions if name.startswith(("probe", "calibration"))]


@pytest.mark.parametrize("after", [0, 40])
def test_a_failing_probe_costs_the_ceiling_and_no_figure(after):
    device = Probed()
    device.candidates["fp32"] = (_probe("only", 10**9, BEST, fails_after=after),)
    record = measured(device)
    assert record.tflops == pytest.approx(BEST, rel=0.02)
    assert record.ceiling_tflops is None


def test_a_product_with_long_launches_is_no_candidate():
    device = Probed(seed=2)
    device.candidates["fp32"] = (
        _probe("small", 10**9, 1.0),
        _probe("large", 4 * 10**9, 1.6),
        _probe("vast", 10**12, BEST),
    )
    probes = ProbeChoice(device, seed=1)
    probes.open("fp32", share_s=6.0)
    assert (probes.chosen["fp32"].name, "vast" in {name for name, _ in device.drawn}) == ("large", False)
    assert device.clock() < 1.0


@pytest.mark.parametrize("share_s", [0.4, 1.0, 4.0])
def test_choosing_a_probe_and_drawing_it_keep_to_the_limit(share_s):
    device = Probed()
    allowance = Allowance(share_s, limit_s=share_s)
    cases = [Case(Work(device, dtype=dtype)) for dtype in ("fp64", "fp32", "bf16")]
    records = measure_group(cases, device, Pilots(device, 1), allowance)
    assert [record.status for record in records] == ["ok"] * 3
    assert device.clock() <= share_s * 1.05


@pytest.mark.parametrize("limit_s", [6.0, 9.0])
def test_a_probe_beside_a_slow_case_keeps_to_the_limit(limit_s):
    device = Probed(noise=0.0)
    work = Work(device, flops=10**12)  # half a second
    record = measured(device, work, allowance=Allowance(limit_s, limit_s))
    assert device.clock() <= limit_s * 1.02
    assert record.normalized_efficiency == pytest.approx(1.0, rel=0.02)


# ---- by clock ----


def gpu(clock=0.85, policy=None, held_from_s=0.0, **options):
    driver = Driver(lambda at_s: np.full_like(at_s, clock), policy, held_from_s)
    options = {"nominal_tflops": 12.0, "driver": driver} | options
    return SimulatedDevice(make_steady(1e-3, 0.01), seed=1, **options)


def on(device, flops=10**10, allowance=AMPLE, bytes_=10**6, phase=None):
    case = Case(SimulatedWork(device, flops, bytes_), phase=phase)
    return measure_group([case], device, Pilots(device, seed=1), allowance)[0]


@pytest.mark.parametrize(
    ("policy", "loss"),
    [
        ("power", "power limit 15%"),
        ("software_thermal", "heat 15%"),
        ("hardware_thermal", "heat 15%"),
        ("power_brake", "heat 15%"),
        (None, "clock 15%"),
    ],
)
def test_a_gpus_ceiling_is_the_datasheet_at_the_clock_it_held(policy, loss):
    record = on(gpu(policy=policy))
    assert record.ceiling_tflops == pytest.approx(12.0 * 0.85, rel=1e-3)
    assert record.normalized_efficiency == pytest.approx(record.tflops / record.ceiling_tflops)
    width = record.normalized_efficiency_high - record.normalized_efficiency_low
    assert width == pytest.approx((record.tflops_high - record.tflops_low) / record.ceiling_tflops)
    assert str(record.loss) == loss


def test_a_policy_that_held_for_a_moment_is_not_the_cause_of_a_loss():
    device = gpu(policy="power", held_from_s=5.9)
    record = on(device, allowance=Allowance(6.0, 60.0))
    assert str(record.loss) == "clock 15%"


def test_a_clock_above_the_rated_one_is_no_loss():
    record = on(gpu(clock=1.1))
    assert record.ceiling_tflops == pytest.approx(12.0 * 1.1, rel=1e-3)
    assert record.loss is None


def test_a_loss_below_one_per_cent_is_not_named():
    assert on(gpu(clock=0.995, policy="power")).loss is None


@pytest.mark.parametrize("lacking", ["driver", "datasheet", "rated clock"])
def test_a_gpu_without_clock_or_rating_has_no_ceiling(lacking):
    device = gpu()
    figure = Figure(12.0, "--nominal")
    if lacking == "driver":
        device = gpu(driver=None)
    elif lacking == "datasheet":  # a rating that the user gave isn't at any clock
        device.rating = Rating("mine", "", {"fp32": figure}, {}, rated_clock_mhz={"fp32": 1410.0})
    else:
        device.rating = Rating(
            "mine", "", {"fp32": figure}, {"fp32": figure}, rated_clock_mhz={"fp64": 1410.0}
        )
    record = on(device)
    assert record.efficiency is not None
    assert (record.ceiling_tflops, record.normalized_efficiency, record.loss) == (None, None, None)


def test_without_conditions_there_is_no_ceiling():
    rating = gpu().rating
    assert ceiling_by_clock(Interval(1.0, 1.0, 1.0), rating, "fp32", None) is None


@pytest.mark.parametrize(
    ("flops", "bytes_", "memory_gb_s", "by_memory"),
    [
        (2 * 8192**3, 3 * 8192**2 * 2, 3350.0, False),
        (2 * 8192 * 8192, 8192 * 8192 * 2, 3350.0, True),  # a matrix times a vector
        (2 * 64 * 8192 * 8192, 8192 * 8192 * 2, 3350.0, True),  # 64 columns: still far below 295 FLOPs a byte
        (2 * 64 * 8192 * 8192, 8192 * 8192 * 2, None, False),  # without a bandwidth only the obvious is told
        (10, 12, None, True),
        (None, 12, 3350.0, True),
    ],
)
def test_work_is_bound_by_memory_where_its_bytes_take_longer_than_its_flops(
    flops, bytes_, memory_gb_s, by_memory
):
    figure = {"bf16": Figure(989.0, "datasheet")}
    rating = Rating("mine", "", figure, figure, memory_gb_s=memory_gb_s)
    work = SimpleNamespace(flops=flops, bytes=bytes_, dtype="bf16")
    assert is_bound_by_memory(work, rating) == by_memory


@pytest.mark.parametrize("phase", [None, "sustained"])
def test_work_bound_by_memory_has_no_ceiling_by_the_clock(phase):
    """12 TFLOPS at 100 GB/s are 120 FLOPs a byte; the work has 100, or more of them than bytes by far."""
    device = gpu()
    device.rating = replace(device.rating, memory_gb_s=100.0)
    assert on(device, bytes_=10**8, phase=phase).ceiling_tflops is None
    assert on(device, bytes_=10**7, phase=phase).ceiling_tflops == pytest.approx(12.0 * 0.85, rel=1e-3)


def test_each_dtype_s_ceiling_is_by_its_own_rated_clock():
    device = gpu(clock=1.0)  # 1410 MHz
    figure = {"fp32": Figure(12.0, ""), "bf16": Figure(100.0, "")}
    device.rating = Rating("mine", "", figure, figure, rated_clock_mhz={"fp32": 1980.0, "bf16": 1830.0})
    assert on(device).ceiling_tflops == pytest.approx(12.0 * 1410 / 1980)


def test_work_without_flops_has_no_ceiling():
    record = on(gpu(), flops=None)
    assert record.bandwidth_gb_s is not None
    assert (record.ceiling_tflops, record.loss) == (None, None)
