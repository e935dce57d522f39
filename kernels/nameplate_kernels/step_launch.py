"""How a training step of a small model is launched and checked: its tensors, its passes, its reference.

The suffixes of shapes are those of `block_layers`; V words of the vocabulary.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch.nn.functional import cross_entropy, embedding, linear

from nameplate_kernels.attention_backends import DEFAULT, attention_by, attention_by_any
from nameplate_kernels.block_check import (
    FORWARD_PRODUCTS,
    FORWARD_ROUNDINGS,
    compute_relative_bound,
    precision_on,
)
from nameplate_kernels.block_launch import (
    BETAS,
    SAMPLED_ROWS,
    WeightGradientRows,
    compile_block,
    gradient_of,
    make_optimizer,
    sampled_rows,
)
from nameplate_kernels.block_layers import Heads, Kind, Parameters, Rope, block, make_rope_table, norm
from nameplate_kernels.digest import digest_of
from nameplate_kernels.numerics import find_largest_ratio, numerics, reference_dtype
from nameplate_kernels.workload import CheckResult, Prepared, Workload

STEP, ENDS, OPTIMIZER = "step", "embedding_head", "adamw"
STEP_PASSES = (STEP, ENDS, OPTIMIZER)
"""A whole training step; what a model has besides its layers, forward and backward; the optimiser alone."""

_MORE_ROUNDINGS = 6  # of norm, logits, their gradient, loss, embedding, besides those of the layers


class Ends(NamedTuple):
    """The weights that a model has besides its layers."""

    embedding_VD: torch.Tensor  # noqa: N815
    norm_D: torch.Tensor  # noqa: N815
    head_VD: torch.Tensor  # noqa: N815
    norm_bias_D: torch.Tensor | None = None  # noqa: N815

    def named(self) -> dict[str, torch.Tensor]:
        """Return those that there are, by name."""
        return {name: each for name, each in self._asdict().items() if each is not None}


class Model(NamedTuple):
    """The weights of a small model, and what its layers are like."""

    ends: Ends
    layers: tuple[Parameters, ...]
    rope: Rope
    heads: Heads
    kind: Kind

    def named(self) -> dict[str, torch.Tensor]:
        """Return every weight by name: `head_VD`, `layer 0 wo_DA`."""
        inner = {
            f"layer {number} {name}": each
            for number, layer in enumerate(self.layers)
            for name, each in layer.named().items()
        }
        return self.ends.named() | inner

    def upcast(self, dtype: torch.dtype, tokens: int) -> Model:
        """Return a copy in another dtype, from the same bits, with torch's choice of attention."""

        def widen(named: dict[str, torch.Tensor]) -> dict[str, Any]:
            return {name: each.detach().to(dtype, copy=True) for name, each in named.items()}

        table = make_rope_table(tokens, self.heads.features, self.ends.head_VD.device, dtype)
        layers = tuple(Parameters(**{"w3_FD": None, **widen(each.named())}) for each in self.layers)
        kind = self.kind._replace(attention=DEFAULT)
        return Model(Ends(**widen(self.ends.named())), layers, table, self.heads, kind)


