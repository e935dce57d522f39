"""The chain as far as one run has measured it.

From nominal to block, stage by stage (`derate.stage`). A link is a ratio of two stages of the same run and
dtype, taken round by round where their cases were drawn in turn; ratios above 1 are printed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal

from nameplate.base.messages import Reason
from nameplate.chain.stage import Stage
from nameplate.chain.throughput import Throughput, compare, throughput, together
from nameplate.record import GRAVITY, Record, Verdict
from nameplate.stats.interval import Interval

Provenance = Literal["measured", "published", "assumed"]

# A chain is of one dtype; the first of these with a rated, measured product is the run's. Training runs in
# bf16, so it comes first.
_BLOCK_SIZES = ("batch", "tokens", "heads", "head_dim")
_PREFERRED = ("bf16", "fp16", "tf32", "fp32", "fp64")
# What real work holds; zeros draw less power, and say nothing of what a model gets.
REAL_FILL = "normal"


@dataclass(frozen=True)
class Link:
    """One derate: the ratio of stage `to` to stage `from_`, its 95 % interval, and where it comes from."""

    from_: Stage
    to: Stage
    dtype: str
    value: float
    low: float
    high: float
    provenance: Provenance
    source: str  # case ids, or a citation
    verdict: Verdict
    device: str

    def as_json(self) -> dict[str, Any]:
        """The link as a JSON row; `from_` is called `from`, and an end that isn't finite is null."""
        row = asdict(self)
        row |= {end: row[end] if math.isfinite(row[end]) else None for end in ("low", "high")}
        del row["from_"]
        return {"from": self.from_.value, **row, "to": self.to.value}


@dataclass(frozen=True)
class ReachedStage:
    """A stage as one device reached it: the throughput, from which cases, and their gravest verdict."""

    stage: Stage
    reached: Throughput
    source: str
    verdict: Verdict
    provenance: Provenance = "measured"


@dataclass(frozen=True)
class Stages:
    """The stages of one device in one dtype, from nominal on."""

    device: str
    dtype: str
    stages: tuple[ReachedStage, ...]


def chain(records: Sequence[Record]) -> list[Link]:
    """Every device's chain: the ratios of its successive `stages`."""
    return [link for each in stages(records) for link in links(each)]


def links(found: Stages) -> list[Link]:
    """One device's chain: the ratios of its successive stages."""
    return [_link(found.device, found.dtype, first, second) for first, second in pairwise(found.stages)]


def stages(records: Sequence[Record]) -> list[Stages]:
    """Find every device's stages in its `ok` records; a device with no rated product has none.

    A stage takes the records that may be believed (`admitted`); where a stage has none of those, the others
    stand in and the stage carries their verdict. A wrong result (`unverified`) never stands in, nor does one
    of inputs that no model has.
    """
    found = []
    for device in dict.fromkeys(record.device for record in records):
        mine = [record for record in records if record.device == device and _usable(record)]
        dtype = next((dtype for dtype in _PREFERRED if _rated_products(mine, dtype)), None)
        if dtype is not None:
            rated = _rated_products(mine, dtype)[0]
            reached = _stages(rated, [record for record in mine if record.dtype == dtype])
            found.append(Stages(device, dtype, tuple(reached)))
    return found


def furthest(found: Sequence[Stages]) -> list[Stages]:
    """The devices whose chain reaches furthest, by its last stage: one without a burst comes as far."""
    most = max((each.stages[-1].stage.reach for each in found), default=None)
    return [each for each in found if each.stages[-1].stage.reach == most]


def slowest(found: Sequence[Stages]) -> Stages | None:
    """The device at whose pace a job on all of a run's devices goes; None where no device has a chain.

    Of the devices whose chain reaches `furthest`, it is the one that delivers least of nominal there.
    """
    return min(furthest(found), key=lambda each: left(each.stages[-1], each.stages[0]).value, default=None)


def left(stage: ReachedStage, nominal: ReachedStage) -> Interval:
    """What a stage reaches of nominal, with the interval of its own figure."""
    return stage.reached.tflops.scaled(1 / nominal.reached.tflops.value)


def admitted(record: Record) -> bool:
    """Whether a record may be believed unasked: `clean`; a sustained one also `throttled`, which it means."""
    believed = {"clean", "throttled"} if record.phase == "sustained" else {"clean"}
    return record.status == "ok" and set(record.verdicts) <= believed


def fastest_product(records: Sequence[Record]) -> Record | None:
    """The fastest product, rated or not, of those that may be believed, or of all where none may."""
    return _best([record for record in records if record.workload == "matmul" and _usable(record)])


def _usable(record: Record) -> bool:
    return (
        record.status == "ok"
        and record.tflops is not None
        and record.fill == REAL_FILL
        and "unverified" not in record.verdicts
    )


def _rated_products(records: Sequence[Record], dtype: str) -> list[Record]:
    return [
        record
        for record in records
        if record.dtype == dtype and record.workload == "matmul" and record.nominal_tflops is not None
    ]


