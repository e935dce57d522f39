"""Self-test of a CPU's arithmetic peak: every path, two starts, theory, and torch's products against it.

No product can do more than loops that wait for nothing; one that does shows a defect of the loop.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from nameplate.base.formatting import figure, percent, stated
from nameplate.base.language import _
from nameplate.base.messages import render
from nameplate.device.cpu import measure_identity, rate
from nameplate.device.identity import CpuIdentity
from nameplate.silicon.peak import Peak, Silicon
from nameplate.specs.cpu import Throughput, load_microarchitectures

if TYPE_CHECKING:
    import torch

# How far FLOP a cycle may be off theory, two starts off each other, and a product above the peak.
NEAR_THEORY = 0.03
STARTS_DIFFER = 0.02
ABOVE = 0.02
_EDGES = (512, 1024, 2048)
_PRODUCT_S = 0.6  # for all edges of a dtype
_BATCH_S = 0.02
# The tables have the unsigned form of AMX's int8 products; the signed one takes as long.
_SAME_RATE = {"TDPBSSD": "TDPBUSD"}
_TORCH_DTYPES = {"fp64": "float64", "fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


@dataclass(frozen=True)
class PathRow:
    """One instruction path, measured at two starts; FLOP a cycle are those of one core. None: not known."""

    loop: str
    instruction: str
    clock_mhz: float
    flop_per_cycle: float
    theory: float | None
    tflops: float
    tflops_low: float
    tflops_high: float
    again_tflops: float | None

    def failures(self) -> Iterator[str]:
        """Yield a sentence for each bound that doesn't hold."""
        if self.theory is not None and abs(self.flop_per_cycle / self.theory - 1) > NEAR_THEORY:
            yield _(
                "{loop}: {measured} FLOP a cycle, in theory {theory}",
                loop=self.loop,
                measured=stated(round(self.flop_per_cycle, 1)),
                theory=stated(self.theory),
            )
        if self.again_tflops is None:
            yield _("{loop}: measured at one of two starts only", loop=self.loop)
        elif not self._agrees(self.again_tflops):
            yield _(
                "{loop}: {first} TFLOPS at one start, {second} at the next",
                loop=self.loop,
                first=figure(self.tflops),
                second=figure(self.again_tflops),
            )

    def _agrees(self, again: float) -> bool:
        return self.tflops_low <= again <= self.tflops_high or abs(again / self.tflops - 1) <= STARTS_DIFFER


@dataclass(frozen=True)
class ProductRow:
    """Torch's best matrix product of a dtype beside the peak, both in TFLOPS."""

    dtype: str
    product: str
    tflops: float
    silicon_tflops: float

    @property
    def share(self) -> float:
        """What the library makes of the silicon."""
        return self.tflops / self.silicon_tflops

    def failures(self) -> Iterator[str]:
        """Yield a sentence where the product is above the peak."""
        if self.share > 1 + ABOVE:
            yield _(
                "{dtype}: torch's {product} reached {share} of the peak: the loop of this path is defective, "
                "or other work disturbed it",
                dtype=self.dtype,
                product=self.product,
                share=percent(self.share),
            )


@dataclass(frozen=True)
class CheckedSilicon:
    """Every path and product; `unmeasured` has a sentence for each path that didn't run, or why none did."""

    paths: tuple[PathRow, ...]
    products: tuple[ProductRow, ...]
    unmeasured: tuple[str, ...]

    @property
    def failures(self) -> tuple[str, ...]:
        """A sentence for each bound that doesn't hold."""
        of_paths = (failure for row in self.paths for failure in row.failures())
        of_products = (failure for row in self.products for failure in row.failures())
        return (*self.unmeasured, *of_paths, *of_products)

    @property
    def passed(self) -> bool:
        """Whether every path was measured and every bound holds."""
        return not self.failures

    def as_json(self) -> dict[str, Any]:
        """Return the rows as JSON, with what failed."""
        return {
            "paths": [asdict(row) for row in self.paths],
            "products": [{**asdict(row), "share": row.share} for row in self.products],
            "failures": list(self.failures),
            "passed": self.passed,
        }


