"""The chain as far as one run has measured it, from nominal to a step or many devices, for each device.

A link is the ratio of two successive stages of one device and dtype. It is taken round by round where their
cases were drawn in turn. A ratio above 1 is kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from nameplate.base.messages import Reason
from nameplate.chain.link import Link, Provenance
from nameplate.chain.stage import Stage
from nameplate.chain.steps import find_whole_step
from nameplate.chain.throughput import Throughput, combine_throughputs, divide_throughputs, throughput_of
from nameplate.record import GRAVITY, Record, Verdict
from nameplate.specs.rating import MEASURED
from nameplate.stats.interval import Interval, ratio

_BLOCK_SIZES = ("batch", "tokens", "heads", "head_dim")
# A chain is of one dtype: the first of these in which a rated product was measured. Training runs in bf16.
_PREFERRED_DTYPES = ("bf16", "fp16", "tf32", "fp32", "fp64")
_PRODUCT_STAGES = (Stage.GEMM, Stage.GEMM_BURST, Stage.GEMM_SUSTAINED)
# Real work holds such values. Zeros draw less power, so their throughput says nothing of a model's.
REAL_FILL = "normal"
SCALED_BLOCK = "scaled_block"


@dataclass(frozen=True)
class ReachedStage:
    """A stage as one device reached it: its throughput, and the records or the rating that it comes from."""

    stage: Stage
    throughput: Throughput
    source: str  # case ids, or where a rating comes from
    verdict: Verdict  # the gravest of the records
    records: tuple[Record, ...] = ()  # none: it is a rating
    basis: str | None = None  # of a rating
    is_predicted: bool = False  # from these records

    @property
    def provenance(self) -> Provenance:
        """Whether it was measured, as a CPU's rating may be, follows from what was, or is a rating."""
        if self.is_predicted:
            return "modelled"
        return "measured" if self.records or self.basis == MEASURED else "published"


@dataclass(frozen=True)
class DeviceChain:
    """The stages that one device reached in one dtype, from nominal on.

    Where the run also has what several devices reach together, that is of a block with its gradients'
    exchange, and the chain goes on from the block: `set_aside` then is the training step of one device that
    would stand between the two, None where there is none.
    """

    device: str
    dtype: str
    stages: tuple[ReachedStage, ...]
    set_aside: ReachedStage | None = None

    @property
    def best_product(self) -> Record:
        """The record of the best matrix product: the sustained one where that was measured."""
        products = [stage for stage in self.stages if stage.stage in _PRODUCT_STAGES]
        return products[-1].records[0]  # every chain has a product

    def share_of_nominal(self, stage: ReachedStage) -> Interval:
        """The stage's throughput ÷ nominal, with the interval of its own figure."""
        own, nominal = stage.throughput.tflops, self.stages[0].throughput.tflops
        # A rating's own interval is nominal's: it isn't counted twice.
        if not stage.records or nominal.low == nominal.high:
            value = own.value / nominal.value
            return Interval(value, value, value) if not stage.records else own.scaled(1 / nominal.value)
        return ratio(own, nominal)

    def links(self) -> tuple[Link, ...]:
        """The ratios of successive stages."""
        return tuple(self._make_link(first, second) for first, second in pairwise(self.stages))

    def _make_link(self, first: ReachedStage, second: ReachedStage) -> Link:
        quotient = divide_throughputs(second.throughput, first.throughput)
        if not (first.records or second.records):  # of two ratings: their uncertainty is one and the same
            quotient = Interval(quotient.value, quotient.value, quotient.value)
        has_interval = math.isfinite(quotient.high) and 0 < quotient.low <= quotient.value <= quotient.high
        conventions = dict.fromkeys(record.convention for record in second.records if record.convention)
        return Link(
            first.stage,
            second.stage,
            quotient.value,
            self.dtype,
            second.provenance,
            second.source,
            low=quotient.low,
            high=quotient.high,
            law="lognormal" if has_interval and quotient.low < quotient.high else "exact",
            device=self.device,
            verdict=_gravest_of([first.verdict, second.verdict]),
            convention="; ".join(conventions) or None,
            n_from=1,
            n_to=_count_devices(second, "world_size"),
            nodes=_count_devices(second, "nodes"),
        )


