"""A training run, planned: days on a fleet, cards in time, and RMB.

    days    = FLOP ÷ (delivered EFLOPS × 10^18 × 86,400)
    needed  = FLOP ÷ (days between runs × 10^18 × 86,400), in delivered EFLOPS
    refresh = FLOP × what a delivered EFLOPS costs its owner a year ÷ (10^18 × 86,400 × 365), in RMB

FLOP are those of `fleet.work`; the MFU is that of a model of this size and context.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nameplate.base.errors import InputError
from nameplate.base.formatting import count, duration, figure, money, percent, rmb, scientific, stated
from nameplate.base.language import N_, _
from nameplate.fleet.describe import describe_range
from nameplate.fleet.mfu import TrainingSetup
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
from nameplate.fleet.plan import Need, estimate_columns, meet, need_columns, pricing_columns
from nameplate.fleet.price import Cost, cost
from nameplate.fleet.rows import columns
from nameplate.fleet.size import as_names, round_up
from nameplate.fleet.work import DATA, Work, compute_work, load_training_inputs
from nameplate.stats.uncertain import Written

# The figures of a run on a fleet.
TRAINING_FIGURES = (
    "days",
    "gang_days",  # at the pace of the slowest card
    "refresh_rmb",  # what owning the fleet costs in the time used
    "card_hours",
    "tokens_per_card_second",
    "pipeline_cards",
)
# Those of a given fleet: the cards that finish the run, or all of the pipeline, in time, ÷ its own.
FLEET_SHARES = ("share_of_fleet", "pipeline_share_of_fleet")
_TRACED = ("days", "refresh_rmb")
_SECONDS_PER_DAY, _HOURS_PER_DAY = 86_400, 24
_FLOP_PER_EFLOP = 1e18
FLOP_PER_EFLOPS_DAY = _FLOP_PER_EFLOP * _SECONDS_PER_DAY
_SHORTEST, _LONGEST = 0.001, 100_000  # days
_TITLES = {
    "hours": N_("Training {parameters} parameters on {count} hours of clips every {days} days ({flop} FLOP)"),
    "clips": N_("Training {parameters} parameters on {count} clips every {days} days ({flop} FLOP)"),
    "tokens": N_("Training {parameters} parameters on {count} tokens every {days} days ({flop} FLOP)"),
}


@dataclass(frozen=True)
class TrainingPlan:
    """A training run on a fleet, and the cards of its part that finish it in time.

    The fleet is a `given` one, or the whole cards of `need`. `estimates` holds those of TRAINING_FIGURES that
    are known, and of a given fleet also FLEET_SHARES. `sensitivity` traces the spread of days and RMB to
    inputs.
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
        name = next(each for each in DATA if each in inputs)
        data, text = inputs[name].uncertain.value, _TITLES[name]
        parameters = stated(inputs["parameters"].uncertain.value / 1e9)
        return _(
            text,
            parameters=_("{count} billion", count=parameters),
            count=scientific(data) if name == "tokens" else count(data),
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

    @property
    def pipeline_sentence(self) -> str | None:
        """What the rest of the pipeline makes of it, and which share of the fleet both are."""
        cards, share = (self.estimates.get(name) for name in ("pipeline_cards", "share_of_fleet"))
        if cards is None or cards.p50 is None:
            return None
        said = _(
            "With encoder, experiments, data mining, simulation and {models} models it takes {count} "
            "cards{range}",
            models=stated(self.work.inputs["models"].uncertain.value),
            count=count(round_up(cards.p50)),
            range=describe_range(cards, count),
        )
        whole = self.estimates.get("pipeline_share_of_fleet")
        if share is None or whole is None:
            return _("{said}.", said=said)
        return _(
            "{said}. Of {fleet}'s {cards} cards the run is {share} and the pipeline {whole}.",
            said=said,
            fleet=_(self.fleet.size.name),
            cards=count(self.fleet.size.cards),
            share=percent(share.p50),
            whole=percent(whole.p50),
        )

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
            **estimate_columns((*TRAINING_FIGURES, *FLEET_SHARES), self.estimates),
            **columns("pipeline_factor", self.work.pipeline.estimate),
            **columns("needed_eflops", self.needed.estimate),
            **need_columns(self.need),
            **pricing_columns(self.fleet),
            "run_inputs": {name: each.as_json() for name, each in self.work.inputs.items()},
            "sensitivity": {name: [vars(index) for index in each] for name, each in self.sensitivity.items()},
            "sentence": self.sentence,
            "pipeline": self.pipeline_sentence,
            "reason": self.reason,
        }


