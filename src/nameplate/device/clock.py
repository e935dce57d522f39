"""A processor's clock and its cores' independence, measured: short native loops, timed from outside.

Guests report a fixed clock (or none), so a nominal taken from it can be beaten by real work. An add that
needs the sum before it can't start earlier, so a chain of n takes n cycles on every current x86-64 core.

A guest's cores may also be two threads of one physical core, or be put on one for a while, and nothing the
guest can read shows it. Multiplications that don't wait for each other fill a core's one multiplier, so two
threads of one core do them at half speed, and two cores at full speed.

Both loops must be native: in an interpreter the interpreter is what would be timed.
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
_TOGETHER_REPEATS = 30_000  # some 1 ms, so that threads a few microseconds apart overlap
_TOGETHER_TRIES = 9

_Loop = Callable[[int], None]


def measure_mhz() -> float | None:
    """Return the highest clock, in MHz, of some 500 short chains on one core, or None where it can't be had.

    The highest, because everything that disturbs a chain (interrupts, steal, a clock still rising) makes it
    longer. None on other than x86-64 Linux and where the system forbids executable memory.
    """
    try:
        with _native(_ADD_RAX_RDX * _STEPS) as chain:
            return _STEPS * _REPEATS / _shortest(chain) / 1e6
    except OSError:
        return None


def measure_parallel_speed(threads: int) -> float | None:
    """Multiplications that a core does a cycle while `threads` of them work, at most 1; some 15 ms.

    About 1 where each core is all ours, about 0.5 where it is shared with a thread of ours or a neighbour's.
    A cycle is what one of the dependent adds takes, which another thread of the core doesn't slow. The median
    of a few tries. None where it can't be had, and for fewer than two threads.
    """
    if threads < 2:
        return None
    try:
        with _native(_MULTIPLY * (_STEPS // 4)) as loop, _native(_ADD_RAX_RDX * _STEPS) as chain:
            # Side by side first: a host that has put two busy cores together parts them once one rests.
            together = median(_slowest(loop, threads) for _ in range(_TOGETHER_TRIES))
            cycles = min(_time(chain, _TOGETHER_REPEATS) for _ in range(_TOGETHER_TRIES))
            return min(cycles / together, 1.0)
    except OSError:
        return None


def _shortest(chain: _Loop) -> float:
    shortest, deadline = _time(chain, _REPEATS), time.perf_counter() + _LISTEN_S
    while time.perf_counter() < deadline:
        shortest = min(shortest, _time(chain, _REPEATS))
    return shortest


def _slowest(loop: _Loop, threads: int) -> float:
    """Seconds of the slowest of `threads` threads that run the loop at once."""
    barrier, taken = threading.Barrier(threads), [0.0] * threads

    def work(index: int) -> None:
        barrier.wait()
        taken[index] = _time(loop, _TOGETHER_REPEATS)  # a ctypes call lets the other threads run

    workers = [threading.Thread(target=work, args=(index,)) for index in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return max(taken)


def _time(loop: _Loop, repeats: int) -> float:
    begin = time.perf_counter()
    loop(repeats)
    return time.perf_counter() - begin


def _loop_code(body: bytes) -> bytes:
    """f(n): `body` n times, then return."""
    back = -(len(body) + len(_DEC_RDI) + 6)  # from the end of the jump to the start of the body
    return body + _DEC_RDI + b"\x0f\x85" + back.to_bytes(4, "little", signed=True) + _RET


@contextmanager
def _native(body: bytes) -> Iterator[_Loop]:
    """Yield f(n), which runs the machine code `body` n times. Raises OSError where that isn't to be had."""
    if platform.machine() not in ("x86_64", "AMD64") or not hasattr(os, "memfd_create"):
        raise OSError("machine code for x86-64 Linux only")
    code = _loop_code(body)
    # A memory file mapped read-and-execute: hardened hosts refuse pages both writable and executable.
    descriptor = os.memfd_create("nameplate-clock")
    try:
        os.write(descriptor, code)
        page = mmap.mmap(descriptor, len(code), mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_EXEC)
    finally:
        os.close(descriptor)
    with page:
        yield ctypes.CFUNCTYPE(None, ctypes.c_long)(_address(page))


def _address(page: mmap.mmap) -> int:
    """Where the mapping lies; Python's buffer protocol gives it for a read-only buffer only through numpy."""
    import numpy as np

    return int(np.frombuffer(page, dtype=np.uint8).ctypes.data)
