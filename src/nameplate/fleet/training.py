"""A training run, planned: tokens and FLOPs of hours of clips, days on a fleet, cards in time, and RMB.

    tokens  = seconds of clips × cameras × frames a second × tokens a frame × passes over the data
    FLOP    = tokens × FLOP a token
    days    = FLOP ÷ (delivered EFLOPS × 10^18 × 86,400)
    needed  = FLOP ÷ (days between runs × 10^18 × 86,400), in delivered EFLOPS
    refresh = FLOP × what a delivered EFLOPS costs its owner a year ÷ (10^18 × 86,400 × 365), in RMB

FLOP a token is 6N, 2N forward and 4N backward; N are the parameters that work on each token (Kaplan et al.,
arXiv 2001.08361, section 2.1). With attention it is 6N + 12LdT: T tokens of context in L layers of width d.
The half that a causal mask hides is counted, as in Megatron, PaLM and nanoGPT. L and d follow from N = 12Ld²
and d ÷ L.

It is one training run: no experiments, failed runs, labelling or simulation, no encoder before the tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from nameplate.base.errors import InputError
from nameplate.base.formatting import count, duration, figure, money, percent, rmb, scientific, stated
from nameplate.base.language import N_, _
from nameplate.base.model import FrozenModel
from nameplate.base.toml import parse_toml, read_packaged
from nameplate.fleet.assumptions import UsedInput
from nameplate.fleet.catalogues import Date, Positive, Text, UncertainEntry
from nameplate.fleet.describe import describe_range
from nameplate.fleet.montecarlo import (
    DrawnInput,
    Estimate,
    MonteCarlo,
    Quantity,
    SensitivityIndex,
    enclose,
    montecarlo_of,
)
from nameplate.fleet.outputs import DAYS_PER_YEAR, inputs_of
from nameplate.fleet.plan import Need, as_names, estimate_columns, meet, need_columns, pricing_columns
from nameplate.fleet.price import Cost, cost
from nameplate.fleet.rows import columns
from nameplate.stats.uncertain import Written, read_uncertain

FILE = "training.toml"
# The figures of a run on a fleet.
RUNS = ("days", "gang_days", "refresh_rmb")
_SECONDS_PER_HOUR, _SECONDS_PER_DAY = 3_600, 86_400
FLOP_PER_EFLOPS_DAY = 1e18 * _SECONDS_PER_DAY
_PER_PARAMETER = 6  # FLOP a token
_PER_ATTENDED = 12  # FLOP a token, by layers × width × context
_PARAMETERS = 12  # of a layer, by width²
# Of an input: far beyond any run, and well within what floating point holds of their product.
_LEAST, _MOST = 1e-9, 1e18
_SHORTEST, _LONGEST = 0.001, 100_000  # days


# The work of a run


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
    attention_flop: Quantity  # 12LdT, a token, whether it is counted or not
    attention: bool  # whether it is counted
    context_tokens: float
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
        return "6N + 12LdT" if self.attention else "6N"

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
    attention: bool = False,
    **assumed: Written | None,
) -> Work:
    """The tokens and FLOPs of a run on so many hours of clips, or so many clips.

    `assumed` sets inputs of `load_training_inputs` by name. Raises InputError unless one of `hours` and
    `clips` is given, and for an input that can't be used.
    """
    if (hours is None) == (clips is None):
        got = "neither" if hours is None else "both"
        raise InputError(
            "hours or clips?",
            where="--hours, --clips",
            got=got,
            expected="one of the two",
        )
    given = {"parameters": parameters, "hours": hours, "clips": clips, **assumed}
    # The inputs that have no effect, each with the flag that would give it one.
    unused = {"clip_seconds": "--clips"} if clips is None else {}
    if not attention:
        unused |= {"context_tokens": "--attention", "width_over_layers": "--attention"}
    for name, flag in unused.items():
        if given.get(name) is not None:
            expected = f"{flag} with it"
            raise InputError("has no effect", where=_flag(name), got=given[name], expected=expected)
    inputs = {name: _use_default(name, each) for name, each in load_training_inputs().items()}
    inputs |= {name: _use_given(name, each) for name, each in given.items() if each is not None}
    of = {name: _draw(each, montecarlo) for name, each in inputs.items()}
    seconds = of["clips"] * of["clip_seconds"] if hours is None else of["hours"] * _SECONDS_PER_HOUR
    # 12LdT, where N = 12Ld² and d = L × width over layers
    width_over_layers = of["width_over_layers"]
    layers = (of["parameters"] / (width_over_layers * width_over_layers * _PARAMETERS)) ** (1 / 3)
    return Work(
        seconds * of["cameras"] * of["frames_per_second"] * of["tokens_per_frame"] * of["epochs"],
        of["parameters"] * _PER_PARAMETER,
        layers * layers * width_over_layers * of["context_tokens"] * _PER_ATTENDED,
        attention,
        inputs["context_tokens"].uncertain.value,
        {name: each for name, each in inputs.items() if name not in unused},
    )


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _use_given(name: str, given: Written) -> UsedInput:
    flag, default = _flag(name), load_training_inputs().get(name)
    number = read_uncertain(given, flag)
    if number.low < _LEAST or number.high > _MOST:
        expected = f"a number above 0, from {_LEAST:g} to {_MOST:g}"
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


# The run on a fleet, or on the cards that it needs


@dataclass(frozen=True)
class Training:
    """A training run on a fleet, and the cards of its part that finish it in time.

    The fleet is a `given` one, or the whole cards of `need`. `estimates` holds the known figures of RUNS: the
    days, the days at the slowest card's pace, and what owning the fleet costs in the time used. `sensitivity`
    traces the spread of days and RMB to inputs.
    """

    work: Work
    every_days: float
    given: bool
    fleet: Cost
    need: Need | None
    estimates: Mapping[str, Estimate]
    sensitivity: Mapping[str, tuple[SensitivityIndex, ...]]

    @property
    def needed(self) -> Quantity:
        """Delivered EFLOPS that finish it in time."""
        return self.work.flop / (self.every_days * FLOP_PER_EFLOPS_DAY)

    @property
    def reason(self) -> str | None:
        """Why figures are null; None where none is."""
        needs = None if self.need is None else self.need.reason
        return _("; ").join(dict.fromkeys(filter(None, (self.fleet.reason, needs)))) or None

    @property
    def sentence(self) -> str | None:
        """What the run takes, in one sentence; None where the days aren't known."""
        days, refresh = self.estimates.get("days"), self.estimates.get("refresh_rmb")
        if days is None or days.value is None:
            return None
        takes = self._describe_days(days) if self.given else self._describe_cards()
        said = _("{run} takes {what}", run=self.title, what=takes)
        if refresh is not None and refresh.value is not None:
            said = _(
                "{said}; each run costs the owner {rmb}{range}",
                said=said,
                rmb=rmb(refresh.value),
                range=describe_range(refresh, money),
            )
        return _("{said}.", said=said)

    @property
    def title(self) -> str:
        """The run in words: parameters, data, how often, and FLOPs."""
        inputs = self.work.inputs
        data = next(inputs[name].uncertain.value for name in ("hours", "clips") if name in inputs)
        text = (
            N_("Training {parameters} parameters on {count} hours of clips every {days} days ({flop} FLOP)")
            if "hours" in inputs
            else N_("Training {parameters} parameters on {count} clips every {days} days ({flop} FLOP)")
        )
        parameters = stated(inputs["parameters"].uncertain.value / 1e9)
        return _(
            text,
            parameters=_("{count} billion", count=parameters),
            count=count(data),
            days=stated(self.every_days),
            flop=scientific(self.work.flop.estimate.p50),
        )

    def _describe_days(self, days: Estimate) -> str:
        said = _(
            "{time} on {fleet}{range}",
            time=format_days(days.value),
            fleet=_(self.fleet.size.name),
            range=describe_range(days, format_days),
        )
        if self.need is None or self.need.cards is None or self.fleet.size.part is None:
            return said
        return _("{said}; {count} of its cards would finish in time", said=said, count=count(self.need.cards))

    def _describe_cards(self) -> str:
        cards = None if self.need is None else self.need.estimates.get("cards_exact")
        if self.need is None or cards is None:
            nominal = figure(self.fleet.size.nominal_eflops)
            return _("{eflops} nominal EFLOPS of {part}", eflops=nominal, part=_(self.fleet.size.name))
        said = _(
            "{count} cards of {part}{range}",
            count=count(self.need.cards),
            part=_(self.fleet.size.name),
            range=describe_range(cards, count),
        )
        if self.need.servers is None:
            return said
        return _("{said}, {count} servers", said=said, count=count(self.need.servers))

    def as_json(self) -> dict[str, Any]:
        """The run as a JSON row; what isn't known is null."""
        return {
            "fleet": self.fleet.size.id if self.given else None,
            "name": self.fleet.size.name,
            "part": self.fleet.size.part and self.fleet.size.part.id,
            "every_days": self.every_days,
            "convention": self.work.convention,
            **columns("tokens", self.work.tokens.estimate),
            **columns("flop_per_token", self.work.flop_per_token.estimate),
            **columns("flop", self.work.flop.estimate),
            "on_cards": self.fleet.size.cards if self.estimates else None,
            **estimate_columns(RUNS, self.estimates),
            **columns("needed_eflops", self.needed.estimate),
            **need_columns(self.need),
            **pricing_columns(self.fleet),
            "run_inputs": {name: each.as_json() for name, each in self.work.inputs.items()},
            "sensitivity": {name: [vars(index) for index in each] for name, each in self.sensitivity.items()},
            "sentence": self.sentence,
            "reason": self.reason,
        }


