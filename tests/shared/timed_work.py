"""A simulated device on which each launch has a duration of its own, and the work for it: what tests of
groups of cases measure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from nameplate.device.simulated import SimulatedDevice, SimulatedPrepared, SimulatedWork
from nameplate.engine.group import Allowance
from nameplate.engine.measure import measure_group
from nameplate.engine.pilot import Pilots
from nameplate.record import Record
from nameplate.suite import Case

AMPLE = Allowance(share_s=8.0, limit_s=80.0)


@dataclass
class Launch:
    """What a device is asked to run: it takes `launch_s` where nothing slows the device."""

    name: str
    launch_s: float

    def __call__(self):
        """Do nothing: the device draws what it takes."""


@dataclass(frozen=True)
class Prepared(SimulatedPrepared):
    work: Work | None = None

    @property
    def launches(self):
        return (Launch(self.work.shape, self.work.launch_s),)

    def check(self):
        self.work.does("check")
        return super().check()

    def digest(self):
        self.work.does("digest")
        return super().digest() if self.work.has_digest else None


@dataclass(frozen=True)
class Work(SimulatedWork):
    """Work that takes `launch_s`; a step in `breaks` raises the n-th time, one in `takes` lasts so long."""

    launch_s: float = 1e-3
    resident: int = 0
    has_digest: bool = True
    breaks: dict[str, tuple[int, BaseException]] = field(default_factory=dict, hash=False)
    takes: dict[str, float] = field(default_factory=dict, hash=False)
    done: Counter = field(default_factory=Counter, hash=False)

    @property
    def resident_bytes(self):
        return self.resident

    def does(self, step):
        self.done[step] += 1
        self.device._now_s += self.takes.get(step, 0.0)
        number, error = self.breaks.get(step, (0, None))
        if self.done[step] == number:
            raise error

    def prepare(self, device, *, fill, seed, copies=1):
        self.does("prepare")
        return Prepared(self.device, self)


class PerLaunchDevice(SimulatedDevice):
    """A device on which each launch has a speed of its own; `slowdown` is a factor that they share."""

    def __init__(self, noise=0.01, slowdown: Callable[[float], float] = lambda at_s: 1.0, **options):
        super().__init__(self._durations, **options)
        self.noise, self.slowdown = noise, slowdown
        self.turns: list[tuple[str, float, float]] = []  # who, when, and how long a batch
        self.recorded: list[str] = []  # who had each batch of more than one launch
        self.broken: dict[str, tuple[int, BaseException]] = {}  # the batch that raises

    def _durations(self, now_s, count, generator):
        launch_s = self._running.launch_s * self.slowdown(now_s)
        return launch_s * np.maximum(1 + self.noise * generator.standard_normal(count), 0.01)

    def time_batch(self, launches, *, samples, per_sample, flush=False):
        self._running = launches[0]
        number, error = self.broken.get(self._running.name, (-1, None))
        if sum(name == self._running.name for name, _, _ in self.turns) == number:
            raise error
        begin_s = self.clock()
        timing = super().time_batch(launches, samples=samples, per_sample=per_sample, flush=flush)
        self.turns.append((self._running.name, begin_s, timing.elapsed_s))
        if timing.launches > 1:
            self.recorded.append(self._running.name)
        return timing


def works(device, *launch_s, **options):
    return [
        Work(device, shape=name, launch_s=each, **options)
        for name, each in zip("abcd", launch_s, strict=False)
    ]


def measured(device, some, allowance=AMPLE, seed=1, name="1", **axes):
    cases = [one if isinstance(one, Case) else Case(one, **axes) for one in some]
    records = measure_group(cases, device, Pilots(device, seed), allowance, name=name)
    assert [record.case for record in records] == [case.id for case in cases]
    for record in records:
        assert Record.model_validate_json(record.model_dump_json()) == record
    return records


def rounds(record):
    return Counter(batch.round for batch in record.batches)


def drawn(device, records):
    """Who had each turn from the first to the last batch of these records, in order."""
    number = sum(len(record.batches) for record in records)
    return device.recorded[-number:]


# A relaxation: 20 % slower in the end, with a time constant of two seconds.
TAU_S = 2.0


def heating(at_s):
    return 1.2 - 0.2 * np.exp(-at_s / TAU_S)


def first_start(device, record):
    """When a record's first batch began, on the device's clock."""
    took = record.batches[0].elapsed_s
    return next(begin for _, begin, elapsed in device.turns if elapsed == took)
