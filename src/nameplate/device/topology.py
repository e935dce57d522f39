"""Reads which cores and caches this process may use: physical cores, their kinds, clocks and cache sizes.

A kind is a set of cores that work alike. Hybrid processors have several: Intel's performance and efficiency
cores (`/sys/devices/cpu_core`, `cpu_atom`), Arm's big and LITTLE ones (part numbers), AMD's dense ones (a
lower highest clock), Apple's (`hw.perflevel*`).
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from nameplate.device.cpuinfo import parse_arm_parts
from nameplate.device.limits import read_cgroup_cpus
from nameplate.device.system_files import (
    parse_bytes,
    parse_cpu_list,
    parse_integer,
    read_integer,
    read_line,
    read_sysctl,
    read_text,
)
from nameplate.specs.cpu_evidence import CoreKind

_ROOT = Path("/")
_CPUS = "sys/devices/system/cpu"
# Cores of one kind may have highest clocks that differ a little: the best ones are preferred (5.7 and 6.0 GHz
# of one Core i9, steps of 2 % on Ryzen). Kinds differ by more (5.1 and 3.3 GHz, 2.4 and 1.8).
_OTHER_KIND = 1.15
# What Linux calls the cores of a hybrid Intel processor (perf's devices).
_INTEL_KINDS = (
    ("performance", "sys/devices/cpu_core/cpus"),
    ("efficiency", "sys/devices/cpu_atom/cpus"),
    ("low-power", "sys/devices/cpu_lowpower/cpus"),
)


@dataclass(frozen=True)
class Cores:
    """The part of the machine that this process may use."""

    logical: int
    affinity: tuple[int, ...] | None
    quota: float | None
    physical: int  # distinct physical cores within the affinity
    threads_per_core: int | None  # of the core that has most
    sockets: int | None
    numa_nodes: int | None
    kinds: tuple[CoreKind, ...] = ()  # of those physical cores, the fastest first; empty: not known
    first_cpus: tuple[int, ...] = ()  # one CPU of each of those physical cores

    @property
    def usable(self) -> float:
        """Physical cores within affinity and cgroup quota; a fraction where the quota is one."""
        return min(float(self.physical), self.quota) if self.quota else float(self.physical)


def read_cores(root: Path = _ROOT) -> Cores:
    """Count the cores within affinity and cgroup limits, from the system's topology."""
    logical = os.cpu_count() or 1
    affinity = tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else None
    cpus = affinity or tuple(range(logical))
    quota = read_cgroup_cpus(root)
    nodes = [*(root / "sys/devices/system/node").glob("node[0-9]*")]
    numa_nodes = len(nodes) or None
    cores = _group_by_core(root, cpus)
    if cores is None:  # no topology in sysfs (macOS, some containers)
        physical = min(psutil.cpu_count(logical=False) or logical, len(cpus))
        kinds = tuple(_read_apple_kinds())
        return Cores(logical, affinity, quota, physical, None, None, numa_nodes, kinds, cpus[:physical])
    first_cpus = tuple(min(core & set(cpus)) for core in cores)
    packages = {read_integer(root / f"{_CPUS}/cpu{cpu}/topology/physical_package_id") for cpu in cpus}
    return Cores(
        logical,
        affinity,
        quota,
        physical=len(cores),
        threads_per_core=max(map(len, cores)),
        sockets=None if None in packages else len(packages),
        numa_nodes=numa_nodes,
        kinds=_find_kinds(root, first_cpus),
        first_cpus=first_cpus,
    )


def _group_by_core(root: Path, cpus: Sequence[int]) -> list[frozenset[int]] | None:
    """The physical cores of these CPUs, each as the CPUs on it; None where the system doesn't say.

    The kernel's own lists come first. `core_id` alone won't do: on Arm machines that a device tree describes
    it starts anew in each cluster (Linux, drivers/base/arch_topology.c).
    """
    for name in ("core_cpus_list", "thread_siblings_list"):  # the second is the first one's older name
        lists = {cpu: parse_cpu_list(read_text(root / f"{_CPUS}/cpu{cpu}/topology/{name}")) for cpu in cpus}
        if all(cores and cpu in cores for cpu, cores in lists.items()):
            return list(dict.fromkeys(cores for cores in lists.values() if cores))
    places = {cpu: _read_place(root, cpu) for cpu in cpus}
    if None in places.values():
        return None
    return [
        frozenset(cpu for cpu in cpus if places[cpu] == place) for place in dict.fromkeys(places.values())
    ]


