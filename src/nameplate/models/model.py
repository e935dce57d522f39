"""A model as files have it: its name, its sizes, and where they were read."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from nameplate.base.model import FrozenModel, PositiveCount
from nameplate.models.shape import ModelShape

_Count = Annotated[int, Field(ge=0, le=2**40)]
# Each active expert has products of its own, which are listed.
_Experts = Annotated[int, Field(ge=0, le=2**16)]


class ModelSizes(FrozenModel):
    """The sizes that `ModelShape` has, by the same names; a source may leave some out."""

    layers: PositiveCount | None = None
    width: PositiveCount | None = None
    heads: PositiveCount | None = None
    vocabulary: _Count | None = None
    ffn: PositiveCount | None = None
    gated: bool = True
    kv_heads: PositiveCount | None = None
    head_dim: PositiveCount | None = None
    tied: bool = False
    learned_positions: _Count = 0
    attention_weights: PositiveCount | None = None
    experts: _Experts = 0
    active_experts: _Experts = 0
    expert_ffn: _Count = 0
    shared_ffn: _Count = 0
    dense_layers: _Count = 0
    causal: bool = True

    @property
    def shape(self) -> ModelShape:
        """The shape. Raises ValueError for sizes that are missing or don't fit together."""
        sizes = {name: getattr(self, name) for name in ModelSizes.model_fields}
        missing = [name for name in ("layers", "width", "heads", "vocabulary", "ffn") if sizes[name] is None]
        if missing:
            raise ValueError(f"the size {missing[0]} is missing")
        return ModelShape(**sizes)


class Model(ModelSizes):
    """A model whose layer can be measured: every size is there and they fit together.

    A layer norms before attention and before its feed-forward part, which is SwiGLU where it is gated and
    GELU where it isn't. `norm`, `bias` (of all products) and `positions` say the rest of what a layer is
    like. `context` is the tokens of a sequence that it was trained on: what FLOPs a token are counted at
    where nobody says otherwise.
    """

    name: Annotated[str, Field(min_length=1, max_length=200)]
    norm: Literal["rms", "layer"] = "rms"
    bias: bool = False
    positions: Literal["rotary", "learned", "none"] = "rotary"
    context: PositiveCount | None = None
    source: str = ""

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        shape = self.shape
        if shape.head_dim is None and shape.width % shape.heads:
            raise ValueError(f"heads must divide width, got {shape.heads} and {shape.width}")
        if shape.experts and not (shape.active_experts and shape.expert_ffn):
            raise ValueError("experts need active_experts and expert_ffn above 0")
        if (self.positions == "learned") != (self.learned_positions > 0):
            raise ValueError("learned_positions above 0 where positions are learned, and nowhere else")
        if self.positions == "rotary" and shape.features_of_head % 2:
            odd = shape.features_of_head
            raise ValueError(f"heads of an even number of features, which RoPE turns in pairs, got {odd}")
        if shape.causal and not shape.vocabulary:
            raise ValueError("vocabulary above 0 for a decoder, got 0")
        return self
