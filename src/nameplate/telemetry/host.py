"""Totals of the host's CPU time: who used it, and what the hypervisor took away."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

_STAT = Path("/proc/stat")


def read_cpu_totals(path: Path = _STAT, *, cpus: Collection[int] | None = None) -> tuple[float, float] | None:
    """CPU seconds of all processes, and stolen ones, since boot, on `cpus` (None: on every CPU).

    None where the system doesn't say. From the cpu lines of /proc/stat (proc(5)): user nice system idle
    iowait irq softirq steal …; guest time is already in user.
    """
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    wanted = {"cpu"} if cpus is None else {f"cpu{cpu}" for cpu in cpus}
    rows = [_ticks(line.split()[1:9]) for line in lines if line.split(" ", maxsplit=1)[0] in wanted]
    if len(rows) != len(wanted) or None in rows:
        return None
    busy, stolen = (sum(column) for column in zip(*(row for row in rows if row), strict=True))
    return busy * tick_s(), stolen * tick_s()


def _ticks(fields: list[str]) -> tuple[int, int] | None:
    """Busy and stolen ticks of one line; None for a line that isn't one."""
    try:
        user, nice, system, _idle, _iowait, irq, softirq, steal = (int(field) for field in fields)
    except ValueError:
        return None
    return user + nice + system + irq + softirq, steal


def tick_s() -> float:
    """The step in which the kernel counts CPU time, in seconds."""
    return float(1 / os.sysconf("SC_CLK_TCK"))