def train(
    parameters: Written,
    *,
    every_days: float,
    hours: Written | None = None,
    clips: Written | None = None,
    attention: bool = False,
    fleet: str | Sequence[str] = (),
    part: str | Sequence[str] = (),
    **options: Any,
) -> tuple[Training, ...]:
    """What it takes to train a model every so many days: on fleets, or on cards of parts.

    The data are so many `hours` of clips, or `clips`. Numbers may be ranges, as `read_uncertain` takes them;
    `options` are the inputs of `load_training_inputs` by name (`cameras=11`), and those of `cost`. A fleet's
    answer is the days, and the cards of its part that finish in time; a part's answer is these cards. Without
    either, the plan is made for every part with a known derate or price.

    Raises InputError as `cost` does, for fleets and parts at once, and for an input that can't be used.
    """
    assumed = {name: options.pop(name) for name in load_training_inputs() if name in options}
    fleets, parts = as_names(fleet), as_names(part)
    if fleets and parts:
        got = f"--fleet {fleets[0]} and --part {parts[0]}"
        raise InputError("a fleet and a part at once", got=got, expected="one of the two")
    if isinstance(every_days, bool) or not _SHORTEST <= every_days <= _LONGEST:
        expected = f"days from {stated(_SHORTEST)} to {stated(_LONGEST)}"
        raise InputError("not a time between runs", where="--every-days", got=every_days, expected=expected)
    montecarlo = montecarlo_of(options)
    work = compute_work(montecarlo, parameters, hours=hours, clips=clips, attention=attention, **assumed)
    needed = work.flop / (every_days * FLOP_PER_EFLOPS_DAY)
    planner = _Planner(work, every_days, montecarlo)
    if not fleets:
        return tuple(planner.plan(need.fleet, need, given=False) for need in meet(needed, parts, **options))
    held = cost(fleets, **options)
    ids = tuple(dict.fromkeys(part.id for fleet in held for part in fleet.size.parts))
    needs = dict(zip(ids, meet(needed, ids, **options), strict=True)) if ids else {}
    plans = []
    for each in held:
        own_part = each.size.part if each.reaches is not None else None
        need = None if own_part is None else needs.get(own_part.id)
        plans.append(planner.plan(each, need, given=True))
    return tuple(plans)


