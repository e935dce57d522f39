"""Totals of the host's CPU time: who used it, and what the hypervisor took away."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

_STAT = Path("/proc/stat")


def read_cpu_totals(path: Path = _STAT, *, cpus: Collection[int] | None = None) -> tuple[float, float] | None:
    """CPU seconds of all processes, and stolen ones, since boot, on `cpus` (None: on every CPU).

    None where the system doesn't say.
    """
    try:
        text = path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    return cpu_totals(text, cpus)


def cpu_totals(stat: str, cpus: Collection[int] | None = None) -> tuple[float, float] | None:
    """As `read_cpu_totals`, from what /proc/stat holds, or the beginning of it that has the cpu lines.

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
                step_s = tick_s()
                return (busy * step_s, stolen * step_s) if found else None
    except ValueError:  # a line that isn't one
        return None
    return None


def tick_s() -> float:
    """The step in which the kernel counts CPU time, in seconds."""
    return float(1 / os.sysconf("SC_CLK_TCK"))