def _stages(rated: Record, records: Sequence[Record]) -> list[ReachedStage]:
    products = [record for record in records if record.workload == "matmul"]
    block = _block(records)
    found = [
        # A rating that the user gave has no datasheet beside it: the chain then starts at the product.
        _rating(Stage.NOMINAL, rated.nominal_tflops, rated.nominal_source),
        _rating(Stage.DATASHEET, rated.datasheet_tflops, rated.datasheet_source),
        *_best_products(products, block),
        _model_products(products, block),
        None if block is None else _measured(Stage.BLOCK, block),
    ]
    return [stage for stage in found if stage is not None]


def _rating(stage: Stage, tflops: float | None, source: Reason | None) -> ReachedStage | None:
    if tflops is None:
        return None
    reached = Throughput(Interval(tflops, tflops, tflops))
    return ReachedStage(stage, reached, str(source or ""), "clean", "published")


def _measured(stage: Stage, record: Record) -> ReachedStage:
    return ReachedStage(stage, throughput(record), record.case, record.verdict)


def _best_products(products: Sequence[Record], block: Record | None) -> list[ReachedStage]:
    """The best product from cool, and the same one settled; one stage where phases weren't measured apart.

    Where another one alone was measured settled, the burst has nothing to be compared with and is left out.
    """
    burst = _best([record for record in products if record.phase == "burst"])
    settled = [record for record in products if record.phase == "sustained"]
    if burst is None and not settled:
        best = _best(products)
        assert best is not None  # a chain is made where there is a product
        return [_measured(Stage.GEMM, best)]
    same = [record for record in settled if burst is not None and _same_work(record, burst)]
    sustained = _best(_beside(same or settled, block))
    return [
        *([_measured(Stage.GEMM_BURST, burst)] if burst is not None and (same or not settled) else []),
        *([_measured(Stage.GEMM_SUSTAINED, sustained)] if sustained is not None else []),
    ]


def _same_work(one: Record, other: Record) -> bool:
    return (one.shape, one.cache, one.backend) == (other.shape, other.cache, other.backend)


def _best(products: Sequence[Record]) -> Record | None:
    return max(_believed(products), key=lambda record: record.tflops or 0.0, default=None)


def _believed(records: Sequence[Record]) -> Sequence[Record]:
    """Those that may be believed, or all where there are none."""
    return [record for record in records if admitted(record)] or records


def _beside(records: Sequence[Record], block: Record | None) -> Sequence[Record]:
    """Those drawn in turn with the block, so that the ratio is free of drift; all where there are none."""
    if block is None or block.group is None:
        return records
    return [record for record in records if record.group == block.group] or records


def _block(records: Sequence[Record]) -> Record | None:
    """The longest forward-and-backward pass of a block that stands for a model; None where there is none."""
    blocks = [
        record
        for record in records
        if record.workload == "transformer_block"
        and record.represents is not None
        and record.dimensions.get("pass") == "forward_backward"
        and all(isinstance(record.dimensions.get(name), int) for name in _BLOCK_SIZES)
    ]
    return max(_believed(blocks), key=lambda record: record.flops or 0, default=None)


def _model_products(products: Sequence[Record], block: Record | None) -> ReachedStage | None:
    """FLOP-weighted harmonic mean over the products of the block's own model and length, each as often as
    one layer runs it; None unless they are all there.
    """
    if block is None:
        return None
    size = _sizes(block)
    rows = size["batch"] * size["tokens"]
    same = [r for r in products if r.represents == block.represents and r.dimensions.get("m") == rows]
    mine = _beside(same, block)
    times = [_times(record) for record in mine]
    flops = sum((record.flops or 0) * often for record, often in zip(mine, times, strict=True))
    if flops != _product_flops(block):
        return None
    source, verdict = ", ".join(r.case for r in mine), _gravest([r.verdict for r in mine])
    return ReachedStage(Stage.GEMM_MODEL, together(mine, times), source, verdict)


def _sizes(block: Record) -> dict[str, int]:
    """The sizes that a block's FLOPs follow from; `_block` let none through that lacks them."""
    return {name: int(block.dimensions[name]) for name in _BLOCK_SIZES}


def _times(product: Record) -> int:
    """How often one layer's forward pass runs a product of this shape."""
    times = product.dimensions.get("times", 1)
    return times if isinstance(times, int) else 1


def _product_flops(block: Record) -> int:
    """FLOPs of the block's forward products: a third of the whole, less causal attention's 2·B·T²·H·Q."""
    size = _sizes(block)
    attention = 2 * size["batch"] * size["tokens"] ** 2 * size["heads"] * size["head_dim"]
    return (block.flops or 0) // 3 - attention


def _gravest(verdicts: Sequence[Verdict]) -> Verdict:
    return min(verdicts, key=GRAVITY.index)


def _link(device: str, dtype: str, first: ReachedStage, second: ReachedStage) -> Link:
    between = compare(second.reached, first.reached)
    return Link(
        first.stage,
        second.stage,
        dtype,
        between.value,
        between.low,
        between.high,
        second.provenance,
        second.source,
        _gravest([first.verdict, second.verdict]),
        device,
    )