@dataclass(frozen=True)
class _Planner:
    """Plans one run, by one set of draws."""

    work: Work
    every_days: float
    montecarlo: MonteCarlo

    def plan(self, fleet: Cost, need: Need | None, *, given: bool) -> Training:
        """The run on a given fleet, or on the cards of its need; on a mix, the range over its parts."""
        # Where no cards meet the need, its fleet is one EFLOPS, whose days would mean nothing.
        is_planned = given or need is None or bool(need.estimates)
        pure = [self._compute(each) for each in fleet.mix or (fleet,)]
        known = [name for name in RUNS if is_planned and all(name in each for each in pure)]
        if fleet.mix:
            estimates = {name: enclose([each[name].estimate for each in pure]) for name in known}
            return Training(self.work, self.every_days, given, fleet, need, estimates, {})
        (figures,) = pure
        return Training(
            self.work,
            self.every_days,
            given,
            fleet,
            need,
            {name: figures[name].estimate for name in known},
            {name: self._rank(fleet, name, figures[name]) for name in known if name != "gang_days"},
        )

    def _compute(self, fleet: Cost) -> dict[str, Quantity]:
        """The known figures of RUNS on a fleet of one part."""
        one, nominal = fleet.quantities(self.montecarlo), fleet.size.nominal_eflops
        if nominal is None or "delivered_eflops" not in one:
            return {}
        eflops_days = self.work.flop / FLOP_PER_EFLOPS_DAY
        quantities = {"days": eflops_days / (one["delivered_eflops"] * nominal)}
        if "gang_eflops" in one:
            quantities["gang_days"] = eflops_days / (one["gang_eflops"] * nominal)
        if "rmb_per_delivered_eflops_year" in one:
            quantities["refresh_rmb"] = eflops_days * one["rmb_per_delivered_eflops_year"] / DAYS_PER_YEAR
        return quantities

    def _rank(self, fleet: Cost, name: str, quantity: Quantity) -> tuple[SensitivityIndex, ...]:
        """The inputs that a figure's spread comes from: the run's, the chain, and for RMB the fleet's too."""
        inputs: list[DrawnInput] = [*self.work.inputs.values()]
        if name == "refresh_rmb" and fleet.unit is not None:
            owned = inputs_of("rmb_per_delivered_eflops_year")
            inputs += [each for each in fleet.unit.inputs.values() if each.name in owned]
        return self.montecarlo.rank_inputs(quantity.draws, [*inputs, *fleet.chain])


def format_days(days: float | None) -> str:
    """So many days, in a readable unit."""
    return duration(None if days is None else days * _SECONDS_PER_DAY)
