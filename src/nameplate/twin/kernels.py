"""The kernels that a launch would run on a card, and what each costs.

A launch is run once on tensors without contents (torch's fake ones) while a dispatch mode notes every
operator that torch hands on, forward and backward: an operator that isn't a view is a kernel. A product is
computed in tiles, a tile by one multiprocessor, so that its time goes in whole waves of tiles; the tile is
the one of the card's that gives the shortest time, as a library would choose. Everything else is as long as
its bytes take.

    product    kernel_s + max(waves·2·m·n·K ÷ (rate of one multiprocessor·efficiency), bytes ÷ bandwidth)
    attention  kernel_s + max(FLOPs ÷ (rate of all·efficiency), bytes ÷ bandwidth)
    others     kernel_s + bytes ÷ bandwidth

(S. Williams et al., Roofline, CACM 52(4), 2009; NVIDIA, Matrix Multiplication Background: tile and wave
quantisation.) Bytes are read from L2 where a kernel's own fit into half of it and a launch leaves them there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from nameplate.twin.card import Card
from nameplate.twin.simulation import Cost

if TYPE_CHECKING:
    import torch
    from torch._ops import OpOverload

_L2_SHARE = 0.5  # of L2 that a kernel's operands may take to be found there by the next one
_SECTOR_BYTES = 32  # the least that a GPU moves (NVIDIA, CUDA C++ Best Practices Guide, coalesced access)
_BACKWARD = 2.5  # FLOPs of attention's backward pass ÷ its forward pass: five products for two
_DTYPES = {
    "float64": "fp64",
    "float32": "fp32",
    "float16": "fp16",
    "bfloat16": "bf16",
    "float8_e4m3fn": "fp8_e4m3",
    "float8_e5m2": "fp8_e5m2",
    "int8": "int8",
}
_PRODUCTS = ("aten::linear", "aten::mm", "aten::matmul", "aten::_scaled_mm", "aten::_int_mm")
_ADDING, _BATCHED = ("aten::addmm", "aten::baddbmm"), ("aten::bmm", "aten::baddbmm")
# Operators that launch nothing though they are no views: they only allocate, or look at a tensor.
_NO_KERNEL = ("prim::", "aten::empty", "aten::new_empty", "aten::_unsafe_view", "aten::detach", "aten::lift")


@dataclass(frozen=True)
class Kernel:
    """One kernel: `compute_s` of arithmetic at the highest clock, `memory_s` of bytes; and their joules.

    `host_s` is what enqueuing it takes the host.
    """

    name: str
    host_s: float
    least_s: float
    compute_s: float = 0.0
    memory_s: float = 0.0
    compute_j: float = 0.0
    memory_j: float = 0.0

    @property
    def longest_s(self) -> float:
        """Seconds at the highest clock."""
        return self.least_s + max(self.compute_s, self.memory_s)


@dataclass
class Kernels:
    """Kernels one after the other: the work of a launch, or of a graph of launches."""

    kernels: Sequence[Kernel]
    highest_mhz: float
    exponent: float
    host_s: float = 0.0  # to enqueue all of it
    queued: int = 0  # how many places of the launch queue it takes
    _costs: dict[float, Cost] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Take host time and places in the queue from the kernels, unless given."""
        self.host_s = self.host_s or sum(each.host_s for each in self.kernels)
        self.queued = self.queued or len(self.kernels)

    def at(self, mhz: float) -> Cost:
        """Return its cost at this clock: arithmetic takes longer in proportion, and less energy."""
        found = self._costs.get(mhz)
        if found is None:
            found = self._costs[mhz] = self._cost_at(mhz)
        return found

    def _cost_at(self, mhz: float) -> Cost:
        slower = self.highest_mhz / mhz
        spans_s = [each.least_s + max(each.compute_s * slower, each.memory_s) for each in self.kernels]
        return Cost(
            seconds=sum(spans_s),
            compute_j=sum(each.compute_j for each in self.kernels) * slower ** (1 - self.exponent),
            memory_j=sum(each.memory_j for each in self.kernels),
            memory_s=sum(each.memory_s for each in self.kernels),
        )


