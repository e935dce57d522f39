"""Totals of the host's CPU time: who used it, and what the hypervisor took away."""

from __future__ import annotations

import os
from pathlib import Path

_STAT = Path("/proc/stat")


def read_cpu_totals(path: Path = _STAT) -> tuple[float, float] | None:
    """CPU seconds of all processes, and stolen ones, since boot; None where the system doesn't say.

    From the first line of /proc/stat (proc(5)): user nice system idle iowait irq softirq steal …; guest time
    is already in user.
    """
    try:
        fields = path.read_text(encoding="ascii").split("\n", maxsplit=1)[0].split()
    except OSError:
        return None
    if len(fields) < 9 or fields[0] != "cpu":
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = (int(field) for field in fields[1:9])
    return (user + nice + system + irq + softirq) * tick_s(), steal * tick_s()


def tick_s() -> float:
    """The step in which the kernel counts CPU time, in seconds."""
    return float(1 / os.sysconf("SC_CLK_TCK"))
