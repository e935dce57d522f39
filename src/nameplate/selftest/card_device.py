"""A simulated card as the engine measures it: the real CUDA device over simulated calls and driver.

Nothing is computed, so that hundreds of cards can be measured in a minute: the product and the copy are the
kernels that they would launch, and the digest of their results changes when a fault says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from nameplate.device.twin import TwinDevice, make_gpu
from nameplate.selftest.cards import COPIED_BYTES, DTYPE, CardWork, rated_clock_mhz
from nameplate.specs.rating import Figure, Rating
from nameplate.twin.card import Card
from nameplate.twin.faults import Corrupts
from nameplate.workload import Launch, Prepared, SearchBuffers, SearchedWorkload, Workload

if TYPE_CHECKING:
    import torch


class CardDevice(TwinDevice):
    """One simulated card, from idle at the virtual time 0; its rating counts by a clock below its highest."""

    def __init__(self, card: Card) -> None:
        """Open it."""
        gpu = make_gpu(card)
        super().__init__(gpu)
        self.calls, self._faults = gpu.accelerator, gpu.accelerator.simulation.faults
        rated_mhz = rated_clock_mhz(card)
        rated = {DTYPE: Figure(card.peak_flops(DTYPE, rated_mhz) / 1e12, "the card that was drawn")}
        self.rating = Rating(
            "simulated",
            "made, not found",
            rated,
            rated,
            rated_clock_mhz={DTYPE: rated_mhz},
            memory_gb_s=card.memory.gb_s.value,
        )

    @property
    def torch_device(self) -> torch.device:
        """The CPU, as a name only: torch takes a second to import, and nothing is allocated."""
        return cast("torch.device", "cpu")

    @property
    def corrupted(self) -> bool:
        """Whether results are wrong by now."""
        return self.clock() >= self._faults.since(Corrupts)

    def prepare(self, workload: Workload, *, fill: str, seed: int, copies: int = 1) -> Prepared:
        """Return the case, which is prepared as it stands."""
        return workload.prepare(self.torch_device, fill=fill, seed=seed, copies=copies)

    def prepare_search(self, workload: SearchedWorkload, *, fill: str, seed: int) -> SearchBuffers:
        """Prepare what a grid's points are launched on."""
        return workload.allocate(self.torch_device, fill=fill, seed=seed)

    def why_unsupported(self, workload: Workload) -> str | None:
        """Return None: a card that was drawn has figures of what it is measured by."""
        del workload
        return None

    def name_kernels(self, launch: Launch) -> tuple[str, ...]:
        """Return no names: they are always the same."""
        del launch
        return ()


@dataclass(frozen=True)
class _Check:
    """The check reads samples, and passes."""

    reference: str = "fp64"
    error: float = 0.25
    rule: str = "rounding"
    passed: bool = True


@dataclass(frozen=True)
class CardCase:
    """A declaration with its one launch; as `prepare`d it is itself."""

    device: CardDevice
    name: str
    flops: int | None
    bytes: int
    shape: str
    launch: Launch = field(compare=False)
    dtype: str = DTYPE
    dimensions: Mapping[str, int | float | str] = field(default_factory=dict, hash=False)
    convention: str = "2MNK"
    represents: str | None = None

    @property
    def resident_bytes(self) -> int:
        """Bytes that it holds."""
        return self.bytes

    @property
    def launches(self) -> Sequence[Launch]:
        """Its one launch."""
        return (self.launch,)

    def unsupported(self, _device: torch.device) -> str | None:
        """Return None."""
        return None

    def pilots(self) -> Sequence[CardCase]:
        """Return none."""
        return ()

    def prepare(self, _device: torch.device, *, fill: str, seed: int, copies: int = 1) -> CardCase:
        """Return itself."""
        del fill, seed, copies
        return self

    def numerics(self) -> AbstractContextManager[None]:
        """Set nothing."""
        return nullcontext()

    def compute_reference(self) -> None:
        """Compute nothing."""

    def check(self) -> _Check:
        """Pass: it looks at samples only."""
        return _Check()

    def digest(self) -> str:
        """Return the digest of all bits."""
        return "other bits" if self.device.corrupted else "the same bits"


def product_case(device: CardDevice, work: CardWork) -> CardCase:
    """Return the product on a device."""
    edge, calls = work.edge, device.calls
    shape = f"{edge}x{edge}x{edge}"
    return CardCase(device, "matmul", work.flops, 6 * edge**2, shape, lambda: calls.launch(work.product))


def copy_case(device: CardDevice, work: CardWork) -> CardCase:
    """Return the copy on a device."""
    calls = device.calls
    return CardCase(device, "copy", None, COPIED_BYTES, "4GiB", lambda: calls.launch(work.copy))
