"""The loss named: from the silicon's limit down to the products that were measured, factor by factor.

A product's time is built up, each time from what the record has as evidence:

    limit       F ÷ silicon: the arithmetic at the highest clock; of a CPU as its loops measured it
    memory      no shorter than bytes ÷ the bandwidth of main memory in this run
    clock       a GPU's arithmetic at the clock that it held; named power or heat where the driver says so
    tiles       what the last wave of tiles, and tiles at the edge, leave idle, by the tile in the kernel's
                name
    library     a CPU's probe at its best ÷ silicon; of a GPU, what the run's best product loses besides
    contention  a CPU's probe now ÷ at its best
    launch      time without the host ÷ with it, where a graph was replayed; none where the host has time to
                spare
    remainder   the rest

A factor is the sum of the times before ÷ the sum after, over all products, each as often as it runs: so the
factors multiply to limit ÷ measured exactly. What has no evidence in every product's record is unknown, and
what it lost is in the remainder.

A loss is never negative. Evidence is measured too, so a step may ask for more than was lost: a product
that beats the probe says that the library can do more. Such a step is cut to what is left
after the steps behind it, and keeps what its evidence alone says beside that (`_cut_to_what_was_lost`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from operator import mul
from typing import Any, Literal

from nameplate.base.language import N_
from nameplate.chain.from_run import DeviceChain, count_times_per_layer, find_chains
from nameplate.chain.roofline import find_memory_roof
from nameplate.chain.stage import Stage
from nameplate.record import Record

Name = Literal["memory", "power", "heat", "clock", "tiles", "library", "contention", "launch", "remainder"]
REMAINDER: Name = "remainder"
_ENDS = (Stage.GEMM_MODEL, Stage.GEMM_SUSTAINED, Stage.GEMM, Stage.GEMM_BURST)
# A policy that held the clock for a smaller share of the time isn't the cause (as engine.ceiling has it).
_SMALLEST_CAUSE = 0.05
# How long heat, or a power brake, held the clock: newer drivers count these apart, older ones all in the
# first.
_HEAT_SHARES = tuple(
    f"gpu_{each}_throttle_share"
    for each in ("thermal", "software_thermal", "hardware_thermal", "power_brake")
)
# Where enqueuing takes a smaller share of a launch's time, the host can't be the bottleneck
# (engine.host_share).
_WORTH_A_GRAPH = 0.3
_TILE = re.compile(r"(?<![0-9])([1-9][0-9]{1,2})x([1-9][0-9]{1,2})(?![0-9])")
_SMALLEST_TILE = 16
# Kernels that share a tile's work out over K, whose waves aren't those of tiles.
_SPLIT = ("splitk", "split_k", "streamk", "stream_k")
_SAME = 1e-12  # two factors that differ by rounding alone
_OWN = "twin_"  # a twin's kernels name tiles as m×n of the product; a library's are of its transpose

WHAT: dict[Name, str] = {
    "memory": N_("memory"),
    "power": N_("power limit"),
    "heat": N_("heat"),
    "clock": N_("clock"),
    "tiles": N_("tiles and waves"),
    "library": N_("library"),
    "contention": N_("contention"),
    "launch": N_("launch"),
    "remainder": N_("remainder"),
}


@dataclass(frozen=True)
class Factor:
    """What a cause left of what the one before it left; `value` None: no evidence, so it is in the remainder.

    `evidence` are the columns and conditions of the records that it follows from, or that it would follow
    from. `by_evidence` is what they say where it was cut to what was lost; None where it wasn't.
    """

    name: Name
    value: float | None
    evidence: tuple[str, ...]
    by_evidence: float | None = None


@dataclass(frozen=True)
class Losses:
    """The factors of one device, from `limit_tflops` down to `tflops` at `stage`."""

    device: str
    dtype: str
    stage: Stage
    limit_tflops: float
    tflops: float
    factors: tuple[Factor, ...]
    cases: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """The factors as a JSON object; the known factors multiply to tflops ÷ limit_tflops."""
        return {
            "device": self.device,
            "dtype": self.dtype,
            "stage": str(self.stage),
            "limit_tflops": self.limit_tflops,
            "tflops": self.tflops,
            "factors": [
                {
                    "name": each.name,
                    "value": each.value,
                    "by_evidence": each.by_evidence,
                    "evidence": list(each.evidence),
                }
                for each in self.factors
            ],
            "cases": list(self.cases),
        }


def explain_losses(records: Sequence[Record]) -> list[Losses]:
    """Return the losses of each device whose chain has products with a known limit."""
    found = (_explain(chain, records) for chain in find_chains(records))
    return [each for each in found if each is not None]


def _explain(chain: DeviceChain, records: Sequence[Record]) -> Losses | None:
    reached = {stage.stage: stage for stage in chain.stages}
    end = next((reached[name] for name in _ENDS if name in reached), None)
    if end is None or not all(each.silicon_tflops and each.flops and each.time_s for each in end.records):
        return None
    roof = find_memory_roof(records, chain.device)
    gb_s = None if roof is None else roof.gb_s
    counted = end.stage is Stage.GEMM_MODEL
    products = [_Product(each, count_times_per_layer(each) if counted else 1, gb_s) for each in end.records]
    factors = list(_take_steps(products, _find_library(chain.best_product, products, gb_s)))
    flops, measured_s = sum(each.flops for each in products), sum(each.measured_s for each in products)
    limit_s = math.prod(each.value for each in factors if each.value is not None) * measured_s
    return Losses(
        chain.device,
        chain.dtype,
        end.stage,
        flops / limit_s / 1e12,
        flops / measured_s / 1e12,
        tuple(_cut_to_what_was_lost(factors)),
        tuple(each.case for each in end.records),
    )


def _cut_to_what_was_lost(factors: Sequence[Factor]) -> list[Factor]:
    """Return the factors with none above 1, as long as what was measured isn't above the limit.

    After each step at least as much is left as after any later one: where later evidence shows more, a step
    had asked for more than was lost. The product of all factors stays what it is.
    """
    after = list(accumulate((1.0 if each.value is None else each.value for each in factors), mul))
    least = list(accumulate(reversed(after), max))[::-1]
    cut, left = [], 1.0
    for factor, kept in zip(factors, least, strict=True):
        # The last step takes what it takes: a product above the limit is no step's.
        now = kept if factor is factors[-1] else min(kept, 1.0)
        value, left = now / left, now
        if factor.value is None or math.isclose(value, factor.value, rel_tol=_SAME):
            cut.append(factor)
        else:
            said = None if factor.name == REMAINDER else factor.value
            cut.append(replace(factor, value=value, by_evidence=said))
    return cut


class _Product:
    """One product's time as it is explained so far: arithmetic and bytes beside each other, then the
    launch.
    """

    def __init__(self, record: Record, times: int, gb_s: float | None) -> None:
        self.record, self.gb_s = record, gb_s
        self.flops = times * (record.flops or 0)
        self.measured_s = times * (record.time_s or 0.0)
        self.compute_s = self.flops / ((record.silicon_tflops or 0.0) * 1e12)
        self.memory_s = self.launch_s = 0.0
        self._bytes = times * (record.bytes or 0)

    @property
    def explained_s(self) -> float:
        """Seconds by what is known so far."""
        return max(self.compute_s, self.memory_s) + self.launch_s

    @property
    def is_gpu(self) -> bool:
        """Whether a GPU ran it."""
        return any(name.startswith("gpu_") for name in self.record.conditions)

    def number(self, name: str) -> float | None:
        """A condition that is a number above 0."""
        found = self.record.conditions.get(name)
        return float(found) if isinstance(found, int | float) and found > 0 else None

    def find_memory_s(self) -> float | None:
        """Seconds of its bytes from main memory; None where a cache may have had them and that would
        matter.
        """
        if self.gb_s is None:
            return None
        seconds = self._bytes / (self.gb_s * 1e9)
        return seconds if self.record.cache != "warm" or seconds <= self.compute_s else None

    def find_clock(self) -> tuple[Name, float] | None:
        """What held the clock, and held ÷ highest clock; None where one of the clocks isn't known."""
        held, source = self.number("gpu_sm_clock_mhz"), self.record.peak_source
        values = {} if source is None else source.values
        highest, rated = values.get("highest_mhz"), values.get("rated_mhz")
        if held is None or not isinstance(highest, int | float) or not isinstance(rated, int | float):
            return None
        if max(highest, rated) <= 0:
            return None
        # The limit is at the higher one of the two (engine.peak).
        return self._find_cause(), held / max(highest, rated)

    def _find_cause(self) -> Name:
        power = self.number("gpu_power_throttle_share") or 0.0
        heat = max(self.number(name) or 0.0 for name in _HEAT_SHARES)
        if max(power, heat) < _SMALLEST_CAUSE:
            return "clock"
        return "heat" if heat > power else "power"

    def find_tiles(self) -> float | None:
        """The share of all multiprocessors' time in which tiles compute what is asked for; None: not
        known.
        """
        tile, units = _find_tile(self.record.kernels), self.number("gpu_multiprocessors")
        m, n = (self.record.size(name) for name in "mn")
        if tile is None or units is None or m is None or n is None:
            return None
        waves = math.ceil(math.ceil(m / tile[0]) * math.ceil(n / tile[1]) / units)
        return m * n / (waves * units * tile[0] * tile[1])

    def find_launch_s(self) -> float | None:
        """Seconds that the host kept it waiting; 0 where the host has time to spare, None where nobody
        looked.
        """
        record = self.record
        if record.graph_tflops is not None and record.tflops is not None:
            return self.measured_s * max(1 - record.tflops / record.graph_tflops, 0.0)
        if record.enqueue_share is not None and record.enqueue_share < _WORTH_A_GRAPH:
            return 0.0
        return None

    def find_library(self) -> float | None:
        """A CPU's probe at its best ÷ silicon; None where there is none."""
        best = self._find_best_tflops()
        return None if best is None or self._is_mixed else best / (self.record.silicon_tflops or 1.0)

    def find_contention(self) -> float | None:
        """A CPU's probe now ÷ at its best; None where there is none."""
        now, best = self.number("probe_tflops"), self._find_best_tflops()
        ratio = self.number("calibration_ratio")
        if now is None or best is None or (ratio is not None and self._is_mixed):
            return None
        return now * (ratio or 1.0) / best

    def _find_best_tflops(self) -> float | None:
        """What a CPU's best product reached; up to method 7 a small probe, times a calibrated ratio."""
        ratio, probe = (self.number(name) for name in ("calibration_ratio", "calibration_probe_tflops"))
        if ratio is not None and probe is not None:
            return ratio * probe
        return self.number("probe_best_tflops")

    @property
    def _is_mixed(self) -> bool:
        """Whether other work ran beside a CPU's probe, which can't be told from its library then."""
        codes = () if self.record.loss is None else self.record.loss.codes
        return any(code == "lost_to_library_or_contention" for code in codes)


