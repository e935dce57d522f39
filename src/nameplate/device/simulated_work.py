"""A workload that exists only on a simulated device: it declares work, and computes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nameplate.device.simulated import SimulatedDevice
from nameplate.workload import Launch

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class SimulatedCheck:
    """Every result that is looked at is right."""

    reference: str = "fp64"
    error: float = 0.1
    rule: str = "simulated: what is sampled is right"
    passed: bool = True


@dataclass(frozen=True)
class SimulatedPrepared:
    """A workload that allocates nothing; what it would have computed has other bits once its device corrupts.

    Its check passes all the same: a check samples, and what it misses is the harder case.
    """

    device: SimulatedDevice

    @property
    def launches(self) -> Sequence[Launch]:
        """One launcher that does nothing."""
        return (_nothing,)

    def numerics(self) -> AbstractContextManager[None]:
        """No settings."""
        return nullcontext()

    def compute_reference(self) -> None:
        """Nothing to compute."""

    def check(self) -> SimulatedCheck:
        """What is looked at is right."""
        return SimulatedCheck()

    def digest(self) -> str:
        """The same for every result that is right."""
        return "wrong" if self.device.corrupted else "right"


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class SimulatedWork:
    """A workload of `flops` and `bytes` a launch that exists only on a simulated device."""

    device: SimulatedDevice
    flops: int = 10**9
    bytes: int = 10**6
    name: str = "simulated"
    dtype: str = "fp32"
    shape: str = "1"
    convention: str = "declared"
    represents: str | None = None

    @property
    def dimensions(self) -> dict[str, int | float | str]:
        """None worth naming."""
        return {}

    @property
    def resident_bytes(self) -> int:
        """What it moves."""
        return self.bytes

    def unsupported(self, device: torch.device) -> str | None:
        """Runs anywhere."""
        return None

    def pilot(self) -> None:
        """None: it can be tried directly."""

    def prepare(self, device: torch.device, *, fill: str, seed: int, copies: int = 1) -> SimulatedPrepared:
        """Allocate nothing."""
        return SimulatedPrepared(self.device)
