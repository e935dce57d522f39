"""The chain as far as one run has measured it: nominal → datasheet → gemm → gemm_model → block.

`gemm` stands where `gemm_burst` and `gemm_sustained` will: the best product measured, with phases not
measured apart. A link is a ratio of two stages of the same run and dtype; ratios above 1 are printed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal

from nameplate.record import GRAVITY, Record, Verdict
from nameplate.stats import Interval, harmonic_mean, ratio

Provenance = Literal["measured", "published", "assumed"]

# A chain is of one dtype; the first of these with a rated, measured product is the run's. Training runs in
# bf16, so it comes first.
_BLOCK_SIZES = ("batch", "tokens", "heads", "head_dim")
_PREFERRED = ("bf16", "fp16", "tf32", "fp32", "fp64")


@dataclass(frozen=True)
class Link:
    """One derate: the ratio of stage `to` to stage `from_`, its 95 % interval, and where it comes from."""

    from_: str
    to: str
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
        return {"from": row.pop("from_"), **row}


@dataclass(frozen=True)
class _Stage:
    name: str
    tflops: Interval
    source: str
    verdict: Verdict
    provenance: Provenance = "measured"


def chain(records: Sequence[Record]) -> list[Link]:
    """Build every device's chain from its `ok` records; a device with no rated product has none.

    A stage takes the records that may be believed; where a stage has none of those, the others stand in
    and the link carries their verdict. A wrong result (`unverified`) never stands in.
    """
    links: list[Link] = []
    for device in dict.fromkeys(record.device for record in records):
        mine = [record for record in records if record.device == device and _usable(record)]
        dtype = next((dtype for dtype in _PREFERRED if _rated_products(mine, dtype)), None)
        if dtype is not None:
            rated = _rated_products(mine, dtype)[0]
            links.extend(_links(device, dtype, _stages(rated, [r for r in mine if r.dtype == dtype])))
    return links


def _usable(record: Record) -> bool:
    return record.status == "ok" and record.tflops is not None and "unverified" not in record.verdicts


def _rated_products(records: Sequence[Record], dtype: str) -> list[Record]:
    return [
        record
        for record in records
        if record.dtype == dtype and record.workload == "matmul" and record.nominal_tflops is not None
    ]


def _stages(rated: Record, records: Sequence[Record]) -> list[_Stage]:
    products = [record for record in records if record.workload == "matmul"]
    ratings = [
        _rating("nominal", rated.nominal_tflops, rated.nominal_source),
        _rating("datasheet", rated.datasheet_tflops, rated.datasheet_source),
    ]
    # A rating that the user gave has no datasheet beside it: the chain then starts at the product.
    stages = [*(stage for stage in ratings if stage), _best_product(products)]
    block = _block(records)
    model = _model_products(products, block)
    return [*stages, *(stage for stage in (model, block and _measured("block", block)) if stage)]


def _rating(name: str, tflops: float | None, source: str | None) -> _Stage | None:
    if tflops is None:
        return None
    return _Stage(name, Interval(tflops, tflops, tflops), source or "", "clean", "published")


def _measured(name: str, record: Record) -> _Stage:
    return _Stage(name, _tflops(record), record.case, record.verdict)


def _tflops(record: Record) -> Interval:
    return Interval(record.tflops or 0.0, record.tflops_low or 0.0, record.tflops_high or 0.0)


def _believed(records: Sequence[Record]) -> Sequence[Record]:
    return [record for record in records if record.verdict == "clean"] or records


def _best_product(products: Sequence[Record]) -> _Stage:
    best = max(_believed(products), key=lambda record: record.tflops or 0.0)
    return _measured("gemm", best)


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


def _model_products(products: Sequence[Record], block: Record | None) -> _Stage | None:
    """FLOP-weighted harmonic mean over the products of the block's own model and length, each as often as
    one layer runs it; None unless they are all there.
    """
    if block is None:
        return None
    size = _sizes(block)
    rows = size["batch"] * size["tokens"]
    mine = [
        record
        for record in products
        if record.represents == block.represents and record.dimensions.get("m") == rows
    ]
    return _mean_of(mine) if sum(map(_layer_flops, mine)) == _product_flops(block) else None


def _sizes(block: Record) -> dict[str, int]:
    """The sizes that a block's FLOPs follow from; `_block` let none through that lacks them."""
    return {name: int(block.dimensions[name]) for name in _BLOCK_SIZES}


def _layer_flops(product: Record) -> int:
    """FLOPs that one layer's forward pass spends in products of this shape."""
    times = product.dimensions.get("times", 1)
    return (product.flops or 0) * (times if isinstance(times, int) else 1)


def _product_flops(block: Record) -> int:
    """FLOPs of the block's forward products: a third of the whole, less causal attention's 2·B·T²·H·Q."""
    size = _sizes(block)
    attention = 2 * size["batch"] * size["tokens"] ** 2 * size["heads"] * size["head_dim"]
    return (block.flops or 0) // 3 - attention


def _mean_of(products: Sequence[Record]) -> _Stage:
    mean = harmonic_mean([_tflops(record) for record in products], [*map(_layer_flops, products)])
    return _Stage(
        "gemm_model",
        mean,
        ", ".join(record.case for record in products),
        _gravest([record.verdict for record in products]),
    )


def _gravest(verdicts: Sequence[Verdict]) -> Verdict:
    return min(verdicts, key=GRAVITY.index)


def _links(device: str, dtype: str, stages: Sequence[_Stage]) -> list[Link]:
    return [_link(device, dtype, first, second) for first, second in pairwise(stages)]


def _link(device: str, dtype: str, first: _Stage, second: _Stage) -> Link:
    between = ratio(second.tflops, first.tflops)
    return Link(
        first.name,
        second.name,
        dtype,
        between.value,
        between.low,
        between.high,
        second.provenance,
        second.source,
        _gravest([first.verdict, second.verdict]),
        device,
    )
