"""The sizes of a decoder-only transformer, and what follows from them alone."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from nameplate.base.model import FrozenModel, PositiveCount

_Text = Annotated[str, Field(min_length=1, max_length=200)]


class ModelShape(FrozenModel):
    """Sizes of a model: layers, model width, query and key/value heads, feed-forward width, vocabulary.

    `head_dim` is the features of a head; without it, d_model ÷ heads. `gated` tells whether the feed-forward
    part has a gate (SwiGLU: three matrices) or not (two). `experts` and `experts_per_token` are those of a
    mixture of experts, whose `ffn` is that of one expert. Raises ValueError for sizes that don't fit.
    """

    name: _Text
    layers: PositiveCount
    d_model: PositiveCount
    heads: PositiveCount
    kv_heads: PositiveCount
    ffn: PositiveCount
    vocabulary: PositiveCount
    head_dim: PositiveCount | None = None
    gated: bool = True
    experts: PositiveCount | None = None
    experts_per_token: PositiveCount | None = None
    source: str = ""

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        if self.heads % self.kv_heads:
            raise ValueError(f"kv_heads must divide heads, got {self.kv_heads} and {self.heads}")
        if self.head_dim is None and self.d_model % self.heads:
            raise ValueError(f"heads must divide d_model, got {self.heads} and {self.d_model}")
        if (self.experts is None) != (self.experts_per_token is None):
            raise ValueError("experts and experts_per_token belong together")
        if self.experts and self.experts_per_token and self.experts_per_token > self.experts:
            raise ValueError(f"{self.experts_per_token} experts a token, but only {self.experts} experts")
        return self

    @property
    def features(self) -> int:
        """Features of one head."""
        return self.head_dim or self.d_model // self.heads

    @property
    def products(self) -> tuple[tuple[str, int, int], ...]:
        """Name, outputs and inputs of each matrix that a token passes in one layer, in order.

        A gated feed-forward part has gate and up of one size; of a mixture of experts each token passes
        `experts_per_token` of them.
        """
        attention = self.heads * self.features
        qkv = (self.heads + 2 * self.kv_heads) * self.features
        up = (("gate", self.ffn, self.d_model),) if self.gated else ()
        experts = (*up, ("up", self.ffn, self.d_model), ("down", self.d_model, self.ffn))
        return (
            ("qkv", qkv, self.d_model),
            ("out", self.d_model, attention),
            *(experts * (self.experts_per_token or 1)),
        )