def check_cpu() -> CheckedSilicon:
    """Measure the peak twice, then torch's products of each dtype that has one. Takes some ten seconds."""
    first = measure_identity()
    again = measure_identity().silicon or Silicon()
    best = {dtype: product for dtype in _TORCH_DTYPES if (product := _find_best_product(dtype, first))}
    silicon = first.silicon or Silicon()
    return check(silicon, again, find_theory(rate(first).part, silicon), best)


def check(
    first: Silicon,
    again: Silicon,
    theory: Mapping[str, float],
    products: Mapping[str, tuple[str, float]],
) -> CheckedSilicon:
    """Compare two measured peaks with each other, with theory and with products.

    `theory` is FLOP a cycle by loop, where it is known; `products` is by dtype: the best one, and its TFLOPS.
    """
    second = {peak.loop: peak for peak in again.peaks}
    return CheckedSilicon(
        tuple(_path_row(peak, second.get(peak.loop), theory.get(peak.loop)) for peak in first.peaks),
        tuple(
            ProductRow(dtype, product, tflops, peak.tflops)
            for dtype, (product, tflops) in products.items()
            if (peak := _higher(first.peak(dtype), again.peak(dtype)))
        ),
        tuple(_describe_unmeasured(first)),
    )


def find_theory(part: str | None, silicon: Silicon) -> dict[str, float]:
    """Return FLOP a cycle of one core by loop, from the table of microarchitectures, where it has them."""
    figures = [figure for one in load_microarchitectures() if one.id == part for figure in one.throughput]
    found = {peak.loop: _theory_of_path(peak, figures) for peak in silicon.peaks}
    return {loop: flop for loop, flop in found.items() if flop is not None}


def _theory_of_path(peak: Peak, figures: Sequence[Throughput]) -> float | None:
    """The figure of the same instruction."""
    name = _SAME_RATE.get(peak.instruction, peak.instruction)
    for rated in figures:
        if rated.instruction.split(",")[0] == name:
            flop = float(rated.flop_per_cycle)
            # Some models of the part lack the second 512-bit unit, and a guest may hide its model.
            halves = (flop, flop / 2) if rated.fma_units == 2 else (flop,)
            return min(halves, key=lambda each: abs(each - peak.flop_per_cycle))
    return None


def _path_row(peak: Peak, again: Peak | None, theory: float | None) -> PathRow:
    return PathRow(
        peak.loop,
        peak.instruction,
        peak.core_clock_mhz,
        peak.flop_per_cycle,
        theory,
        peak.tflops,
        peak.tflops_low,
        peak.tflops_high,
        None if again is None else again.tflops,
    )


def _higher(one: Peak | None, other: Peak | None) -> Peak | None:
    """The higher of two starts: a start that other work disturbed says nothing about a product."""
    return max((peak for peak in (one, other) if peak), key=lambda peak: peak.tflops, default=None)


def _describe_unmeasured(silicon: Silicon) -> Iterator[str]:
    if silicon.absent is not None:
        yield render(silicon.absent)
        return
    for loop, why in silicon.failed.items():
        yield _("{name}: {said}", name=loop, said=render(why))


def _find_best_product(dtype: str, identity: CpuIdentity) -> tuple[str, float] | None:
    """Torch's fastest square product of a dtype and its TFLOPS; None for a dtype without a peak."""
    if identity.silicon is None or identity.silicon.peak(dtype) is None:
        return None
    import torch

    kind = getattr(torch, _TORCH_DTYPES[dtype])
    found = [(f"{edge}x{edge}x{edge}", _time_product(edge, kind)) for edge in _EDGES]
    return max(found, key=lambda each: each[1])


def _time_product(edge: int, kind: torch.dtype) -> float:
    """TFLOPS of the fastest batch of a square product; of one launch where that takes long."""
    import torch

    a, b = (torch.randn(edge, edge).to(kind) for _ in range(2))
    product = torch.empty_like(a)
    begin = time.perf_counter()
    torch.mm(a, b, out=product)
    launch_s = time.perf_counter() - begin
    end_s = time.perf_counter() + _PRODUCT_S / len(_EDGES)
    while time.perf_counter() < end_s:
        launches = max(1, round(_BATCH_S / launch_s))
        begin = time.perf_counter()
        for _launch in range(launches):
            torch.mm(a, b, out=product)
        launch_s = min(launch_s, (time.perf_counter() - begin) / launches)
    return 2 * edge**3 / launch_s / 1e12