def find_links(records: Sequence[Record]) -> list[Link]:
    """The links of every device's chain."""
    return [link for chain in find_chains(records) for link in chain.links()]


def find_chains(records: Sequence[Record]) -> list[DeviceChain]:
    """The chain of every device that has a rated matrix product among its `ok` records.

    A stage takes trusted records. If it has none, it takes the others and carries their verdict. A wrong one
    (`is_wrong`) is never taken, nor is one of inputs that no model has.
    """
    chains = []
    for device in dict.fromkeys(record.device for record in records):
        mine = [record for record in records if record.device == device]
        usable = [record for record in mine if _is_usable(record)]
        dtype = next((dtype for dtype in _PREFERRED_DTYPES if _find_rated_products(usable, dtype)), None)
        if dtype is not None:
            rated = _find_rated_products(usable, dtype)[0]
            stages = _find_stages(rated, [record for record in usable if record.dtype == dtype], mine)
            chains.append(_make_chain(device, dtype, stages))
    return chains


def _make_chain(device: str, dtype: str, stages: Sequence[ReachedStage]) -> DeviceChain:
    reached = {each.stage: each for each in stages}
    step = reached.get(Stage.STEP) if Stage.SCALED in reached else None
    return DeviceChain(device, dtype, tuple(each for each in stages if each is not step), step)


def find_furthest(chains: Sequence[DeviceChain]) -> list[DeviceChain]:
    """The chains that reach furthest, by their last stage; one without a burst reaches as far as one with."""
    furthest = max((chain.stages[-1].stage.reach for chain in chains), default=None)
    return [chain for chain in chains if chain.stages[-1].stage.reach == furthest]


def find_slowest(chains: Sequence[DeviceChain]) -> DeviceChain | None:
    """The chain of the slowest device, at whose pace a job on all devices runs; None if there is no chain.

    Of the chains that reach furthest, it is the one that delivers the least share of nominal there.
    """
    return min(
        find_furthest(chains),
        key=lambda chain: chain.share_of_nominal(chain.stages[-1]).value,
        default=None,
    )


def find_fastest_product(records: Sequence[Record]) -> Record | None:
    """The fastest matrix product, rated or not, of the trusted records, or of all if none is trusted."""
    return _find_best([record for record in records if record.workload == "matmul" and _is_usable(record)])


def _is_usable(record: Record) -> bool:
    return (
        record.status == "ok"
        and record.tflops is not None
        and record.fill == REAL_FILL
        and not record.is_wrong
    )


def _find_rated_products(records: Sequence[Record], dtype: str) -> list[Record]:
    return [
        record
        for record in records
        if record.dtype == dtype and record.workload == "matmul" and record.nominal_tflops is not None
    ]


def _find_stages(rated: Record, records: Sequence[Record], mine: Sequence[Record]) -> list[ReachedStage]:
    """The stages of one device's records of one dtype; the ratings are those of `rated`.

    `mine` are all records of the device: an optimiser has no FLOPs.
    """
    products = [record for record in records if record.workload == "matmul"]
    block = _find_block(records)
    found = [
        # A nominal that the user gave has no datasheet figure: the chain then goes on with the product.
        _make_rating(Stage.NOMINAL, rated.nominal_tflops, rated.nominal_source, rated),
        _make_rating(Stage.DATASHEET, rated.datasheet_tflops, rated.datasheet_source, rated),
        *_find_best_products(products, block),
        _find_model_products(products, block) or _find_set(products),
        None if block is None else _make_stage(Stage.BLOCK, block),
        None if block is None else _predict_step(block, mine),
        _find_scaled(records, block),
    ]
    return [stage for stage in found if stage is not None]


