"""Bandwidth of every level of memory: caches, main memory, and a GPU's link to its host."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from nameplate.suite import Case, Suite, Target
from nameplate_kernels import CACHE_KINDS, CacheMemory, Memory, find_instructions
from nameplate_suites.parts import memory

_KINDS = ("copy", "scale", "add", "triad", "read", "write", "strided")
_FIRST = "triad"  # of a CPU's levels each: what is measured before any other kind
# Bytes that a thread moves in a launch: some 5 to 10 ms of a fast core, so that the start of the threads,
# some 0.05 ms, is under a hundredth of it. Outer levels are slower.
_TRAFFIC_BYTES = {"L1d": 2**31, "L2": 2**30}
_TRAFFIC_ELSEWHERE = 2**29
_FILLED = 0.5  # of a level: the rest is left for what else a core keeps there
_LEAST_OVER_INNER = 2.0  # a working set of less than twice the level within could be there in good part
_ARRAYS = {"copy": 2, "scale": 2, "add": 3, "triad": 3, "read": 1, "write": 1}
_KIBIBYTE, _MEBIBYTE = 2**10, 2**20
# A GPU's read of L2: a quarter of it, so often that the start of the kernel is under a hundredth.
_L2_SHARE, _L2_PASSES = 0.25, 256


def _cases(target: Target) -> Iterator[Case]:
    if target.kind == "cpu":
        yield from _levels(target)
        return
    yield from memory(target, 1024, kinds=_KINDS, group="memory", weight=1.0)
    l2_bytes = target.caches_bytes.get("L2", 0)
    if l2_bytes:
        size = max(int(l2_bytes * _L2_SHARE) // _MEBIBYTE, 1)
        work = Memory("read", "fp32", size, passes=_L2_PASSES, level="L2")
        yield Case(work, group="L2", weight=1.0)
    for kind in ("h2d", "d2h"):
        yield Case(Memory(kind, "fp32", 256), cache="rotating", group="link", weight=1.0)


def _levels(target: Target) -> Iterator[Case]:
    """Yield one kind of every level of a CPU first, in one group: beside a busy neighbour a short budget may
    hold no more. Then a group for the other kinds of each level.
    """
    main = list(memory(target, 256, kinds=_KINDS, group="memory", weight=1.0))
    cases = [*main, *_caches(target)]
    first = [case for case in cases if case.workload.dimensions["kind"] == _FIRST]
    yield from (replace(case, group="levels") for case in first)
    yield from (case for case in cases if case not in first)


def _caches(target: Target) -> Iterator[Case]:
    """Yield a group for each level of a CPU's caches whose working set can't be in the level within it."""
    instructions = find_instructions() or "avx2"  # where there is none, each case is skipped with the reason
    threads, inner = max(int(target.cores), 1), 0
    for level, total in target.caches_bytes.items():
        of_thread = total // threads
        working_set = int(of_thread * _FILLED)
        if working_set < _LEAST_OVER_INNER * inner:
            continue
        for kind in CACHE_KINDS:
            size = max(working_set // _ARRAYS[kind] // _KIBIBYTE, 1)
            moved = _ARRAYS[kind] * size * _KIBIBYTE
            passes = max(_TRAFFIC_BYTES.get(level, _TRAFFIC_ELSEWHERE) // moved, 1) | 1
            work = CacheMemory(kind, level, size, threads, passes, instructions)
            yield Case(work, backend=instructions, group=level, weight=0.5)
        inner = of_thread


SUITE = Suite(
    "memory", "a minute: bandwidth of each cache, of main memory, of a GPU's link", 60.0, _cases, processes=3
)
