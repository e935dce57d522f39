"""What runs attention and a block fastest, and where a block's time went, from a run's records.

A block is predicted from what the same run measured: its products alone, attention alone, and the bandwidth
of a copy for the elementwise work between them. What the prediction leaves is the residual: launches, layout,
what products lose in place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nameplate.base.formatting import count, figure
from nameplate.chain.from_run import count_times_per_layer
from nameplate.record import MAIN_MEMORY, KernelTime, Record

_WORK = ("attention", "transformer_block")
_ITEMSIZE = {"fp32": 4, "tf32": 4, "fp16": 2, "bf16": 2, "fp8_e4m3": 2}  # as stored between products
_TRAINED = 3  # products of a forward and a backward pass by those of a forward pass
# FLOPs of fused attention by those of its forward pass: five products backward for two forward.
_ATTENTION_TRAINED = 3.5


@dataclass(frozen=True)
class Choice:
    """One piece of work by torch's own choice and by the fastest that was measured, in TFLOPS."""

    device: str
    work: str  # workload, dtype and shape
    default_tflops: float
    default_ran: str | None  # the attention that torch chose
    best_tflops: float
    best_backend: str

    @property
    def ratio(self) -> float:
        """Best ÷ default."""
        return self.best_tflops / self.default_tflops

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {**asdict(self), "best_over_default": self.ratio}


@dataclass(frozen=True)
class BlockParts:
    """The seconds of a block's parts, each measured alone in the same run; None is what wasn't measured.

    `attention_source` and `elementwise_source` say what a part's seconds were taken from. `tax` is the
    block's time ÷ that of its FLOPs at the best product's speed.
    """

    case: str
    device: str
    measured_s: float
    products_s: float
    attention_s: float
    attention_source: str
    elementwise_s: float | None
    elementwise_source: str | None
    tax: float | None
    system_share: float | None

    @property
    def predicted_s(self) -> float:
        """The sum of the parts that are known."""
        return self.products_s + self.attention_s + (self.elementwise_s or 0.0)

    @property
    def residual(self) -> float:
        """Measured ÷ predicted − 1."""
        return self.measured_s / self.predicted_s - 1

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {**asdict(self), "predicted_s": self.predicted_s, "residual": self.residual}


@dataclass(frozen=True)
class PartInPlace:
    """One part of a block, timed where it stands in a launch: mean seconds, and its share of all parts.

    `alone_s` is what its products' forward pass took alone, in turn with the block; None for other parts.
    """

    name: str
    forward_s: float
    backward_s: float | None
    share: float
    alone_s: float | None


@dataclass(frozen=True)
class BlockInPlace:
    """The parts of one block in place. `overhead` is what they take together ÷ a launch, less 1."""

    case: str
    device: str
    parts: tuple[PartInPlace, ...]
    overhead: float

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {**asdict(self), "parts": [asdict(part) for part in self.parts]}


@dataclass(frozen=True)
class KernelShare:
    """One kernel of a launch: the seconds of its calls together, and their share of all kernels' seconds.

    `flops` are those of all its calls, None where they aren't known; `tflops` is what it reached then.
    """

    name: str
    time_s: float
    share: float
    calls: int
    flops: int | None
    tflops: float | None


@dataclass(frozen=True)
class ProfiledLaunch:
    """The kernels of one launch under a profiler, the longest first, and the file of its trace."""

    case: str
    device: str
    trace: str | None
    kernels: tuple[KernelShare, ...]

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)


def find_profiles(records: Sequence[Record]) -> list[ProfiledLaunch]:
    """Return the kernels of each launch that was traced, by their share of its time."""
    return [
        ProfiledLaunch(each.case, each.device, each.profile.trace, tuple(_share_out(each.profile.kernels)))
        for each in records
        if each.profile is not None and each.profile.kernels
    ]


def _share_out(kernels: Sequence[KernelTime]) -> Iterator[KernelShare]:
    whole_s = sum(each.time_s for each in kernels)
    for each in kernels:
        reached = each.flops / each.time_s / 1e12 if each.flops and each.time_s else None
        share = each.time_s / whole_s if whole_s else 0.0
        yield KernelShare(each.name, each.time_s, share, each.calls, each.flops, reached)


def find_parts_in_place(records: Sequence[Record]) -> list[BlockInPlace]:
    """Return the parts of each block that was also run part by part."""
    return [_place(each, records) for each in records if _sum_parts(each) and each.time_s]


def _sum_parts(block: Record) -> float:
    """Seconds of all parts, forward and backward."""
    return sum(part.forward_s + (part.backward_s or 0.0) for part in block.parts)


def _place(block: Record, records: Sequence[Record]) -> BlockInPlace:
    whole_s = _sum_parts(block)
    alone = _times_alone(block, records)
    parts = tuple(
        PartInPlace(
            part.name,
            part.forward_s,
            part.backward_s,
            (part.forward_s + (part.backward_s or 0.0)) / whole_s,
            alone.get(part.name),
        )
        for part in block.parts
    )
    return BlockInPlace(block.case, block.device, parts, whole_s / (block.time_s or 1.0) - 1)


def _times_alone(block: Record, records: Sequence[Record]) -> dict[str, float]:
    """Seconds of the products that were measured in turn with the block, by the part that runs them."""
    sizes = _sizes_of(block)
    if any(name not in sizes for name in ("d_model", "heads", "kv_heads", "head_dim", "ffn")):
        return {}
    width, joined = sizes["d_model"], sizes["heads"] * sizes["head_dim"]
    matrices = {
        "qkv": (joined + 2 * sizes["kv_heads"] * sizes["head_dim"], width),
        "out": (width, joined),
        "gate and up": (sizes["ffn"], width),
        "up": (sizes["ffn"], width),
        "down": (width, sizes["ffn"]),
    }
    found: dict[str, float] = {}
    for each in records:
        same = (each.device, each.group, each.represents) == (block.device, block.group, block.represents)
        if each.workload == "matmul" and same and each.represents is not None and each.time_s:
            shape = (each.dimensions.get("n"), each.dimensions.get("k"))
            found |= {
                name: each.time_s * count_times_per_layer(each)
                for name, matrix in matrices.items()
                if matrix == shape
            }
    return found


