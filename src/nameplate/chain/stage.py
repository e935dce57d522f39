"""The stages of the chain: their order, and their names on a screen."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from nameplate.base.language import N_


class Stage(StrEnum):
    """The stages at which throughput is rated or measured, from nominal to delivered, in order.

    `gemm` is the best matrix product of a run that didn't measure burst and sustained phases apart. A chain
    has either `gemm` or `gemm_burst` and `gemm_sustained`, so one that ends with `gemm` reaches as far as one
    that ends with `gemm_sustained`.
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
        """Its place in the order, from 0."""
        return list(Stage).index(self)

    @property
    def reach(self) -> int:
        """How far a chain that ends with it reaches: its position, for `gemm` that of `gemm_sustained`."""
        return Stage.GEMM_SUSTAINED.position if self is Stage.GEMM else self.position

    @property
    def following(self) -> tuple[Stage, ...]:
        """The stages that a chain that ends with it lacks, `gemm` aside."""
        return tuple(stage for stage in Stage if stage is not Stage.GEMM and stage.reach > self.reach)

    @property
    def label(self) -> str:
        """Its name in tables and charts, in English; the caller translates it, as the texts below."""
        return _TEXTS[self].label

    @property
    def reached(self) -> str:
        """Where a run reaches a share of nominal: "in its best matrix product"; empty if not measured."""
        return _TEXTS[self].reached

    @property
    def work(self) -> str:
        """The work in which a fleet delivers: "its best matrix product"; empty for a rating."""
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
    Stage.STEP: _Texts(
        N_("training step"),
        N_("in a training step of the whole model, predicted from its pieces"),
        N_("a whole training step"),
    ),
    Stage.SCALED: _Texts(
        N_("many devices"),
        N_("on all devices of a job, gradients exchanged"),
        N_("training on several devices"),
    ),
    Stage.GOODPUT: _Texts(N_("goodput"), work=N_("training, interruptions included")),
}
