"""Simulated devices with a known truth, as data: what each does, how it is measured, what must come out."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from functools import cache
from typing import Literal

import numpy as np
from pydantic import Field

from nameplate.base.model import FrozenModel
from nameplate.base.toml import parse_toml, read_packaged
from nameplate.device.simulated import Driver, Policy, SimulatedDevice
from nameplate.device.simulated_law import (
    Decay,
    Drift,
    Law,
    Noise,
    Steps,
    TimeSeries,
    make_switching,
)
from nameplate.engine.run_to_run import NORMALIZED, TIME
from nameplate.record import Status, Verdict
from nameplate.selftest.probed import ProbedDevice

_FULL_SPEED_TFLOPS = 1.0  # of a launch that nothing slows: every scenario has the same truth
_NOMINAL_TFLOPS = 1.25


class Modes(FrozenModel):
    """Factors on a launch's time; each lasts `dwell_s` on average."""

    levels: tuple[float, ...]
    dwell_s: float


class Kept(FrozenModel):
    """What each process keeps: a factor on its launches' time, one of `levels`, or log-normal about 1.

    `deviation` is the standard deviation of its logarithm.
    """

    levels: tuple[float, ...] = (1.0,)
    deviation: float = 0.0

    def draw(self, generator: np.random.Generator) -> float:
        """Draw the factor of one process."""
        return float(generator.choice(self.levels) * math.exp(self.deviation * generator.standard_normal()))

    @property
    def mean(self) -> float:
        """The mean over many processes."""
        return float(np.mean(self.levels)) * math.exp(self.deviation**2 / 2)

    @property
    def variance(self) -> float:
        """The variance over many processes, relative to the mean."""
        levels = np.asarray(self.levels)
        return float(levels.var() / levels.mean() ** 2) + math.expm1(self.deviation**2)


class Bursts(FrozenModel):
    """Other processes keep `cores` busy for `busy_s`, after pauses of `idle_s`, on average."""

    cores: float
    busy_s: float
    idle_s: float


class GpuDriver(FrozenModel):
    """A GPU's driver. It lowers the clock to `settled`, at once at `from_s` or with time constant `tau_s`.

    `container` hides process ids, and with them a neighbour of `neighbour_gib` and `neighbour_percent`.
    """

    policy: Policy | None = None
    settled: float = 1.0
    from_s: float = 0.0
    tau_s: float | None = None
    amplitude: float = 0.0
    period_s: float = 1.0
    container: bool = False
    neighbour_gib: float = 0.0
    neighbour_percent: int = 0

    def make_driver(self) -> Driver:
        """Return the simulated device's driver."""
        clock: TimeSeries | None = None
        if self.tau_s is not None:
            clock = Decay(self.settled, self.tau_s, self.amplitude, self.period_s)
        elif self.settled < 1:
            clock = Steps([0.0, self.from_s], [1.0, self.settled])
        return Driver(
            clock,
            self.policy,
            self.from_s,
            hides_pids=self.container,
            neighbour_gib=self.neighbour_gib,
            neighbour_percent=self.neighbour_percent,
        )


class Due(FrozenModel):
    """The verdict and status that the record must have, in `rate` of the runs at least."""

    verdict: Verdict
    rate: float
    status: Status = "ok"


class Bounds(FrozenModel):
    """Limits on the figures; None: no limit. `bias` and `width` are fractions of the truth.

    `coverage` has a lower and an upper limit. `oracle_widths` limits the width of an interval in multiples of
    the oracle's.
    """

    bias: float | None = None
    coverage: tuple[float, float] | None = None
    width: float | None = None
    oracle_widths: float | None = None