def _make_rating(
    stage: Stage, tflops: float | None, source: Reason | None, rated: Record
) -> ReachedStage | None:
    if tflops is None:
        return None
    # The vendor's own figure has neither interval nor basis, unless it is the nominal.
    is_nominal = tflops == rated.nominal_tflops
    low, high = (rated.nominal_tflops_low, rated.nominal_tflops_high) if is_nominal else (None, None)
    found = Interval(tflops, low or tflops, high or tflops)
    basis = rated.nominal_basis if is_nominal else None
    return ReachedStage(stage, Throughput(found), str(source or ""), "clean", basis=basis)


def _make_stage(stage: Stage, record: Record) -> ReachedStage:
    return ReachedStage(stage, throughput_of(record), record.case, record.verdict, (record,))


def _find_best_products(products: Sequence[Record], block: Record | None) -> list[ReachedStage]:
    """The best burst product and the same one sustained; one stage if phases weren't measured apart.

    If only another product was measured sustained, the burst has no counterpart and is left out.
    """
    burst = _find_best([record for record in products if record.phase == "burst"])
    all_sustained = [record for record in products if record.phase == "sustained"]
    # A set has a square product beside it to compare with; its own may be as small as a router's.
    all_sustained = [each for each in all_sustained if "set_flops" not in each.dimensions] or all_sustained
    if burst is None and not all_sustained:
        best = _find_best(products)
        assert best is not None  # a chain is made only where there is a product
        return [_make_stage(Stage.GEMM, best)]
    same = [record for record in all_sustained if burst is not None and _is_same_work(record, burst)]
    sustained = _find_best(_prefer_group_of(block, same or all_sustained))
    found = []
    if burst is not None and (same or not all_sustained):
        found.append(_make_stage(Stage.GEMM_BURST, burst))
    if sustained is not None:
        found.append(_make_stage(Stage.GEMM_SUSTAINED, sustained))
    return found


def _is_same_work(one: Record, other: Record) -> bool:
    return (one.shape, one.cache, one.backend) == (other.shape, other.cache, other.backend)


def _find_best(products: Sequence[Record]) -> Record | None:
    return max(_prefer_trusted(products), key=lambda record: record.tflops or 0.0, default=None)


def _prefer_trusted(records: Sequence[Record]) -> Sequence[Record]:
    """The trusted records, or all if there are none."""
    return [record for record in records if record.trusted] or records


def _prefer_group_of(block: Record | None, records: Sequence[Record]) -> Sequence[Record]:
    """The records drawn in turn with the block, so that drift cancels in the ratio; all if there are none."""
    if block is None or block.group is None:
        return records
    return [record for record in records if record.group == block.group] or records


def _find_block(records: Sequence[Record]) -> Record | None:
    """The longest forward and backward pass of a block that stands for a model, by whatever runs it fastest;
    None if there is none. One whose products were measured in turn with it comes first: the chain has their
    stage too.
    """
    blocks = [
        record
        for record in records
        if record.workload == "transformer_block"
        and record.represents is not None
        and record.dimensions.get("pass") == "forward_backward"
        and all(record.size(name) is not None for name in _BLOCK_SIZES)
    ]
    groups = {r.group for r in records if r.workload == "matmul" and r.represents is not None}
    blocks = [each for each in blocks if each.group in groups] or blocks
    return max(
        _prefer_trusted(blocks), key=lambda record: (record.flops or 0, record.tflops or 0.0), default=None
    )


def _find_scaled(records: Sequence[Record], block: Record | None) -> ReachedStage | None:
    """The same block on all devices of a job, in the fastest way of exchanging gradients that was drawn in
    turn with it; None if there is none.
    """
    if block is None:
        return None
    same = [
        record
        for record in records
        if record.workload == SCALED_BLOCK
        and record.represents == block.represents
        and (record.group, record.flops) == (block.group, block.flops)
        and record.group is not None
    ]
    best = _find_best(same)
    return None if best is None else _make_stage(Stage.SCALED, best)


