"""A block's parts in place: the same equations, run part by part, so that each can be timed by itself.

A part begins from what the parts before it have just left in memory and in the caches. Between two parts the
graph of gradients is cut: each backward part is a call of autograd of its own, on what the forward
part kept. So the parts together run the kernels of one launch, and what they take beside a launch is the
overhead of the cuts (on a GPU, of its launches from an empty queue).

The suffixes of shapes are those of `block_layers`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch.nn.functional import gelu, silu

from nameplate_kernels.attention_backends import attend
from nameplate_kernels.block_launch import BOTH, FORWARD, Buffers
from nameplate_kernels.block_layers import mix_experts, norm, project, rotate

Tensors = tuple[torch.Tensor, ...]


class Stage(NamedTuple):
    """One part of a launch, forward or backward, to be called after those before it."""

    name: str
    is_backward: bool
    launch: Callable[[], None]


class _Part(NamedTuple):
    """What a part computes: from which tensors and weights, and the names of what it gives."""

    name: str
    takes: tuple[str, ...]
    gives: tuple[str, ...]
    weights: tuple[str, ...]
    run: Callable[..., Tensors]


class StagedBlock:
    """The stages of one launch of a block, on the tensors of its buffers."""

    def __init__(self, buffers: Buffers) -> None:
        self._of = buffers
        self._trained = buffers.output_gradient is not None
        self._parts = self._list_parts()
        self._values: dict[str, torch.Tensor] = {}
        self._gradients: dict[str, torch.Tensor] = {}
        self._kept: dict[str, tuple[Tensors, Tensors]] = {}

    @property
    def stages(self) -> list[Stage]:
        """Every part in order: forward, then backward from the last one. None of a pass with more to it."""
        if self._of.pass_ not in (FORWARD, BOTH):
            return []
        forward = [
            Stage(part.name, False, partial(self._forward, part, place == 0))
            for place, part in enumerate(self._parts)
        ]
        if not self._trained:
            return forward
        backward = [
            Stage(part.name, True, partial(self._backward, part, place == 0))
            for place, part in enumerate(reversed(self._parts))
        ]
        return forward + backward

    def _forward(self, part: _Part, is_first: bool) -> None:
        if is_first:
            self._kept.clear()
            self._gradients.clear()
            self._values = {"x": self._of.x_BTD}
            for leaf in self._of.leaves:
                leaf.grad = None
        with torch.inference_mode(not self._trained):
            leaves = tuple(self._values[name].detach().requires_grad_(self._trained) for name in part.takes)
            given = part.run(*leaves)
        self._kept[part.name] = leaves, given
        self._values.update(zip(part.gives, given, strict=True))
        if part is self._parts[-1]:
            self._of.y_BTD = given[0].detach()

    def _backward(self, part: _Part, is_last: bool) -> None:
        if is_last:
            assert self._of.output_gradient is not None
            self._gradients["y"] = self._of.output_gradient
        leaves, given = self._kept.pop(part.name)
        held = self._of.weights.named()
        weights = [held[name] for name in part.weights if name in held]
        found = torch.autograd.grad(
            given, [*leaves, *weights], [self._gradients.pop(name) for name in part.gives]
        )
        for weight, gradient in zip(weights, found[len(leaves) :], strict=True):
            weight.grad = gradient
        for name, gradient in zip(part.takes, found, strict=False):
            so_far = self._gradients.get(name)
            self._gradients[name] = gradient if so_far is None else so_far + gradient
        if part is self._parts[0]:
            self._of.x_BTD.grad = self._gradients.pop("x")

    def _list_parts(self) -> Sequence[_Part]:
        weights = self._of.weights

        def normed(first: bool, x_BTD: torch.Tensor) -> Tensors:
            if first:
                return (norm(x_BTD, weights.norm1_D, weights.norm1_bias_D),)
            return (norm(x_BTD, weights.norm2_D, weights.norm2_bias_D),)

        def add(x_BTD: torch.Tensor, more_BTD: torch.Tensor) -> Tensors:
            return (x_BTD + more_BTD,)

        return (
            _Part("norm 1", ("x",), ("n1",), ("norm1_D", "norm1_bias_D"), partial(normed, True)),
            _Part("qkv", ("n1",), ("qkv",), ("wqkv_ED", "bqkv_E"), self._project),
            _Part("rope", ("qkv",), ("q", "k", "v"), (), self._turn),
            _Part("attention", ("q", "k", "v"), ("mixed",), (), self._attend),
            _Part("out", ("mixed",), ("o",), ("wo_DA", "bo_D"), self._join),
            _Part("residual 1", ("x", "o"), ("h",), (), add),
            _Part("norm 2", ("h",), ("n2",), ("norm2_D", "norm2_bias_D"), partial(normed, False)),
            *self._list_mlp(),
            _Part("residual 2", ("h", "m"), ("y",), (), add),
        )

    def _list_mlp(self) -> Sequence[_Part]:
        weights, routing, kind = self._of.weights, self._of.routing, self._of.kind
        if routing is not None:
            names = ("router_XD", "w1_FD", "w3_FD", "w2_DF")
            return (_Part("experts", ("n2",), ("m",), names, lambda n: (mix_experts(n, weights, routing),)),)

        def down(inner_BTF: torch.Tensor) -> Tensors:
            return (project(inner_BTF, weights.w2_DF, weights.b2_D, kind),)

        def first(n_BTD: torch.Tensor) -> Tensors:
            return (project(n_BTD, weights.w1_FD, weights.b1_F, kind),)

        def both(n_BTD: torch.Tensor) -> Tensors:
            assert weights.w3_FD is not None
            return (*first(n_BTD), project(n_BTD, weights.w3_FD, weights.b3_F, kind))

        last = _Part("down", ("inner",), ("m",), ("w2_DF", "b2_D"), down)
        if weights.w3_FD is None:
            up = _Part("up", ("n2",), ("up",), ("w1_FD", "b1_F"), first)
            return up, _Part("gelu", ("up",), ("inner",), (), lambda up: (gelu(up),)), last
        names = ("w1_FD", "b1_F", "w3_FD", "b3_F")
        gated = _Part("gate and up", ("n2",), ("gate", "up"), names, both)
        return (
            gated,
            _Part("silu", ("gate", "up"), ("inner",), (), lambda gate, up: (silu(gate) * up,)),
            last,
        )

    def _project(self, n_BTD: torch.Tensor) -> Tensors:
        return (project(n_BTD, self._of.weights.wqkv_ED, self._of.weights.bqkv_E, self._of.kind),)

    def _turn(self, qkv_BTE: torch.Tensor) -> Tensors:
        H, G, Q = self._of.heads
        qkv_BTNQ = qkv_BTE.view(*qkv_BTE.shape[:2], H + 2 * G, Q)
        q_BHTQ, k_BGTQ, v_BGTQ = torch.split_with_sizes(qkv_BTNQ.transpose(1, 2), (H, G, G), dim=1)
        if self._of.kind.rotary:
            q_BHTQ, k_BGTQ = rotate(q_BHTQ, self._of.rope), rotate(k_BGTQ, self._of.rope)
        return q_BHTQ, k_BGTQ, v_BGTQ

    def _attend(self, q_BHTQ: torch.Tensor, k_BGTQ: torch.Tensor, v_BGTQ: torch.Tensor) -> Tensors:
        kind = self._of.kind
        return (attend(q_BHTQ, k_BGTQ, v_BGTQ, causal=kind.causal, backend=kind.attention),)

    def _join(self, mixed_BHTQ: torch.Tensor) -> Tensors:
        joined_BTA = mixed_BHTQ.transpose(1, 2).flatten(-2)
        return (project(joined_BTA, self._of.weights.wo_DA, self._of.weights.bo_D, self._of.kind),)
