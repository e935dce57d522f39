"""Memory bandwidth: STREAM's copy, scale, add and triad, a read, a write, a strided copy, and the link to
the host.

Bytes are counted as in STREAM: those that the program reads and writes (McCalpin, Memory bandwidth and
machine balance in current high performance computers, IEEE TCCA Newsletter, 1995;
www.cs.virginia.edu/stream). A cache that reads a line before it is overwritten (write-allocate) moves more
bytes, which aren't counted; nor is the rest of a line of which a strided copy reads one element. A copy to or
from the host counts each byte once: it passes the link once.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from nameplate_kernels.digest import WEIGHT_BYTES, digest_of
from nameplate_kernels.numerics import (
    FP64_ROUNDOFF,
    check_fill,
    find_largest_ratio,
    make_filled,
    make_generator,
    precision_of,
)
from nameplate_kernels.workload import CheckResult, Prepared, Workload

SCALAR = 3.0
"""The s of the triad a = b + s·c, as in STREAM."""


@dataclass(frozen=True)
class _Kind:
    """`sources` arrays are read; `moved` is the bytes counted, in arrays."""

    sources: int
    moved: int


KINDS: Mapping[str, _Kind] = {
    "copy": _Kind(1, 2),
    "scale": _Kind(1, 2),
    "add": _Kind(2, 3),
    "triad": _Kind(2, 3),
    "read": _Kind(1, 1),
    "write": _Kind(0, 1),
    "strided": _Kind(1, 2),
    "h2d": _Kind(1, 1),
    "d2h": _Kind(1, 1),
}
"""What is measured. `strided` copies the first element of every `LINE_BYTES`; h2d and d2h pass the host's
link.
"""

LINE_BYTES = 64
"""The distance of a strided copy's elements: a line of the caches of nearly every CPU, two sectors of a
GPU's.
"""

HOST_KINDS = ("h2d", "d2h")
HOST_LINK = "host link"
"""The level whose bandwidth a copy to or from the host is."""

# On a CPU, chunks too small for torch to split over threads: thousands of short threaded steps would become
# very slow while another process holds a core. On a GPU, chunks large enough to fill it.
_CHUNK_ELEMENTS = {"cpu": 2**15}
_CHUNK_ELSEWHERE = 2**24
_MEBIBYTE = 2**20
_BLOCK_ELEMENTS = 1 << 20  # that are random; see `_make_source`
_DIRECT_MEBIBYTES = 64
_PILOT_MEBIBYTES = (16, 128, 1024)


@dataclass(frozen=True)
class Memory(Workload):
    """A kind of `KINDS`; each array is one-dimensional and `mebibytes` MiB long.

    copy: a = b; scale: a = 3·b; add: a = b + c; triad: a = b + 3·c; read: the largest element of b; write:
    a = 3; strided: a = one element of each line of b; h2d and d2h: a copy from and to pinned memory of the
    host. A read may go over its array `passes` times in one launch, so that an array in `level`, a cache,
    isn't over as soon as it has begun. None has a FLOP count: memory limits them, and a triad's few FLOPs ÷
    a rating in FLOPS would be mistaken for an efficiency. Raises ValueError for an unknown kind or dtype, a
    size below 1, and passes of what isn't read.
    """

    kind: str
    dtype: str
    mebibytes: int
    passes: int = 1
    level: str | None = None  # the cache that the array is to lie in; None: none

    name = "memory"
    flops = None  # its figure is a bandwidth
    convention = None

    def __post_init__(self) -> None:
        precision_of(self.dtype)
        if self.kind not in KINDS:
            raise ValueError(f"memory: unknown kind {self.kind!r}; expected one of {', '.join(KINDS)}")
        if self.mebibytes < 1 or self.passes < 1:
            raise ValueError(f"memory: mebibytes must be at least 1, got {min(self.mebibytes, self.passes)}")
        if self.passes > 1 and self.kind != "read":
            raise ValueError(f"memory: only a read has passes, got {self.kind!r}")

    @property
    def shape(self) -> str:
        """Kind, size of one array, and passes: `copy-256MiB`, `read-16MiBx64`."""
        return f"{self.kind}-{self.mebibytes}MiB" + (f"x{self.passes}" if self.passes > 1 else "")

    @property
    def dimensions(self) -> Mapping[str, int | str]:
        """The kind, MiB of one array, its elements; passes and level where there are some."""
        found: dict[str, int | str] = {
            "kind": self.kind,
            "mebibytes": self.mebibytes,
            "elements": self.elements,
        }
        if self.passes > 1:
            found["passes"] = self.passes
        level = HOST_LINK if self.crosses_host_link else self.level
        return found if level is None else {**found, "level": level}

    @property
    def crosses_host_link(self) -> bool:
        """Whether the bytes go between host and device."""
        return self.kind in HOST_KINDS

    @property
    def elements(self) -> int:
        """Elements of one array."""
        return self.mebibytes * _MEBIBYTE // precision_of(self.dtype).itemsize

    @property
    def target_elements(self) -> int:
        """Elements that are written: one a pass by a read, one a line by a strided copy."""
        if self.kind == "read":
            return self.passes
        return self.elements // self.stride if self.kind == "strided" else self.elements

    @property
    def stride(self) -> int:
        """Elements from one line to the next."""
        return LINE_BYTES // precision_of(self.dtype).itemsize

    @property
    def bytes(self) -> int:
        """Each array once a pass; of a strided copy the elements that it reads and writes."""
        if self.kind == "strided":
            return 2 * self.target_elements * precision_of(self.dtype).itemsize
        return KINDS[self.kind].moved * self.passes * self.mebibytes * _MEBIBYTE

    @property
    def resident_bytes(self) -> int:
        """The arrays, one chunk of each for the check's conversions to fp64, and the weights of a digest. The
        products of a digest take less than the check, at another time.
        """
        elements = KINDS[self.kind].sources * self.elements + self.target_elements
        arrays = elements * precision_of(self.dtype).itemsize
        return arrays + 6 * 8 * min(self.elements, _CHUNK_ELSEWHERE) + WEIGHT_BYTES

    def unsupported(self, device: torch.device) -> str | None:
        """Return a reason for tf32, which is no storage format, and for a link that a CPU doesn't have; None
        otherwise.
        """
        if self.dtype == "tf32":
            return "tf32 is a mode of matrix products; memory holds it as fp32"
        if self.crosses_host_link and device.type == "cpu":
            return "a CPU has no link to a host"
        return None

    def pilots(self) -> tuple[Memory, ...]:
        """Return the same with 16, 128 and 1024 MiB an array, up to a quarter of this one's; none up to 64
        MiB an array, which can be tried directly.
        """
        if self.mebibytes <= _DIRECT_MEBIBYTES:
            return ()
        return tuple(
            dataclasses.replace(self, mebibytes=size)
            for size in _PILOT_MEBIBYTES
            if 4 * size <= self.mebibytes
        )

    def prepare(self, device: torch.device, *, fill: str, seed: int, copies: int = 1) -> PreparedMemory:
        """Allocate `copies` sets of arrays; the contents of the n-th don't depend on their number.

        Raises ValueError for an unknown fill.
        """
        check_fill(fill)
        generator = make_generator(device, seed)
        return PreparedMemory(self, [self._arrays(fill, generator) for _ in range(copies)], seed)

    def _arrays(self, fill: str, generator: torch.Generator) -> Arrays:
        storage, device = precision_of(self.dtype).storage, generator.device
        sources = [self._make_source(fill, generator) for _ in range(KINDS[self.kind].sources)]
        # No source holds infinity, so infinity marks a target that was never written.
        target = torch.full((self.target_elements,), math.inf, dtype=storage, device=device)
        if self.kind == "h2d":
            sources = [_on_host(each) for each in sources]
        if self.kind == "d2h":
            target = _on_host(target)
        if self.kind == "strided":
            sources = [each[:: self.stride] for each in sources]
        return Arrays(self.kind, target, tuple(sources))

    def _make_source(self, fill: str, generator: torch.Generator) -> torch.Tensor:
        """Return a filled array: a block of random numbers, and each later block the same turned by one more.

        Random numbers for a whole array take a CPU longer than all its timed launches in a short run, and
        each process of the run fills its own. No two blocks agree in place, so a copy of the wrong one is
        seen.
        """
        block = make_filled((min(self.elements, _BLOCK_ELEMENTS),), self.dtype, fill, generator)
        array = torch.empty(self.elements, dtype=block.dtype, device=block.device)
        for number, part in enumerate(torch.split(array, block.numel())):
            part.copy_(block.roll(number)[: part.numel()])
        return array


def _on_host(tensor: torch.Tensor) -> torch.Tensor:
    """Return a copy in the host's memory; pinned, so that the device copies by itself, where there is one."""
    is_other = tensor.device.type != "cpu"
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=is_other).copy_(tensor)