def train(
    parameters: Written,
    *,
    every_days: float,
    hours: Written | None = None,
    clips: Written | None = None,
    tokens: Written | None = None,
    attention: bool = True,
    training: TrainingSetup | None = None,
    fleet: str | Sequence[str] = (),
    part: str | Sequence[str] = (),
    **options: Any,
) -> tuple[TrainingPlan, ...]:
    """What it takes to train a model every so many days: on fleets, or on cards of parts.

    The data are so many `hours` of clips, `clips` or `tokens`. Numbers may be ranges, as `read_uncertain`
    takes them; `options` are the inputs of `load_training_inputs` by name (`cameras=11`), and those of
    `cost`. `training` says the active parameters of a mixture of experts, the precision, the stack and the
    year; its parameters and context are those of the run. A fleet's answer is the days, and the cards of its
    part that finish in time; a part's answer is these cards. Without either, the plan is made for every part
    with a known price, and those that published runs trained on.

    Raises InputError as `cost` does, for fleets and parts at once, and for an input that can't be used.
    """
    assumed = {name: options.pop(name) for name in load_training_inputs() if name in options}
    fleets, parts = as_names(fleet), as_names(part)
    _check_question(fleets, parts, every_days)
    montecarlo = montecarlo_of(options)
    work = compute_work(
        montecarlo,
        parameters,
        hours=hours,
        clips=clips,
        tokens=tokens,
        active_parameters=None if training is None else training.active_parameters,
        attention=attention,
        **assumed,
    )
    options["training"] = replace(
        training or TrainingSetup(),
        parameters=work.inputs["parameters"].uncertain.value,
        context=work.context_tokens,
    )
    needed = work.flop / (every_days * FLOP_PER_EFLOPS_DAY)
    planner = _Planner(work, every_days, montecarlo)
    if not fleets:
        return tuple(planner.plan(need.fleet, need, given=False) for need in meet(needed, parts, **options))
    return tuple(planner.plan_held(cost(fleets, **options), needed, options))


def _check_question(fleets: Sequence[str], parts: Sequence[str], every_days: float) -> None:
    if fleets and parts:
        got = f"--fleet {fleets[0]} and --part {parts[0]}"
        raise InputError("a fleet and a part at once", got=got, expected="one of the two")
    if isinstance(every_days, bool) or not _SHORTEST <= every_days <= _LONGEST:
        expected = f"days from {stated(_SHORTEST)} to {stated(_LONGEST)}"
        raise InputError("not a time between runs", where="--every-days", got=every_days, expected=expected)


@dataclass(frozen=True)
class _Planner:
    """Plans one run, by one set of draws."""

    work: Work
    every_days: float
    montecarlo: MonteCarlo

    def plan_held(
        self, fleets: Sequence[Cost], needed: Quantity, options: Mapping[str, Any]
    ) -> Iterator[TrainingPlan]:
        """The run on each fleet, beside the cards of its part that finish it in time."""
        ids = tuple(dict.fromkeys(part.id for fleet in fleets for part in fleet.size.parts))
        needs = dict(zip(ids, meet(needed, ids, **options), strict=True)) if ids else {}
        for fleet in fleets:
            own = fleet.size.part if fleet.reaches is not None else None
            yield self.plan(fleet, None if own is None else needs.get(own.id), given=True)

    def plan(self, fleet: Cost, need: Need | None, *, given: bool) -> TrainingPlan:
        """The run on a given fleet, or on the cards of its need; on a mix, the range over its parts."""
        # Where no cards meet the need, its fleet is one EFLOPS, whose days would mean nothing.
        is_planned = given or need is None or bool(need.estimates)
        pure = [self._compute(each) for each in fleet.mix or (fleet,)]
        known = [name for name in TRAINING_FIGURES if is_planned and all(name in each for each in pure)]
        if fleet.mix:
            estimates = {name: enclose([each[name].estimate for each in pure]) for name in known}
            return TrainingPlan(self.work, self.every_days, given, fleet, need, estimates, {})
        (figures,) = pure
        found = {name: figures[name].estimate for name in known}
        cards = None if need is None else need.estimates.get("cards_exact")
        if given and fleet.size.cards_exact is not None and cards is not None:
            own = 1 / fleet.size.cards_exact
            found["share_of_fleet"] = cards.scaled(own)
            found["pipeline_share_of_fleet"] = found["pipeline_cards"].scaled(own)
        ranked = {name: self._rank(fleet, name, figures[name]) for name in _TRACED if name in found}
        return TrainingPlan(self.work, self.every_days, given, fleet, need, found, ranked)

    def _compute(self, fleet: Cost) -> dict[str, Quantity]:
        """Those of TRAINING_FIGURES that are known, on a fleet of one part."""
        one, nominal = fleet.quantities(self.montecarlo), fleet.size.nominal_eflops
        if nominal is None or "delivered_eflops" not in one:
            return {}
        eflops_days = self.work.flop / FLOP_PER_EFLOPS_DAY
        quantities = {"days": eflops_days / (one["delivered_eflops"] * nominal)}
        if "gang_eflops" in one:
            quantities["gang_days"] = eflops_days / (one["gang_eflops"] * nominal)
        if "rmb_per_delivered_eflops_year" in one:
            quantities["refresh_rmb"] = eflops_days * one["rmb_per_delivered_eflops_year"] / DAYS_PER_YEAR
        if "cards_exact" in one:
            card_eflops = one["delivered_eflops"] / one["cards_exact"]
            card_days = eflops_days / card_eflops
            quantities["card_hours"] = card_days * _HOURS_PER_DAY
            quantities["tokens_per_card_second"] = card_eflops * _FLOP_PER_EFLOP / self.work.flop_per_token
            quantities["pipeline_cards"] = card_days / self.every_days * self.work.pipeline
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
