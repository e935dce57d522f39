"""The contract of a measured workload: a declaration, a generator and launchers.

The *declaration* (`Workload`, frozen and cheap: it makes no tensor) states shapes, FLOPs and bytes; the
harness does every division. `Workload.prepare` is the *generator*: it allocates and fills. It returns a
`Prepared`, which holds the *launchers*: each does the launch and nothing else. `Prepared.check` compares the
result of the last launch with a reference of higher precision.

This package imports nothing of the harness. The harness knows it by a protocol of the same shape, so a third
party can write workloads without this module.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, TypeVar

import torch

from nameplate_kernels.numerics import HALVES, numerics, tf32_unsupported

Launch = Callable[[], object]


class _Sequences(Protocol):
    """A frozen dataclass that works on `batch` sequences of `tokens`."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def batch(self) -> int:
        """Sequences."""

    @property
    def tokens(self) -> int:
        """Tokens of each."""


_Work = TypeVar("_Work", bound=_Sequences)


def halve(work: _Work) -> _Work | None:
    """Return the same work on half the sequences, or with one of them on half its tokens; None below two."""
    if work.batch > 1:
        return replace(work, batch=work.batch // 2)
    return replace(work, tokens=work.tokens // 2) if work.tokens > 1 else None


@dataclass(frozen=True)
class CheckResult:
    """How far a result was from its reference, relative to the error that rounding allows.

    `error` is the largest ratio of a deviation to the bound of the same element, so a correct result has
    error ≤ 1 for every dtype and shape. NaN counts as infinite. `rule` states the bound in words.
    """

    reference: str  # dtype of the reference: "fp64" or "fp32", or "exact"
    error: float
    rule: str

    @property
    def passed(self) -> bool:
        """Whether rounding explains the whole deviation."""
        return math.isfinite(self.error) and self.error <= 1.0


class BufferSet(Protocol):
    """The tensors that one launcher works on."""

    @property
    def launcher(self) -> Launch:
        """The call that does the work once."""

    @property
    def launched(self) -> bool:
        """Whether the launcher has written a result since the tensors were allocated."""


class Prepared(ABC):
    """One workload, allocated, filled and ready to launch on one device.

    `launches` holds one launcher per buffer set, in the same order as `buffers`; a harness that wants cold
    caches cycles through them. Each launcher enqueues (on a GPU) or performs (on a CPU) the work once.
    """

    workload: Workload
    buffers: tuple[BufferSet, ...]

    def __init__(self, workload: Workload, buffers: Sequence[BufferSet], seed: int) -> None:
        self.workload = workload
        self.buffers = tuple(buffers)
        self.launches: Sequence[Launch] = [each.launcher for each in buffers]
        self._seed = seed
        self._references: list[Any] = []  # one per buffer set, from `compute_reference`

    def numerics(self) -> AbstractContextManager[None]:
        """Set torch's process-wide precision as this dtype needs it; restored on exit.

        Every launch, the reference and the check run inside it.
        """
        return numerics(self.workload.dtype, self.workload.reduction)

    @abstractmethod
    def compute_reference(self) -> None:
        """Compute what the check needs, in a higher precision. Costly; called once, outside any timing."""

    def _launched_with_references(self) -> Iterator[tuple[Any, Any]]:
        """Buffer sets that were launched, with their references. RuntimeError where these are missing."""
        if not self._references:
            raise RuntimeError(f"{self.workload.name}: check was called before compute_reference")
        pairs = zip(self.buffers, self._references, strict=True)
        return ((buffers, reference) for buffers, reference in pairs if buffers.launched)

    @abstractmethod
    def check(self) -> CheckResult:
        """Compare the latest output of every launcher that ran with its reference. Cheap.

        Without a launch the error is infinite. Raises RuntimeError where the reference is missing.
        """

    def digest(self) -> str | None:
        """Return a digest of every bit of the latest results; None (the default) where the library doesn't
        promise the same bits for the same inputs on the same part.

        Of several buffer sets it takes the first: every batch starts there, so every batch writes it, and its
        contents don't depend on the number of sets.
        """
        return None


class Workload(ABC):
    """A declaration of shapes, FLOPs and bytes. Implementations are frozen dataclasses."""

    dtype: str

    @property
    @abstractmethod
    def name(self) -> str:
        """First part of the case id: `matmul`, `transformer_block`, `memory`."""

    @property
    @abstractmethod
    def shape(self) -> str:
        """Third part of the case id, e.g. `1024x1024x1024`; no `/`, spaces or glob characters."""

    @property
    @abstractmethod
    def dimensions(self) -> Mapping[str, int | str]:
        """Every number and choice behind `shape`, by name."""

    @property
    @abstractmethod
    def flops(self) -> int | None:
        """Floating-point operations of one launch by `convention`; None for work without FLOPs."""

    @property
    @abstractmethod
    def bytes(self) -> int:
        """The least bytes one launch must move: each input read once, each output written once."""

    @property
    @abstractmethod
    def convention(self) -> str | None:
        """How the FLOPs are counted: `2MNK`, `megatron` (causal attention counted half), …"""

    @property
    def represents(self) -> str | None:
        """The model that has this layer at full width (`Llama-3-8B`); None for any other shape."""
        return None

    @property
    def reduction(self) -> str | None:
        """How a GPU may add the partial sums of a split product, one of `numerics.REDUCTIONS`: by default as
        torch does; None for a dtype that leaves no choice.
        """
        return "reduced" if self.dtype in HALVES else None

    @property
    def resident_bytes(self) -> int:
        """Memory of one prepared copy, reference and gradients included, to skip cases that don't fit."""
        return 2 * self.bytes

    def unsupported(self, device: torch.device) -> str | None:
        """Return why this can't run on `device`, in one clause; None when it can.

        By default: for tf32 where the device has none.
        """
        return tf32_unsupported(device) if self.dtype == "tf32" else None

    def pilots(self) -> Sequence[Workload]:
        """Return much smaller workloads of the same kind and dtype whose speed predicts this one's.

        Smallest first, each some eight times the work of the one before; none where this one is small enough
        to try directly. The harness tries them in this order while the time allows: on a GPU the smallest
        shows little but the latency of a launch, on a CPU a larger one may take too long.
        """
        return ()

    @abstractmethod
    def prepare(self, device: torch.device, *, fill: str, seed: int, copies: int = 1) -> Prepared:
        """Allocate `copies` independent buffer sets on `device` and fill them.

        `fill` is `normal`, `uniform` (−1 to 1), `integers` (−2 to 2) or `zeros`; the same seed gives the same
        bits. Raises ValueError for an unknown fill.
        """
