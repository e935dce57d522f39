"""The host's processors as a device: identity, rating and batches timed by the host's clock."""

from __future__ import annotations

import atexit
import math
import os
import platform
import re
import resource
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from itertools import cycle, islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import psutil

from nameplate.base.garbage_collection import garbage_collection_off
from nameplate.base.messages import Message, message
from nameplate.device import clock, host
from nameplate.device.identity import CpuIdentity, evidence_of
from nameplate.device.kernels import name_cpu_kernels, profile_launch
from nameplate.device.protocol import Counters, Probe, Timeline, Timing, TorchDevice
from nameplate.record import KernelTime
from nameplate.silicon.measure import measure_silicon
from nameplate.silicon.peak import Silicon
from nameplate.specs.cpu import find_boost
from nameplate.specs.cpu_rating import CpuFacts, rate_cpu
from nameplate.specs.rating import Rating, rate_evidence
from nameplate.specs.recognition import Evidence
from nameplate.specs.registry import ENVIRONMENT
from nameplate.telemetry.host import HostSampler, read_cpu_totals, read_tick_s
from nameplate.workload import Launch

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

# What an identity has of the processor, as it reports itself.
_NUMBERS = ("vendor", "family", "model", "stepping", "implementer", "arm_part", "reported_mhz")
# Two threads of one physical core do the probe's multiplications at half speed, two cores at full speed.
_OWN_CORES = 0.75
# Shapes of no suite, so that no case is its own ceiling; and no powers of two, at which rows of operands fall
# into the same sets of a cache: on Zen 4 an fp32 product of 960³ was 4 % faster than one of 1024³, and in
# bf16 it reached what larger ones do (2026-11-30). Many cores need a larger product.
_PROBE_EDGES = (960, 1920, 2880)
# Every CPU has arithmetic in these, also one whose own rating isn't known.
_ALWAYS_FAST = frozenset({"fp64", "fp32"})
_PROBE_DTYPES = {"fp64": "float64", "fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


class CpuDevice(TorchDevice):
    """All the cores this process may use, through torch, with torch's own thread count."""

    name = "cpu"
    kind = "cpu"
    _cache_bytes_assumed = 64 << 20
    _shared_sampler: ClassVar[HostSampler | None] = None

    @classmethod
    def share_sampler(cls, cpus: Collection[int] | None) -> None:
        """Start one sampler of these CPUs (None: all) for this process and those that it forks."""
        cls._shared_sampler = _start_sampler(cpus)

    def __init__(self, identity: CpuIdentity | None = None) -> None:
        """Read the machine, or take an identity already read. Keeps torch's threads and settings."""
        self.identity = identity or read_identity()
        self.rating = replace(rate(self.identity), silicon=self.identity.silicon)
        # Not from `rating`: a figure of the user's (--nominal, a parts file) gives a CPU no instructions.
        self._fast_dtypes = _ALWAYS_FAST | rate_cpu(facts_of(self.identity)).rated_dtypes
        self.timer_resolution_s = _measure_timer_resolution()
        self.cores = self.identity.usable_cores
        self.cache_bytes = max(self.identity.caches_bytes.values(), default=None)
        self.memory_bytes = min(
            self.identity.memory_limit_bytes or 1 << 62, psutil.virtual_memory().available
        )
        self._sampler: HostSampler | None = None
        self._has_readings = False
        self._timeline = Timeline()

    def time_batch(
        self, launches: Sequence[Launch], *, samples: int, per_sample: int, flush: bool = False
    ) -> Timing:
        """Time `samples` samples of `per_sample` launches; see `protocol.Device.time_batch`."""
        ring = cycle(launches)
        with garbage_collection_off():
            cpu_s, system_s = time.process_time(), _read_system_s()
            begin = time.perf_counter_ns()
            if flush:
                spans = [self._time_cold(ring, per_sample) for _ in range(samples)]
            else:
                spans = _time_back_to_back(ring, samples, per_sample)
            end = time.perf_counter_ns()
            cpu_s, system_s = time.process_time() - cpu_s, _read_system_s() - system_s
        # The CPU time of the flushes can't be separated from that of the work.
        spent = (None, None) if flush else (cpu_s, system_s)
        return Timing(begin / 1e9, np.asarray(spans, dtype=float) / 1e9, per_sample, end / 1e9, *spent)

    def _time_cold(self, ring: Iterator[Launch], per_sample: int) -> int:
        self._flush()
        begin = time.perf_counter_ns()
        for launch in islice(ring, per_sample):
            launch()
        return time.perf_counter_ns() - begin

    def _flush(self) -> None:
        self._flush_buffer.add_(1)

    def counters(self) -> Counters:
        """Return CPU seconds of this process and of all processes; the latter are None outside Linux.

        A probe of some 20 ms measures how fast the cores run in parallel. A hypervisor may put two cores of a
        guest on one physical core for a while; that halves a matrix product and shows in no counter.
        """
        self._take_readings()  # first: the sampler's process starts with the first call
        share = self._parallel_share()
        totals = read_cpu_totals(cpus=self.identity.affinity_cpus)
        busy, steal = totals or (None, None)
        tick = read_tick_s() if totals else None
        row = Counters(time.perf_counter(), time.process_time(), busy, steal, tick, share)
        self._timeline.add(row)
        return row

    def timeline(self, since_s: float) -> tuple[Counters, ...]:
        """Return rows of this process and of the host's sampler; see `protocol.Device.timeline`."""
        self._take_readings()
        return self._timeline.since(since_s)

    def hasten_telemetry(self, seconds: float) -> None:
        """Do nothing: a host's figures are sums over ten milliseconds and more."""

    def _take_readings(self) -> None:
        """Start the sampler the first time; add what it has read since the last call."""
        if self._sampler is None:
            self._sampler = self._shared_sampler or _start_sampler(self.identity.affinity_cpus)
        readings = self._sampler.take_readings()
        for reading in readings:
            self._timeline.add(Counters(**asdict(reading)))
        self._has_readings = self._has_readings or bool(readings)
        if self._has_readings:
            self.telemetry_lost = self._sampler.absent

    def _parallel_share(self) -> float | None:
        usual = self.identity.parallel_speed
        now = None if usual is None else clock.measure_parallel_speed(int(self.cores))
        return None if usual is None or now is None else min(now / usual, 1.0)

    def probes(self, dtype: str) -> tuple[Probe, ...]:
        """Return products of 960³, 1920³ and 2880³.

        None for a dtype without a rating, and for one that this CPU has no arithmetic in, whatever the user
        rates it at: at 2 GFLOPS a product of 960³ takes a second.
        """
        if dtype not in self.rating.rated_dtypes & self._fast_dtypes or dtype not in _PROBE_DTYPES:
            return ()
        return tuple(_make_probe(edge, dtype) for edge in _PROBE_EDGES)

    def time_enqueue(self, launches: Sequence[Launch]) -> float | None:
        """Return None: a CPU runs a launch when it is called."""

    def capture(self, launches: Sequence[Launch], count: int) -> Launch | None:
        """Return None: a CPU runs a launch when it is called, so there is nothing to capture."""

    def name_kernels(self, launch: Launch) -> tuple[str, ...]:
        """Name the kernels of oneDNN and MKL and the operators of torch that the launch runs."""
        return name_cpu_kernels(launch)

    def profile(self, launch: Launch, trace: Path) -> tuple[KernelTime, ...]:
        """Launch once under torch's profiler, and write its trace; kernels are torch's operators."""
        return profile_launch(launch, trace, on_cuda=False)

    def begin_peak(self) -> None:
        """Count anew the most memory that this process holds; Linux alone can."""
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")

    def read_peak_bytes(self) -> int | None:
        """Return the most memory that it has held since; None where the system doesn't say."""
        with suppress(OSError):
            found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
            return None if found is None else int(found[1]) << 10
        return None

    def is_working(self) -> bool:
        """Return True: no error of a launch outlives it."""
        return True

    def begin_process(self) -> None:
        """Do nothing: what this process keeps, it keeps to its end."""

    def idle(self, seconds: float) -> None:
        """Sleep."""
        time.sleep(max(seconds, 0.0))

    def synchronize(self) -> None:
        """Return at once: a launch has run when it returns."""


def _read_system_s() -> float:
    """CPU seconds that the kernel has spent for this process, all threads."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_stime


def _start_sampler(cpus: Collection[int] | None) -> HostSampler:
    sampler = HostSampler(cpus)
    atexit.register(sampler.close)
    return sampler


def _time_back_to_back(ring: Iterator[Launch], samples: int, per_sample: int) -> list[int]:
    """Nanoseconds of each sample. One clock reading ends a sample and starts the next, so none is lost."""
    stamps = [time.perf_counter_ns()]
    for _ in range(samples):
        for launch in islice(ring, per_sample):
            launch()
        stamps.append(time.perf_counter_ns())
    return [later - earlier for earlier, later in pairwise(stamps)]


def _measure_timer_resolution() -> float:
    """The clock's smallest step seen in practice, in seconds: resolution and the cost of reading it."""
    stamps = [time.perf_counter_ns() for _ in range(2000)]
    return min(later - earlier for earlier, later in pairwise(stamps) if later > earlier) / 1e9


class _Product:
    """C = A·B with all three `edge`² in one dtype, allocated and filled by the first launch."""

    def __init__(self, edge: int, dtype: str) -> None:
        self._edge, self._dtype = edge, dtype
        self._buffers: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None

    def launch(self) -> None:
        """Multiply once."""
        import torch

        if self._buffers is None:
            kind = getattr(torch, _PROBE_DTYPES[self._dtype])
            a, b = (torch.randn(self._edge, self._edge).to(kind) for _ in range(2))
            self._buffers = a, b, torch.empty_like(a)
        a, b, product = self._buffers
        torch.mm(a, b, out=product)


def _make_probe(edge: int, dtype: str) -> Probe:
    return Probe(f"{dtype} {edge}x{edge}x{edge}", 2 * edge**3, _Product(edge, dtype).launch)


def measure_identity(root: Path = host.ROOT) -> CpuIdentity:
    """Read this host as `read_identity` does, and measure its arithmetic peak: a second or two, all cores."""
    processor, cores = host.read_processor(root), host.read_cores(root)
    # A quota may leave less than the cores that it can be spent on.
    cpus = cores.first_cpus[: math.ceil(cores.usable)]
    # First, while no thread of torch's spins.
    return read_identity(measure_silicon(processor.flags, cpus, cores.usable), root)


def read_identity(silicon: Silicon | None = None, root: Path = host.ROOT) -> CpuIdentity:
    """Read this host's processors, how much of them may be used, and how torch's libraries are set up.

    `silicon` is the arithmetic peak, where it has been measured before. `root` is the folder that holds the
    system's files; clocks are always measured on this machine.
    """
    processor, cores = host.read_processor(root), host.read_cores(root)
    hidden = find_boost(processor.name) is None
    numbers = asdict(processor)
    return CpuIdentity(
        **{name: numbers[name] for name in ("name", *_NUMBERS)},
        flags=tuple(sorted(processor.flags)),
        architecture=platform.machine(),
        product=host.read_product(root),
        virtual_machine=host.detect_virtual_machine(processor, root),
        logical_cpus=cores.logical,
        affinity_cpus=cores.affinity,
        quota_cpus=cores.quota,
        usable_cores=cores.usable,
        threads_per_core=cores.threads_per_core,
        sockets=cores.sockets,
        numa_nodes=cores.numa_nodes,
        core_kinds=cores.kinds,
        maximum_mhz=host.read_maximum_mhz(root),
        measured_mhz=clock.measure_mhz() if hidden else None,
        parallel_speed=clock.measure_parallel_speed(int(cores.usable)),
        silicon=silicon,
        caches_bytes=host.read_caches(root),
        memory_bytes=psutil.virtual_memory().total,
        memory_limit_bytes=host.read_cgroup_memory(root),
        thread_settings=host.read_thread_settings(),
        **_read_torch_build(),
    )


def _read_torch_build() -> dict[str, Any]:
    """Torch's BLAS and oneDNN builds and its threads, as torch itself prints them."""
    import torch

    lines = [line.strip(" -\t") for line in torch.__config__.show().splitlines()]
    return {
        "blas": _find_line(lines, r"Math Kernel Library|OpenBLAS|Accelerate|BLAS_INFO"),
        "onednn": _find_line(lines, r"MKL-DNN|oneDNN"),
        "instruction_set": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
    }


def _find_line(lines: list[str], pattern: str) -> str | None:
    line = next((line for line in lines if re.search(pattern, line)), None)
    if line and "BLAS_INFO=" in line:  # the library has no line of its own: the build settings name it
        return line.split("BLAS_INFO=")[1].split(",")[0]
    return line


def rate(identity: CpuIdentity) -> Rating:
    """Rate a CPU per dtype: by its part where that is known, else by what was measured; `cpu_rating.py`.

    A part of the user's own that lists this CPU's name as a driver name takes precedence.
    """
    # Shipped parts are accelerators: only a file of the user's may name a CPU.
    if os.environ.get(ENVIRONMENT) and identity.name:
        added = rate_evidence(Evidence(name=identity.name))
        if added.part is not None:
            return added
    rating = rate_cpu(facts_of(identity))
    return replace(rating, notes=(*_find_notes(identity), *rating.notes))


def facts_of(identity: CpuIdentity) -> CpuFacts:
    """Return what a CPU is rated by."""
    return CpuFacts(
        evidence_of(identity),
        identity.usable_cores,
        identity.virtual_machine,
        identity.maximum_mhz,
        identity.measured_mhz,
        identity.silicon,
        identity.architecture,
    )


def has_shared_cores(identity: CpuIdentity) -> bool:
    """Whether its cores are slower together than alone: two of them share a core, or others use them."""
    return identity.parallel_speed is not None and identity.parallel_speed < _OWN_CORES


def _find_notes(identity: CpuIdentity) -> Iterator[Message]:
    if identity.silicon is not None:
        yield from _find_silicon_notes(identity.silicon)
    cores, speed = identity.usable_cores, identity.parallel_speed
    if has_shared_cores(identity):
        yield message("cores_shared", cores=cores, speed=speed)
    elif identity.virtual_machine and speed is None and cores > 1:
        yield message("cores_may_be_shared")
    if identity.threads and identity.threads != cores:
        yield message("threads_differ", threads=identity.threads, cores=cores)
    if identity.quota_cpus and identity.quota_cpus < len(identity.affinity_cpus or ()):
        yield message("quota", cpus=identity.quota_cpus)


def _find_silicon_notes(silicon: Silicon) -> Iterator[Message]:
    if silicon.absent is not None:
        yield silicon.absent
        return
    for loop, why in silicon.failed.items():
        yield message("silicon_path_failed", loop=loop, why=why)
