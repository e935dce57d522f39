"""A device with a known truth: durations follow a law and a seed, and its clock is virtual.

It implements the same `Device` protocol as a real one, so tests with it run the real engine. No launch is
executed and no time is waited for: virtual time advances by the batches that are timed, and by the time that
the host is told to spend between batches.

A device is put together from parts, all but the first optional: the `Law` of its launches, the load of others
on its cores, a `Driver` that lowers a GPU's clock and counts the throttling, a timer's step, and the moments
at which it fails or corrupts results. It remembers every batch as it truly was, so that the truth of any
window is a sum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Literal, cast

import numpy as np
from numpy.typing import ArrayLike

from nameplate.base.messages import Reason
from nameplate.device.identity import SimulatedIdentity
from nameplate.device.protocol import Counters, Probe, Timing
from nameplate.device.simulated_law import Durations, Floats, Law, Steps, TimeSeries
from nameplate.record import Batch, KernelTime
from nameplate.specs.rating import Figure, Rating
from nameplate.telemetry.gpu import POLICIES, GpuReading
from nameplate.workload import Launch, Prepared, SearchBuffers, SearchedWorkload, Workload

if TYPE_CHECKING:
    from pathlib import Path

    import torch

# What throttles a clock, and the driver's word for it.
Policy = Literal["power", "software_thermal", "hardware_thermal", "power_brake"]
_REASONS: dict[Policy, str] = {
    "power": "sw_power_cap",
    "software_thermal": "sw_thermal_slowdown",
    "hardware_thermal": "hw_thermal_slowdown",
    "power_brake": "hw_power_brake_slowdown",
}
_TELEMETRY_S, _FAST_TELEMETRY_S = 0.1, 0.01
_UTILIZATION_S = 1.0  # what a driver's utilization is taken over
_OWN_GIB, _CONTEXT_GIB = 4.0, 0.6  # what this process has allocated, and what its context takes besides
_SAME_S = 1e-9  # two readings of one moment differ by rounding alone
_FINEST_STEPS = 512  # steps in which a batch is integrated, where its speed changes with time


@dataclass(frozen=True)
class Driver:
    """A GPU's clock and its driver, which counts throttling by policy.

    `clock` is a fraction of `rated_mhz` over time (None: always 1). From `held_from_s` on, the driver counts
    throttling by `policy`. With `hides_pids` it is seen from a container: its process ids aren't those of the
    reader, and a neighbour in another container shows only by its `neighbour_gib` and by keeping the GPU busy
    for `neighbour_percent` of the time.
    """

    clock: TimeSeries | None = None
    policy: Policy | None = None
    held_from_s: float = 0.0
    rated_mhz: float = 1410.0
    power_w: float = 400.0
    temperature_c: int = 60
    hides_pids: bool = False
    neighbour_gib: float = 0.0
    neighbour_percent: int = 0

    def readings(self, at_s: Floats) -> list[GpuReading]:
        """Return the reading at each moment, of a GPU that does nothing of ours, with every counter."""
        clocks = np.ones_like(at_s) if self.clock is None else self.clock(at_s)
        return [self._reading(at, clock) for at, clock in zip(at_s.tolist(), clocks.tolist(), strict=True)]

    def _reading(self, at_s: float, clock: float) -> GpuReading:
        held_s = 0.0 if self.policy is None else max(at_s - self.held_from_s, 0.0)
        reasons = (_REASONS[self.policy],) if self.policy is not None and held_s > 0 else ()
        values = {
            "uuid": "simulated",
            "at_s": at_s,
            "sm_clock_mhz": round(self.rated_mhz * clock),
            "temperature_c": self.temperature_c,
            "power_w": self.power_w,
            "energy_j": self.power_w * at_s,
            "clock_event_reasons": reasons,
            **{f"{policy}_throttle_s": held_s if policy == self.policy else 0.0 for policy in POLICIES},
            "ecc_uncorrected": 0,
            "pcie_replays": 0,
            "gpu_utilization_percent": self.neighbour_percent,
            "memory_used_bytes": round((_OWN_GIB + _CONTEXT_GIB + self.neighbour_gib) * 2**30),
            "own_memory_bytes": round(_OWN_GIB * 2**30),
            # The driver lists every process by an id of the host, also ours.
            "processes": ({"pid": 40_000},) if self.hides_pids else (),
            "own_processes_seen": 0 if self.hides_pids else 1,
            "pids_match": not self.hides_pids,
        }
        return GpuReading.model_validate(values)


@dataclass(frozen=True)
class TrueBatch:
    """One batch: its time by the device's timer, and the truth behind it.

    `expected_s` is the true time of all launches together, without noise; `variance_s2` is the variance that
    noise adds to it. `launch_s` has each launch, where the device keeps them.
    """

    start_s: float
    elapsed_s: float
    launches: int
    expected_s: float
    variance_s2: float
    launch_s: Floats | None = None


@dataclass(frozen=True)
class Replay:
    """A launch that replays `count` launches without the host in between."""

    count: int

    def __call__(self) -> None:
        """Do nothing: the device draws the time it takes."""


@dataclass
class SimulatedDevice:
    """A device whose launches follow its law; a plain function of durations is a law without a known truth.

    The work of others slows a launch by cores ÷ (cores − load). With a `timer_resolution_s` every reading of
    the clock is truncated to whole steps. With a `host_launch_s` the host takes so long to enqueue each
    launch, and no launch takes less. `between_s` is the mean time that the host spends between batches
    (exponential), so that batches don't keep in step with a coarse timer.
    """

    durations: Law | Durations
    seed: int = 0
    nominal_tflops: float | None = None
    foreign_cores: float | Steps = 0.0  # cores other processes keep busy
    stolen_cores: float | Steps = 0.0  # cores the hypervisor gives to others
    name: str = "simulated"
    kind: str = "simulated"
    measured: ClassVar[bool] = False
    cores: float = 2.0
    timer_resolution_s: float = 0.0
    cache_bytes: int | None = None
    memory_bytes: int | None = None
    telemetry_lost: Reason | None = None
    driver: Driver | None = None
    host_launch_s: float | None = None
    between_s: float = 0.0
    dies_at_s: float = math.inf
    corrupts_at_s: float = math.inf
    keep_launches: bool = False
    trace: list[TrueBatch] = field(default_factory=list)
    keep: Callable[[np.random.Generator], float] | None = (
        None  # draws a process's factor on its launches' time
    )
    process: int = 0  # how many simulated processes have measured it
    _kept: float = 1.0
    _now_s: float = 0.0
    _generator: np.random.Generator = field(init=False)
    _read: list[Counters] = field(init=False, default_factory=list)
    _hastened: list[tuple[float, float]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        """Seed the generator and state the rating."""
        self._generator = np.random.default_rng(self.seed)
        self.identity = SimulatedIdentity(name=self.name)
        source = "the simulation's own truth"
        rated = {} if self.nominal_tflops is None else {"fp32": Figure(self.nominal_tflops, source)}
        clocks_mhz = {} if self.driver is None else {"fp32": self.driver.rated_mhz}
        self.rating = Rating("simulated", "made, not found", rated, rated, rated_clock_mhz=clocks_mhz)

    @property
    def torch_device(self) -> torch.device:
        """The CPU, as a name only: torch takes a second to import, and nothing is allocated."""
        return cast("torch.device", "cpu")

    def prepare(self, workload: Workload, *, fill: str, seed: int, copies: int = 1) -> Prepared:
        """Prepare a workload, which draws its results itself."""
        return workload.prepare(self.torch_device, fill=fill, seed=seed, copies=copies)

    def prepare_search(self, workload: SearchedWorkload, *, fill: str, seed: int) -> SearchBuffers:
        """Prepare what a grid's points are launched on."""
        return workload.allocate(self.torch_device, fill=fill, seed=seed)

    def why_unsupported(self, workload: Workload) -> str | None:
        """Return what the workload says."""
        return workload.unsupported(self.torch_device)

    @property
    def corrupted(self) -> bool:
        """Whether its results are wrong by now."""
        return self._now_s >= self.corrupts_at_s

    def begin_process(self) -> None:
        """Begin another simulated process, and draw what it keeps."""
        self.process += 1
        if self.keep is not None:
            self._kept = self.keep(self._generator)

    def clock(self) -> float:
        """Return virtual seconds, in whole steps of the timer."""
        return float(self._stamps(np.asarray(self._now_s)))

    def time_batch(
        self,
        launches: Sequence[Launch],
        *,
        samples: int,
        per_sample: int,
        flush: bool = False,
    ) -> Timing:
        """Draw the durations of a batch and advance the clock by their sum.

        Raises RuntimeError, as torch does, once the device has failed.
        """
        if self.between_s:
            self._now_s += self._generator.exponential(self.between_s)
        begin_s, replay = self._now_s, launches[0]
        within = replay.count if isinstance(replay, Replay) else 1
        host_s = None if self.host_launch_s is None else self.host_launch_s / within
        each, expected_s, variance_s2 = self._draw(begin_s, samples * per_sample * within, host_s)
        spans = each.reshape(samples, -1).sum(axis=1)
        self._now_s += float(spans.sum())
        self._die(begin_s)
        ends_s = self._stamps(begin_s + np.concatenate(([0.0], np.cumsum(spans))))
        if self.timer_resolution_s:
            spans = np.diff(ends_s)
        timing = Timing(
            float(ends_s[0]),
            spans,
            per_sample,
            float(ends_s[-1]),
            float(self._own_cpu_s(begin_s, self._now_s)),
            idle_s=0.0,  # launches follow one another
        )
        self.trace.append(
            TrueBatch(
                timing.start_s,
                timing.elapsed_s,
                timing.launches,
                expected_s,
                variance_s2,
                each if self.keep_launches else None,
            )
        )
        return timing

    def window(self, batches: Sequence[Batch]) -> list[TrueBatch]:
        """Return the truth of a record's batches; one of them may be several neighbouring batches merged.

        Raises ValueError where they aren't this device's.
        """
        for first in range(len(self.trace)):
            found = self._matched(self.trace[first:], batches)
            if found:
                return found
        raise ValueError(f"none of the {len(self.trace)} batches drawn begins this window of {len(batches)}")

    def counters(self) -> Counters:
        """Return totals by the virtual clock: every core is busy with this work or that of others."""
        self._read += self._rows(np.asarray([self._now_s]))
        return self._read[-1]

    def timeline(self, since_s: float) -> tuple[Counters, ...]:
        """Return rows ten times a second (more while it is hastened), and those of `counters`."""
        spans = ((max(begin, since_s), min(end, self._now_s)) for begin, end in self._hastened)
        moments = [_moments(since_s, self._now_s, _TELEMETRY_S)]
        moments += [_moments(*span, _FAST_TELEMETRY_S) for span in spans]
        rows = self._rows(np.unique(np.concatenate(moments).round(9)))
        rows += (row for row in self._read if row.at_s >= since_s)
        return tuple(sorted(rows, key=lambda row: row.at_s))

    def hasten_telemetry(self, seconds: float) -> None:
        """Have a hundred rows a second from now on for so long."""
        self._hastened.append((self._now_s, self._now_s + seconds))

    def probes(self, dtype: str) -> tuple[Probe, ...]:
        """Return none: the truth is known without a probe."""
        return ()

    def time_enqueue(self, launches: Sequence[Launch]) -> float | None:
        """Return the host's seconds to enqueue a launch; None on a device without a host."""
        return self.host_launch_s

    def capture(self, launches: Sequence[Launch], count: int) -> Launch | None:
        """Return a graph of `count` launches, where enqueuing takes the host time."""
        return None if self.host_launch_s is None else Replay(count)

    def time_empty_launch(self) -> float:
        """Return the host's seconds to enqueue a launch; 0.0 where it takes none."""
        return self.host_launch_s or 0.0

    def name_kernels(self, launch: Launch) -> tuple[str, ...]:
        """Return no names: nothing runs."""
        return ()

    def profile(self, launch: Launch, trace: Path) -> tuple[KernelTime, ...]:
        """Return no kernels: nothing runs."""
        return ()

    def begin_peak(self) -> None:
        """Do nothing: nothing is held."""

    def read_peak_bytes(self) -> int | None:
        """Return None: nothing is held."""
        return None

    def is_working(self) -> bool:
        """Return True."""
        return True

    def idle(self, seconds: float) -> None:
        """Advance the virtual time."""
        self._now_s += seconds

    def synchronize(self) -> None:
        """Return at once: nothing runs."""

    @staticmethod
    def _matched(trace: Sequence[TrueBatch], batches: Sequence[Batch]) -> list[TrueBatch]:
        """The batches of the trace that make up these, assuming the first of both is the same; else none."""
        found: list[TrueBatch] = []
        place = 0
        for batch in batches:
            begin_s = trace[0].start_s + batch.start_s - _SAME_S
            while place < len(trace) and trace[place].start_s < begin_s:
                place += 1
            first, launches = place, 0
            while place < len(trace) and launches < batch.launches:
                launches += trace[place].launches
                place += 1
            parts = trace[first:place]
            if not math.isclose(sum(part.elapsed_s for part in parts), batch.elapsed_s):
                return []
            found += parts
        return found

    def _draw(self, begin_s: float, count: int, host_s: float | None) -> tuple[Floats, float, float]:
        """Seconds of each launch, the true time of all together, and the variance of their noise."""
        law = self.durations
        if not isinstance(law, Law):
            each = law(begin_s, count, self._generator) * self._slowdown(np.asarray([begin_s])) * self._kept
            return each, float(each.sum()), 0.0
        law = replace(law, launch_s=law.launch_s * self._kept)
        expected = self._expected(law, begin_s, count)
        if host_s is not None:
            expected = np.maximum(expected, host_s)
        variance_s2 = law.noise.relative_sd**2 * float(np.square(expected).sum())
        each = expected * law.noise.factors(count, self._generator)
        return each, float(expected.sum()), variance_s2

    def _expected(self, law: Law, begin_s: float, count: int) -> Floats:
        """True seconds of launches in a row, the first beginning at `begin_s`."""
        if not (law.time_series or self._clock or self.foreign_cores or self.stolen_cores):
            return np.full(count, law.launch_s)
        # The number of launches done is the integral of their rate: a launch ends at each whole number.
        span_s, done = 0.0, np.zeros(1)
        while done[-1] < count:
            span_s = 1.1 * max(span_s, count * float(self._at(law, np.asarray([begin_s]))[0]))
            at_s = np.linspace(begin_s, begin_s + span_s, max(count, _FINEST_STEPS) + 1)
            rate = 1 / self._at(law, at_s)
            done = np.concatenate(([0.0], np.cumsum((rate[1:] + rate[:-1]) / 2 * (at_s[1] - at_s[0]))))
        return np.diff(np.interp(np.arange(count + 1), done, at_s))

    def _at(self, law: Law, at_s: Floats) -> Floats:
        course = 1.0 if law.time_series is None else law.time_series(at_s)
        return np.full_like(at_s, law.launch_s) * course * self._slowdown(at_s)

    def _slowdown(self, at_s: Floats) -> Floats:
        """The factor by which clock and load lengthen a launch begun at each instant."""
        taken = _level(self.foreign_cores, at_s) + _level(self.stolen_cores, at_s)
        clock = 1.0 if self._clock is None else self._clock(at_s)
        return np.asarray(self.cores / (self.cores - taken) / clock)

    @property
    def _clock(self) -> TimeSeries | None:
        return None if self.driver is None else self.driver.clock

    def _own_cpu_s(self, begin_s: float, end_s: ArrayLike) -> Floats:
        taken_s = _area(self.foreign_cores, begin_s, end_s) + _area(self.stolen_cores, begin_s, end_s)
        return self.cores * (np.asarray(end_s) - begin_s) - taken_s

    def _rows(self, at_s: Floats) -> list[Counters]:
        own_s, stolen_s = self._own_cpu_s(0.0, at_s), _area(self.stolen_cores, 0.0, at_s)
        busy_s = own_s + _area(self.foreign_cores, 0.0, at_s)
        totals_at = zip(at_s.tolist(), own_s.tolist(), busy_s.tolist(), stolen_s.tolist(), strict=True)
        return [
            Counters(*totals, tick_s=0.0, gpu=gpu)
            for totals, gpu in zip(totals_at, self._gpu(at_s), strict=True)
        ]

    def _gpu(self, at_s: Floats) -> Sequence[GpuReading | None]:
        if self.driver is None:
            return [None] * at_s.size
        lost = "NVML_ERROR_GPU_IS_LOST: simulated"
        last = self.trace[-1] if self.trace else None
        busy_s = -math.inf if last is None else last.start_s + last.elapsed_s + _UTILIZATION_S
        busy = {"gpu_utilization_percent": 100}
        return [
            GpuReading.without_figures("simulated", lost, reading.at_s)
            if reading.at_s >= self.dies_at_s
            else reading.model_copy(update=busy if reading.at_s < busy_s else None)
            for reading in self.driver.readings(at_s)
        ]

    def _die(self, begin_s: float) -> None:
        if self._now_s >= self.dies_at_s:
            self._now_s = max(begin_s, self.dies_at_s)
            raise RuntimeError("CUDA error: unspecified launch failure")

    def _stamps(self, at_s: Floats) -> Floats:
        step_s = self.timer_resolution_s
        return np.floor(at_s / step_s) * step_s if step_s else at_s


