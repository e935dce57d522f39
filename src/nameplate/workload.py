"""The protocols that a workload implements. The harness never imports a package of workloads.

`nameplate_kernels.workload` has the same names; any other package's workload only needs the same attributes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch

Launch = Callable[[], object]


class CheckResult(Protocol):
    """How far a result was from its reference."""

    @property
    def reference(self) -> str:
        """Dtype of the reference."""

    @property
    def error(self) -> float:
        """Largest deviation ÷ the bound that rounding explains; not finite where the result isn't."""

    @property
    def rule(self) -> str:
        """The bound, as text."""

    @property
    def passed(self) -> bool:
        """Whether rounding explains the whole deviation."""


class Stage(Protocol):
    """One part of a launch, forward or backward, to be called after those before it.

    A `Prepared` may have a method `stages` that returns all of a launch, in order.
    """

    @property
    def name(self) -> str:
        """The part, the same forward and backward."""

    @property
    def is_backward(self) -> bool:
        """Whether it is the part's backward pass."""

    @property
    def launch(self) -> Launch:
        """The call that does it."""


class Prepared(Protocol):
    """A workload, allocated and filled. Its launchers do the launch and nothing else."""

    @property
    def launches(self) -> Sequence[Launch]:
        """One launcher per buffer set."""

    def numerics(self) -> AbstractContextManager[None]:
        """Set the process-wide precision for launches, reference and check; restore it on exit."""

    def compute_reference(self) -> None:
        """Compute what `check` needs, outside any timing."""

    def check(self) -> CheckResult:
        """Compare the latest results with the reference."""

    def digest(self) -> str | None:
        """Return a digest of all bits of the latest results, in one pass over them.

        None where the library doesn't promise the same bits for the same inputs.
        """


class Workload(Protocol):
    """A declaration of shapes, FLOPs and bytes, which prepares the workload it declares."""

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
        """All parameters of the shape, by name."""

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
        """The model whose layer this is, or None."""

    @property
    def resident_bytes(self) -> int:
        """Memory one prepared copy holds, reference included."""

    def unsupported(self, device: torch.device) -> str | None:
        """Return why it can't run on the device, or None."""

    def pilots(self) -> Sequence[Workload]:
        """Return much smaller workloads of its kind, smallest first; none where it can be tried directly."""

    def prepare(self, device: torch.device, *, fill: str, seed: int, copies: int = 1) -> Prepared:
        """Allocate and fill `copies` buffer sets."""


class SearchBuffers(Protocol):
    """What a search launches on: allocated once for all points of its grid."""

    def numerics(self) -> AbstractContextManager[None]:
        """Set the process-wide precision for launches; restore it on exit."""

    def launcher(self, workload: Workload) -> Launch:
        """Return the launch of the workload at one point."""


@runtime_checkable
class SearchedWorkload(Protocol):
    """A workload that stands for the fastest of many, which a search finds before anything is measured."""

    @property
    def axes(self) -> Mapping[str, Sequence[int | str]]:
        """The values of each axis of the grid, by name."""

    @property
    def resident_bytes(self) -> int:
        """Memory that `allocate` takes."""

    @property
    def exhaustive(self) -> bool:
        """Whether every point is to be timed."""

    def at(self, point: Mapping[str, int | str]) -> Workload:
        """Return the workload at a point; its name, dtype and shape are those of this one."""

    def allocate(self, device: torch.device, *, fill: str, seed: int) -> SearchBuffers:
        """Allocate and fill what every point can be launched on."""