@dataclass(frozen=True)
class KernelModel:
    """Makes kernels of operators for one card.

    `fill` is what the operands hold, which matters to the power of a product. With `cold`, no operand is in
    L2 when a kernel begins.
    """

    card: Card
    fill: str = "normal"
    cold: bool = True
    over_host_link: bool = False  # whether what is copied comes from the host, or goes to it

    def record(self, launch: Callable[[], object]) -> Kernels:
        """Run a launch once, and return its kernels; to be called with the launch's settings of precision."""
        found: list[Kernel] = []
        with _operators_told_to(lambda *operator: found.extend(self._kernels_of(*operator))):
            launch()
        return self.sequence(found)

    def sequence(self, kernels: Sequence[Kernel]) -> Kernels:
        """Return these kernels as one piece of work."""
        return Kernels(kernels, self.card.clock.maximum_mhz.value, self.card.power.exponent.value)

    def product(
        self, m: int, n: int, k: int, dtype: str, itemsize: int, batch: int = 1, written: int | None = None
    ) -> Kernel:
        """Return the kernel of `batch` products of m×k and k×n; raises KeyError as `Card.compute_of`.

        Elements of the result have `written` bytes, by default as many as those of the operands.
        """
        compute = self.card.compute_of(dtype)
        multiprocessors = self.card.identity.multiprocessors.value
        rate = self.card.peak_flops(dtype) / multiprocessors * compute.efficiency.value
        spans = []
        for tile in self.card.tile:
            tiles = batch * math.ceil(m / tile.m) * math.ceil(n / tile.n)
            waves = math.ceil(tiles / multiprocessors)
            seconds = waves * 2 * tile.m * tile.n * k / (rate * tile.efficiency.value)
            spans.append((seconds, f"{tile.m}x{tile.n}"))
        compute_s, tile_name = min(spans)
        moved = batch * ((m * k + k * n) * itemsize + m * n * (written or itemsize))
        flops = 2.0 * batch * m * n * k
        full_s = flops / (rate * multiprocessors)  # had every multiprocessor been busy all the time
        return self._kernel(
            f"twin_gemm_{dtype}_{tile_name}",
            moved,
            compute_s=compute_s,
            compute_j=compute.power_w.value * full_s * self.card.power.fill[self.fill].value,  # type: ignore[index]
            host_s=self.card.launch.product_host_s.value,
        )

    def attention(self, flops: float, moved: int, dtype: str, *, backward: bool) -> Kernel:
        """Return the kernel of fused attention. Raises KeyError for a dtype without figures."""
        compute, reached = self.card.compute_of(dtype), self.card.attention
        share = (reached.backward if backward else reached.forward).value
        compute_s = flops / (self.card.peak_flops(dtype) * share)
        # Power as the rate: a kernel that keeps half of the arithmetic busy draws half of its part.
        power_w = compute.power_w.value * share / compute.efficiency.value
        name = f"twin_flash_{'bwd' if backward else 'fwd'}_{dtype}"
        return self._kernel(name, moved, compute_s=compute_s, compute_j=power_w * compute_s)

    def elementwise(self, name: str, moved: int, repeated: int = 0) -> Kernel:
        """Return the kernel of an operator that reads and writes so many bytes and computes little.

        It reads `repeated` bytes besides, for another time: they come from L2.
        """
        link = self.card.memory.host_gb_s
        if self.over_host_link and link is not None:
            # Read on one side and written on the other, each byte passes the link once.
            seconds = moved / 2 / (link.value * 1e9)
            return Kernel(
                name, self.card.launch.host_s.value, self.card.launch.kernel_s.value, memory_s=seconds
            )
        found = self._kernel(name, moved)
        return replace(found, memory_s=found.memory_s + repeated / (self.card.memory.l2_gb_s.value * 1e9))

    def _kernel(
        self,
        name: str,
        moved: int,
        *,
        compute_s: float = 0.0,
        compute_j: float = 0.0,
        host_s: float | None = None,
    ) -> Kernel:
        memory, launch = self.card.memory, self.card.launch
        near = not self.cold and moved <= _L2_SHARE * self.card.identity.l2_mib.value * 2**20
        bandwidth = (memory.l2_gb_s if near else memory.gb_s).value * 1e9
        return Kernel(
            name=name,
            host_s=launch.host_s.value if host_s is None else host_s,
            least_s=launch.kernel_s.value,
            compute_s=compute_s,
            memory_s=moved / bandwidth,
            compute_j=compute_j,
            memory_j=0.0 if near else memory.power_w.value * moved / bandwidth,
        )

    # ---- of operators ----

    def _kernels_of(
        self, name: str, inputs: Sequence[torch.Tensor], outputs: Sequence[torch.Tensor], causal: bool
    ) -> Iterator[Kernel]:
        moved = sum(map(_bytes_of, (*inputs, *outputs)))
        if "scaled_dot_product" in name:
            backward = "backward" in name
            query, key = (inputs[1], inputs[2]) if backward else (inputs[0], inputs[1])
            flops = 4.0 * math.prod(query.shape[:-2]) * query.shape[-2] * key.shape[-2] * query.shape[-1]
            flops *= (0.5 if causal else 1.0) * (_BACKWARD if backward else 1.0)
            yield self.attention(flops, moved, _dtype_of(query), backward=backward)
        elif (shape := _product_shape(name, inputs)) is not None:
            batch, m, n, k = shape
            first = inputs[0]
            dtype, written = _dtype_of(first), outputs[0].itemsize if outputs else first.itemsize
            yield self.product(m, n, k, dtype, first.itemsize, batch, written)
        else:
            repeated = sum(each.nelement() * each.itemsize - _bytes_of(each) for each in inputs)
            yield self.elementwise(name, moved, repeated if "amax" in name else 0)