class Scenario(FrozenModel):
    """One device with a known truth. Times are virtual; `scenarios.toml` says what each field is for."""

    name: str
    about: str
    margin: str
    launch_s: float = 1e-3
    noise: Noise = Noise()
    drift_per_s: float = 0.0
    modes: Modes | None = None
    kept: Kept = Kept()
    run_deviation: float = 0.0
    bursts: Bursts | None = None
    gpu: GpuDriver | None = None
    timer_resolution_s: float = 0.0
    between_s: float = 0.0
    host_launch_s: float | None = None
    dies_after_s: float | None = None
    corrupts_at_s: float = math.inf
    phase: Literal["sustained"] | None = None
    share_s: float = 5.0
    limit_s: float = 20.0
    truth: Literal["window", "settled", "processes"] = "window"
    processes: int = 1
    is_probed: bool = False
    earlier_runs: int = 0
    is_limit: bool = False
    due: Due | None = None
    bounds: Bounds = Bounds()

    @property
    def flops(self) -> int:
        """FLOPs of one launch."""
        return round(_FULL_SPEED_TFLOPS * 1e12 * self.launch_s)

    @property
    def true_launch_s(self) -> float | None:
        """Seconds a launch once the clock has settled, or over many processes and runs; None where the truth
        is that of the window.
        """
        if self.truth == "window":
            return None
        if self.truth == "settled":
            return self.launch_s / (self.gpu.settled if self.gpu else 1.0)
        return self.launch_s * self.kept.mean * math.exp(self.run_deviation**2 / 2)

    @property
    def between_variance(self) -> float:
        """The variance of a run's mean by what its processes and it itself keep, relative to the truth."""
        if self.truth != "processes":
            return 0.0
        return self.kept.variance / self.processes + math.expm1(self.run_deviation**2)

    @property
    def figure(self) -> str:
        """The figure that is judged."""
        return NORMALIZED if self.is_probed else TIME

    def make_device(self, run: int) -> SimulatedDevice:
        """Return the device of one run, from that run's own seed."""
        seed = np.random.SeedSequence([zlib.crc32(self.name.encode()), run])
        # Changes with time have a generator of their own, so that they don't depend on the engine's batches.
        courses, launches = seed.spawn(2)
        generator = np.random.default_rng(courses)
        # Drawn only where it is wanted, so that other devices are the same as without it.
        of_run = self.run_deviation * generator.standard_normal() if self.run_deviation else 0.0
        seed_of_launches = int(launches.generate_state(1)[0])
        if self.is_probed:
            of_case, kept = math.exp(of_run), self.kept.deviation
            return ProbedDevice(self.launch_s, self.flops, self.noise, kept, seed_of_launches, of_case)
        return SimulatedDevice(
            Law(self.launch_s * math.exp(of_run), self.noise, self._make_course(generator)),
            keep=self.kept.draw if self.kept != Kept() else None,
            seed=seed_of_launches,
            nominal_tflops=_NOMINAL_TFLOPS,
            foreign_cores=self._make_load(generator),
            kind="simulated" if self.gpu is None else "cuda",
            cores=2.0 if self.gpu is None else 1.0,
            timer_resolution_s=self.timer_resolution_s,
            driver=None if self.gpu is None else self.gpu.make_driver(),
            host_launch_s=self.host_launch_s,
            between_s=self.between_s,
            corrupts_at_s=self.corrupts_at_s,
            keep_launches=True,
        )

    def _make_course(self, generator: np.random.Generator) -> TimeSeries | None:
        if self.modes is None:
            return Drift(self.drift_per_s) if self.drift_per_s else None
        dwell_s = [self.modes.dwell_s] * len(self.modes.levels)
        return make_switching(self.modes.levels, dwell_s, self.limit_s, generator)

    def _make_load(self, generator: np.random.Generator) -> float | Steps:
        if self.bursts is None:
            return 0.0
        levels, dwell_s = (0.0, self.bursts.cores), (self.bursts.idle_s, self.bursts.busy_s)
        return make_switching(levels, dwell_s, self.limit_s, generator)


class _ScenarioFile(FrozenModel):
    scenario: tuple[Scenario, ...] = Field(min_length=1)


@cache
def load_scenarios() -> Mapping[str, Scenario]:
    """Return the shipped scenarios by name, in the file's order."""
    shipped = parse_toml(
        _ScenarioFile, read_packaged("nameplate.selftest", "scenarios.toml"), "scenarios.toml"
    )
    return {each.name: each for each in shipped.scenario}
