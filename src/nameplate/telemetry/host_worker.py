"""The process that samples the host's processors, so that neither files nor Python's lock delay a run.

`sampling.py` says how it runs and ends. Requests are `{"ask": "sample", "cpus": …, "period_s": …,
"root": …}` (`cpus` null for all), and `{"ask": "drain"}` for the oldest rows not handed over yet: the figures
of `HostReading`, in its order. Only the standard library is imported, and modules that import no more.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from nameplate.telemetry.host import parse_cpu_totals
from nameplate.telemetry.sampling import Absent, PeriodicSampler, Row, serve

# The share of one core that sampling may take; where a sample costs more, the period grows. With the cost of
# waking up, the process stays below 0.3 %: on two shared cores of a nested guest, where waking alone costs
# 0.1 ms, it used 0.23 to 0.29 % of one, idle or with both busy (schedstat of its threads over 15 s, at 9 to
# 10 Hz).
_MOST_SHARE = 0.0012
# A clock costs some 4 µs to read, and the clocks of many cores at one task are alike.
_MOST_CLOCKS = 32
_DRIVERS = {"coretemp", "k10temp"}
_PACKAGE_LABELS = ("Package id", "Physical id", "Tdie")  # coretemp, an older one, k10temp
_CONTROL_LABEL = "Tctl"  # k10temp where there is no Tdie; where there is, it may be some degrees off
_STAT_BYTES = 1 << 16  # the cpu lines, which come first, of 700 CPUs


class _PolledFile:
    """A small file that is read again and again. It is opened once: opening is most of the work."""

    def __init__(self, path: Path) -> None:
        self._file: int | None = None
        with suppress(OSError):
            self._file = os.open(path, os.O_RDONLY)

    def text(self, most_bytes: int = 4096) -> str:
        """Return what it holds now; empty where it can't be read."""
        if self._file is not None:
            with suppress(OSError):
                return os.pread(self._file, most_bytes, 0).decode("ascii", "replace").strip()
        return ""

    def number(self) -> int | None:
        """Return the whole number it holds now; None where it holds none."""
        with suppress(ValueError):
            return int(self.text())
        return None


class Clocks:
    """Clocks of CPUs, from cpufreq."""

    def __init__(self, root: Path, cpus: Collection[int] | None) -> None:
        """Find the files of `cpus` (None: of all), or of `_MOST_CLOCKS` spread over them evenly."""
        found = (root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq")
        paths = {int(path.parts[-3].removeprefix("cpu")): path for path in found}
        chosen = sorted(paths if cpus is None else paths.keys() & set(cpus))
        self._files = [
            _PolledFile(paths[cpu]) for cpu in chosen[:: math.ceil(len(chosen) / _MOST_CLOCKS) or 1]
        ]

    def mean_mhz(self) -> float | None:
        """Return the mean of the clocks that can be read; None where none can."""
        told = [khz / 1e3 for file in self._files if (khz := file.number())]
        return sum(told) / len(told) if told else None


class Sensors:
    """Temperatures of CPU packages."""

    def __init__(self, root: Path) -> None:
        """Find the sensors: those of the processors' own drivers, else the thermal zones of packages."""
        paths = [*_package_sensors(root)] or [*_package_zones(root)]
        self._files = [_PolledFile(path) for path in paths]

    def hottest_c(self) -> float | None:
        """Return the hottest temperature; None where none can be read."""
        told = [found for file in self._files if (found := file.number()) is not None]
        return max(told) / 1e3 if told else None


class Energy:
    """The energy counters of CPU packages (RAPL), with their wrapping undone."""

    def __init__(self, root: Path) -> None:
        """Find the packages: `intel-rapl:N` (AMD's too), and neither their parts nor the whole platform."""
        self._domains = [
            _Domain(folder)
            for folder in sorted(root.glob("sys/class/powercap/intel-rapl:[0-9]*"))
            if folder.name.count(":") == 1 and _read_text(folder / "name").startswith("package")
        ]

    def total_j(self) -> float | None:
        """Return joules since this was made; None where a package can't be read, or there is none."""
        told = [total for domain in self._domains if (total := domain.total_uj()) is not None]
        return sum(told) / 1e6 if told and len(told) == len(self._domains) else None


class _Domain:
    def __init__(self, folder: Path) -> None:
        self._counter = _PolledFile(folder / "energy_uj")
        self._range_uj = int(_read_text(folder / "max_energy_range_uj") or 0)
        self._last_uj = self._counter.number()
        self._total_uj = 0

    def total_uj(self) -> int | None:
        now_uj = self._counter.number()
        if now_uj is None or self._last_uj is None or not self._range_uj:
            return None
        self._total_uj += (now_uj - self._last_uj) % self._range_uj
        self._last_uj = now_uj
        return self._total_uj


class HostService:
    """Samples the host once it was told how."""

    def __init__(self) -> None:
        """Sample nothing yet."""
        self._sampler: PeriodicSampler | None = None

    def hello(self) -> None:
        """Return nothing: there is nothing to tell."""

    def answer(self, request: dict[str, Any]) -> Any:
        """Return the answer to one request."""
        if request["ask"] == "sample":
            sample = _make_sample(Path(request["root"]), request["cpus"])
            sample()  # the first costs most by far; taken by the sampler it would delay the second
            self._sampler = PeriodicSampler(
                sample, request["period_s"], most_share=_MOST_SHARE, cost_clock=time.process_time
            )
            return None
        if self._sampler is None:
            raise Absent("the host isn't being sampled")
        return self._sampler.drain()

    def samplers(self) -> Iterable[PeriodicSampler]:
        """Return the one sampler, once there is one."""
        return () if self._sampler is None else (self._sampler,)


def _make_sample(root: Path, cpus: Sequence[int] | None) -> Callable[[], Row]:
    """Return the function that takes one row."""
    stat = _PolledFile(root / "proc/stat")
    clocks, sensors, energy = Clocks(root, cpus), Sensors(root), Energy(root)

    def sample() -> Row:
        at_s = time.perf_counter()
        busy_cpu_s, steal_s = parse_cpu_totals(stat.text(_STAT_BYTES), cpus) or (None, None)
        energy_j = energy.total_j()
        return at_s, busy_cpu_s, steal_s, clocks.mean_mhz(), sensors.hottest_c(), energy_j

    return sample


def _package_sensors(root: Path) -> Iterator[Path]:
    for folder in root.glob("sys/class/hwmon/hwmon*"):
        if _read_text(folder / "name") in _DRIVERS:
            labels = {path: _read_text(path) for path in folder.glob("temp*_label")}
            named = [path for path, label in labels.items() if label.startswith(_PACKAGE_LABELS)]
            for path in named or [path for path, label in labels.items() if label == _CONTROL_LABEL]:
                yield path.with_name(path.name.replace("_label", "_input"))


def _package_zones(root: Path) -> Iterator[Path]:
    for folder in root.glob("sys/class/thermal/thermal_zone*"):
        if _read_text(folder / "type") == "x86_pkg_temp":
            yield folder / "temp"


def _read_text(path: Path) -> str:
    """Return what a file holds; empty where it can't be read."""
    with suppress(OSError):
        return path.read_text("ascii", "replace").strip()
    return ""


if __name__ == "__main__":
    serve(HostService)