def _product_shape(name: str, inputs: Sequence[torch.Tensor]) -> tuple[int, int, int, int] | None:
    """Batch, m, n and k of a product; None for any other operator."""
    if name in (*_PRODUCTS, *_ADDING, *_BATCHED):
        first, second = inputs[1:3] if name in _ADDING else inputs[:2]
        k = first.shape[-1]
        n = second.shape[0] if name == "aten::linear" else second.shape[-1]
        if name in _BATCHED:
            return first.shape[0], first.shape[1], n, k
        return 1, math.prod(first.shape[:-1]), n, k
    return None


def _bytes_of(tensor: torch.Tensor) -> int:
    """Bytes that reading a tensor moves: an expanded dimension is stored once, and of elements apart from
    each other each brings the rest of its sector along.
    """
    sizes = [each for each in zip(tensor.shape, tensor.stride(), strict=True) if each[1]]
    apart = min((stride for size, stride in sizes if size > 1), default=1) * tensor.itemsize
    return math.prod(size for size, _ in sizes) * max(min(apart, _SECTOR_BYTES), tensor.itemsize)


def _dtype_of(tensor: torch.Tensor) -> str:
    """The dtype that a product on CUDA would have, TF32 where torch's settings allow it."""
    import torch

    found = _DTYPES.get(str(tensor.dtype).removeprefix("torch."), "fp32")
    matmul: Any = torch.backends.cuda.matmul
    if found == "fp16" and matmul.allow_fp16_accumulation:
        return "fp16_acc16"
    return "tf32" if found == "fp32" and matmul.fp32_precision == "tf32" else found


@contextmanager
def _operators_told_to(
    tell: Callable[[str, Sequence[torch.Tensor], Sequence[torch.Tensor], bool], None],
) -> Iterator[None]:
    """Tell of every operator that launches something: name, tensors in, tensors out, whether causal."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    def tensors_of(values: Any) -> list[torch.Tensor]:
        return [each for each in tree_leaves(values) if isinstance(each, torch.Tensor)]

    class Recorder(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: OpOverload, types: Sequence[type], args: Any = (), kwargs: Any = None
        ) -> Any:
            given = kwargs or {}
            result = func(*args, **given)
            name = func.name().split(".")[0]
            if not func.is_view and not name.startswith(_NO_KERNEL):
                # The result of an operator with `out` is among its arguments too; what returns nothing, as a
                # fused optimiser, reads and writes the arguments that it changes.
                outputs = tensors_of(result)
                if not outputs:
                    outputs = [each.detach() for each in tensors_of(_changed(func, args))]
                known = {id(each) for each in outputs}
                inputs = [each for each in tensors_of((args, given)) if id(each) not in known]
                tell(name, inputs, outputs, _is_causal(func, args, given))
            return result

    with Recorder():
        yield


def _changed(func: OpOverload, args: Sequence[Any]) -> list[Any]:
    """The arguments, by place, that the operator writes."""
    declared = zip(func._schema.arguments, args, strict=False)
    return [given for argument, given in declared if argument.alias_info and argument.alias_info.is_write]


def _is_causal(func: OpOverload, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """Whether the operator was given `is_causal`, by name or by place."""
    for place, argument in enumerate(func._schema.arguments):
        if argument.name == "is_causal":
            return bool(kwargs.get("is_causal", args[place] if place < len(args) else False))
    return False
