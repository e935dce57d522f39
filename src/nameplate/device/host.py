"""Reads a host's processors, cores, caches and limits from the operating system; sets its default threads.

The readers of files take a root folder, so that a test can pass a recorded machine.
"""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from nameplate.specs.cpu import CpuEvidence

ROOT = Path("/")
_SETTINGS = (
    "OMP_NUM_THREADS",
    "OMP_WAIT_POLICY",
    "OMP_PROC_BIND",
    "OMP_PLACES",
    "GOMP_SPINCOUNT",
    "GOMP_CPU_AFFINITY",
    "KMP_BLOCKTIME",
    "KMP_AFFINITY",
    "MKL_NUM_THREADS",
    "MKL_DYNAMIC",
    "OPENBLAS_NUM_THREADS",
    "OPENBLAS_THREAD_TIMEOUT",
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
)


def read_processor(root: Path = ROOT) -> CpuEvidence:
    """Read the processor. On a system that says nothing, every field is None or empty."""
    if platform.system() == "Darwin":
        return CpuEvidence(name=_read_sysctl("machdep.cpu.brand_string") or "", vendor="Apple")
    text = _read_text(root / "proc/cpuinfo")
    return parse_cpuinfo(text) if text else CpuEvidence()


def parse_cpuinfo(text: str) -> CpuEvidence:
    """Parse the first processor's block of a Linux /proc/cpuinfo, x86 or Arm."""
    block = text.strip().split("\n\n", maxsplit=1)[0]
    fields = {}
    for line in block.splitlines():
        key, _, value = line.partition(":")
        fields[key.strip()] = value.strip()
    return CpuEvidence(
        name=fields.get("model name", ""),
        vendor=fields.get("vendor_id"),
        family=_parse_integer(fields.get("cpu family")),
        model=_parse_integer(fields.get("model")),
        stepping=_parse_integer(fields.get("stepping")),
        implementer=_parse_integer(fields.get("CPU implementer")),
        arm_part=_parse_integer(fields.get("CPU part")),
        flags=frozenset((fields.get("flags") or fields.get("Features") or "").split()),
        reported_mhz=_parse_number(fields.get("cpu MHz")),
    )


@dataclass(frozen=True)
class Cores:
    """The part of the machine that this process may use."""

    logical: int
    affinity: tuple[int, ...] | None
    quota: float | None
    physical: int  # distinct physical cores within the affinity
    threads_per_core: int | None
    sockets: int | None
    numa_nodes: int | None

    @property
    def usable(self) -> float:
        """Physical cores within affinity and cgroup quota; a fraction where the quota is one."""
        return min(float(self.physical), self.quota) if self.quota else float(self.physical)


def read_cores(root: Path = ROOT) -> Cores:
    """Count the cores within affinity and cgroup limits, from the system's topology."""
    logical = os.cpu_count() or 1
    affinity = tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else None
    topology = {cpu: _find_core(root, cpu) for cpu in (affinity or range(logical))}
    if None in topology.values():  # no topology in sysfs (macOS, some containers)
        physical = min(psutil.cpu_count(logical=False) or logical, len(topology))
        siblings, sockets = None, None
    else:
        physical = len(set(topology.values()))
        siblings = _count_siblings(root, next(iter(topology)))
        sockets = len({core[0] for core in topology.values() if core})
    nodes = list((root / "sys/devices/system/node").glob("node[0-9]*"))
    return Cores(
        logical, affinity, read_cgroup_cpus(root), physical, siblings, sockets, len(nodes) if nodes else None
    )


def _find_core(root: Path, cpu: int) -> tuple[int, int] | None:
    topology = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
    package = _parse_integer(_read_text(topology / "physical_package_id"))
    core = _parse_integer(_read_text(topology / "core_id"))
    return None if package is None or core is None else (package, core)


