"""The host's processors: totals of CPU time now, and samples that a process of its own takes.

    with HostSampler(cpus={0, 1}) as host:
        ...
        readings = host.take_readings()

Nothing here raises for what a system lacks. Where the process can't start, hangs or dies, `absent` says why,
and there are no further readings.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from nameplate.telemetry.sampling import Absent, SamplingClient

_STAT = Path("/proc/stat")
_START_S = 10.0
_REQUEST_S = 2.0


def read_cpu_totals(path: Path = _STAT, *, cpus: Collection[int] | None = None) -> tuple[float, float] | None:
    """Return CPU seconds of all processes and stolen ones, since boot, on `cpus` (None: on every CPU).

    None where the system doesn't say.
    """
    try:
        text = path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    return parse_cpu_totals(text, cpus)


def parse_cpu_totals(stat: str, cpus: Collection[int] | None = None) -> tuple[float, float] | None:
    """Return what `read_cpu_totals` does, from the text of /proc/stat, of which the cpu lines suffice.

    They come first (proc(5)), the sum of all before the single ones: user nice system idle iowait irq softirq
    steal …; guest time is already in user.
    """
    wanted = {"cpu"} if cpus is None else {f"cpu{cpu}" for cpu in cpus}
    busy = stolen = found = 0
    try:
        for line in stat.split("\n"):
            name, *ticks = line.split(maxsplit=9)
            if name in wanted:
                user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, ticks[:8])
                busy += user + nice + system + irq + softirq
                stolen += steal
                found += 1
            if found == len(wanted):
                step_s = read_tick_s()
                return (busy * step_s, stolen * step_s) if found else None
    except ValueError:  # a line that isn't one
        return None
    return None


def read_tick_s() -> float:
    """Return the step in which the kernel counts CPU time, in seconds."""
    return float(1 / os.sysconf("SC_CLK_TCK"))


@dataclass(frozen=True)
class HostReading:
    """The host at one moment; a figure that the system doesn't give is None.

    CPU time and clock are those of the sampled CPUs. Temperature and energy are of whole packages, whoever
    uses them.
    """

    at_s: float  # on time.perf_counter's clock, which processes of one Linux host share
    busy_cpu_s: float | None  # CPU seconds of all processes since boot, and
    steal_s: float | None  # those that a hypervisor gave to someone else: `read_cpu_totals`
    mhz: float | None  # mean clock, as cpufreq tells it; of 32 CPUs spread evenly where there are more
    temperature_c: float | None  # of the hottest package
    energy_j: float | None  # of the packages, since sampling began; mostly readable by root alone


class HostSampler(SamplingClient):
    """Readings of the host, taken every `period_s` from the start until `close`, by a process of its own."""

    module = "nameplate.telemetry.host_worker"
    name = "the host sampler"
    closed = "the host sampler is closed"

    def __init__(
        self,
        cpus: Collection[int] | None,
        period_s: float = 0.1,
        *,
        root: Path = Path("/"),
        start_s: float = _START_S,
        deadline_s: float = _REQUEST_S,
    ) -> None:
        """Sample `cpus` (None: every CPU), from the files under `root`.

        Starting takes some 0.1 s, and `start_s` at most; every later call `deadline_s` at most.
        """
        super().__init__(start_s=start_s, deadline_s=deadline_s)
        chosen = None if cpus is None else sorted(cpus)
        with suppress(Absent):
            self._ask({"ask": "sample", "cpus": chosen, "period_s": period_s, "root": str(root)})

    def take_readings(self) -> tuple[HostReading, ...]:
        """Return the readings since the last call, or since the start, oldest first.

        The call takes no longer than the deadline; what it couldn't fetch by then comes with the next.
        """
        found: list[HostReading] = []
        with suppress(Absent):
            for chunk in self._drain({"ask": "drain"}):
                found += [HostReading(*row) for row in chunk["rows"]]
        return tuple(found)
