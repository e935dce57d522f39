"""A training run, planned: from hours of clips to tokens, FLOPs, days on a fleet, cards in time, and RMB.

    tokens  = seconds of clips × cameras × frames a second × tokens a frame × passes over the data
    FLOP    = tokens × FLOP a token
    days    = FLOP ÷ (delivered EFLOPS × 10^18 × 86,400)
    needed  = FLOP ÷ (days between refreshes × 10^18 × 86,400), in delivered EFLOPS
    refresh = FLOP × what a delivered EFLOPS costs its owner a year ÷ (10^18 × 86,400 × 365), in RMB

FLOP a token is 6N: 2N forward and 4N backward, N being the parameters that work on each token (Kaplan et al.,
arXiv 2001.08361, section 2.1). With attention it is 6N + 12LdT: T tokens of context in L layers of width d,
the half that a causal mask hides not taken off, as Megatron, PaLM and nanoGPT count. L and d follow from
N = 12Ld² and d ÷ L.

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
from nameplate.fleet.catalogues import Date, Positive, Spreading, Text
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
from nameplate.fleet.plan import Need, basis, meet, names_of, taken
from nameplate.fleet.price import Cost, cost
from nameplate.fleet.rows import columns
from nameplate.stats.uncertain import Written, read_uncertain

FILE = "training.toml"
# What is known of a run on a fleet.
RUNS = ("days", "gang_days", "refresh_rmb")
_SECONDS_PER_HOUR, _SECONDS_PER_DAY = 3_600, 86_400
FLOP_PER_EFLOPS_DAY = 1e18 * _SECONDS_PER_DAY
_PER_PARAMETER = 6  # FLOP a token
_PER_ATTENDED = 12  # FLOP a token, by layers × width × context
_PARAMETERS = 12  # of a layer, by width²
# Of an input: far beyond any run, and well within what floating point holds of their product.
_LEAST, _MOST = 1e-9, 1e18
_SHORTEST, _LONGEST = 0.001, 100_000  # days
_UNITS = {"parameters": "parameters", "hours": "hours", "clips": "clips"}


# What a run is made of


class TrainingInput(Spreading):
    """An assumption about a training run, where the user says nothing else."""

    value: Positive
    unit: Text
    meaning: Text
    basis: Literal["cited", "assumed"]
    as_of: Date
    source: Text
    note: Text | None = None


class _File(FrozenModel):
    schema_version: Annotated[Literal[1], Field(alias="schema")]
    input: dict[str, TrainingInput]


@cache
def assumptions() -> Mapping[str, TrainingInput]:
    """The shipped assumptions by name, checked."""
    return parse_toml(_File, read_packaged("nameplate.fleet", FILE), FILE).input


@dataclass(frozen=True)
class Work:
    """What one training run computes; `inputs` are what it follows from."""

    tokens: Quantity
    parameters_flop: Quantity  # 6N, a token
    attention_flop: Quantity  # 12LdT, a token, whether it is counted or not
    attention: bool  # whether it is
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
        """How FLOPs are counted, and what attention is of them, or would be."""
        share = self.attention_flop.value / self.parameters_flop.value
        text = (
            N_("FLOPs are counted by {convention}: attention over {count} tokens is {share} of 6N")
            if self.attention
            else N_(
                "FLOPs are counted by {convention}: attention over {count} tokens isn't in it and would be "
                "{share} of 6N"
            )
        )
        tokens = count(self.context_tokens)
        return _(text, convention=self.convention, count=tokens, share=percent(share))


def work(
    montecarlo: MonteCarlo,
    parameters: Written,
    *,
    hours: Written | None = None,
    clips: Written | None = None,
    attention: bool = False,
    **assumed: Written | None,
) -> Work:
    """The tokens and FLOPs of a run on so many hours of clips, or so many clips.

    `assumed` sets `assumptions()` by name. Raises InputError unless one of `hours` and `clips` is given, and
    for an input that can't be used.
    """
    if (hours is None) == (clips is None):
        got = "neither" if hours is None else "both"
        raise InputError("how much data?", where="--hours, --clips", got=got, expected="one of the two")
    given = {"parameters": parameters, "hours": hours, "clips": clips, **assumed}
    unused = _unused(hours=hours is not None, attention=attention)
    for name, flag in unused.items():
        if given.get(name) is not None:
            where, expected = f"--{name.replace('_', '-')}", f"{flag} beside it"
            raise InputError("of no use here", where=where, got=given[name], expected=expected)
    stated = {name: _used(name, each) for name, each in given.items() if each is not None}
    inputs = {name: _shipped(name, each) for name, each in assumptions().items()} | stated
    of = {name: _amount(each, montecarlo) for name, each in inputs.items()}
    seconds = of["clips"] * of["clip_seconds"] if hours is None else of["hours"] * _SECONDS_PER_HOUR
    tokens = seconds * of["cameras"] * of["frames_per_second"] * of["tokens_per_frame"] * of["epochs"]
    per_token = of["parameters"] * _PER_PARAMETER
    attended = _attention(of["parameters"], of["width_over_layers"], of["context_tokens"])
    used = {name: each for name, each in inputs.items() if name not in unused}
    return Work(tokens, per_token, attended, attention, inputs["context_tokens"].uncertain.value, used)


def _unused(*, hours: bool, attention: bool) -> dict[str, str]:
    """The assumptions that nothing follows from, each with the flag that it would go with."""
    clips = {"clip_seconds": "--clips"} if hours else {}
    attended = ("context_tokens", "width_over_layers")
    return clips if attention else clips | dict.fromkeys(attended, "--attention")


def _attention(parameters: Quantity, width_over_layers: Quantity, context: Quantity) -> Quantity:
    """12LdT, where N = 12Ld² and d = L × width over layers: FLOP a token."""
    layers = (parameters / (width_over_layers * width_over_layers * _PARAMETERS)) ** (1 / 3)
    return layers * layers * width_over_layers * context * _PER_ATTENDED


def _used(name: str, given: Written) -> UsedInput:
    flag = f"--{name.replace('_', '-')}"
    number = read_uncertain(given, flag)
    if number.low < _LEAST or number.high > _MOST:
        expected = f"a number above 0, from {_LEAST:g} to {_MOST:g}"
        raise InputError("not an input of a training run", where=flag, got=given, expected=expected)
    unit = _UNITS[name] if name in _UNITS else assumptions()[name].unit
    return UsedInput(name, unit, number, "given", _("given by {flag}", flag=flag), name)


def _shipped(name: str, entry: TrainingInput) -> UsedInput:
    source = f"{entry.source} ({entry.as_of})" + (f"; {entry.note}" if entry.note else "")
    return UsedInput(name, entry.unit, entry.uncertain, entry.basis, source, name)


def _amount(used: UsedInput, montecarlo: MonteCarlo) -> Quantity:
    """The input with its draws, in 64 bits: FLOPs may be more than 32 hold."""
    drawn = montecarlo.draw(used.draws_name, used.uncertain)
    exact = isinstance(drawn, float | int)
    return Quantity(used.uncertain.value, drawn if exact else np.asarray(drawn, dtype=np.float64))


# What it takes


@dataclass(frozen=True)
class Training:
    """A training run on a fleet, and the cards of its part that finish it in time.

    The fleet is a given one, or the whole cards that `need` says. `estimates` holds what is known of RUNS:
    days, those at the pace of the slowest of the cards, and what owning the fleet costs in the time used.
    `shares` traces the spread of days and of RMB to inputs.
    """

    work: Work
    every_days: float
    given: bool
    fleet: Cost
    need: Need | None
    estimates: Mapping[str, Estimate]
    shares: Mapping[str, tuple[SensitivityIndex, ...]]

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
        """What the run takes, in one sentence; None where nothing of that is known."""
        days, refresh = self.estimates.get("days"), self.estimates.get("refresh_rmb")
        if days is None or days.value is None:
            return None
        takes = self._on_fleet(days) if self.given else self._of_part()
        said = _("{run} takes {what}", run=self.run, what=takes)
        if refresh is not None and refresh.value is not None:
            said = _(
                "{said}; a refresh costs its owner {rmb}{range}",
                said=said,
                rmb=rmb(refresh.value),
                range=describe_range(refresh, money),
            )
        return _("{said}.", said=said)

    @property
    def run(self) -> str:
        """What is trained, on what, how often, and the FLOPs of that."""
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
            flop=scientific(self.work.flop.value),
        )

    def _on_fleet(self, days: Estimate) -> str:
        said = _(
            "{time} on {fleet}{range}",
            time=time_of(days.value),
            fleet=_(self.fleet.size.name),
            range=describe_range(days, time_of),
        )
        if self.need is None or self.need.cards is None or self.fleet.size.part is None:
            return said
        return _("{said}, and {count} of its cards would do", said=said, count=count(self.need.cards))

    def _of_part(self) -> str:
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
            **{key: each for name in RUNS for key, each in columns(name, self.estimates.get(name)).items()},
            **columns("needed_eflops", self.needed.estimate),
            **taken(self.need),
            **basis(self.fleet),
            "run_inputs": {name: each.as_json() for name, each in self.work.inputs.items()},
            "sensitivity": {name: [vars(share) for share in each] for name, each in self.shares.items()},
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
    """What training a model takes that is refreshed every so many days: on fleets, or by parts.

    The data are so many `hours` of clips, or `clips`. Numbers may be ranges, as `read_uncertain` takes them;
    `options` are `assumptions()` by name (`cameras=11`) and those of `cost`. Of a fleet it says the days, and
    the cards of its part that would do; of a part the cards. Without either, it is of the parts that a derate
    or a price is known of.

    Raises InputError as `cost` does, for fleets and parts at once, and for what can't be planned with.
    """
    assumed = {name: options.pop(name) for name in assumptions() if name in options}
    fleets, parts = names_of(fleet), names_of(part)
    if fleets and parts:
        got = f"--fleet {fleets[0]} and --part {parts[0]}"
        raise InputError("a fleet and a part at once", got=got, expected="one of the two")
    if isinstance(every_days, bool) or not _SHORTEST <= every_days <= _LONGEST:
        expected = f"days from {stated(_SHORTEST)} to {stated(_LONGEST)}"
        raise InputError(
            "not a time between refreshes", where="--every-days", got=every_days, expected=expected
        )
    montecarlo = montecarlo_of(options)
    asked = work(montecarlo, parameters, hours=hours, clips=clips, attention=attention, **assumed)
    planner = _Planner(asked, every_days, montecarlo)
    needed = asked.flop / (every_days * FLOP_PER_EFLOPS_DAY)
    if not fleets:
        return tuple(planner.of_part(need) for need in meet(needed, parts, **options))
    held = cost(fleets, **options)
    ids = tuple(dict.fromkeys(each.id for one in held for each in one.size.parts))
    met = dict(zip(ids, meet(needed, ids, **options), strict=True)) if ids else {}
    return tuple(planner.on_fleet(each, _need_of(each, met)) for each in held)


def _need_of(fleet: Cost, met: Mapping[str, Need]) -> Need | None:
    """The need of a fleet's own part; None for a mix, and where what the fleet delivers isn't known."""
    return None if fleet.size.part is None or fleet.reaches is None else met.get(fleet.size.part.id)


@dataclass(frozen=True)
class _Planner:
    """Plans one run, by one set of draws."""

    work: Work
    every_days: float
    montecarlo: MonteCarlo

    def of_part(self, need: Need) -> Training:
        """The run on the whole cards that finish it in time."""
        found = self._figures(need.fleet) if need.estimates else {}
        return self._training(need.fleet, need, found, given=False)

    def on_fleet(self, fleet: Cost, need: Need | None) -> Training:
        """The run on a fleet; on a mix, the least and the most over its parts."""
        if not fleet.mix:
            return self._training(fleet, need, self._figures(fleet), given=True)
        pure = [self._figures(each) for each in fleet.mix]
        found = {
            name: enclose([each[name].estimate for each in pure])
            for name in RUNS
            if all(name in each for each in pure)
        }
        return Training(self.work, self.every_days, True, fleet, None, found, {})

    def _training(
        self, fleet: Cost, need: Need | None, found: Mapping[str, Quantity], *, given: bool
    ) -> Training:
        estimates = {name: each.estimate for name, each in found.items()}
        shares = {
            name: self._shares(fleet, name, each) for name, each in found.items() if name != "gang_days"
        }
        return Training(self.work, self.every_days, given, fleet, need, estimates, shares)

    def _figures(self, fleet: Cost) -> dict[str, Quantity]:
        """What is known of RUNS on a fleet of one part."""
        one, nominal = fleet.quantities(self.montecarlo), fleet.size.nominal_eflops
        if nominal is None or "delivered_eflops" not in one:
            return {}
        eflops_days = self.work.flop / FLOP_PER_EFLOPS_DAY
        found = {"days": eflops_days / (one["delivered_eflops"] * nominal)}
        if "gang_eflops" in one:
            found["gang_days"] = eflops_days / (one["gang_eflops"] * nominal)
        if "rmb_per_delivered_eflops_year" in one:
            found["refresh_rmb"] = eflops_days * one["rmb_per_delivered_eflops_year"] / DAYS_PER_YEAR
        return found

    def _shares(self, fleet: Cost, name: str, figure: Quantity) -> tuple[SensitivityIndex, ...]:
        """Where a figure's spread comes from: the run's inputs, the chain, and for RMB the fleet's inputs."""
        owned = inputs_of("rmb_per_delivered_eflops_year") if name == "refresh_rmb" else set()
        inputs: list[DrawnInput] = [*self.work.inputs.values()]
        if fleet.unit is not None:
            inputs += [each for each in fleet.unit.inputs.values() if each.name in owned]
        return self.montecarlo.rank_inputs(figure.draws, [*inputs, *fleet.chain])


def time_of(days: float | None) -> str:
    """So many days, in the unit that people say them in."""
    return duration(None if days is None else days * _SECONDS_PER_DAY)
