"""Bandwidth of a CPU's caches: loops of machine code that go over small arrays again and again.

One call of torch on arrays that fit a core's first cache is over in less time than the call takes, so a
launch is `passes` over the arrays of each thread, by one call of machine code a thread. The loops are
STREAM's four, a read and a write (`data/memory_loops.toml`); bytes are counted as in `memory`: those that
the program reads and writes, a pass after another.
"""

from __future__ import annotations

import builtins
import ctypes
import math
import mmap
import os
import platform
import tomllib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from nameplate_kernels.digest import WEIGHT_BYTES, digest_of
from nameplate_kernels.memory import KINDS, SCALAR, Arrays, check_arrays
from nameplate_kernels.numerics import check_fill, make_filled, make_generator
from nameplate_kernels.workload import CheckResult, Prepared, Workload

CACHE_KINDS = ("copy", "scale", "add", "triad", "read", "write")
"""The kinds that there are loops for."""

_KIBIBYTE = 1024
_ITEM_BYTES = 4  # the loops are of fp32
_LINE_ELEMENTS = 16  # a read leaves its result in a line's 16 words
# A load waits for an earlier store whose address has the same last 12 bits ("4K aliasing", Intel's
# optimization manual). So that no loop meets it, what is stored lies behind what is loaded next: a begins
# 256 bytes before the page of b does, and c a quarter of a page after.
_PAGE, _SOURCE_OFFSETS, _TARGET_OFFSET = 4096, (0, 1024), 4096 - 256
_CPUINFO = Path("/proc/cpuinfo")
_ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64"}


@cache
def _load_loops() -> Sequence[Mapping[str, Any]]:
    text = files("nameplate_kernels").joinpath("data/memory_loops.toml").read_text(encoding="utf-8")
    loops: Sequence[Mapping[str, Any]] = tomllib.loads(text)["loop"]
    return loops


def find_instructions(flags: frozenset[str] | None = None, architecture: str | None = None) -> str | None:
    """Return the widest instruction set that this CPU and the loops both have; None where there is none.

    `flags` are those of /proc/cpuinfo and `architecture` is platform.machine()'s word; by default this
    machine's.
    """
    flags = _read_flags() if flags is None else flags
    machine = (architecture or platform.machine()).casefold()
    machine = _ARCHITECTURES.get(machine, machine)
    fitting = [
        str(loop["set"])
        for loop in _load_loops()
        if loop["architecture"] == machine and flags.issuperset(loop["requires"])
    ]
    return fitting[-1] if fitting else None


def _read_flags() -> frozenset[str]:
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    found = (line.split(":", 1)[1] for line in lines if line.lower().startswith(("flags", "features")))
    return frozenset(next(found, "").split())


@dataclass(frozen=True)
class CacheMemory(Workload):
    """A kind of `CACHE_KINDS` over arrays of `kibibytes` KiB, its own for each of `threads`, `passes` times.

    `level` names the cache that they lie in, `instructions` the set of the loop (`avx2`, `avx512`, `neon`).
    A read XORs every word, which an even number of passes would cancel. Raises ValueError for an unknown
    kind, a size that isn't above 0, and an even number of passes.
    """

    kind: str
    level: str
    kibibytes: int
    threads: int
    passes: int
    instructions: str

    name = "memory"
    dtype = "fp32"
    flops = None
    convention = None

    def __post_init__(self) -> None:
        if self.kind not in CACHE_KINDS:
            raise ValueError(f"memory: unknown kind {self.kind!r}; expected one of {', '.join(CACHE_KINDS)}")
        if min(self.kibibytes, self.threads) < 1 or self.passes < 1 or self.passes % 2 == 0:
            got = f"{self.kibibytes} KiB, {self.threads} threads, {self.passes} passes"
            raise ValueError(f"memory: sizes of at least 1 and an odd number of passes, got {got}")

    @property
    def shape(self) -> str:
        """Kind, level, size of one array, and threads: `copy-L1d-8KiBx2`."""
        return f"{self.kind}-{self.level}-{self.kibibytes}KiBx{self.threads}"

    @property
    def dimensions(self) -> Mapping[str, int | str]:
        """Kind, level, KiB of a thread's array, threads, passes of a launch, and the loop's instruction
        set.
        """
        return {
            "kind": self.kind,
            "level": self.level,
            "kibibytes": self.kibibytes,
            "threads": self.threads,
            "passes": self.passes,
            "instructions": self.instructions,
        }

    @property
    def bytes(self) -> int:
        """Each array of each thread once a pass."""
        return KINDS[self.kind].moved * self.kibibytes * _KIBIBYTE * self.threads * self.passes

    @property
    def resident_bytes(self) -> int:
        """The arrays of every thread, and what the check converts to fp64."""
        elements = self.kibibytes * _KIBIBYTE // _ITEM_BYTES
        return self.threads * 3 * self.kibibytes * _KIBIBYTE + 6 * 8 * elements + WEIGHT_BYTES

    def find_code(self) -> builtins.bytes | None:
        """Return the loop's machine code; None where there is none of these instructions."""
        name = f"{self.kind}-{self.instructions}"
        found = next((loop["code"] for loop in _load_loops() if loop["name"] == name), None)
        return None if found is None else builtins.bytes.fromhex(found)

    def unsupported(self, device: torch.device) -> str | None:
        """Return why the loop can't run here, in one clause; None where it can."""
        if device.type != "cpu":
            return "the loops are of a CPU's machine code"
        if find_instructions() is None or self.find_code() is None:
            return "there are loops for x86-64 with AVX2 or AVX-512 and for Arm with NEON, on Linux"
        return None

    def prepare(self, device: torch.device, *, fill: str, seed: int, copies: int = 1) -> PreparedCacheMemory:
        """Allocate and fill `copies` sets of every thread's arrays, and map the loop.

        Raises ValueError for an unknown fill, OSError where the system refuses memory that can be executed.
        """
        check_fill(fill)
        code = self.find_code()
        assert code is not None  # `unsupported` says so
        loop, pool = MachineCode(code), ThreadPoolExecutor(max(self.threads - 1, 1))
        generator = make_generator(device, seed)
        sets = [
            TeamOfThreads(
                tuple(self._allocate(fill, generator) for _ in range(self.threads)), loop, pool, self.passes
            )
            for _ in range(copies)
        ]
        return PreparedCacheMemory(self, sets, seed)

    def _allocate(self, fill: str, generator: torch.Generator) -> Arrays:
        """One thread's arrays, at distances at which no load follows a store to the same place of another
        page.
        """
        elements = self.kibibytes * _KIBIBYTE // _ITEM_BYTES
        sources = []
        for offset in _SOURCE_OFFSETS[: KINDS[self.kind].sources]:
            source = _allocate_at(offset, elements)
            sources.append(source.copy_(make_filled((elements,), self.dtype, fill, generator)))
        target = _allocate_at(_TARGET_OFFSET, _LINE_ELEMENTS if self.kind == "read" else elements)
        return Arrays(self.kind, target.fill_(0.0 if self.kind == "read" else math.inf), tuple(sources))