@dataclass(frozen=True)
class Arrays:
    """The arrays of one launcher: `target` is a, `sources` are b and, for an add or a triad, c."""

    kind: str
    target: torch.Tensor
    sources: tuple[torch.Tensor, ...]

    @property
    def launched(self) -> bool:
        """Whether anything was written to the target since it was allocated."""
        return not bool((self.target == math.inf).all())

    @property
    def launcher(self) -> Callable[[], object]:
        """The one call of torch that does the work."""
        target = self.target
        match self.kind:
            case "scale":
                multiply: Any = torch.mul  # its declared overloads with `out` lack a plain number
                return partial(multiply, *self.sources, SCALAR, out=target)
            case "add":
                return partial(torch.add, *self.sources, out=target)
            case "triad":
                return partial(torch.add, *self.sources, alpha=SCALAR, out=target)
            case "read":
                return self._make_read()
            case "write":
                return partial(target.fill_, SCALAR)
            case _:
                return partial(target.copy_, self.sources[0], non_blocking=True)

    def _make_read(self) -> Callable[[], object]:
        """The largest element: of one array, or of the same one as often as there are passes."""
        (source,) = self.sources
        if self.target.numel() == 1:
            return partial(torch.amax, source, dim=0, out=self.target[0])
        return partial(torch.amax, source.expand(self.target.numel(), -1), dim=1, out=self.target)

    def deviation(self, roundoff: float) -> float:
        """Return the largest error of the target as a fraction of its bound, over the whole array."""
        if self.kind == "read":
            (source,) = self.sources
            largest = torch.stack([each.amax() for each in _chunks(source)]).amax()
            return 0.0 if bool((self.target == largest).all()) else math.inf
        if self.kind == "write":
            return 0.0 if bool((self.target == SCALAR).all()) else math.inf
        measure = _DEVIATIONS.get(self.kind, _copy_deviation)
        chunks = zip(*(_chunks(each) for each in (self.target, *self.sources)), strict=True)
        return max(measure(roundoff, *each) for each in chunks)


