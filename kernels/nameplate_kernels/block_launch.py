"""How a block is launched: its tensors, its passes, and who runs them (eager, compiled, CUDA graph).

The suffixes of shapes are those of `block_layers`.
"""

from __future__ import annotations

import ctypes
import importlib.util
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch.nn.functional import linear
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

from nameplate_kernels.attention_backends import DEFAULT
from nameplate_kernels.block_layers import (
    LLAMA,
    Heads,
    Kind,
    Parameters,
    Rope,
    Routing,
    block,
    make_rope_table,
)
from nameplate_kernels.numerics import MODELLED, make_filled, make_generator

FORWARD, BOTH = "forward", "forward_backward"
RECOMPUTE, ADAMW = "forward_backward_recompute", "forward_backward_adamw"
PASSES = (FORWARD, BOTH, RECOMPUTE, ADAMW)
"""The passes that a launch can run: `recompute` keeps the block's input alone and runs the forward pass again
on the way back; `adamw` ends with a step of torch's fused AdamW.
"""

KEPT = "kept_memory"
EXECUTIONS = ("eager", "compiled", "graph", KEPT)
"""How a launch is run: operator by operator, by torch.compile, as one replay of a CUDA graph, or operator by
operator in a process that keeps the memory it frees, as programs with tcmalloc or jemalloc do.

Without that glibc gives every large block back to the system at once, and gets another: for the gradients of
each launch the kernel then makes new pages.
"""

BETAS = (0.9, 0.999)
"""How much AdamW keeps of its moments from step to step: torch's defaults."""

SAMPLED_ROWS = 16
"""Rows of each weight's gradient that are kept and compared."""

# Of glibc's mallopt (malloc.h): how many blocks may be mappings of their own; what the heap gives back.
_MMAP_MAX, _TRIM_THRESHOLD = -4, -1
_CPU_COMPILERS = ("g++", "clang++", "c++")
_MOST_COMPILED = 64  # cases of one process; torch's own limit is 8, and then it runs eagerly
_WARM_UPS_OF_A_GRAPH = 3


def why_not_executed(execution: str, device: torch.device) -> str | None:
    """Return why a launch can't be run this way on `device`, in one clause; None where it can."""
    if execution == "eager":
        return None
    if device.type == MODELLED:
        return f"the twin has no model of a {execution} launch"
    if execution == KEPT:
        has_choice = device.type == "cpu" and hasattr(ctypes.CDLL(None), "mallopt")
        return None if has_choice else "kept_memory is a choice of glibc's allocator, on a CPU"
    if execution == "graph":
        return None if device.type == "cuda" else "CUDA graphs are of NVIDIA GPUs"
    if device.type == "cpu" and not any(map(shutil.which, _CPU_COMPILERS)):
        return "torch.compile needs a C++ compiler (g++ or clang++) on a CPU, and there is none"
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        return "torch.compile needs triton on a GPU, and it isn't installed"
    return None


def keep_freed_memory() -> None:
    """Have this process keep the memory that it frees, from now on: it is for a process of its own."""
    libc = ctypes.CDLL(None)
    libc.mallopt(_MMAP_MAX, 0)
    libc.mallopt(_TRIM_THRESHOLD, -1)


def compile_block() -> Callable[..., torch.Tensor]:
    """Return the block as torch.compile runs it: compiled at the first call with each shape."""
    # One shape at a time, however many cases of a process are compiled; in this process, which may be a fork.
    dynamo, inductor = torch._dynamo.config, importlib.import_module("torch._inductor.config")
    dynamo.recompile_limit = max(dynamo.recompile_limit, _MOST_COMPILED)
    inductor.compile_threads = 1  # type: ignore[attr-defined]
    compiled: Callable[..., torch.Tensor] = torch.compile(block, dynamic=False, fullgraph=True)
    return compiled


def fill_weights(
    shapes: Mapping[str, Sequence[int]], dtype: str, generator: torch.Generator
) -> dict[str, torch.Tensor]:
    """Return weights by name: matrices are normal with variance 1/inputs, norms near 1, biases near 0."""
    return {name: _weight(name, each, dtype, generator) for name, each in shapes.items()}


def _weight(name: str, shape: Sequence[int], dtype: str, generator: torch.Generator) -> torch.Tensor:
    values = make_filled(shape, dtype, "normal", generator)
    if len(shape) > 1:
        return values.div_(math.sqrt(shape[-1]))
    values.mul_(0.1)
    return values.add_(1.0) if name in ("norm1_D", "norm2_D", "norm_D") else values


