"""Measures a processor's clock, and whether its cores are independent: native loops timed from outside.

*Clock.* A guest reports a fixed clock or none, and real work can exceed a nominal computed from it. An add
that needs the previous sum can't start before it, so a chain of n adds takes n cycles on every current x86-64
core.

*Independence.* The cores of a guest may be two threads of one physical core, always or for a while, and
nothing the guest can read shows it. Independent multiplications fill the one multiplier of a core, so two
threads of one core do them at half speed and two cores at full speed.

Both loops are machine code: a loop in Python would measure the interpreter.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

# System V x86-64: n arrives in rdi; rax, rcx, rdx, r8 and r9 are free to use.
_ADD_RAX_RDX = b"\x48\x01\xd0"  # a register, not a constant: Golden Cove folds chains of add-immediate
_MULTIPLY = b"\x48\x0f\xaf\xc2\x48\x0f\xaf\xca\x4c\x0f\xaf\xc2\x4c\x0f\xaf\xca"  # imul {rax,rcx,r8,r9}, rdx
_DEC_RDI = b"\x48\xff\xcf"
_RET = b"\xc3"
_STEPS = 100  # adds, or multiplications, a turn of the loop

_REPEATS = 3000  # 300,000 cycles, some 0.1 ms: under a scheduler's slice, 1,000 times the timer's step
_LISTEN_S = 0.06  # some 500 chains: an idle core needs tens of milliseconds to reach its highest clock
_PARALLEL_REPEATS = 30_000  # some 1 ms, so that threads that start some microseconds apart overlap
_PARALLEL_TRIES = 9

_Loop = Callable[[int], None]


def measure_mhz() -> float | None:
    """Return the highest clock, in MHz, of some 500 short chains on one core.

    None except on x86-64 Linux, and where the system forbids executable memory.
    """
    # The highest: every disturbance (interrupts, steal, a clock still rising) makes a chain take longer.
    try:
        with _native_loop(_ADD_RAX_RDX * _STEPS) as chain:
            return _STEPS * _REPEATS / _shortest_s(chain) / 1e6
    except OSError:
        return None


def measure_parallel_speed(threads: int) -> float | None:
    """Return multiplications per cycle of each core while `threads` cores work at once; takes some 15 ms.

    About 1 where each core is ours alone, about 0.5 where it is shared with another thread; at most 1. None
    for fewer than two threads, and where `measure_mhz` gives None.
    """
    # A cycle is the time of one dependent add, which another thread of the same core doesn't slow.
    if threads < 2:
        return None
    try:
        with _native_loop(_MULTIPLY * (_STEPS // 4)) as loop, _native_loop(_ADD_RAX_RDX * _STEPS) as chain:
            # In parallel first: a host that put two busy cores on one separates them when one is idle.
            parallel_s = median(_slowest_s(loop, threads) for _ in range(_PARALLEL_TRIES))
            single_s = min(_time(chain, _PARALLEL_REPEATS) for _ in range(_PARALLEL_TRIES))
            return min(single_s / parallel_s, 1.0)
    except OSError:
        return None


def _shortest_s(chain: _Loop) -> float:
    shortest, deadline = _time(chain, _REPEATS), time.perf_counter() + _LISTEN_S
    while time.perf_counter() < deadline:
        shortest = min(shortest, _time(chain, _REPEATS))
    return shortest


def _slowest_s(loop: _Loop, threads: int) -> float:
    """Seconds of the slowest of `threads` threads that run the loop at once."""
    barrier, spent_s = threading.Barrier(threads), [0.0] * threads

    def work(index: int) -> None:
        barrier.wait()
        spent_s[index] = _time(loop, _PARALLEL_REPEATS)  # a ctypes call releases the interpreter's lock

    workers = [threading.Thread(target=work, args=(index,)) for index in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return max(spent_s)


def _time(loop: _Loop, repeats: int) -> float:
    begin = time.perf_counter()
    loop(repeats)
    return time.perf_counter() - begin


def _loop_code(body: bytes) -> bytes:
    """Machine code of f(n), which runs `body` n times."""
    back = -(len(body) + len(_DEC_RDI) + 6)  # from the end of the jump to the start of the body
    return body + _DEC_RDI + b"\x0f\x85" + back.to_bytes(4, "little", signed=True) + _RET


@contextmanager
def _native_loop(body: bytes) -> Iterator[_Loop]:
    """Yield f(n), which runs the machine code `body` n times. Raises OSError where that isn't possible."""
    if platform.machine() not in ("x86_64", "AMD64") or not hasattr(os, "memfd_create"):
        raise OSError("machine code for x86-64 Linux only")
    code = _loop_code(body)
    # A memory file mapped read-and-execute: hardened hosts refuse pages that are writable and executable.
    descriptor = os.memfd_create("nameplate-clock")
    try:
        os.write(descriptor, code)
        page = mmap.mmap(descriptor, len(code), mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_EXEC)
    finally:
        os.close(descriptor)
    with page:
        yield ctypes.CFUNCTYPE(None, ctypes.c_long)(_address(page))


def _address(page: mmap.mmap) -> int:
    """The address of the mapping; for a read-only buffer Python gives it only through numpy."""
    import numpy as np

    return int(np.frombuffer(page, dtype=np.uint8).ctypes.data)
