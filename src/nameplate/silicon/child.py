"""Runs one loop's machine code in a process of its own; started by `measure.py` as a bare file.

    python -I -S child.py PARENT SIGNAL

It loads nothing but the standard library, so a dozen of them start in a few hundredths of a second. An
instruction that this machine lacks, or a loop that hangs, ends this process and no other. It reads requests
from standard input, a line of JSON each, and answers each with a line on standard output:

    {"load": {"code": "4c8b07…", "operands": "fp32", "tiles": false}}
            →  {"loaded": true} or {"refused": "Permission denied", "call": "mmap"}
    {"run": {"cpus": [0, 2], "turns": 9000, "chain": 800, "rounds": 25}}
            →  {"hz": 2595000000.0, "stamps": [[begin, between, end, begin, …], …], "busy": [1.0, 0.7]}
    {"time": {"cpu": 0, "turns": 1000, "chain": 100}}  →  {"loop_s": 0.0001, "chain_s": 0.00001}

The stamps are ticks of the processor's counter (time stamp counter, virtual counter), taken by the machine
code itself; `hz` is its rate by the host's clock. `busy` is the share of the time that each thread had its
CPU.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import struct
import sys
import threading
import time
from typing import Any

_PAGE = 4096
_READ, _WRITE, _EXECUTE = 1, 2, 4  # mmap(2)
_SHARED, _PRIVATE, _ANONYMOUS = 1, 2, 0x20
_PR_SET_PDEATHSIG = 1
# Linux on x86: Documentation/arch/x86/xstate.rst
_SYS_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XTILEDATA = 158, 0x1023, 18
# The block that a loop is given (scripts/loops/x86_64.s has its layout).
_TILES, _A, _B, _BLOCK = 64, 128, 1152, 2176
_OPERAND = 1024
_RESULTS = 4096
_STAMPS = 3  # a round
_TRIES = 20


class Loop:
    """A loop's machine code in memory that can be executed, and the operands it works on."""

    def __init__(self, code: bytes, operands: str, tiles: bool = False) -> None:
        """Map it. Raises OSError where the system refuses, the call that failed as its file name."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.mmap.restype = ctypes.c_void_p
        self._libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
        if tiles:
            self._ask_for_tiles()
        self._function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self._map_code(code))
        self._operands = make_operands(operands)
        self._tiles = make_tile_configuration() if tiles else b""

    def run(self, turns: int, chain: int, rounds: int, start: int = 0) -> tuple[list[int], bytes]:
        """Run it in this thread from the counter's tick `start` on; return stamps and accumulators."""
        stamps = (ctypes.c_uint64 * (_STAMPS * rounds))()
        results = (ctypes.c_ubyte * _RESULTS)()
        # Aligned to a cache line: AMX reads its configuration and its tiles as whole lines.
        room = (ctypes.c_ubyte * (_BLOCK + 64))()
        address = (ctypes.addressof(room) + 63) // 64 * 64
        header = struct.pack(
            "<6Q", start, rounds, turns, chain, ctypes.addressof(stamps), ctypes.addressof(results)
        )
        for offset, part in ((0, header), (_TILES, self._tiles), (_A, self._operands), (_B, self._operands)):
            ctypes.memmove(address + offset, part, len(part))
        self._function(address)
        return list(stamps), bytes(results)

    def run_on(self, cpus: list[int], turns: int, chain: int, rounds: int) -> dict[str, list[Any]]:
        """Run it on these CPUs at once, a thread each that starts at the same tick.

        Returns their stamps, and the share of the time that each had its CPU.
        """
        hz = self.counter_hz(self.read_clocks(), 0.001)
        # Threads start within a tenth of a millisecond each; until the tick they wait in the machine code.
        start = self.read_clocks()[0] + int(hz * (0.0005 + 0.0001 * len(cpus)))
        stamps: list[list[int]] = [[] for _ in cpus]
        busy = [0.0 for _ in cpus]

        def work(index: int) -> None:
            pin(cpus[index])
            begin_s, begin_cpu_s = time.perf_counter(), time.thread_time()
            stamps[index] = self.run(turns, chain, rounds, start)[0]
            busy[index] = (time.thread_time() - begin_cpu_s) / (time.perf_counter() - begin_s)

        threads = [threading.Thread(target=work, args=(index,)) for index in range(1, len(cpus))]
        for each in threads:
            each.start()
        work(0)
        for each in threads:
            each.join()
        return {"stamps": stamps, "busy": busy}

    def read_clocks(self) -> tuple[int, float]:
        """Return the counter and, in seconds, the host's clock at the same moment."""
        spans = []
        for _ in range(_TRIES):
            before = time.perf_counter()
            stamps, _results = self.run(1, 1, 1)
            after = time.perf_counter()
            spans.append((after - before, stamps[0], (before + after) / 2))
        _, ticks, at_s = min(spans)  # the others were interrupted in between
        return ticks, at_s

    def counter_hz(self, since: tuple[int, float], at_least_s: float = 0.0) -> float:
        """Return the counter's rate, from an earlier reading of both clocks until now or a little later."""
        left_s = since[1] + at_least_s - time.perf_counter()
        if left_s > 0:
            time.sleep(left_s)
        ticks, at_s = self.read_clocks()
        return (ticks - since[0]) / (at_s - since[1])

    def _ask_for_tiles(self) -> None:
        """Ask the kernel for AMX's tile registers: without, the first tile instruction is an illegal one."""
        if self._libc.syscall(_SYS_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XTILEDATA):
            raise _system_error("arch_prctl")

    def _map_code(self, code: bytes) -> int:
        # A memory file mapped read-and-execute: hardened hosts refuse pages that are writable and executable.
        if not hasattr(os, "memfd_create"):
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), "memfd_create")
        try:
            descriptor = os.memfd_create("nameplate-loop")
        except OSError as error:
            raise OSError(error.errno, error.strerror, "memfd_create") from None
        try:
            os.write(descriptor, code)
            length = -(-len(code) // _PAGE) * _PAGE
            address = self._libc.mmap(None, length, _READ | _EXECUTE, _SHARED, descriptor, 0)
        finally:
            os.close(descriptor)
        if address in (None, ctypes.c_void_p(-1).value):
            raise _system_error("mmap")
        return int(address)


def _system_error(call: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), call)


