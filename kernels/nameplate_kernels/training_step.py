"""A training step of a small model: embedding, layers, norm, logits, loss, backward and AdamW.

A whole model seldom fits a measurement: 32 layers of it are 32 times one layer. So a step is predicted from
pieces that are measured each: a layer forward and backward (`TransformerBlock`), what a model has besides its
layers (pass `embedding_head`), and the optimiser (pass `adamw`). A model of a few layers (pass `step`) shows
what the prediction misses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from nameplate_kernels.block_launch import KEPT, fill_weights
from nameplate_kernels.block_layers import Heads, Kind, Parameters, make_rope_table
from nameplate_kernels.digest import WEIGHT_BYTES
from nameplate_kernels.numerics import check_fill, make_filled, make_generator, precision_of, reference_dtype
from nameplate_kernels.step_launch import (
    ENDS,
    OPTIMIZER,
    STEP,
    STEP_PASSES,
    Ends,
    Model,
    PreparedStep,
    StepBuffers,
)
from nameplate_kernels.transformer_block import TransformerBlock
from nameplate_kernels.workload import Workload, halve

_FEWEST_WORDS = 64
_STATES = 7  # weights, gradients and both moments read; weights and both moments written
_TRAINED = 3


@dataclass(frozen=True)
class TrainingStep(Workload):
    """A step on `layer.batch` × `layer.tokens` words of a model with `layers` such layers.

    `pass_` is one of `STEP_PASSES`; `embedding_head` has no layers. Embedding and logits have a table each of
    `vocabulary` words; learned positions aren't looked up. Logits and loss are computed for all tokens, the
    loss in 32 bits or more. The optimiser is torch's fused AdamW at a rate of 0, so that every launch does
    the same, with states in the dtype of the weights and no copy of these in fp32; gradients are of one
    batch, not accumulated. Raises ValueError for an unknown pass, layers with experts or of another pass
    than forward and backward, and sizes that don't fit the pass.
    """

    layer: TransformerBlock
    layers: int
    vocabulary: int
    pass_: str = STEP

    name = "training_step"

    def __post_init__(self) -> None:
        if self.pass_ not in STEP_PASSES:
            raise ValueError(
                f"training_step: unknown pass {self.pass_!r}; expected {' or '.join(STEP_PASSES)}"
            )
        of = self.layer
        if (
            of.pass_ != "forward_backward"
            or of.experts
            or of.execution in ("graph", KEPT)
            or of.stored != of.dtype
        ):
            raise ValueError(
                "training_step: layers of one dtype without experts, forward and backward, run eagerly or "
                "compiled"
            )
        if (self.layers < 1 and self.pass_ == STEP) or self.layers < 0 or self.vocabulary < 1:
            raise ValueError(
                f"training_step: layers and vocabulary above 0, got {self.layers} and {self.vocabulary}"
            )
        if self.pass_ == ENDS and self.layers:
            raise ValueError(f"training_step: {ENDS} has no layers, got {self.layers}")

    @property
    def dtype(self) -> str:  # type: ignore[override]
        """That of its layers, and of everything else but the loss."""
        return self.layer.dtype

    @property
    def convention(self) -> str | None:
        """That of its layers; None for the optimiser, which has no products."""
        return None if self.pass_ == OPTIMIZER else self.layer.convention

    @property
    def represents(self) -> str | None:
        """The model whose layers and words these are."""
        return self.layer.represents

    @property
    def shape(self) -> str:
        """Batch, tokens and model width, layers, words and pass: `1x128x4096-2layers-128256words-step`."""
        of = self.layer
        label = "" if of.label is None else f"{of.label}-"
        layers = f"{self.layers}layer{'' if self.layers == 1 else 's'}-" if self.layers else ""
        return f"{of.batch}x{of.tokens}x{of.d_model}-{label}{layers}{self.vocabulary}words-{self.pass_}"

    @property
    def backend(self) -> str:
        """What runs the layers, as a block's."""
        return self.layer.backend

    @property
    def dimensions(self) -> Mapping[str, int | str]:
        """Those of a layer, and how many layers, words and weights there are."""
        return {
            **self.layer.dimensions,
            "pass": self.pass_,
            "layers": self.layers,
            "vocabulary": self.vocabulary,
            "logits": "own",
            "parameters": self.parameters,
        }

    @property
    def parameters(self) -> int:
        """Every weight."""
        norms = (2 if self.layer.norm == "layer" else 1) * self.layer.d_model
        return self.layers * self.layer.parameters + 2 * self._words + norms

    @property
    def _words(self) -> int:
        return self.vocabulary * self.layer.d_model

    @property
    def flops(self) -> int | None:
        """Those of its layers, and 6·B·T·V·D of the logits: Megatron's convention; None for the optimiser."""
        if self.pass_ == OPTIMIZER:
            return None
        rows = self.layer.batch * self.layer.tokens
        return self.layers * self.layer.flops + 2 * _TRAINED * rows * self._words

    @property
    def bytes(self) -> int:
        """Parameters read twice and their gradients written, of the embedding only what is looked up read;
        AdamW as in a block.
        """
        if self.pass_ == OPTIMIZER:
            elements = _STATES * self.parameters
        else:
            looked_up = self.layer.batch * self.layer.tokens * self.layer.d_model
            elements = _TRAINED * (self.parameters - self._words) + self._words + looked_up
            elements += _STATES * self.parameters * (self.pass_ == STEP)
        return elements * precision_of(self.dtype).itemsize

    @property
    def resident_bytes(self) -> int:
        """An estimate: weights, gradients, moments; activations and the logits in both precisions; and all
        weights again in the reference's dtype.
        """
        stored, wide = precision_of(self.dtype).itemsize, reference_dtype(self.dtype).itemsize
        held = self.parameters * (2 if self.pass_ == ENDS else 4) * stored
        if self.pass_ == OPTIMIZER:
            return held + WEIGHT_BYTES
        of = self.layer
        activations = self.layers * of.activation_elements + 4 * of.batch * of.tokens * of.d_model
        logits = of.batch * of.tokens * self.vocabulary
        held += (activations + 2 * logits) * stored + 3 * logits * max(wide, 4)
        return held + (self.parameters + activations) * wide + WEIGHT_BYTES

    def unsupported(self, device: torch.device) -> str | None:
        """Return the layers' reason, or that fp16 needs its loss scaled; None where it can run."""
        if self.dtype == "fp16":
            return "in fp16 the gradients of logits are below its smallest numbers unless the loss is scaled"
        return self.layer.unsupported(device)

    @property
    def smaller(self) -> TrainingStep | None:
        """Half the sequences, or with one of them half its tokens; None below two tokens."""
        less = halve(self.layer)
        return None if less is None else replace(self, layer=less)

    def with_batch(self, batch: int) -> TrainingStep:
        """Return the same step on so many sequences."""
        return replace(self, layer=self.layer.with_batch(batch))

    def pilots(self) -> tuple[TrainingStep, ...]:
        """Return the same on the layer's own pilots, with as many fewer words as they are narrower."""
        found = [
            replace(
                self,
                layer=replace(pilot, pass_="forward_backward"),
                vocabulary=max(self.vocabulary * pilot.d_model // self.layer.d_model, _FEWEST_WORDS),
            )
            for pilot in self.layer.pilots()
        ]
        return tuple(each for place, each in enumerate(found) if place == 0 or 8 * each._work <= self._work)

    @property
    def _work(self) -> int:
        return self.flops or self.bytes

    def prepare(self, device: torch.device, *, fill: str, seed: int, copies: int = 1) -> PreparedStep:
        """Allocate `copies` models with weights of their own; `fill` applies to the embedding alone.

        Words are drawn at random, uniformly. The optimiser alone gets gradients that are normal. Raises
        ValueError for an unknown fill.
        """
        check_fill(fill)
        generator = make_generator(device, seed)
        of = self.layer
        depth = max(of.d_model, of.ffn, of.tokens, self.vocabulary, of.batch * of.tokens)
        return PreparedStep(
            self,
            [self._buffers(fill, generator) for _ in range(copies)],
            seed,
            compiled=of.execution == "compiled",
            depth=depth,
        )

    def _buffers(self, fill: str, generator: torch.Generator) -> StepBuffers:
        of, device = self.layer, generator.device
        shape = (of.batch, of.tokens)
        ids_BT, targets_BT = (
            torch.randint(self.vocabulary, shape, generator=generator, device=device) for _ in range(2)
        )
        table = (self.vocabulary, of.d_model)
        ends = {"norm_D": (of.d_model,), "head_VD": table}
        if of.norm == "layer":
            ends["norm_bias_D"] = (of.d_model,)
        embedding = make_filled(table, self.dtype, fill, generator)
        model = Model(
            Ends(embedding, **fill_weights(ends, self.dtype, generator)),
            tuple(
                Parameters(**{"w3_FD": None, **fill_weights(of.weight_shapes, self.dtype, generator)})  # type: ignore[arg-type]
                for _ in range(self.layers)
            ),
            make_rope_table(of.tokens, of.head_dim, device, torch.float32),
            Heads(of.heads, of.kv_heads, of.head_dim),
            Kind(of.rotary, of.causal, of.attention),
        )
        buffers = StepBuffers(ids_BT, targets_BT, model, self.pass_)
        if self.pass_ == OPTIMIZER:
            for each in buffers.weights:
                each.grad = make_filled(each.shape, self.dtype, "normal", generator)
        return buffers