def _chunks(tensor: torch.Tensor) -> Sequence[torch.Tensor]:
    elements = _CHUNK_ELEMENTS.get(tensor.device.type, _CHUNK_ELSEWHERE)
    return torch.tensor_split(tensor, math.ceil(tensor.numel() / elements))


def _copy_deviation(_roundoff: float, target: torch.Tensor, source: torch.Tensor) -> float:
    return 0.0 if torch.equal(target, source.to(target.device)) else math.inf


def _scale_deviation(roundoff: float, target: torch.Tensor, b: torch.Tensor) -> float:
    exact = SCALAR * b.double()
    return find_largest_ratio(target.double() - exact, (roundoff + FP64_ROUNDOFF) * exact.abs())


def _add_deviation(roundoff: float, target: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> float:
    exact = b.double() + c.double()
    return find_largest_ratio(target.double() - exact, (roundoff + FP64_ROUNDOFF) * exact.abs())


def _triad_deviation(roundoff: float, target: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> float:
    scaled = SCALAR * c.double()
    exact = b.double() + scaled
    # Product and sum are each rounded once; the reference is rounded in the same two places.
    bound = (roundoff * (1 + roundoff) + FP64_ROUNDOFF) * (scaled.abs() + exact.abs())
    return find_largest_ratio(target.double() - exact, bound)


_DEVIATIONS: Mapping[str, Callable[..., float]] = {
    "scale": _scale_deviation,
    "add": _add_deviation,
    "triad": _triad_deviation,
}
_RULES = {
    "scale": "|â−a| ≤ u·|a|, every element",
    "add": "|â−a| ≤ u·|a|, every element",
    "triad": "|â−a| ≤ u·(|s·c| + |a|), every element",
}


def check_arrays(kind: str, arrays: Sequence[Arrays], dtype: str) -> CheckResult:
    """Compare every element of each that was launched, as `Prepared.check` says."""
    roundoff = precision_of(dtype).result_roundoff
    errors = [each.deviation(roundoff) for each in arrays if each.launched]
    error = max(errors, default=math.inf)
    if kind not in _DEVIATIONS:
        return CheckResult(reference="exact", error=error, rule="every element equal")
    return CheckResult(reference="fp64", error=error, rule=_RULES[kind])


class PreparedMemory(Prepared):
    """Arrays in memory. The sources are the reference."""

    workload: Memory
    buffers: tuple[Arrays, ...]

    def compute_reference(self) -> None:
        """Do nothing: the sources are the reference."""

    def check(self) -> CheckResult:
        """Compare every element of each copy that was launched, as `Prepared.check` says."""
        return check_arrays(self.workload.kind, self.buffers, self.workload.dtype)

    def digest(self) -> str:
        """Return a digest of the first copy's target. Each element depends on its own sources alone, so no
        order of summation can change its bits.
        """
        return digest_of(self.buffers[0].target)
