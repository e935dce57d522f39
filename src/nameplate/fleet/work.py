"""The work of a training run: tokens and FLOPs of its data.

    tokens = seconds of clips × cameras × frames a second × tokens a frame × passes over the data
    FLOP   = tokens × FLOP a token

FLOP a token is 6N + 6LdT, by the convention of the chain's MFU (`models.conventions`: Megatron with half of
attention masked): 2N forward and 4N backward for the N parameters that work on a token (Kaplan et al.,
arXiv 2001.08361, section 2.1), and attention over T tokens of context in L layers of width d. L and d follow
from N = 12Ld² and d ÷ L. Without attention it is 6N: for a model whose attention costs next to nothing.

It is one training run. The pipeline around it is a product of factors, each sourced or assumed:

    pipeline = FLOP × (1 + encoder) ÷ (1 − share of hours outside the final run) × models
               × (1 + data mining + simulation)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from nameplate.base.errors import InputError
from nameplate.base.formatting import count, percent
from nameplate.base.language import N_, _
from nameplate.base.model import FrozenModel
from nameplate.base.toml import parse_toml, read_packaged
from nameplate.fleet.assumptions import UsedInput
from nameplate.fleet.catalogues import Date, Positive, Text, UncertainEntry
from nameplate.fleet.montecarlo import MonteCarlo, Quantity, as_quantity
from nameplate.stats.uncertain import Written, read_uncertain

FILE = "training.toml"
PIPELINE = ("encoder", "outside_final_run", "data_mining", "simulation", "models")
# What a run is trained on: one of them is given.
DATA = ("hours", "clips", "tokens")
_SECONDS_PER_HOUR = 3_600
_PER_PARAMETER = 6  # FLOP a token
_PER_ATTENDED = 6  # FLOP a token, by layers × width × context: half of 12, the other half is masked
_PARAMETERS = 12  # of a layer, by width²
# Of an input: far beyond any run, and well within what floating point holds of their product.
_LEAST, _MOST = 1e-9, 1e18
_MOST_FACTOR, _MOST_OUTSIDE = 1_000.0, 0.99  # of the pipeline


class TrainingInput(UncertainEntry):
    """The default of an input of a training run."""

    value: Positive
    unit: Text
    meaning: Text
    basis: Literal["cited", "assumed"]
    as_of: Date
    source: Text
    note: Text | None = None


class _TrainingFile(FrozenModel):
    schema_version: Annotated[Literal[1], Field(alias="schema")]
    input: dict[str, TrainingInput]


@cache
def load_training_inputs() -> Mapping[str, TrainingInput]:
    """The default inputs by name, checked."""
    return parse_toml(_TrainingFile, read_packaged("nameplate.fleet", FILE), FILE).input


@dataclass(frozen=True)
class Work:
    """The tokens and FLOPs of one training run, and the inputs that they follow from."""

    tokens: Quantity
    parameters_flop: Quantity  # 6N, a token
    attention_flop: Quantity  # 6LdT, a token, whether it is counted or not
    attention: bool  # whether it is counted
    context_tokens: float
    pipeline: Quantity  # FLOPs of the whole pipeline ÷ those of the run
    inputs: Mapping[str, UsedInput]

    @property
    def flop_per_token(self) -> Quantity:
        """FLOP a token, by the convention."""
        return self.parameters_flop + self.attention_flop if self.attention else self.parameters_flop

    @property
    def flop(self) -> Quantity:
        """FLOPs of the run."""
        return self.tokens * self.flop_per_token

    @property
    def convention(self) -> str:
        """How FLOPs are counted."""
        return "6N + 6LdT" if self.attention else "6N"

    @property
    def note(self) -> str:
        """How FLOPs are counted, and how large attention's share is or would be."""
        text = (
            N_("FLOPs are counted by {convention}: attention over {count} tokens is {share} of 6N")
            if self.attention
            else N_(
                "FLOPs are counted by {convention}: attention over {count} tokens isn't counted; it would be "
                "{share} of 6N"
            )
        )
        share = percent(self.attention_flop.value / self.parameters_flop.value)
        return _(text, convention=self.convention, count=count(self.context_tokens), share=share)


