"""Memory bandwidth: STREAM's copy and triad, over arrays that should be far larger than any cache.

Bytes are counted as in STREAM: those that the program reads and writes (McCalpin, Memory bandwidth and
machine balance in current high performance computers, IEEE TCCA Newsletter, 1995;
www.cs.virginia.edu/stream). A cache that reads a line before it is overwritten (write-allocate) moves more
bytes, which aren't counted.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

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

_ARRAYS = {"copy": 2, "triad": 3}
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
    """`copy`: a = b; `triad`: a = b + 3·c. Each array is one-dimensional and `mebibytes` MiB long.

    Copy moves 2 arrays, triad 3. Neither has a FLOP count: memory limits them, and a triad's few FLOPs ÷ a
    rating in FLOPS would be mistaken for an efficiency. Raises ValueError for an unknown kind or dtype, or a
    size below 1.
    """

    kind: str
    dtype: str
    mebibytes: int

    name = "memory"
    flops = None  # its figure is a bandwidth
    convention = None

    def __post_init__(self) -> None:
        precision_of(self.dtype)
        if self.kind not in _ARRAYS:
            raise ValueError(f"memory: unknown kind {self.kind!r}; expected one of {', '.join(_ARRAYS)}")
        if self.mebibytes < 1:
            raise ValueError(f"memory: mebibytes must be at least 1, got {self.mebibytes}")

    @property
    def shape(self) -> str:
        """Kind and size of one array: `copy-256MiB`."""
        return f"{self.kind}-{self.mebibytes}MiB"

    @property
    def dimensions(self) -> Mapping[str, int | str]:
        """The kind, MiB of one array, and its elements."""
        return {"kind": self.kind, "mebibytes": self.mebibytes, "elements": self.elements}

    @property
    def elements(self) -> int:
        """Elements of one array."""
        return self.mebibytes * _MEBIBYTE // precision_of(self.dtype).itemsize

    @property
    def bytes(self) -> int:
        """Each array once: two for a copy, three for a triad."""
        return _ARRAYS[self.kind] * self.mebibytes * _MEBIBYTE

    @property
    def resident_bytes(self) -> int:
        """The arrays, one chunk of each for the check's conversions to fp64, and the weights of a digest. The
        products of a digest take less than the check, at another time.
        """
        return self.bytes + 6 * 8 * min(self.elements, _CHUNK_ELSEWHERE) + WEIGHT_BYTES

    def unsupported(self, device: torch.device) -> str | None:
        """Return a reason for tf32, which is no storage format; None otherwise."""
        if self.dtype == "tf32":
            return "tf32 is a mode of matrix products; memory holds it as fp32"
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
        sources = [self._make_source(fill, generator) for _ in range(_ARRAYS[self.kind] - 1)]
        # No source holds infinity, so infinity marks a target that was never written.
        return Arrays(torch.full_like(sources[0], math.inf), tuple(sources))

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


@dataclass(frozen=True)
class Arrays:
    """The arrays of one launcher: `target` is a, `sources` are b and, for a triad, c."""

    target: torch.Tensor
    sources: tuple[torch.Tensor, ...]

    @property
    def launched(self) -> bool:
        """Whether anything was written to the target since it was allocated."""
        return not bool((self.target == math.inf).all())

    @property
    def launcher(self) -> Callable[[], object]:
        """The copy of one source, or the triad of two."""
        if len(self.sources) == 1:
            return partial(self.target.copy_, self.sources[0])
        return partial(torch.add, *self.sources, alpha=SCALAR, out=self.target)

    def deviation(self, roundoff: float) -> float:
        """Return the largest error of the target as a fraction of its bound, over the whole array."""
        chunks = zip(*(_chunks(each) for each in (self.target, *self.sources)), strict=True)
        measure = _copy_deviation if len(self.sources) == 1 else partial(_triad_deviation, roundoff)
        return max(measure(*each) for each in chunks)


def _chunks(tensor: torch.Tensor) -> Sequence[torch.Tensor]:
    elements = _CHUNK_ELEMENTS.get(tensor.device.type, _CHUNK_ELSEWHERE)
    return torch.tensor_split(tensor, math.ceil(tensor.numel() / elements))


def _copy_deviation(target: torch.Tensor, source: torch.Tensor) -> float:
    return 0.0 if torch.equal(target, source) else math.inf


def _triad_deviation(roundoff: float, target: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> float:
    scaled = SCALAR * c.double()
    exact = b.double() + scaled
    # Product and sum are each rounded once; the reference is rounded in the same two places.
    bound = (roundoff * (1 + roundoff) + FP64_ROUNDOFF) * (scaled.abs() + exact.abs())
    return find_largest_ratio(target.double() - exact, bound)


class PreparedMemory(Prepared):
    """Arrays in memory. The sources are the reference."""

    workload: Memory
    buffers: tuple[Arrays, ...]

    def compute_reference(self) -> None:
        """Do nothing: the sources are the reference."""

    def check(self) -> CheckResult:
        """Compare every element of each copy that was launched, as `Prepared.check` says."""
        roundoff = precision_of(self.workload.dtype).result_roundoff
        errors = [each.deviation(roundoff) for each in self.buffers if each.launched]
        error = max(errors, default=math.inf)
        if self.workload.kind == "copy":
            return CheckResult(reference="exact", error=error, rule="every element equal")
        return CheckResult(reference="fp64", error=error, rule="|â−a| ≤ u·(|s·c| + |a|), every element")

    def digest(self) -> str:
        """Return a digest of the first copy's target. Each element depends on its own sources alone, so no
        order of summation can change its bits.
        """
        return digest_of(self.buffers[0].target)