class StepBuffers:
    """The tensors of one launcher: words, the words that follow, and the model's weights.

    `loss` is None before the first launch of a pass that has one.
    """

    def __init__(self, ids_BT: torch.Tensor, targets_BT: torch.Tensor, model: Model, pass_: str) -> None:
        self.ids_BT, self.targets_BT, self.model, self.pass_ = ids_BT, targets_BT, model, pass_
        self.run: Callable[..., torch.Tensor] = block
        self.loss: torch.Tensor | None = None
        self.normed_BTD: torch.Tensor | None = None
        self.weights = list(model.named().values())
        for each in self.weights:
            each.requires_grad_(True)
        self.optimizer = None if pass_ == ENDS else make_optimizer(self.weights)
        self.steps = 0

    @property
    def launcher(self) -> Callable[[], None]:
        """The pass that the workload asks for."""
        return self.optimize if self.pass_ == OPTIMIZER else self.train

    @property
    def launched(self) -> bool:
        """Whether something was launched."""
        return self.steps > 0

    def train(self) -> None:
        """Run forward and backward, with the optimiser in a step; drop the gradients of the pass before."""
        for each in self.weights:
            each.grad = None
        self.compute_loss(embedding(self.ids_BT, self.model.ends.embedding_VD))
        if self.optimizer is not None:
            self.optimizer.step()
        self.steps += 1

    def optimize(self) -> None:
        """Run the optimiser alone, on the gradients that are there."""
        assert self.optimizer is not None
        self.optimizer.step()
        self.steps += 1

    def compute_loss(self, x_BTD: torch.Tensor) -> None:
        """Run layers, norm, logits and loss on what was looked up, and backward."""
        ends, _, rope, heads, kind = self.model
        for layer in self.model.layers:
            x_BTD = self.run(x_BTD, layer, rope, heads, kind, None)
        normed_BTD = norm(x_BTD, ends.norm_D, ends.norm_bias_D)
        logits_SV = linear(normed_BTD, ends.head_VD).flatten(0, 1)
        # In 32 bits or more, as training loops compute it (torchtitan, components/loss.py).
        wide = torch.promote_types(logits_SV.dtype, torch.float32)
        loss = cross_entropy(logits_SV.to(wide), self.targets_BT.flatten())
        torch.autograd.backward(loss)
        self.loss, self.normed_BTD = loss.detach(), normed_BTD.detach()

    def results(self, seed: int) -> dict[str, torch.Tensor]:
        """Return the matrices that the check compares row by row; none of the optimiser alone."""
        if self.loss is None or self.normed_BTD is None:
            return {}
        found = {"y": self.normed_BTD.flatten(0, 1), "loss": self.loss.view(1, 1)}
        for name, weight in self.model.named().items():
            if weight.requires_grad:
                rows = gradient_of(weight).reshape(-1, weight.shape[-1])
                found[f"{name} gradient"] = rows[self._sampled(name, rows.shape[0], seed)]
        return found

    def _sampled(self, name: str, rows: int, seed: int) -> torch.Tensor:
        """Return the rows to compare: of the embedding, those of words that occur."""
        if name == "embedding_VD":
            words: torch.Tensor = torch.unique(self.ids_BT)
            return words[:SAMPLED_ROWS]
        return sampled_rows(rows, seed, self.ids_BT.device)

    def reference(self, dtype: torch.dtype, seed: int) -> dict[str, torch.Tensor]:
        """Return the `results` in a higher precision, without the whole gradient of any matrix."""
        model = self.model.upcast(dtype, self.ids_BT.shape[1])
        wide = StepBuffers(self.ids_BT, self.targets_BT, model, ENDS)
        matrices = {name: each for name, each in model.named().items() if each.dim() == 2}
        for each in matrices.values():
            each.requires_grad_(False)
        x_BTD = embedding(self.ids_BT, model.ends.embedding_VD).requires_grad_(True)
        with WeightGradientRows(matrices, seed) as rows:
            wide.compute_loss(x_BTD)
        ids_S, gradient_SD = self.ids_BT.flatten(), gradient_of(x_BTD).flatten(0, 1)
        found = [gradient_SD[ids_S == word].sum(0) for word in self._sampled("embedding_VD", 0, seed)]
        results: dict[str, torch.Tensor] = wide.results(seed) | rows.found
        return results | {"embedding_VD gradient": torch.stack(found)}

    def moment_errors(self, seed: int) -> dict[str, float]:
        """Return how far the optimiser's first moments are from (1 − β1^n)·gradient after n steps,
        as a fraction of what rounding allows.

        Each step rounds the moment once, by at most u of it; the next keeps β1 of that. So rounding makes at
        most u ÷ (1 − β1) of the gradient.
        """
        if self.optimizer is None or not self.launched:
            return {}
        beta = BETAS[0]
        worst = 0.0
        for weight in self.weights:
            state = self.optimizer.state[weight]
            rows = sampled_rows(weight.reshape(-1, weight.shape[-1]).shape[0], seed, weight.device)
            gradient, moment = (
                each.reshape(-1, weight.shape[-1])[rows].double()
                for each in (gradient_of(weight), state["exp_avg"])
            )
            expected = (1 - beta ** float(state["step"])) * gradient
            rounding = torch.finfo(weight.dtype).eps / (1 - beta)
            # A gradient that is 0 or underflows has no relative error.
            bound = rounding * gradient.abs() + torch.finfo(weight.dtype).tiny / (1 - beta)
            worst = max(worst, find_largest_ratio(moment - expected, bound))
        return {"first moment": worst}


