"""Checks a block's launches against the same equations in a higher precision.

The suffixes of shapes are those of `block_layers`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from weakref import WeakValueDictionary

import torch

from nameplate_kernels.attention_backends import attention_by, attention_by_any
from nameplate_kernels.block_launch import KEPT, Buffers, gradient_of
from nameplate_kernels.block_stages import Stage, StagedBlock
from nameplate_kernels.digest import digest_of
from nameplate_kernels.fp8_linear import FP8
from nameplate_kernels.numerics import (
    Precision,
    find_largest_ratio,
    numerics,
    product_precision_of,
    reference_dtype,
    with_reduced_sums,
)
from nameplate_kernels.workload import CheckResult, Prepared, Workload

CONFIDENCE = 2.0
"""λ of the check's bound; see `compute_relative_bound`."""

# Roundings to storage on the longest way through the block: norm, qkv, RoPE, attention's probabilities,
# its output, wo, residual, norm, gate, silu, product, w2, residual.
FORWARD_ROUNDINGS = 13
# A gradient sees the forward pass and, for each of its steps, about two more products on the way back.
_GRADIENT_ROUNDINGS = 3 * FORWARD_ROUNDINGS
FORWARD_PRODUCTS = 4  # by a library for products: qkv, wo, w1 or w3, w2
_GRADIENT_PRODUCTS = 3 * FORWARD_PRODUCTS


_E4M3 = 2.0**-4  # unit roundoff: four significant bits


def compute_relative_bound(precision: Precision, roundings: int, depth: int, products: int) -> float:
    """Bound of ‖computed − reference‖₂ ÷ ‖reference‖₂ for one token, or one row of a weight's gradient.

    A path through the block rounds to storage `roundings` times. The root mean square of a sum of
    independent errors of mean 0 and at most u is at most u·√roundings (for uniform errors, u/√3 each; norm,
    softmax and silu pass relative errors on with a factor of about 1). The longest sum, of `depth` terms,
    adds u_acc·√depth (Higham & Mary 2019, as in `product_check`). The norm over a row of hundreds of features
    varies little, so λ = 2 on the total leaves a factor of about 3.5 for effects outside this model. tf32
    stores fp32 but may truncate its inputs by 2·2^-11 relative, which then replaces u. Each of the `products`
    on the path may be split on a GPU, its partial sums added in storage (`with_reduced_sums`). Where one
    rounds its operands to a coarser format first, each term of its sum has two such errors, independent from
    term to term: relative to the sum of terms of random signs, they are u_operand·√2 together.
    """
    rounding = max(precision.result_roundoff, 2 * precision.input_roundoff)
    stored = math.hypot(
        rounding * math.sqrt(roundings),
        precision.reduction_roundoff * math.sqrt(products),
        precision.operand_roundoff * math.sqrt(2 * products),
    )
    return CONFIDENCE * (stored + precision.accumulate_roundoff * math.sqrt(depth))


def precision_on(workload: Workload, device: torch.device) -> Precision:
    """Return the precision of its products on this device, where a split one's sums may be rounded too."""
    precision = product_precision_of(workload.dtype)
    if workload.dtype == FP8:
        # A dynamic scale leaves the largest number no room: all others are rounded to e4m3's three bits.
        precision = replace(precision, operand_roundoff=_E4M3)
    is_reduced = workload.reduction == "reduced" and device.type == "cuda"
    return with_reduced_sums(precision) if is_reduced else precision


class _Reference:
    """The compared results of one reference, by name: several cases on the same bits share them."""

    def __init__(self, results: dict[str, torch.Tensor]) -> None:
        self.results = results


# While a case of the process holds them. A reference at full width takes a CPU seconds.
_known_references: WeakValueDictionary[Hashable, _Reference] = WeakValueDictionary()