def _allocate_at(offset: int, elements: int) -> torch.Tensor:
    """Return fp32 numbers that begin `offset` bytes, whole lines, after the beginning of a page."""
    room = torch.empty(elements + 2 * _PAGE // _ITEM_BYTES, dtype=torch.float32)
    start = (-room.data_ptr() % _PAGE + offset) // _ITEM_BYTES
    return room[start : start + elements]


class MachineCode:
    """Machine code in memory that can be executed. The interpreter's lock is free while it runs."""

    def __init__(self, code: bytes) -> None:
        """Map it. Raises OSError where the system refuses."""
        # A memory file mapped read-and-execute: hardened hosts refuse pages that are writable and executable.
        descriptor = os.memfd_create("nameplate-memory")
        try:
            os.write(descriptor, code)
            os.ftruncate(descriptor, mmap.PAGESIZE * math.ceil(len(code) / mmap.PAGESIZE))
            libc = ctypes.CDLL(None, use_errno=True)
            libc.mmap.restype = ctypes.c_void_p
            libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
            protection = mmap.PROT_READ | mmap.PROT_EXEC
            address = libc.mmap(None, len(code), protection, mmap.MAP_SHARED, descriptor, 0)
        finally:
            os.close(descriptor)
        if address in (None, ctypes.c_void_p(-1).value):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "mmap")
        pointers, counts = [ctypes.c_void_p] * 3, [ctypes.c_uint64] * 2
        self._function = ctypes.CFUNCTYPE(None, *pointers, *counts, ctypes.c_float)(address)

    def bind(self, arrays: Arrays, passes: int) -> Callable[[], object]:
        """Return a call of it that goes over these arrays so often."""
        target, sources = arrays.target.data_ptr(), [each.data_ptr() for each in arrays.sources]
        length = max(each.numel() for each in (arrays.target, *arrays.sources)) * _ITEM_BYTES
        first, second = (*sources, 0, 0)[:2]
        return partial(self._function, target, first, second, length, passes, SCALAR)


@dataclass(frozen=True)
class TeamOfThreads:
    """The arrays of one launcher: those of each thread."""

    arrays: tuple[Arrays, ...]
    loop: MachineCode
    pool: ThreadPoolExecutor
    passes: int

    @property
    def launched(self) -> bool:
        """Whether every thread has written its result since the arrays were allocated."""
        return all(
            bool((each.target != 0).any()) if each.kind == "read" else each.launched for each in self.arrays
        )

    @property
    def launcher(self) -> Callable[[], object]:
        """The passes of every thread, all at once; over when the last one is."""
        calls = [self.loop.bind(each, self.passes) for each in self.arrays]

        def launch() -> None:
            waiting = [self.pool.submit(call) for call in calls[1:]]
            calls[0]()
            for each in waiting:
                each.result()

        return launch


class PreparedCacheMemory(Prepared):
    """The arrays of every thread. The sources are the reference."""

    workload: CacheMemory
    buffers: tuple[TeamOfThreads, ...]

    def compute_reference(self) -> None:
        """Do nothing: the sources are the reference."""

    def check(self) -> CheckResult:
        """Compare every element of each set that was launched, as `Prepared.check` says; of a read the XOR of
        all words.
        """
        arrays = [arrays for each in self.buffers if each.launched for arrays in each.arrays]
        if self.workload.kind != "read":
            return check_arrays(self.workload.kind, arrays, self.workload.dtype)
        error = max((_read_deviation(each) for each in arrays), default=math.inf)
        return CheckResult(reference="exact", error=error, rule="the XOR of every word equal")

    def digest(self) -> str:
        """Return a digest of the targets of the first set."""
        return digest_of(*(each.target for each in self.buffers[0].arrays))


def _read_deviation(arrays: Arrays) -> float:
    (source,) = arrays.sources
    return 0.0 if _xor(source) == _xor(arrays.target) else math.inf


def _xor(tensor: torch.Tensor) -> int:
    import numpy as np

    return int(np.bitwise_xor.reduce(tensor.view(torch.int32).numpy()))
