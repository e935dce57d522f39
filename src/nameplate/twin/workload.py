"""A workload prepared on a twin: its launches cost what they would on the card, its results are real.

No figure of a twin needs an 8192³ product to be computed. The launches are those of the workload as it is
declared, on tensors without contents, and give the kernels (`kernels.py`). What is *verified* is the smallest
of the workload's own pilots (a product of 256³, a block of an eighth of the width; a workload without pilots
itself), computed by the CPU with the same code, the same dtype and the same check. A card that corrupts
results corrupts these.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from nameplate.twin.accelerator import TwinAccelerator
from nameplate.twin.faults import Corrupts
from nameplate.twin.kernels import Kernel, KernelModel, Kernels
from nameplate.workload import CheckResult, Launch, Prepared, SearchedWorkload, Workload

if TYPE_CHECKING:
    import torch

# Passes over all of its bytes that a set-up makes besides its reference's arithmetic (fills, conversions,
# norms), and a check.
_SET_UP_PASSES, _CHECK_PASSES = 10, 4
_REFERENCE = "fp32"  # what the reference's arithmetic is taken to run at, even where it is fp64


@dataclass(frozen=True)
class TwinCheck:
    """A check of the smaller workload that the CPU computed; see `nameplate.workload.CheckResult`."""

    reference: str
    error: float
    rule: str
    passed: bool


class TwinStage(NamedTuple):
    """One part of a launch; see `nameplate.workload.Stage`."""

    name: str
    is_backward: bool
    launch: Launch


class _Launcher:
    """The launches of a prepared workload; apart from it, so that nothing holds it in a circle."""

    def __init__(self, accelerator: TwinAccelerator, model: KernelModel, declared: Launch) -> None:
        self._accelerator, self._model, self._declared = accelerator, model, declared
        self.kernels: Kernels | None = None  # None before the first launch

    def launch(self) -> None:
        """Launch once; the first time, find the kernels, with torch's settings of precision as they are."""
        if self.kernels is None:
            self.kernels = self._model.record(self._declared)
        if self.kernels.kernels:  # a part of a launch may only pass on what it was given
            self._accelerator.launch(self.kernels)


def kernels_of(launch: Launch) -> Kernels | None:
    """Return the kernels of a launch of a `TwinPrepared`; None for any other, and before it was launched."""
    owner = getattr(launch, "__self__", None)
    return owner.kernels if isinstance(owner, _Launcher) else None


class TwinSearchBuffers:
    """What a search launches on, on a twin: tensors without contents, and kernels that cost their time."""

    def __init__(
        self, workload: SearchedWorkload, accelerator: TwinAccelerator, *, fill: str, seed: int
    ) -> None:
        """Allocate on the card. Raises what the workload's `allocate` raises."""
        import torch
        from torch._subclasses.fake_tensor import FakeTensorMode

        self._accelerator = accelerator
        memory = workload.resident_bytes
        weakref.finalize(self, accelerator.free, memory, accelerator.allocate(memory))
        with FakeTensorMode():
            self._declared = workload.allocate(torch.device("cpu"), fill=fill, seed=seed)
        self._model = KernelModel(accelerator.card, fill, cold=True)  # the case itself is measured so, too

    def numerics(self) -> AbstractContextManager[None]:
        """Set the process-wide precision for launches."""
        return self._declared.numerics()

    def launcher(self, workload: Workload) -> Launch:
        """Return the launch of the workload at one point."""
        kernels = self._model.record(self._declared.launcher(workload))
        return lambda: self._accelerator.launch(kernels)


