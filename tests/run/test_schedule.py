"""What the shipped suites' budgets hold on a two-core CPU, on a virtual clock: groups, processes, seconds."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace

import pytest

from nameplate.device.protocol import Probe
from nameplate.device.simulated import SimulatedDevice
from nameplate.engine.ceiling import ProbeChoice
from nameplate.engine.measure import measure_in_processes
from nameplate.engine.pilot import Pilots
from nameplate.engine.runner import InThisProcess
from nameplate.run.job import Budget
from nameplate.suite import Target, find_suite, make_groups
from nameplate_kernels.workload import CheckResult

TARGET = Target("cpu", "amd-zen4", 16 << 30, frozenset({"fp64", "fp32", "bf16"}), 32 << 20)
# As a guest on two Zen 4 cores does them (FLOP/s by dtype, bytes a second), with what a process takes to open
# the device, to fill memory, to read counters, and the first to load the profiler.
SPEED = {"fp32": 0.2e12, "bf16": 0.42e12, "fp16": 3e9, "fp64": 0.1e12}
BANDWIDTH, FILL = 36e9, 2e9
OPEN_S, COUNTERS_S, PREPARE_S = 0.05, 0.02, 0.05
KERNELS_S = {"transformer_block": 0.5}  # the profiler of torch; of a product some hundredths


@dataclass(frozen=True)
class Timed:
    """A suite's workload that takes virtual time to prepare, to check and to launch."""

    device: Guest
    work: object

    def __getattr__(self, name):
        return getattr(self.work, name)

    @property
    def launch_s(self):
        work = self.work
        slow = 2.0 if work.name == "transformer_block" else 1.0
        return slow * work.flops / SPEED[work.dtype] if work.flops else work.bytes / BANDWIDTH

    def unsupported(self, device):
        return None

    def pilots(self):
        return ()

    def prepare(self, device, *, fill, seed, copies=1):
        self.device._now_s += PREPARE_S + copies * self.work.bytes / FILL
        return Prepared(self, copies)


@dataclass(frozen=True)
class Prepared:
    timed: Timed
    copies: int

    @property
    def launches(self):
        return (self.timed,) * self.copies

    def numerics(self):
        return nullcontext()

    def compute_reference(self):
        self.timed.device._now_s += 2 * self.timed.launch_s

    def check(self):
        self.timed.device._now_s += self.timed.launch_s
        return CheckResult("fp64", 0.1, "rounding")

    def digest(self):
        self.timed.device._now_s += self.timed.work.bytes / 10e9
        return "0123"


@dataclass
class Product:
    """What the probe launches."""

    launch_s: float

    def __call__(self):
        """Do nothing: the device draws what it takes."""


class Guest(SimulatedDevice):
    """Takes each launch's time from its work; a few per cent of noise."""

    def __init__(self):
        super().__init__(self._durations, cores=2.0, nominal_tflops=0.5)
        self.cache_bytes = TARGET.cache_bytes

    def begin_process(self):
        super().begin_process()
        self._now_s += OPEN_S

    def time_batch(self, launches, **how):
        self.launch_s = launches[0].launch_s
        return super().time_batch(launches, **how)

    def _durations(self, _now_s, count, generator):
        return self.launch_s * (1 + 0.02 * abs(generator.standard_normal(count)))

    def counters(self):
        self._now_s += COUNTERS_S
        return super().counters()

    def name_kernels(self, launch):
        self._now_s += KERNELS_S.get(launch.work.name, 0.05)
        return ()

    def probes(self, dtype):
        if dtype not in TARGET.rated_dtypes:
            return ()
        flops = [2 * edge**3 for edge in (960, 1920, 2880)]
        return tuple(Probe(f"{each}", each, Product(each / SPEED[dtype])) for each in flops)


def measure_suite(name):
    """Return the end of each group in virtual seconds since the run began, with its records."""
    suite, device = find_suite(name), Guest()
    cases = [replace(case, workload=Timed(device, case.workload)) for case in suite.cases(TARGET)]
    runner = InThisProcess(device, Pilots(device, 1), ProbeChoice(device, 1))
    budget, begin_s = Budget.of_run(suite, None), device.clock()
    left, ended = sum(case.weight for case in cases), []
    for group, its in make_groups(cases):
        now_s, weight = device.clock() - begin_s, sum(case.weight for case in its)
        allowance = budget.allowance(now_s, weight, left)
        left -= weight
        records = measure_in_processes(its, runner, allowance, group, now_s, suite.processes)
        ended.append((device.clock() - begin_s, records))
    return ended


def timed_s(record):
    return sum(batch.elapsed_s for batch in record.batches)


def test_smokes_first_records_come_within_five_seconds_and_the_rest_within_ten():
    (first_s, products), (last_s, others) = measure_suite("smoke")
    assert first_s <= 5.0
    assert last_s <= 10.5
    assert {record.status for record in (*products, *others)} == {"ok"}
    assert [record.processes for record in (*products, *others)] == [5] * 5
    rated = [record for record in (*products, *others) if record.dtype != "fp16"]
    assert min(map(timed_s, rated)) > 0.2
    assert min(len(record.batches) for record in rated) >= 15
    assert not [str(each) for record in rated for each in record.warnings if "batches" in str(each)]


@pytest.mark.long
def test_quick_stays_within_its_minute_and_each_case_has_time_of_its_own():
    groups = measure_suite("quick")
    records = [record for _, its in groups for record in its]
    assert groups[-1][0] <= 61.0
    assert {record.status for record in records} == {"ok"}
    several = [record for record in records if record.phase != "burst"]
    assert min(record.processes for record in several) >= 3
    # The copy has the least, 0.65 s: most of the minute is for the layer, whose processes start slowly.
    assert min(timed_s(record) for record in several if record.workload != "matmul") > 0.6
