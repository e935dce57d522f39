"""A processor's clock, measured: chains of dependent adds, one cycle each, timed from outside.

Guests report a fixed clock (or none), so a nominal taken from it can be beaten by real work. An add that
needs the sum before it can't start earlier, so a chain of n takes n cycles on every current x86-64 core.
The chain must be native: in an interpreter the interpreter is what would be timed.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import time
from collections.abc import Callable

# f(n): repeats 100 dependent adds n times. System V x86-64: n arrives in rdi.
# The addend is a register, not a constant: Golden Cove and later fold chains of add-immediate when renaming.
_ADDS = 100
_ADD_RAX_RDX = b"\x48\x01\xd0"
_BODY = _ADD_RAX_RDX * _ADDS
_DEC_RDI = b"\x48\xff\xcf"
_JNZ_BACK = b"\x0f\x85" + (-(len(_BODY) + len(_DEC_RDI) + 6)).to_bytes(4, "little", signed=True)
_RET = b"\xc3"
_CODE = _BODY + _DEC_RDI + _JNZ_BACK + _RET

_REPEATS = 3000  # 300,000 cycles, some 0.1 ms: shorter than a scheduler's slice, 1,000 times the timer's step
_LISTEN_S = 0.06  # some 500 chains: an idle core needs tens of milliseconds to reach its highest clock


def measured_mhz() -> float | None:
    """Return the highest clock, in MHz, of some 500 short chains on one core, or None where it can't be had.

    The highest, because everything that disturbs a chain (interrupts, steal, a clock still rising) makes it
    longer. None on other than x86-64 Linux and where the system forbids executable memory.
    """
    if platform.machine() not in ("x86_64", "AMD64") or not hasattr(os, "memfd_create"):
        return None
    try:
        return _highest_mhz()
    except OSError:  # executable memory is forbidden here
        return None


def _highest_mhz() -> float:
    # A memory file mapped read-and-execute: hardened hosts refuse pages both writable and executable.
    descriptor = os.memfd_create("nameplate-clock")
    try:
        os.write(descriptor, _CODE)
        page = mmap.mmap(descriptor, len(_CODE), mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_EXEC)
    finally:
        os.close(descriptor)
    with page:
        return _time_chains(page)


def _time_chains(page: mmap.mmap) -> float:
    buffer = (ctypes.c_char * len(_CODE)).from_address(_address(page))
    chain = ctypes.CFUNCTYPE(None, ctypes.c_long)(ctypes.addressof(buffer))
    shortest, deadline = _time_one(chain), time.perf_counter() + _LISTEN_S
    while time.perf_counter() < deadline:
        shortest = min(shortest, _time_one(chain))
    return _ADDS * _REPEATS / shortest / 1e6


def _time_one(chain: Callable[[int], None]) -> float:
    begin = time.perf_counter()
    chain(_REPEATS)
    return time.perf_counter() - begin


def _address(page: mmap.mmap) -> int:
    """Where the mapping lies; Python's buffer protocol gives it for a read-only buffer only through numpy."""
    import numpy as np

    return int(np.frombuffer(page, dtype=np.uint8).ctypes.data)
