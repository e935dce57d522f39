"""The stages of the chain: their order, and what they're called on a screen."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from nameplate.base.language import N_


class Stage(StrEnum):
    """What throughput is rated or measured as, from nominal to delivered, in the chain's order.

    `gemm` is `gemm_burst` and `gemm_sustained` in one: the best product of a run that didn't measure phases
    apart. A chain holds either it or those two, so where it ends with `gemm` it reaches as far as one that
    ends with `gemm_sustained`.
    """

    NOMINAL = "nominal"
    DATASHEET = "datasheet"
    GEMM = "gemm"
    GEMM_BURST = "gemm_burst"
    GEMM_SUSTAINED = "gemm_sustained"
    GEMM_MODEL = "gemm_model"
    BLOCK = "block"
    STEP = "step"
    SCALED = "scaled"
    GOODPUT = "goodput"

    @property
    def position(self) -> int:
        """Its place in the order, from 0: what stands first in a table, and lowest in a ranking."""
        return list(Stage).index(self)

    @property
    def reach(self) -> int:
        """How far a chain that ends with it comes: a position, `gemm_sustained`'s for `gemm`."""
        return Stage.GEMM_SUSTAINED.position if self is Stage.GEMM else self.position

    @property
    def following(self) -> tuple[Stage, ...]:
        """The stages that a chain that ends with it doesn't reach; `gemm` is never missing from a chain."""
        return tuple(stage for stage in Stage if stage is not Stage.GEMM and stage.reach > self.reach)

    @property
    def label(self) -> str:
        """Its name in tables and charts; English, to be translated where it's shown, as the others are."""
        return _TEXTS[self].label

    @property
    def reached(self) -> str:
        """Where a run reached a share of nominal: "in its best matrix product"; empty where no run comes."""
        return _TEXTS[self].reached

    @property
    def work(self) -> str:
        """In what a fleet delivers its figure: "its best matrix product"; empty for a rating."""
        return _TEXTS[self].work


class _Texts(NamedTuple):
    label: str
    reached: str = ""
    work: str = ""


_TEXTS = {
    Stage.NOMINAL: _Texts(N_("nominal")),
    Stage.DATASHEET: _Texts(N_("datasheet")),
    Stage.GEMM: _Texts(N_("best product"), N_("in its best matrix product"), N_("its best matrix product")),
    Stage.GEMM_BURST: _Texts(
        N_("best product, burst"),
        N_("in its best matrix product from cool"),
        N_("its best matrix product, from cool"),
    ),
    Stage.GEMM_SUSTAINED: _Texts(
        N_("best product, sustained"),
        N_("in its best matrix product once settled"),
        N_("its best matrix product, settled"),
    ),
    Stage.GEMM_MODEL: _Texts(
        N_("the model's products"), N_("in the model's own products"), N_("a model's own matrix products")
    ),
    Stage.BLOCK: _Texts(
        N_("transformer block"),
        N_("in a full-width transformer block, forward and backward"),
        N_("a transformer block, forward and backward"),
    ),
    Stage.STEP: _Texts(N_("training step"), work=N_("a whole training step")),
    Stage.SCALED: _Texts(N_("many devices"), work=N_("training on several devices")),
    Stage.GOODPUT: _Texts(N_("goodput"), work=N_("training, interruptions included")),
}