def _count_devices(stage: ReachedStage, what: str) -> int:
    """How many devices, or nodes, worked together at a stage; 1 below `scaled`."""
    found = stage.records[0].size(what) if stage.stage is Stage.SCALED else None
    return found or 1


def _find_model_products(products: Sequence[Record], block: Record | None) -> ReachedStage | None:
    """The products of the block's own model and length, each as often as one layer runs it, as one stage.

    None unless all of them were measured: their FLOPs then are those of the block's products.
    """
    if block is None:
        return None
    size = _sizes_of(block)
    rows = size["batch"] * size["tokens"]
    same = [r for r in products if r.represents == block.represents and r.dimensions.get("m") == rows]
    records = _prefer_group_of(block, same)
    times = [count_times_per_layer(record) for record in records]
    flops = sum((record.flops or 0) * count for record, count in zip(records, times, strict=True))
    if not records or flops != _product_flops_of(block):
        return None
    return _combine_products(records, times)


def _find_set(products: Sequence[Record]) -> ReachedStage | None:
    """The largest set of products that all were measured, each as often as it runs, as one stage; None if
    none is.
    """
    sets: dict[tuple[object, ...], list[Record]] = {}
    for record in products:
        if record.size("set_flops") is not None:
            # Not by group: what doesn't fit the memory together is measured in several.
            key = record.represents, record.dimensions["set_flops"]
            sets.setdefault(key, []).append(record)
    whole = []
    for (_name, set_flops), records in sets.items():
        times = [count_times_per_layer(record) for record in records]
        flops = sum((record.flops or 0) * count for record, count in zip(records, times, strict=True))
        if flops == set_flops:
            whole.append((flops, records, times))
    if not whole:
        return None
    _flops, records, times = max(whole, key=lambda each: each[0])
    return _combine_products(records, times)


def _combine_products(records: Sequence[Record], times: Sequence[int]) -> ReachedStage:
    """Products, each as often as it runs, as one stage."""
    return ReachedStage(
        Stage.GEMM_MODEL,
        combine_throughputs(records, times),
        ", ".join(record.case for record in records),
        _gravest_of([record.verdict for record in records]),
        tuple(records),
    )


def _predict_step(block: Record, records: Sequence[Record]) -> ReachedStage | None:
    """The step of the block's whole model, where the other pieces of it were measured too."""
    step = find_whole_step(records, block)
    if step is None:
        return None
    pieces = step.pieces.records
    return ReachedStage(
        Stage.STEP,
        Throughput(step.tflops),
        ", ".join(record.case for record in pieces),
        _gravest_of([record.verdict for record in pieces]),
        pieces,
        is_predicted=True,
    )


def _sizes_of(block: Record) -> dict[str, int]:
    """The sizes that a block's FLOPs follow from; `_find_block` takes only blocks that have them."""
    return {name: block.size(name) or 0 for name in _BLOCK_SIZES}


def count_times_per_layer(product: Record) -> int:
    """How often one layer's forward pass, or a pass over a whole set, runs a product of this shape."""
    return product.size("times") or 1


def _product_flops_of(block: Record) -> int:
    """FLOPs of its forward products: a third of all, less attention's 2·B·T²·H·Q (4 without a mask)."""
    size = _sizes_of(block)
    attention = (
        (2 if block.dimensions.get("mask", "causal") == "causal" else 4)
        * size["batch"]
        * size["tokens"] ** 2
        * size["heads"]
        * size["head_dim"]
    )
    return (block.flops or 0) // 3 - attention


def _gravest_of(verdicts: Sequence[Verdict]) -> Verdict:
    return min(verdicts, key=GRAVITY.index)