def _find_tile(kernels: Sequence[str]) -> tuple[int, int] | None:
    """The tile in the name of the only product's kernel; None where there is none, or K is split."""
    for name in kernels:
        sizes = _TILE.search(name)
        if sizes is None or any(word in name.lower() for word in _SPLIT):
            continue
        first, second = (int(size) for size in sizes.groups())
        if min(first, second) >= _SMALLEST_TILE:
            # torch's rows are a library's columns: cuBLAS computes the transpose.
            return (first, second) if name.startswith(_OWN) else (second, first)
    return None


def _find_library(best: Record, products: Sequence[_Product], gb_s: float | None) -> float | None:
    """What a GPU's best product keeps besides memory, clock, tiles and launch; None where it is among the
    products itself, or one of these isn't known of it.
    """
    if any(each.record.case == best.case for each in products):
        return None
    alone = _Product(best, 1, gb_s)
    if not (best.silicon_tflops and best.time_s and alone.is_gpu):
        return None
    factors = {each.name: each.value for each in _take_steps([alone], None)}
    needed: tuple[Name, ...] = ("memory", "clock", "tiles", "launch")
    return None if any(factors[name] is None for name in needed) else factors[REMAINDER]


def _take_steps(products: Sequence[_Product], library: float | None) -> Iterator[Factor]:
    """Add what is known to every product's time, step by step, and yield each step's factor; last the
    remainder.
    """
    is_gpu = all(each.is_gpu for each in products)
    for name, columns in (_GPU_STEPS if is_gpu else _CPU_STEPS).items():
        before_s = sum(each.explained_s for each in products)
        known = _take_step(name, products, library if is_gpu else None)
        after_s = sum(each.explained_s for each in products)
        yield Factor(name, before_s / after_s if known else None, columns)
    explained_s = sum(each.explained_s for each in products)
    measured_s = sum(each.measured_s for each in products)
    yield Factor(REMAINDER, explained_s / measured_s, ("time_s",))