def pin(cpu: int) -> None:
    """Keep this thread on one CPU, where the system can; a CPU that has gone since is no error."""
    try:
        os.sched_setaffinity(0, {cpu})
    except (AttributeError, OSError):
        return


def make_operands(dtype: str) -> bytes:
    """Return 1 KiB of numbers in [-1, 1), int8 over its whole range: what multipliers see in real work."""
    state, raw = 2024, []
    for _ in range(_OPERAND):
        state = (state * 6364136223846793005 + 1442695040888963407) % (1 << 64)  # Knuth's MMIX
        raw.append(state >> 33)
    if dtype == "int8":
        return bytes(each & 0xFF for each in raw)
    numbers = [each / (1 << 30) - 1 for each in raw]
    if dtype == "bf16":  # the upper half of fp32
        return b"".join(struct.pack("<f", each)[2:] for each in numbers[: _OPERAND // 2])
    size, code = {"fp64": (8, "d"), "fp32": (4, "f"), "fp16": (2, "e")}[dtype]
    return struct.pack(f"<{_OPERAND // size}{code}", *numbers[: _OPERAND // size])


def make_tile_configuration() -> bytes:
    """Return LDTILECFG's 64 bytes: palette 1, eight tiles of 16 rows of 64 bytes."""
    return struct.pack("<2B14x8H16x8B8x", 1, 0, *[64] * 8, *[16] * 8)


def answer(loop: Loop, request: dict[str, dict[str, Any]]) -> dict[str, object]:
    """Answer one request to a loop that is loaded."""
    if "time" in request:
        asked = request["time"]
        pin(asked["cpu"])
        since = loop.read_clocks()
        (begin, between, end), _ = loop.run(asked["turns"], asked["chain"], 1)
        hz = loop.counter_hz(since, 0.001)
        return {"loop_s": (between - begin) / hz, "chain_s": (end - between) / hz}
    asked = request["run"]
    since = loop.read_clocks()
    found = loop.run_on(**asked)
    return {"hz": loop.counter_hz(since), **found}


def main() -> None:
    """Answer requests until the parent closes the pipe."""
    parent, death_signal = (int(argument) for argument in sys.argv[-2:])
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(ctypes.c_int(_PR_SET_PDEATHSIG), ctypes.c_ulong(death_signal))
    if os.getppid() != parent:
        return
    loop: Loop | None = None
    for line in sys.stdin:
        request = json.loads(line)
        if "load" in request:
            asked = request["load"]
            try:
                loop = Loop(bytes.fromhex(asked["code"]), asked["operands"], asked["tiles"])
                told: dict[str, object] = {"loaded": True}
            except OSError as error:
                told = {"refused": error.strerror, "call": error.filename}
        else:
            assert loop is not None
            told = answer(loop, request)
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