def _read_place(root: Path, cpu: int) -> tuple[int | None, ...] | None:
    """Package, cluster and core number of a CPU; None where package or core aren't given."""
    topology = root / f"{_CPUS}/cpu{cpu}/topology"
    package, cluster, core = (
        read_integer(topology / name) for name in ("physical_package_id", "cluster_id", "core_id")
    )
    return None if package is None or core is None else (package, cluster, core)


def _find_kinds(root: Path, cpus: Collection[int]) -> tuple[CoreKind, ...]:
    """The kinds of these CPUs, of which each stands for its core, the fastest first."""
    hybrid = {name: parse_cpu_list(read_text(root / path)) or frozenset() for name, path in _INTEL_KINDS}
    arm = parse_arm_parts(read_text(root / "proc/cpuinfo") or "")
    # Where all CPUs that /proc/cpuinfo lists are of one part, so are those that it doesn't list.
    usual = next(iter(arm.values())) if len(set(arm.values())) == 1 else None
    clocks: dict[tuple[str | None, tuple[int, int] | None], list[float | None]] = {}
    for cpu in cpus:
        name = next((name for name, members in hybrid.items() if cpu in members), None)
        clocks.setdefault((name, arm.get(cpu, usual)), []).append(read_maximum_mhz(root, cpu))
    kinds = [
        CoreKind(len(alike), alike[0], name, *(part or (None, None)))
        for (name, part), found in clocks.items()
        for alike in _split_by_clock(found)
    ]
    return tuple(sorted(kinds, key=lambda kind: -(kind.maximum_mhz or 0)))


def _split_by_clock(clocks: Collection[float | None]) -> list[list[float | None]]:
    """Split highest clocks in MHz where there is a gap between them, each part from the highest down."""
    known = sorted((mhz for mhz in clocks if mhz), reverse=True)
    if len(known) < len(clocks):  # nothing tells cores without a clock apart
        return [[max(known, default=None)] * len(clocks)]
    parts: list[list[float | None]] = []
    last = float("inf")
    for mhz in known:
        if last > _OTHER_KIND * mhz:
            parts.append([])
        parts[-1].append(mhz)
        last = mhz
    return parts


def _read_apple_kinds() -> Iterator[CoreKind]:
    """The kinds of a Mac's cores, the fastest first; none elsewhere. macOS doesn't tell their clocks."""
    for level in range(parse_integer(read_sysctl("hw.nperflevels")) or 0):
        count = parse_integer(read_sysctl(f"hw.perflevel{level}.physicalcpu"))
        name = (read_sysctl(f"hw.perflevel{level}.name") or "").casefold()
        if count:
            yield CoreKind(count, None, name or ("efficiency" if level else "performance"))


def read_maximum_mhz(root: Path = _ROOT, cpu: int = 0) -> float | None:
    """Return cpufreq's highest clock of one CPU in MHz; None without cpufreq, as in most guests."""
    khz = read_integer(root / f"{_CPUS}/cpu{cpu}/cpufreq/cpuinfo_max_freq")
    return khz / 1000 if khz and khz > 0 else None


def read_caches(root: Path = _ROOT, cpus: Collection[int] | None = None) -> dict[str, int]:
    """Return the bytes of the caches that these CPUs use, by level (`L1d`, `L2`, `L3`), instructions' aside.

    Each cache counts once, however many CPUs share it: twelve slices of an L3 are twelve times one. `cpus`
    None: those this process may run on.
    """
    if cpus is None:
        cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
    found: dict[str, dict[object, int]] = {}
    for cpu in sorted(cpus):
        for index in (root / f"{_CPUS}/cpu{cpu}/cache").glob("index[0-9]*"):
            level, kind = read_line(index / "level"), read_line(index / "type")
            size = parse_bytes(read_text(index / "size"))
            if level and kind and size and kind != "Instruction":
                # Without a list of its CPUs a cache can't be told from another of its level.
                shared = parse_cpu_list(read_text(index / "shared_cpu_list"))
                found.setdefault(f"L{level}{'d' if kind == 'Data' else ''}", {})[shared] = size
    caches = {name: sum(sizes.values()) for name, sizes in sorted(found.items())}
    return caches or dict(_read_apple_caches())


def _read_apple_caches() -> Iterator[tuple[str, int]]:
    """The last cache that a Mac tells of, over all its cores: the L2 of each cluster."""
    total = 0
    for level in range(parse_integer(read_sysctl("hw.nperflevels")) or 0):
        size, count, sharing = (
            parse_integer(read_sysctl(f"hw.perflevel{level}.{name}"))
            for name in ("l2cachesize", "physicalcpu", "cpusperl2")
        )
        total += (size or 0) * max(-(-(count or 1) // (sharing or count or 1)), 1)
    if total:
        yield "L2", total
