"""The sizes of a transformer whose layers are all of one kind, and the parameters that follow from them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelShape:
    """A transformer's sizes, from which its parameters and FLOPs follow.

    It is a decoder, or with `causal` False an encoder, in which every token attends to every other. A
    `vocabulary` of 0 is that of layers without embeddings and logits.
    `parameters` is the published number with embeddings, biases and norms; without it, the matrices' weights
    are counted. `attention_weights` are a layer's attention weights where they aren't those of queries, keys,
    values and output (multi-head latent attention). Of `experts` in a layer (0: none) `active_experts` work
    on a token, each of `expert_ffn` features, beside `shared_ffn` features for all; `dense_layers` have none.
    Raises ValueError for sizes that can't be.
    """

    layers: int
    width: int
    heads: int
    vocabulary: int
    ffn: int
    gated: bool = True
    kv_heads: int | None = None  # None: as many as heads
    head_dim: int | None = None  # None: width ÷ heads
    tied: bool = False  # whether the logits use the embedding's table
    learned_positions: int = 0
    attention_weights: int | None = None
    experts: int = 0
    active_experts: int = 0
    expert_ffn: int = 0
    shared_ffn: int = 0
    dense_layers: int = 0
    causal: bool = True
    parameters: int | None = None

    def __post_init__(self) -> None:
        sizes = (self.layers, self.width, self.heads)
        if min(sizes) < 1 or min(self.ffn, self.vocabulary) < 0 or (self.ffn == 0 and not self.experts):
            raise ValueError(f"layers, width, heads and ffn above 0, got {sizes} and {self.ffn}")
        if self.kv_heads is not None and (self.kv_heads < 1 or self.heads % self.kv_heads):
            raise ValueError(f"kv_heads that divide heads, got {self.kv_heads} and {self.heads}")
        if self.active_experts > self.experts or self.dense_layers > self.layers:
            raise ValueError("no more active experts than experts, nor dense layers than layers")

    @property
    def features_of_head(self) -> int:
        """Q, the features of one head."""
        return self.head_dim or self.width // self.heads

    @property
    def features(self) -> int:
        """H·Q, the features of all heads together."""
        return self.heads * self.features_of_head

    @property
    def products(self) -> tuple[tuple[str, int, int], ...]:
        """Name, outputs and inputs of each matrix that a token passes in a layer, in order.

        A gated MLP has gate and up of one size; with experts, a token passes the router, the experts that are
        active, and the MLP that all tokens share.
        """
        keys = 2 * (self.kv_heads or self.heads) * self.features_of_head
        attention = (("qkv", self.features + keys, self.width), ("out", self.width, self.features))
        if not self.experts:
            return (*attention, *self._mlp("", self.ffn))
        routed = self._mlp("", self.expert_ffn) * self.active_experts
        shared = self._mlp("shared ", self.shared_ffn) if self.shared_ffn else ()
        return (*attention, ("router", self.experts, self.width), *routed, *shared)

    def _mlp(self, of: str, ffn: int) -> tuple[tuple[str, int, int], ...]:
        gate = ((f"{of}gate", ffn, self.width),) if self.gated else ()
        return (*gate, (f"{of}up", ffn, self.width), (f"{of}down", self.width, ffn))

    @property
    def layer_weights(self) -> int:
        """Weights of all layers' matrices that work on a token."""
        return self._layer_weights(self.active_experts)

    @property
    def logit_weights(self) -> int:
        """V·d: the weights of the logits."""
        return self.vocabulary * self.width

    @property
    def total_parameters(self) -> int:
        """N: every parameter, embeddings and all experts among them."""
        return self.parameters or self._layer_weights(self.experts) + self._embedding_weights

    @property
    def active_parameters(self) -> int:
        """N': the parameters that work on a token, embeddings counted as N counts them."""
        return self.total_parameters - (self._layer_weights(self.experts) - self.layer_weights)

    @property
    def looked_up_parameters(self) -> int:
        """Those of the embedding's table where the logits have their own: looked up, not multiplied."""
        return 0 if self.tied else self.logit_weights

    @property
    def _embedding_weights(self) -> int:
        return self.logit_weights * (1 if self.tied else 2) + self.learned_positions * self.width

    def _layer_weights(self, experts: int) -> int:
        attention = self.attention_weights
        if attention is None:
            share = 1 if self.kv_heads is None else self.kv_heads / self.heads
            attention = round(2 * self.width * self.features * (1 + share))
        matrices = 3 if self.gated else 2
        dense = self.dense_layers if self.experts else self.layers
        routed = self.layers - dense
        mixed = matrices * self.width * (experts * self.expert_ffn + self.shared_ffn)
        router = self.width * self.experts
        return self.layers * attention + dense * matrices * self.width * self.ffn + routed * (mixed + router)


def shape_from_parameters(
    parameters: float, *, width_over_layers: float = 128.0, vocabulary: int = 0
) -> ModelShape:
    """The shape of a usual decoder of so many parameters: N = 12·L·d², heads of 128, MLP of 4·d.

    `width_over_layers` is 100 to 130 in the Llama 3 family. The parameters stay as given: only attention's
    share of the FLOPs depends on the rest. With a `vocabulary` the logits are counted, and N includes them.
    Raises ValueError for parameters that aren't above 0.
    """
    if not parameters > 0:
        raise ValueError(f"parameters above 0, got {parameters}")
    # 12·L·d² with d = r·L is 12·r²·L³.
    layers = max(round((parameters / (12 * width_over_layers**2)) ** (1 / 3)), 1)
    width = max(round((parameters / (12 * layers)) ** 0.5), 1)
    heads = max(round(width / 128), 1)
    return ModelShape(
        layers,
        width,
        heads,
        max(vocabulary, 1),
        4 * width,
        gated=False,
        head_dim=max(round(width / heads), 1),
        tied=True,
        parameters=round(parameters),
    )