def _count_siblings(root: Path, cpu: int) -> int | None:
    text = _read_text(root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    return _count_cpus(text) if text else None


def _count_cpus(text: str) -> int | None:
    """Number of CPUs in a list of the kernel's: `0-2,5` is 4; None for any other text."""
    count = 0
    for span in text.strip().split(","):
        first, _, last = span.partition("-")
        begin, end = _parse_integer(first), _parse_integer(last or first)
        if begin is None or end is None or end < begin:
            return None
        count += end - begin + 1
    return count


def read_cgroup_cpus(root: Path = ROOT) -> float | None:
    """Return the CPUs this process's control group may use, its ancestors' limits too; None: no limit."""
    limits = [
        _parse_quota(text) for text in _read_cgroup_files(root, "cpu.max")
    ]  # version 2: "200000 100000"
    for folder in ("cpu", "cpu,cpuacct"):  # version 1
        quota = _parse_integer(_read_text(root / "sys/fs/cgroup" / folder / "cpu.cfs_quota_us"))
        period = _parse_integer(_read_text(root / "sys/fs/cgroup" / folder / "cpu.cfs_period_us"))
        if quota and period and quota > 0 and period > 0:
            limits.append(quota / period)
    return min((limit for limit in limits if limit is not None), default=None)


def read_cgroup_memory(root: Path = ROOT) -> int | None:
    """Return the bytes this process's control group may hold; None: no limit."""
    limits = [_parse_integer(text.strip()) for text in _read_cgroup_files(root, "memory.max")]
    limits.append(_parse_integer(_read_text(root / "sys/fs/cgroup/memory/memory.limit_in_bytes")))
    # Version 1 writes "no limit" as a number near 2^63.
    return min((limit for limit in limits if limit is not None and 0 < limit < 1 << 60), default=None)


def _read_cgroup_files(root: Path, name: str) -> list[str]:
    """The texts of the files `name` of this process's version-2 control group and of its ancestors."""
    line = next(
        (li for li in (_read_text(root / "proc/self/cgroup") or "").splitlines() if li[:3] == "0::"), "0::/"
    )
    path = Path(line[3:].lstrip("/"))
    folders = [root / "sys/fs/cgroup" / each for each in (path, *path.parents)]
    return [text for folder in folders if (text := _read_text(folder / name)) is not None]


def _parse_quota(text: str) -> float | None:
    """CPUs that a line of cpu.max allows: `150000 100000` is 1.5; None for `max` and for any other text."""
    first, _, second = text.strip().partition(" ")
    quota, period = _parse_integer(first), _parse_integer(second or "100000")
    return quota / period if quota and period and quota > 0 and period > 0 else None


def read_caches(root: Path = ROOT) -> dict[str, int]:
    """Return the sizes in bytes of cpu0's caches by name (`L1d`, `L2`, `L3`)."""
    caches = {}
    for index in sorted((root / "sys/devices/system/cpu/cpu0/cache").glob("index[0-9]*")):
        level, kind, text = (_read_text(index / name) for name in ("level", "type", "size"))
        size = _parse_bytes(text.strip()) if text else None
        if level and kind and size and kind.strip() != "Instruction":
            suffix = "d" if kind.strip() == "Data" else ""
            caches[f"L{level.strip()}{suffix}"] = size
    if not caches and (size := _parse_integer(_read_sysctl("hw.perflevel0.l2cachesize"))):
        caches["L2"] = size
    return caches


def _parse_bytes(text: str) -> int | None:
    """Bytes of a size such as `2048K`; None for any other text."""
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    number = _parse_integer(text[:-1] if text[-1:] in units else text)
    return number * units.get(text[-1:], 1) if number is not None and number > 0 else None


def read_maximum_mhz(root: Path = ROOT) -> float | None:
    """Return cpufreq's highest clock of cpu0 in MHz; None without cpufreq, as in most guests."""
    khz = _parse_integer(_read_text(root / "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq"))
    return khz / 1000 if khz else None


def read_thread_settings() -> dict[str, str]:
    """Return the environment variables that are set and change how math libraries thread or spin."""
    return {name: os.environ[name] for name in _SETTINGS if name in os.environ}


def _read_text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def _parse_integer(text: str | None) -> int | None:
    try:
        return int(text.strip(), 0) if text else None
    except ValueError:
        return None


def _parse_number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def _read_sysctl(name: str) -> str | None:
    if platform.system() != "Darwin":
        return None
    try:
        done = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


# GOMP_SPINCOUNT: by default a thread that waits for a slower one spins so long that, once other processes use
# the cores, its CPU time no longer measures the work. With this bound, FLOPs per CPU second stay within a few
# per cent of those on an idle machine, and a 1024³ product on an idle machine isn't measurably slower;
# docs/method.md has the figures. OPENBLAS_NUM_THREADS: numpy brings a second BLAS, whose threads would spin
# while torch's work.
_DEFAULT_SETTINGS = {"GOMP_SPINCOUNT": "10000", "OPENBLAS_NUM_THREADS": "1"}
# Where the user has set the variable on the right, the library would still follow our default on the left.
_SET_BY_USER = {"GOMP_SPINCOUNT": "OMP_WAIT_POLICY"}


@contextmanager
def set_default_threads() -> Iterator[None]:
    """Set how math libraries of the processes started inside thread and wait, unless the user has set it.

    Libraries read these variables when they are loaded, so they must be in the environment that a measuring
    process inherits. The environment is restored on exit. The run's manifest has the settings in force
    (`identity.thread_settings`).
    """
    added = {
        name: value
        for name, value in _DEFAULT_SETTINGS.items()
        if name not in os.environ and _SET_BY_USER.get(name, name) not in os.environ
    }
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
