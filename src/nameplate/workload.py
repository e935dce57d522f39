"""What the harness asks of a workload, as a protocol: it never imports the package that implements one.

The words are those of `nameplate_kernels.workload`; a third party's workload needs only the same shape.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch

Launch = Callable[[], object]


class CheckResult(Protocol):
    """How far a result was from its reference; `error` is a fraction of what rounding explains."""

    @property
    def reference(self) -> str:
        """Dtype of the reference."""

    @property
    def error(self) -> float:
        """Largest deviation ÷ bound; NaN or infinity for a result that isn't finite."""

    @property
    def rule(self) -> str:
        """The bound in words."""

    @property
    def passed(self) -> bool:
        """Whether rounding explains the whole deviation."""


class Prepared(Protocol):
    """A workload, allocated and filled; its launchers hold the launch and nothing else."""

    @property
    def launches(self) -> Sequence[Launch]:
        """One launcher per buffer set."""

    def numerics(self) -> AbstractContextManager[None]:
        """Process-wide precision settings for every launch, reference and check; restored on exit."""

    def compute_reference(self) -> None:
        """Compute, outside any timing, what `check` needs."""

    def check(self) -> CheckResult:
        """Compare the latest results with the reference."""

    def digest(self) -> str | None:
        """A digest of every bit of the latest results, or None where the library doesn't promise that the
        same inputs give the same bits. Cheap: a pass over the results.
        """


class Workload(Protocol):
    """A declaration of shapes, FLOPs and bytes, and the generator behind it."""

    @property
    def name(self) -> str:
        """First part of the case id."""

    @property
    def dtype(self) -> str:
        """Number format."""

    @property
    def shape(self) -> str:
        """Third part of the case id."""

    @property
    def dimensions(self) -> Mapping[str, int | float | str]:
        """Every number and choice behind the shape."""

    @property
    def flops(self) -> int | None:
        """FLOPs of one launch by `convention`, or None."""

    @property
    def bytes(self) -> int:
        """Bytes one launch must move."""

    @property
    def convention(self) -> str | None:
        """How the FLOPs were counted."""

    @property
    def represents(self) -> str | None:
        """The model whose own layer this is, or None."""

    @property
    def resident_bytes(self) -> int:
        """Memory one prepared copy holds, reference included."""

    def unsupported(self, device: torch.device) -> str | None:
        """Why it can't run on the device, or None."""

    def pilot(self) -> Workload | None:
        """A much smaller one of its kind, or None when this one can be tried directly."""

    def prepare(self, device: torch.device, *, fill: str, seed: int, copies: int = 1) -> Prepared:
        """Allocate and fill `copies` buffer sets."""