def _take_step(name: Name, products: Sequence[_Product], library: float | None) -> bool:
    """Add one step to all products' times; nothing, and False, where one of them has no evidence."""
    if name in ("power", "heat", "clock"):
        clocks = [each.find_clock() for each in products]
        if None in clocks or (name != "clock" and not all(map(_knows_causes, products))):
            return False
        for product, clock in zip(products, clocks, strict=True):
            if clock is not None and clock[0] == name:
                product.compute_s /= clock[1]
        return True
    if name in ("memory", "launch"):
        seconds = [each.find_memory_s() if name == "memory" else each.find_launch_s() for each in products]
        if None in seconds:
            return False
        for product, added in zip(products, seconds, strict=True):
            setattr(product, f"{name}_s", added)
        return True
    kept = [_find_share(name, each, library) for each in products]
    if None in kept:
        return False
    for product, share in zip(products, kept, strict=True):
        product.compute_s /= share or 1.0
    return True


def _knows_causes(product: _Product) -> bool:
    """Whether the driver said how long power, or heat, held the clock."""
    return product.record.conditions.get("gpu_power_throttle_share") is not None


def _find_share(name: Name, product: _Product, library: float | None) -> float | None:
    match name:
        case "tiles":
            return product.find_tiles()
        case "contention":
            return product.find_contention()
        case _:
            return library if product.is_gpu else product.find_library()


_SHARES = ("conditions.gpu_sm_clock_mhz", "peak_source")
_GPU_STEPS: dict[Name, tuple[str, ...]] = {
    "memory": ("bytes", "bandwidth_gb_s"),
    "power": (*_SHARES, "conditions.gpu_power_throttle_share"),
    "heat": (*_SHARES, *(f"conditions.{name}" for name in _HEAT_SHARES)),
    "clock": _SHARES,
    "tiles": ("kernels", "conditions.gpu_multiprocessors"),
    "library": ("tflops",),
    "launch": ("enqueue_share", "graph_tflops"),
}
_CPU_STEPS: dict[Name, tuple[str, ...]] = {
    "memory": ("bytes", "bandwidth_gb_s"),
    "library": ("conditions.probe_best_tflops",),
    "contention": ("conditions.probe_tflops", "conditions.probe_best_tflops"),
    "power": (),
    "heat": (),
    "clock": (),
    "launch": (),
}