def _moments(begin_s: float, end_s: float, period_s: float) -> Floats:
    """Whole multiples of the period within these ends; none where they are the wrong way round."""
    first, last = math.ceil(begin_s / period_s), math.floor(end_s / period_s)
    return np.arange(first, last + 1, dtype=float) * period_s


def _level(load: float | Steps, at_s: Floats) -> Floats | float:
    return load(at_s) if isinstance(load, Steps) else load


def _area(load: float | Steps, begin_s: float, end_s: ArrayLike) -> Floats:
    return load.area(begin_s, end_s) if isinstance(load, Steps) else load * (np.asarray(end_s) - begin_s)


@dataclass(frozen=True)
class SimulatedCheck:
    """A check that every result passes."""

    reference: str = "fp64"
    error: float = 0.1
    rule: str = "simulated: what is sampled is right"
    passed: bool = True


@dataclass(frozen=True)
class SimulatedPrepared:
    """A workload that allocates nothing. Once its device corrupts results, its digest changes.

    Its check still passes, like one that reads samples of the result and misses the error.
    """

    device: SimulatedDevice

    @property
    def launches(self) -> Sequence[Launch]:
        """One launcher that does nothing."""
        return (_nothing,)

    def numerics(self) -> AbstractContextManager[None]:
        """No settings."""
        return nullcontext()

    def compute_reference(self) -> None:
        """Nothing to compute."""

    def check(self) -> SimulatedCheck:
        """Return a check that passes."""
        return SimulatedCheck()

    def digest(self) -> str:
        """Return the same digest for every right result."""
        return "wrong" if self.device.corrupted else "right"


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class SimulatedWork:
    """A workload of `flops` and `bytes` a launch that exists only on a simulated device."""

    device: SimulatedDevice
    flops: int = 10**9
    bytes: int = 10**6
    name: str = "simulated"
    dtype: str = "fp32"
    shape: str = "1"
    convention: str = "declared"
    represents: str | None = None

    @property
    def dimensions(self) -> dict[str, int | float | str]:
        """None."""
        return {}

    @property
    def resident_bytes(self) -> int:
        """As many as it moves."""
        return self.bytes

    def unsupported(self, device: torch.device) -> str | None:
        """Return None: it runs anywhere."""
        return None

    def pilots(self) -> Sequence[SimulatedWork]:
        """Return none: it can be tried directly."""
        return ()

    def prepare(self, device: torch.device, *, fill: str, seed: int, copies: int = 1) -> SimulatedPrepared:
        """Allocate nothing."""
        return SimulatedPrepared(self.device)