class TwinPrepared:
    """A prepared workload of a twin; see `nameplate.workload.Prepared`."""

    def __init__(
        self, workload: Workload, accelerator: TwinAccelerator, *, fill: str, seed: int, copies: int
    ) -> None:
        """Allocate on the card, and prepare what is verified. Raises what the workload's `prepare` raises."""
        import torch
        from torch._subclasses.fake_tensor import FakeTensorMode

        self._accelerator, self._workload = accelerator, workload
        memory = workload.resident_bytes * copies
        weakref.finalize(self, accelerator.free, memory, accelerator.allocate(memory))
        computed: Workload = next(iter(workload.pilots()), workload)
        self._shape = computed.shape
        self._real: Prepared = computed.prepare(torch.device("cpu"), fill=fill, seed=seed)
        self._outdated = True  # whether something was launched since the CPU computed it
        self._corrupted = False
        self._digest: str | None = None
        with FakeTensorMode():
            declared = workload.prepare(torch.device("cpu"), fill=fill, seed=seed)
        l2_bytes = accelerator.card.identity.l2_mib.value * 2**20
        self._declared = declared
        # What goes over its operands again and again finds them in L2, however much it moves in all.
        reread = getattr(workload, "passes", 1) > 1
        model = KernelModel(
            accelerator.card,
            fill,
            cold=copies > 1 or (workload.bytes > l2_bytes and not reread),
            over_host_link=getattr(workload, "crosses_host_link", False),
        )
        self._model, self._launcher = model, _Launcher(accelerator, model, declared.launches[0])
        self.launches: Sequence[Launch] = [self._launcher.launch] * copies
        self._pass_over(copies * _SET_UP_PASSES)

    def stages(self) -> list[TwinStage]:
        """Return the parts of a launch, where the workload has any."""
        declared: Sequence[Any] = getattr(self._declared, "stages", list)()
        return [
            TwinStage(
                each.name,
                each.is_backward,
                _Launcher(self._accelerator, self._model, each.launch).launch,
            )
            for each in declared
        ]

    def numerics(self) -> AbstractContextManager[None]:
        """Set the process-wide precision for launches, reference and check."""
        return self._real.numerics()

    def compute_reference(self) -> None:
        """Compute what the check needs, and let the card take the time of a reference at full size."""
        self._real.compute_reference()
        flops = self._workload.flops
        if flops:
            seconds = flops / self._accelerator.card.peak_flops(_REFERENCE)
            self._run([Kernel("twin_reference", 0.0, seconds)])

    def check(self) -> CheckResult:
        """Compare what the CPU computes now with its reference."""
        self._outdated = True
        self._compute()
        self._pass_over(_CHECK_PASSES)
        found = self._real.check()
        rule = f"{found.rule}; of {self._shape}, computed on a CPU"
        return TwinCheck(found.reference, found.error, rule, found.passed)

    def digest(self) -> str | None:
        """Return a digest of what the CPU computed."""
        if self._compute():
            self._digest = self._real.digest()
        self._pass_over(1)
        return self._digest

    def _compute(self) -> bool:
        """Have the CPU compute the results, where they may differ from the last ones; return whether it did.

        Every launch computes the same from the same bits, so that is where something has been launched for
        the first time, for a check, and where the card corrupts results.
        """
        corrupts = self._accelerator.simulation.faults.since(Corrupts) <= self._accelerator.clock()
        if self._launcher.kernels is None or not (self._outdated or corrupts or self._corrupted):
            return False
        with _bits_flipped(corrupts):
            for launch in self._real.launches:
                launch()
        self._outdated, self._corrupted = False, corrupts
        return True

    def _pass_over(self, passes: int) -> None:
        """Let the card read all of the workload's bytes so many times."""
        self._run([self._model.elementwise("twin_pass", self._workload.bytes)] * passes)

    def _run(self, kernels: Sequence[Kernel]) -> None:
        self._accelerator.launch(self._model.sequence(kernels))
        self._accelerator.synchronize()


def _bits_flipped(corrupts: bool) -> AbstractContextManager[Any]:
    """Flip a bit in the exponent of the first element of each result of an operator, where `corrupts`."""
    from contextlib import nullcontext

    if not corrupts:
        return nullcontext()
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    bits = {8: torch.int64, 4: torch.int32, 2: torch.int16}

    class Flipper(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Sequence[type], args: Any = (), kwargs: Any = None
        ) -> Any:
            result = func(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor) and result.is_floating_point() and not func.is_view:
                _flip(result, bits[result.itemsize])
            return result

    return Flipper()


def _flip(tensor: torch.Tensor, integers: torch.dtype) -> None:
    first = tensor[(slice(0, 1),) * tensor.dim()]
    width = 8 * tensor.itemsize
    flipped = first.contiguous().view(integers) ^ (1 << (width - 3))
    first.copy_(flipped.view(tensor.dtype))