class PreparedBlock(Prepared):
    """Blocks in memory.

    The reference computes the same equations from the same bits, in fp64 for fp32 and in fp32 otherwise.
    Output and input's gradient are compared token by token, so that a missing mask shows at the first token
    for any length of context; weights' gradients are compared on sampled rows.
    """

    buffers: tuple[Buffers, ...]

    def __init__(
        self,
        workload: Workload,
        buffers: Sequence[Buffers],
        seed: int,
        *,
        execution: str,
        depth: int,
        same_reference: Sequence[Hashable] = (),
    ) -> None:
        """Take the buffers; compile them or capture their graphs, which `compile_s` then is the time of.

        `depth` is the longest sum of a forward pass. `same_reference` are keys of references that hold for
        these bits, the first that of its own: a known one isn't computed again.
        """
        super().__init__(workload, buffers, seed)
        self.compile_s: float | None = None
        self._depth, self._is_by_operator = depth, execution in ("eager", KEPT)
        self._same_reference, self._shared = tuple(same_reference), list[_Reference]()
        if execution != "eager":
            begin_s = time.perf_counter()
            with self.numerics():
                for each in buffers:
                    each.execute_as(execution)
            self.compile_s = None if execution == KEPT else time.perf_counter() - begin_s
            self.launches = [each.launcher for each in buffers]  # a graph's replay is another call

    @contextmanager
    def numerics(self) -> Iterator[None]:
        """Set torch's precision, and have attention run by the backend or fail; restored on exit."""
        with super().numerics(), attention_by(self.buffers[0].kind.attention):
            yield

    def stages(self) -> list[Stage]:
        """Return the parts of a launch, to be timed one by one; none where they aren't run one by one."""
        return StagedBlock(self.buffers[0]).stages if self._is_by_operator else []

    def compute_reference(self) -> None:
        """Run each copy once in the higher precision, keep the compared results and free the rest."""
        # A reference in fp32 must not inherit the tf32 that it checks, nor a backend for halves.
        with numerics("fp32"), attention_by_any():
            self._shared = [self._find_reference(number) for number in range(len(self.buffers))]
            self._references = [each.results for each in self._shared]

    def check(self) -> CheckResult:
        """Compare each copy that was launched, as `Prepared.check` says."""
        error = max(self.errors().values(), default=math.inf)
        reference = "fp64" if self.workload.dtype == "fp32" else "fp32"
        rule = f"each row: ‖ŷ−y‖ ≤ {CONFIDENCE:g}·(u·√roundings + u_acc·√depth)·‖y‖"
        return CheckResult(reference=reference, error=error, rule=rule)

    def digest(self) -> str | None:
        """Return, on a CPU, a digest of the first copy's output and, after a backward pass, of all gradients.

        None before a launch, and on any other device. On CUDA, torch doesn't promise repeatable attention in
        either pass: with cuDNN, which torch prefers on Hopper and Blackwell, it "may select a
        nondeterministic algorithm" (torch.nn.functional.scaled_dot_product_attention). The backward passes of
        FlashAttention (github.com/Dao-AILab/flash-attention/issues/414) and of repeat_interleave
        (torch.use_deterministic_algorithms) add in no fixed order.

        On a CPU the number of threads fixes the order of every sum. Products: see `matmul`. Each head's
        attention (in the forward pass, each block of its queries) runs on one thread. All other work is
        elementwise or sums rows without atomics, and one thread walks the graph backward. Gradients aren't
        summed over launches: each launch drops those of the launch before.
        """
        buffers = self.buffers[0]
        if buffers.y_BTD is None or buffers.x_BTD.device.type != "cpu":
            return None
        is_trained = buffers.output_gradient is not None
        return digest_of(buffers.y_BTD, *(map(gradient_of, buffers.leaves) if is_trained else ()))

    def errors(self) -> dict[str, float]:
        """Return the largest error of each compared tensor over all copies, as a fraction of its bound."""
        worst: dict[str, float] = {}
        for buffers, reference in self._launched_with_references():
            for name, result in buffers.results(self._seed).items():
                worst[name] = max(worst.get(name, 0.0), self._error(name, result, reference[name]))
        return worst

    def _find_reference(self, number: int) -> _Reference:
        """Return a copy's reference: one that another case has computed from the same bits, or its own."""
        for key in self._same_reference:
            known = _known_references.get((key, number))
            if known is not None:
                return known
        found = _Reference(self._reference(self.buffers[number]))
        if self._same_reference:
            _known_references[self._same_reference[0], number] = found
        return found

    def _reference(self, buffers: Buffers) -> dict[str, torch.Tensor]:
        upcast = buffers.upcast(reference_dtype(self.workload.dtype))
        return {name: result.clone() for name, result in upcast.reference(self._seed).items()}

    def _error(self, name: str, result: torch.Tensor, reference: torch.Tensor) -> float:
        deviation = (result.to(reference.dtype) - reference).norm(dim=1)
        size = reference.norm(dim=1)
        if name not in ("y", "x gradient"):
            # A row of a weight's gradient is a sum over tokens of ∂y·x. Of one token it is as small as its ∂y
            # happens to be, or zero (queries and keys, where softmax has one term), while the error of ∂y is
            # of the size of the others; of many tokens rows differ little.
            tokens = self.buffers[0].x_BTD.shape[:2].numel()
            size = torch.maximum(size, (size.square().mean() / tokens).sqrt())
        return find_largest_ratio(deviation, self._bound(name) * size)

    def _bound(self, name: str) -> float:
        precision = precision_on(self.workload, self.buffers[0].x_BTD.device)
        has_layer_norm = self.buffers[0].weights.norm1_bias_D is not None
        if name.startswith("norm") and has_layer_norm and self.buffers[0].x_BTD.device.type == "cpu":
            # torch's CPU kernel adds the gradients of its weights row by row in storage
            # (aten/src/ATen/native/cpu/layer_norm_kernel.cpp, LayerNormBackward).
            summed = max(precision.accumulate_roundoff, precision.result_roundoff)
            precision = replace(precision, accumulate_roundoff=summed)
        if name == "y":
            return compute_relative_bound(precision, FORWARD_ROUNDINGS, self._depth, FORWARD_PRODUCTS)
        rows = self.buffers[0].x_BTD.shape[0] * self.buffers[0].x_BTD.shape[1]
        depth = max(self._depth, rows)
        return compute_relative_bound(precision, _GRADIENT_ROUNDINGS, depth, _GRADIENT_PRODUCTS)
