"""The stages of a chain as people say them, and what is left of nominal at each."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from nameplate.derate.chain import Stage, Stages
from nameplate.language import N_, _
from nameplate.stats import Interval

_STAGE_WORDS = {
    "nominal": N_("nominal"),
    "datasheet": N_("datasheet"),
    "gemm": N_("best product"),
    "gemm_burst": N_("best product, burst"),
    "gemm_sustained": N_("best product, sustained"),
    "gemm_model": N_("the model's products"),
    "block": N_("transformer block"),
    "step": N_("training step"),
    "scaled": N_("many devices"),
    "goodput": N_("goodput"),
}


def stage_words(stage: str) -> str:
    """What a stage is called where a person reads it."""
    return _(_STAGE_WORDS.get(stage, stage))


def in_order(stages: Collection[str]) -> list[str]:
    """Stages in the chain's order, whatever order they were found in."""
    return [name for name in _STAGE_WORDS if name in stages]


def slowest(stages: Sequence[Stages]) -> Stages | None:
    """The device at whose pace a job on all of them goes: of those whose chain reaches furthest, the one with
    the least left of nominal. None where no device has a chain.
    """
    rated = [each for each in stages if len(each.stages) > 1]
    most = max((len(each.stages) for each in rated), default=0)
    reaching = [each for each in rated if len(each.stages) == most]
    return min(reaching, key=lambda each: left(each.stages[-1], each.stages[0]).value, default=None)


def left(stage: Stage, nominal: Stage) -> Interval:
    """What a stage reaches of nominal, with the interval of its own figure."""
    return stage.reached.tflops.scaled(1 / nominal.reached.tflops.value)
