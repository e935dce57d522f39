"""The contract every measured workload keeps: a declaration, a generator and a launcher.

The *declaration* (`Workload`, frozen and cheap: no tensor is made) states shapes, FLOPs and bytes; the
harness does every division. `Workload.prepare` is the *generator*: it allocates and fills. What it returns
(`Prepared`) holds the *launchers*, which do the launch and nothing else, and can check the result of the
last launch against a higher precision.

This package imports nothing of the harness; the harness sees it through a protocol of the same shape, so a
third party may write workloads without depending on this module either.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Check:
    """How far a result was from its reference, relative to what rounding explains.

    `error` is the largest deviation as a fraction of the bound at the same place, so a correct result has
    error ≤ 1 whatever its dtype and shape; NaN counts as infinite. `rule` says in words what the bound is.
    """

    reference: str  # dtype of the reference: "fp64" or "fp32", or "exact"
    error: float
    rule: str

    @property
    def passed(self) -> bool:
        """Whether rounding explains the whole deviation."""
        return math.isfinite(self.error) and self.error <= 1.0


class Prepared(ABC):
    """One workload, allocated, filled and ready to launch on one device.

    `launches` holds one launcher per buffer set; a harness that wants cold caches cycles through them. Each
    launcher enqueues (on a GPU) or performs (on a CPU) the work once and adds nothing else.
    """

    launches: Sequence[Callable[[], object]]

    @abstractmethod
    def numerics(self) -> AbstractContextManager[None]:
        """Torch's process-wide precision settings as this dtype needs them; restored on exit.

        Every launch, the reference and the check run inside it.
        """

    @abstractmethod
    def compute_reference(self) -> None:
        """Compute what the check needs, in a higher precision. Costly; called once, outside any timing."""

    @abstractmethod
    def check(self) -> Check:
        """Compare the output of the latest launch of every launcher that ran with the reference. Cheap."""

    def digest(self) -> str | None:
        """A digest of every bit of the latest results, or None (as here) where the library doesn't promise
        that the same inputs on the same part give the same bits.

        Of several buffer sets it takes the first: every batch cycles from there, so every batch writes it,
        and what it holds doesn't depend on how many there are.
        """
        return None


class Workload(ABC):
    """What is timed: a declaration of shapes, FLOPs and bytes. Implementations are frozen dataclasses."""

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
        """Bytes one launch must move at the least: each input read once, each output written once."""

    @property
    @abstractmethod
    def convention(self) -> str | None:
        """How the FLOPs were counted: `2MNK`, `Megatron` (causal attention counted half), …"""

    @property
    def represents(self) -> str | None:
        """The model whose own layer this is at full width (`Llama-3-8B`), or None: stands for no model."""
        return None

    @property
    def resident_bytes(self) -> int:
        """Memory one prepared copy holds, reference and gradients included, for refusing what won't fit."""
        return 2 * self.bytes

    @abstractmethod
    def unsupported(self, device: torch.device) -> str | None:
        """Why this can't run on `device`, in one clause, or None when it can."""

    def pilot(self) -> Workload | None:
        """A much smaller workload of the same kind and dtype whose speed predicts this one's, or None
        when this one is small enough to try directly.
        """
        return None

    @abstractmethod
    def prepare(self, device: torch.device, *, fill: str, seed: int, copies: int = 1) -> Prepared:
        """Allocate `copies` independent buffer sets on `device` and fill them.

        `fill` is `normal`, `uniform` (−1 to 1), `integers` (−2 to 2) or `zeros`; the same seed gives the same
        bits. Raises ValueError for an unknown fill.
        """
