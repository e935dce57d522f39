"""Products of a set, which one figure is made of: a model's training pass, or a published list of shapes.

`ModelProduct` is a `Matmul` that knows its set; `GroupedProduct` is one product for each expert of a mixture,
by torch's grouped product where this GPU has one, else by a loop over the experts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from nameplate_kernels.digest import digest_of
from nameplate_kernels.matmul import Buffers, Matmul, PreparedMatmul
from nameplate_kernels.workload import CheckResult, Prepared

GROUPED, LOOP = "grouped_mm", "loop"
"""What runs a grouped product: one call of torch for all groups, or one for each."""

_GROUPED_CAPABILITY = (9, 0)  # what torch's grouped product asks for: Hopper or later


@dataclass(frozen=True)
class ModelProduct(Matmul):
    """A product of the set that `represents` names: `set_flops` are those of the whole set, each product as
    often as it runs, so that a reader knows when all of it was measured. `of_pass` is forward,
    input_gradient or weight_gradient.
    """

    of_pass: str = "forward"
    set_flops: int = 0

    @property
    def dimensions(self) -> Mapping[str, int | str]:
        """Those of a product, its pass, and the FLOPs of its set."""
        return {**super().dimensions, "of_pass": self.of_pass, "set_flops": self.set_flops}


@dataclass(frozen=True)
class GroupedProduct(ModelProduct):
    """`groups` products of one size at once, each with operands of its own."""

    groups: int = 1
    by: str = LOOP

    @property
    def shape(self) -> str:
        """The groups before the size of one: `8of1024x14336x4096-nt`."""
        return f"{self.groups}of{super().shape}"

    @property
    def dimensions(self) -> Mapping[str, int | str]:
        """Those of a product of a set, the groups, and what runs them."""
        return {**super().dimensions, "groups": self.groups, "by": self.by}

    @property
    def flops(self) -> int:
        """2·m·n·k of each group."""
        return self.groups * super().flops

    @property
    def bytes(self) -> int:
        """A, B and C of each group."""
        return self.groups * super().bytes

    @property
    def resident_bytes(self) -> int:
        """As of as many products."""
        return self.groups * super().resident_bytes

    def unsupported(self, device: torch.device) -> str | None:
        """Return why this can't run on `device`, in one clause; None when it can."""
        if self.by == GROUPED and not has_grouped(self.dtype, self.layout):
            return "torch's grouped product is for bf16 on Hopper and later, of layout nt or nn"
        return super().unsupported(device)

    def pilots(self) -> tuple[ModelProduct, ...]:
        """Return single products, as `Matmul.pilots` does."""
        sizes = {name: getattr(self, name) for name in ("m", "n", "k", "dtype", "layout")}
        return tuple(
            ModelProduct(**{name: getattr(each, name) for name in sizes}) for each in Matmul(**sizes).pilots()
        )

    def prepare(self, device: torch.device, *, fill: str, seed: int, copies: int = 1) -> PreparedGroups:  # type: ignore[override]
        """Allocate `copies` sets of every group's operands. Raises ValueError for an unknown fill."""
        sizes = {name: getattr(self, name) for name in ("m", "n", "k", "dtype", "layout", "fp32_sums")}
        single = Matmul(**sizes).prepare(device, fill=fill, seed=seed, copies=copies * self.groups)
        return PreparedGroups(self, single, seed)


def has_grouped(dtype: str, layout: str) -> bool:
    """Whether torch has a grouped product of this dtype and layout for the GPU here."""
    if not hasattr(torch, "_grouped_mm") or dtype != "bf16" or layout not in ("nt", "nn"):
        return False
    return torch.cuda.is_available() and torch.cuda.get_device_capability() >= _GROUPED_CAPABILITY


@dataclass(frozen=True)
class Groups:
    """The operands of every group of one launcher; `stacked` are those of the grouped call, else None.

    The grouped call allocates its result, which `latest` keeps until it is looked at.
    """

    each: tuple[Buffers, ...]
    stacked: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None
    latest: list[torch.Tensor] = field(default_factory=list)

    @property
    def launched(self) -> bool:
        """Whether every group has a result."""
        return bool(self.latest) or all(group.launched for group in self.each)

    @property
    def launcher(self) -> Callable[[], object]:
        """One call for all groups, or one after the other for each."""
        calls = [group.launcher for group in self.each]

        def launch() -> None:
            for call in calls:
                call()

        return launch if self.stacked is None else self._launch_at_once

    def _launch_at_once(self) -> None:
        assert self.stacked is not None
        rows, matrices, ends = self.stacked
        grouped: Any = torch._grouped_mm
        self.latest[:] = [grouped(rows, matrices, offs=ends)]

    def take_results(self) -> None:
        """Put what a grouped call has computed where each group's result belongs."""
        for result in self.latest:
            for group, part in zip(self.each, torch.split(result, self.each[0].a.shape[0]), strict=True):
                group.c.copy_(part)


class PreparedGroups(Prepared):
    """The operands of every group; each is checked as a product of its own."""

    workload: GroupedProduct
    buffers: tuple[Groups, ...]

    def __init__(self, workload: GroupedProduct, single: PreparedMatmul, seed: int) -> None:
        """Put the single products together, `groups` to each launcher."""
        self._single = single
        count, parts = workload.groups, single.buffers
        sets = [parts[start : start + count] for start in range(0, len(parts), count)]
        stacked = _stack if workload.by == GROUPED else _nothing
        super().__init__(workload, [Groups(each, stacked(each)) for each in sets], seed)

    def compute_reference(self) -> None:
        """As of every single product."""
        self._single.compute_reference()

    def check(self) -> CheckResult:
        """The largest error of any group, as `Matmul` checks it."""
        for each in self.buffers:
            each.take_results()
        return self._single.check()

    def digest(self) -> str | None:
        """Return a digest of every group's result in the first set."""
        self.buffers[0].take_results()
        return digest_of(*(group.c for group in self.buffers[0].each))


def _nothing(_groups: tuple[Buffers, ...]) -> None:
    return None


def _stack(groups: tuple[Buffers, ...]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows of all A below each other, every B, and where each group's rows end."""
    rows = torch.cat([each.a for each in groups])
    matrices = torch.stack([each.b.t().contiguous() for each in groups]).transpose(-2, -1)
    of_one = groups[0].a.shape[0]
    ends = torch.arange(1, len(groups) + 1, device=rows.device, dtype=torch.int32) * of_one
    return rows, matrices, ends
