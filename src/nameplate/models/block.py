"""The layers that a launch runs, by the dimensions of its record, and its FLOPs by each convention.

A record says what it ran by names and numbers (`dimensions`). Those of a block, or of a whole small model,
are the sizes that a `ModelShape` has, so one table of conventions counts a launch and a training run alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nameplate.models.conventions import SHOWN, find_convention
from nameplate.models.shape import ModelShape

Dimension = int | float | str

FORWARD = "forward"
RECOMPUTED = "forward_backward_recompute"
"""A pass whose backward pass runs the forward pass of the layer again, to keep no activations."""
_PASSES = (FORWARD, "forward_backward", RECOMPUTED, "step")
_NEEDED = ("batch", "tokens", "d_model", "heads", "ffn")


@dataclass(frozen=True)
class BlockLaunch:
    """Layers of a shape, run over `batch` sequences of `tokens` each, in a pass."""

    shape: ModelShape
    batch: int
    tokens: int
    pass_: str

    def flops(self, convention: str) -> int:
        """FLOPs of one launch by a convention; InputError for an unknown one.

        A forward pass runs nothing again, whatever a convention counts of a backward pass.
        """
        counted = find_convention(convention)
        forward = counted.forward_flops(self.shape, self.tokens)
        if self.pass_ == FORWARD:
            a_token = forward
        else:
            a_token = counted.flops_per_token(self.shape, self.tokens)
            if convention == "executed" and self.pass_ == RECOMPUTED:
                a_token += forward
        return round(self.batch * self.tokens * a_token)

    @property
    def flops_by_convention(self) -> dict[str, int]:
        """FLOPs of one launch by each convention that is shown."""
        return {name: self.flops(name) for name in SHOWN}


def find_launch(dimensions: Mapping[str, Dimension]) -> BlockLaunch | None:
    """Return the launch that these dimensions are of; None where they are of other work.

    `mlp` is `swiglu` or `gelu`, `mask` `causal` or `none`; blocks of before these were named are Llama's.
    `layers` and `vocabulary` are of a whole model, `parameters` every weight of the launch.
    """
    pass_ = dimensions.get("pass")
    if pass_ not in _PASSES:  # of most records; a table asks for each of them several times
        return None
    sizes = {
        name: value
        for name, value in dimensions.items()
        if isinstance(value, int) and not isinstance(value, bool)
    }
    if any(sizes.get(name, 0) < 1 for name in _NEEDED):
        return None
    experts = sizes.get("experts", 0)
    try:
        shape = ModelShape(
            layers=sizes.get("layers", 1),
            width=sizes["d_model"],
            heads=sizes["heads"],
            vocabulary=sizes.get("vocabulary", 0),
            ffn=sizes["ffn"],
            gated=dimensions.get("mlp", "swiglu") == "swiglu",
            kv_heads=sizes.get("kv_heads"),
            head_dim=sizes.get("head_dim"),
            tied=dimensions.get("logits") == "tied",
            learned_positions=sizes.get("learned_positions", 0),
            experts=experts,
            active_experts=sizes.get("active_experts", 0),
            expert_ffn=sizes["ffn"] if experts else 0,
            causal=dimensions.get("mask", "causal") == "causal",
            parameters=sizes.get("parameters"),
        )
    except ValueError:  # sizes that don't fit together: foreign work with such names
        return None
    return BlockLaunch(shape, sizes["batch"], sizes["tokens"], str(pass_))