def find_choices(records: Sequence[Record]) -> list[Choice]:
    """Return the work that was measured by more than one backend, torch's own choice among them."""
    found: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        if record.workload in _WORK and record.status == "ok" and record.tflops and not record.is_wrong:
            key = (record.device, f"{record.workload}/{record.dtype}/{record.shape}")
            found.setdefault(key, []).append(record)
    return [choice for (device, work), each in found.items() for choice in _choose(device, work, each)]


def _choose(device: str, work: str, records: Sequence[Record]) -> Iterator[Choice]:
    default = next((each for each in records if each.backend == "torch"), None)
    if default is None or len({each.backend for each in records}) < 2:
        return
    best = max(records, key=lambda each: each.tflops or 0.0)
    yield Choice(device, work, default.tflops or 0.0, default.attention, best.tflops or 0.0, best.backend)


def explain_blocks(records: Sequence[Record]) -> list[BlockParts]:
    """Return the parts of each block whose products were measured in turn with it, run as torch runs it."""
    blocks = (each for each in records if each.workload == "transformer_block" and each.backend == "torch")
    return [parts for block in blocks if (parts := _explain(block, records)) is not None]


def _explain(block: Record, records: Sequence[Record]) -> BlockParts | None:
    sizes = _sizes_of(block)
    needed = ("batch", "tokens", "d_model", "heads", "kv_heads", "head_dim", "ffn")
    if block.status != "ok" or block.time_s is None or not block.flops or any(n not in sizes for n in needed):
        return None
    mine = [each for each in records if each.device == block.device and each.status == "ok"]
    trained = block.dimensions.get("pass") != "forward"
    scores = (2 if block.dimensions.get("mask") != "none" else 4) * sizes["batch"] * sizes["tokens"] ** 2
    attention_flops = scores * sizes["heads"] * sizes["head_dim"]
    products = [
        each
        for each in mine
        if each.workload == "matmul" and each.group == block.group and each.represents == block.represents
    ]
    products = [each for each in products if each.represents is not None]
    times = [(each, count_times_per_layer(each)) for each in products]
    counted = sum((each.flops or 0) * count for each, count in times)
    if not counted or counted != block.flops // (_TRAINED if trained else 1) - attention_flops:
        return None
    forward_s = sum((each.time_s or 0.0) * count for each, count in times)
    attention_s, attention_source = _time_attention(block, sizes, mine, attention_flops, counted / forward_s)
    copy = max((each.bandwidth_gb_s or 0.0 for each in mine if each.memory_level == MAIN_MEMORY), default=0.0)
    moved = _elementwise_bytes(block, sizes, trained=trained)
    best = max((each.tflops or 0.0 for each in mine if each.workload == "matmul"), default=0.0)
    system = block.conditions.get("system_share")
    return BlockParts(
        case=block.case,
        device=block.device,
        measured_s=block.time_s,
        products_s=forward_s * (_TRAINED if trained else 1),
        attention_s=attention_s * (_ATTENTION_TRAINED if trained else 1),
        attention_source=attention_source,
        elementwise_s=moved / (copy * 1e9) if copy else None,
        elementwise_source=f"{count(moved)} B at {figure(copy)} GB/s" if copy else None,
        tax=block.time_s * best * 1e12 / block.flops if best else None,
        system_share=system if isinstance(system, float) else None,
    )


def _sizes_of(block: Record) -> dict[str, int]:
    found = {name: block.size(name) for name in block.dimensions}
    return {name: size for name, size in found.items() if size is not None}


def _time_attention(
    block: Record, sizes: dict[str, int], records: Sequence[Record], flops: int, products_flops_s: float
) -> tuple[float, str]:
    """Return the seconds of a forward pass of its attention, and what they are taken from."""
    same = ("tokens", "heads", "kv_heads", "head_dim")
    alone = [
        each
        for each in records
        if each.workload == "attention"
        and each.dtype == block.dtype
        and each.backend == "torch"
        and each.dimensions.get("pass") == "forward"
        and each.dimensions.get("mask") == block.dimensions.get("mask")
        and all(each.dimensions.get(name) == sizes[name] for name in same)
    ]
    if alone and alone[0].tflops:
        return flops / (alone[0].tflops * 1e12), alone[0].case
    return flops / products_flops_s, "at the speed of its products"


def _elementwise_bytes(block: Record, sizes: dict[str, int], *, trained: bool) -> int:
    """Bytes that norms, RoPE, the gate and the residuals read and write, operator by operator.

    Forward, a token: two norms 4D, two residuals 6D, RoPE 2(H + G)Q, SiLU and gate 5F (GELU 2F). Backward:
    6D, 6D, 2(H + G)Q, 8F (3F).
    """
    D, F = sizes["d_model"], sizes["ffn"] * sizes.get("active_experts", 1)
    turned = 2 * (sizes["heads"] + sizes["kv_heads"]) * sizes["head_dim"]
    turned *= block.dimensions.get("positions", "rotary") == "rotary"
    gated = block.dimensions.get("mlp", "swiglu") == "swiglu"
    elements = 10 * D + turned + (5 if gated else 2) * F
    if trained:
        elements += 12 * D + turned + (8 if gated else 3) * F
    return sizes["batch"] * sizes["tokens"] * elements * _ITEMSIZE.get(block.dtype, 4)