class PreparedStep(Prepared):
    """Small models in memory.

    Loss, normed output and gradients (sampled rows of matrices' ones) are compared with the same equations in
    fp32, in fp64 for fp32; the optimiser's first moments with what they follow from.
    """

    buffers: tuple[StepBuffers, ...]

    def __init__(
        self, workload: Workload, buffers: Sequence[StepBuffers], seed: int, *, compiled: bool, depth: int
    ) -> None:
        """Take the buffers, and compile their layers; `depth` is the longest sum."""
        super().__init__(workload, buffers, seed)
        self._depth = depth
        self.compile_s: float | None = None
        if compiled and buffers[0].pass_ == STEP:
            begin_s, run = time.perf_counter(), compile_block()
            with self.numerics():
                for each in buffers:
                    each.run = run
                    each.train()
                    each.loss, each.steps = None, 0
            self.compile_s = time.perf_counter() - begin_s

    @contextmanager
    def numerics(self) -> Iterator[None]:
        """Set torch's precision, and have attention run by the backend or fail; restored on exit."""
        with super().numerics(), attention_by(self.buffers[0].model.kind.attention):
            yield

    def compute_reference(self) -> None:
        """Run each copy once in the higher precision and keep what is compared; nothing for AdamW alone."""
        wide = reference_dtype(self.workload.dtype)
        with numerics("fp32"), attention_by_any():
            self._references = [
                {} if each.pass_ == OPTIMIZER else each.reference(wide, self._seed) for each in self.buffers
            ]

    def check(self) -> CheckResult:
        """Compare each copy that was launched, as `Prepared.check` says."""
        error = max(self.errors().values(), default=math.inf)
        reference = "fp64" if self.workload.dtype == "fp32" else "fp32"
        rule = "each row: ‖ŷ−y‖ ≤ 2·(u·√roundings + u_acc·√depth)·‖y‖; moments: u ÷ (1 − β1) of a gradient"
        return CheckResult(reference=reference, error=error, rule=rule)

    def errors(self) -> dict[str, float]:
        """Return the largest error of each compared tensor over all copies, as a fraction of its bound."""
        worst: dict[str, float] = {}
        for buffers, reference in self._launched_with_references():
            found = {
                name: self._error(name, result, reference[name], len(buffers.model.layers))
                for name, result in buffers.results(self._seed).items()
            }
            for name, error in (found | buffers.moment_errors(self._seed)).items():
                worst[name] = max(worst.get(name, 0.0), error)
        return worst

    def digest(self) -> str | None:
        """Return, on a CPU, a digest of loss and gradients; None elsewhere, as for a block.

        The moments change from step to step, so the optimiser alone has none.
        """
        first = self.buffers[0]
        if first.loss is None or first.loss.device.type != "cpu":
            return None
        return digest_of(first.loss, *map(gradient_of, first.weights))

    def _error(self, name: str, result: torch.Tensor, reference: torch.Tensor, layers: int) -> float:
        deviation = (result.to(reference.dtype) - reference).norm(dim=1)
        is_forward = name in ("y", "loss")
        times = layers if is_forward else 3 * layers
        roundings = times * FORWARD_ROUNDINGS + _MORE_ROUNDINGS
        products = times * FORWARD_PRODUCTS + 1
        precision = precision_on(self.workload, self.buffers[0].ids_BT.device)
        bound = compute_relative_bound(precision, roundings, self._depth, products)
        return find_largest_ratio(deviation, bound * reference.norm(dim=1))