def deal_experts(rows: int, experts: int, active: int, generator: torch.Generator) -> Routing:
    """Deal experts round, `active` to a token, in an order of the tokens that is drawn at random."""
    X, K, device = experts, active, generator.device
    order_S = torch.randperm(rows, generator=generator, device=device)
    dealt = torch.arange(rows * K, device=device)
    chosen_SK = torch.empty(rows, K, dtype=torch.int64, device=device)
    chosen_SK[order_S] = (dealt % X).view(rows, K)
    places_SK = torch.empty_like(chosen_SK)
    # The n-th token that an expert gets has place n among its own.
    places_SK[order_S] = ((dealt % X) * (rows * K // X) + dealt // X).view(rows, K)
    tokens = torch.empty(rows * K, dtype=torch.int64, device=device)
    tokens[places_SK.flatten()] = torch.arange(rows, device=device).repeat_interleave(K)
    return Routing(tokens.view(X, -1), chosen_SK, places_SK)


def make_optimizer(weights: Sequence[torch.Tensor]) -> torch.optim.Optimizer:
    """Return fused AdamW with its states, which it would otherwise make at the first launch."""
    optimizer = torch.optim.AdamW(weights, lr=0.0, betas=BETAS, fused=True)
    for weight in weights:
        moments = {name: torch.zeros_like(weight) for name in ("exp_avg", "exp_avg_sq")}
        optimizer.state[weight] = {"step": torch.zeros((), device=weight.device), **moments}
    return optimizer


class Buffers:
    """The tensors of one launcher: the input, the weights, and the output of the latest launch.

    `y_BTD` is None before the first launch. With an output gradient, input and weights require gradients.
    """

    def __init__(
        self,
        x_BTD: torch.Tensor,
        weights: Parameters,
        rope: Rope,
        heads: Heads,
        output_gradient: torch.Tensor | None,
        kind: Kind = LLAMA,
        routing: Routing | None = None,
        pass_: str = BOTH,
    ) -> None:
        self.x_BTD = x_BTD
        self.weights = weights
        self.rope = rope
        self.heads = heads
        self.output_gradient = output_gradient
        self.kind = kind
        self.routing = routing
        self.pass_ = pass_
        self.y_BTD: torch.Tensor | None = None
        self.run: Callable[..., torch.Tensor] = block
        self._replay: Callable[[], None] | None = None
        for leaf in self.leaves:
            leaf.requires_grad_(output_gradient is not None)
        self._optimizer: torch.optim.Optimizer | None = None
        if pass_ == ADAMW and output_gradient is not None:
            # A rate of 0 keeps the weights' bits; see `TransformerBlock`.
            self._optimizer = make_optimizer(list(self.weights.named().values()))

    @property
    def leaves(self) -> tuple[torch.Tensor, ...]:
        """The tensors that get a gradient: the input and every weight."""
        return (self.x_BTD, *self.weights.named().values())

    @property
    def launcher(self) -> Callable[[], None]:
        """The pass that the workload asks for."""
        if self._replay is not None:
            return self._replay
        return self.forward if self.output_gradient is None else self.forward_backward

    @property
    def launched(self) -> bool:
        """Whether a launch has written an output."""
        return self.y_BTD is not None

    def forward(self) -> None:
        """Run a forward pass that keeps nothing for a backward pass."""
        with torch.inference_mode() if self.run is block else torch.no_grad():
            self.y_BTD = self.run(*self._arguments)

    def forward_backward(self) -> None:
        """Run a forward and a backward pass, with the optimiser where it is asked for; drop the gradients of
        the pass before.
        """
        for leaf in self.leaves:
            leaf.grad = None
        if self.pass_ == RECOMPUTE:
            y_BTD: torch.Tensor = checkpoint(
                self.run, *self._arguments, use_reentrant=False, preserve_rng_state=False
            )
        else:
            y_BTD = self.run(*self._arguments)
        torch.autograd.backward(y_BTD, self.output_gradient)
        if self._optimizer is not None:
            self._optimizer.step()
        self.y_BTD = y_BTD.detach()

    @property
    def _arguments(self) -> tuple[Any, ...]:
        return self.x_BTD, self.weights, self.rope, self.heads, self.kind, self.routing

    def execute_as(self, execution: str) -> None:
        """Compile the block, capture a CUDA graph, or keep memory; launches once or more, untimed."""
        if execution == "compiled":
            self.run = compile_block()
            self.launcher()
        elif execution == "graph":
            self._capture()
        elif execution == KEPT:
            keep_freed_memory()
            self.launcher()
        self.y_BTD = None

    def _capture(self) -> None:
        # As torch's notes on CUDA graphs have it: warmed up on a stream of its own, gradients dropped before.
        launch, stream = self.launcher, torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS_OF_A_GRAPH):
                launch()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            launch()
        result = self.y_BTD  # what every replay writes into

        def replay() -> None:
            graph.replay()
            self.y_BTD = result

        self._replay = replay

    def upcast(self, dtype: torch.dtype) -> Buffers:
        """Return the same block in another dtype, from the same bits."""
        wider = {name: each.detach().to(dtype, copy=True) for name, each in self.weights.named().items()}
        weights = Parameters(**{"w3_FD": None, **wider})  # type: ignore[arg-type]
        table = make_rope_table(self.x_BTD.shape[1], self.heads.features, self.x_BTD.device, dtype)
        gradient = None if self.output_gradient is None else self.output_gradient.to(dtype)
        x_BTD = self.x_BTD.detach().to(dtype, copy=True)
        kind = self.kind._replace(attention=DEFAULT, is_fp8=False)
        return Buffers(x_BTD, weights, table, self.heads, gradient, kind, self.routing)

    def results(self, seed: int) -> dict[str, torch.Tensor]:
        """Return the matrices that the check compares row by row: the output by token and, after a backward
        pass, the gradients of the input by token, of the norms, and of sampled rows of each weight.
        """
        if self.y_BTD is None:
            return {}
        output = {"y": self.y_BTD.flatten(0, 1)}
        return output if self.output_gradient is None else output | self._gradients(seed)

    def _gradients(self, seed: int) -> dict[str, torch.Tensor]:
        gradients = {"x gradient": gradient_of(self.x_BTD).flatten(0, 1)}
        for name, weight in self.weights.named().items():
            if not weight.requires_grad:
                continue
            rows = gradient_of(weight).reshape(-1, weight.shape[-1])
            gradients[f"{name} gradient"] = rows[sampled_rows(rows.shape[0], seed, rows.device)]
        return gradients

    def reference(self, seed: int) -> dict[str, torch.Tensor]:
        """Launch once and return the `results`, without computing the whole gradient of any weight.

        The gradient of W in Y = X·Wᵀ is (∂Y)ᵀ·X, so its sampled rows need only the same columns of ∂Y. A
        whole gradient is as large as W; all of them would take most of a reference's time and memory.
        """
        if self.output_gradient is None:
            self.forward()
            return self.results(seed)
        for weight in self.matrices.values():
            weight.requires_grad_(False)
        rows = WeightGradientRows(self.matrices, seed)
        with rows:
            self.forward_backward()
        return self.results(seed) | rows.found

    @property
    def matrices(self) -> dict[str, torch.Tensor]:
        """The weights of plain products, without those of the norms and of experts."""
        return {name: weight for name, weight in self.weights.named().items() if weight.dim() == 2}


def sampled_rows(rows: int, seed: int, device: torch.device) -> torch.Tensor:
    """Return which rows of a weight's gradient are compared."""
    generator = make_generator(torch.device("cpu"), seed)
    return torch.randperm(rows, generator=generator)[:SAMPLED_ROWS].to(device)


class WeightGradientRows(TorchFunctionMode):
    """Collects in `found` the sampled rows of each matrix's gradient while a backward pass goes through."""

    def __init__(self, matrices: dict[str, torch.Tensor], seed: int) -> None:
        super().__init__()
        self.found: dict[str, torch.Tensor] = {}
        self._names = {weight.data_ptr(): name for name, weight in matrices.items()}
        self._seed = seed

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is linear and result.requires_grad:
            result.register_hook(partial(self._keep, args[0].detach(), args[1]))
        return result

    def _keep(self, inputs: torch.Tensor, weight: torch.Tensor, gradient: torch.Tensor) -> None:
        chosen = sampled_rows(weight.shape[0], self._seed, weight.device)
        rows = gradient.flatten(0, -2)[:, chosen].t() @ inputs.flatten(0, -2)
        self.found[f"{self._names[weight.data_ptr()]} gradient"] = rows


def gradient_of(leaf: torch.Tensor) -> torch.Tensor:
    """Return the gradient; NaN where there is none, which must fail the check, not crash it."""
    return torch.full_like(leaf, math.nan) if leaf.grad is None else leaf.grad