def compute_work(
    montecarlo: MonteCarlo,
    parameters: Written,
    *,
    hours: Written | None = None,
    clips: Written | None = None,
    tokens: Written | None = None,
    active_parameters: float | None = None,
    attention: bool = True,
    **assumed: Written | None,
) -> Work:
    """The tokens and FLOPs of a run on so many hours of clips, so many clips, or so many tokens.

    Of a mixture of experts `active_parameters` work on a token. `assumed` sets inputs of
    `load_training_inputs` by name. Raises InputError unless one of `hours`, `clips` and `tokens` is given,
    and for an input that can't be used.
    """
    data = {"hours": hours, "clips": clips, "tokens": tokens}
    _require_one(data)
    given = {"parameters": parameters, **data, **assumed}
    unused = _find_unused(data, attention)
    for name, flag in unused.items():
        if given.get(name) is not None:
            expected = f"{flag} with it"
            raise InputError("has no effect", where=_flag(name), got=given[name], expected=expected)
    inputs = {name: _use_default(name, each) for name, each in load_training_inputs().items()}
    inputs |= {name: _use_given(name, each) for name, each in given.items() if each is not None}
    of = {name: _draw(each, montecarlo) for name, each in inputs.items()}
    active = of["parameters"] if active_parameters is None else as_quantity(active_parameters)
    # 6LdT, where N = 12Ld² and d = L × width over layers
    width_over_layers = of["width_over_layers"]
    layers = (active / (width_over_layers * width_over_layers * _PARAMETERS)) ** (1 / 3)
    one = as_quantity(1.0)
    kept = one + of["outside_final_run"] * -1.0
    return Work(
        of["tokens"] if tokens is not None else _count_tokens(of),
        active * _PER_PARAMETER,
        layers * layers * width_over_layers * of["context_tokens"] * _PER_ATTENDED,
        attention,
        inputs["context_tokens"].uncertain.value,
        (one + of["encoder"]) / kept * of["models"] * (one + of["data_mining"] + of["simulation"]),
        {name: each for name, each in inputs.items() if name not in unused},
    )


def _require_one(data: Mapping[str, Written | None]) -> None:
    """Raise InputError unless exactly one of `DATA` is given."""
    known = [name for name, each in data.items() if each is not None]
    if len(known) != 1:
        raise InputError(
            "not one amount of data",
            where=", ".join(map(_flag, DATA)),
            got=" and ".join(map(_flag, known)) or "none of them",
            expected="one of them",
        )


def _find_unused(data: Mapping[str, Written | None], attention: bool) -> dict[str, str]:
    """Return the inputs that have no effect, each with the flag that would give it one."""
    unused = {"clip_seconds": "--clips"} if data["clips"] is None else {}
    if data["tokens"] is not None:
        of_clips = ("clip_seconds", "cameras", "frames_per_second", "tokens_per_frame", "epochs")
        unused |= dict.fromkeys(of_clips, "--hours or --clips")
    if not attention:
        unused |= {"context_tokens": "--attention", "width_over_layers": "--attention"}
    return unused


def _count_tokens(of: Mapping[str, Quantity]) -> Quantity:
    """Count the tokens of clips, of which their number or their hours are known."""
    seconds = of["hours"] * _SECONDS_PER_HOUR if "hours" in of else of["clips"] * of["clip_seconds"]
    frames = of["cameras"] * of["frames_per_second"]
    return seconds * frames * of["tokens_per_frame"] * of["epochs"]


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _use_given(name: str, given: Written) -> UsedInput:
    flag, default = _flag(name), load_training_inputs().get(name)
    number = read_uncertain(given, flag)
    least, most = (0.0, _MOST_FACTOR) if name in PIPELINE else (_LEAST, _MOST)
    if name == "outside_final_run":
        most = _MOST_OUTSIDE
    if number.low < least or number.high > most:
        expected = f"a number from {least:g} to {most:g}"
        raise InputError("not an input of a training run", where=flag, got=given, expected=expected)
    # parameters, hours and clips have no default, and are units themselves
    unit = default.unit if default else name
    return UsedInput(name, unit, number, "given", _("given by {flag}", flag=flag), name)


def _use_default(name: str, default: TrainingInput) -> UsedInput:
    source = f"{default.source} ({default.as_of})" + (f"; {default.note}" if default.note else "")
    return UsedInput(name, default.unit, default.uncertain, default.basis, source, name)


def _draw(used: UsedInput, montecarlo: MonteCarlo) -> Quantity:
    """The input with its draws, in 64 bits: FLOPs may be more than 32 bits hold."""
    draws = montecarlo.draw(used.draws_name, used.uncertain)
    is_exact = isinstance(draws, float | int)
    return Quantity(used.uncertain.value, draws if is_exact else np.asarray(draws, dtype=np.float64))
