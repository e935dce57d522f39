"""Reads the small files and names in which an operating system describes itself; None for what isn't there.

Nothing here raises for a missing file or for nonsense in one.
"""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path


def read_text(path: Path) -> str | None:
    """Return the text of a file; None where it can't be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError):  # the latter for a name that no file can have, as one with a zero in it
        return None


def read_line(path: Path) -> str | None:
    """Return the text of a one-line file, trimmed; None where it can't be read or is empty."""
    return (read_text(path) or "").strip(" \t\r\n\0") or None


def read_integer(path: Path) -> int | None:
    """Return the whole number that a file holds; None for any other text."""
    return parse_integer(read_text(path))


def parse_integer(text: str | None) -> int | None:
    """Parse a whole number, decimal or as in C (`0x41`); None for any other text."""
    try:
        return int(text.strip(), 0) if text else None
    except ValueError:
        return None


def parse_number(text: str | None) -> float | None:
    """Parse a number; None for any other text."""
    try:
        return float(text) if text else None
    except ValueError:
        return None


def parse_cpu_list(text: str | None) -> frozenset[int] | None:
    """Parse a list of CPUs as the kernel prints it: `0-2,5` is {0, 1, 2, 5}; None for any other text."""
    cpus: set[int] = set()
    for span in (text or "").strip().split(","):
        first, _, last = span.partition("-")
        begin, end = parse_integer(first), parse_integer(last or first)
        # The kernel numbers at most some thousand CPUs: a longer span is no list of them.
        if begin is None or end is None or not 0 <= begin <= end < 1 << 16:
            return None
        cpus.update(range(begin, end + 1))
    return frozenset(cpus)


def parse_bytes(text: str | None) -> int | None:
    """Return the bytes of a size such as `2048K`; None for any other text."""
    text = (text or "").strip()
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    number = parse_integer(text[:-1] if text[-1:] in units else text)
    return number * units.get(text[-1:], 1) if number is not None and number > 0 else None


def read_sysctl(name: str) -> str | None:
    """Return what macOS says of a name such as `hw.perflevel0.physicalcpu`; None elsewhere."""
    if platform.system() != "Darwin":
        return None
    try:
        done = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
