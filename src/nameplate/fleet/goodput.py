"""Goodput: how much of a large job's elapsed time is useful, given failures, restarts and checkpoints.

The process (J. T. Daly, "A higher order estimate of the optimum checkpoint interval for restart dumps",
Future Generation Computer Systems 22, 2006, p. 303). A job computes for τ, stands still for δ while it writes
a checkpoint, and so on. Failures come at random, on average one in M: M = 1 day ÷ (nodes × failures a
node-day), since any node's failure stops the whole job. A failure throws away what was done since the last
checkpoint, and costs a restart of R: to notice it, swap the node, load, begin. A restart may fail too, and
then begins again.

What a segment of τ takes. The time until an uninterrupted stretch of length L is done, beginning again at
each failure, is M (e^(L/M) − 1) on average, after e^(L/M) − 1 failures. A segment is such a stretch of
L = τ + δ, and each of its failures brings another, of L = R. Together

    elapsed = M e^(R/M) (e^((τ+δ)/M) − 1)

and goodput, τ ÷ elapsed, is a product of three shares, each a loss by itself:

    e^(−R/M)            not spent in restarts
    a ÷ (e^a − 1)       of that, kept rather than lost with a failure; a = (τ+δ) ÷ M
    τ ÷ (τ+δ)           of that, not spent writing checkpoints

Only unexpected failures are in it; planned stops, slow nodes and diverging losses aren't. Times in the
formulas are seconds; they take plain numbers and arrays of draws alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self

import numpy as np
from pydantic import Field, model_validator

from nameplate.base.errors import InputError
from nameplate.base.formatting import count, duration
from nameplate.base.language import _
from nameplate.base.model import FrozenModel
from nameplate.base.toml import packaged, parse, unusable
from nameplate.chain.stage import Stage
from nameplate.fleet.links import Derate
from nameplate.fleet.uncertain import Law, Uncertain, Written, exact, read
from nameplate.stats.interval import Interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Figure = float | NDArray[np.float64]

GOODPUT_FILE = "goodput.toml"
# The ends of an interval are then sure to a hundredth of its width.
DRAWS = 20_000
_ENDS = (0.025, 0.975)
_LEAST = np.float32(2.0**-24)  # of a uniform draw: the quantile at 0 may be infinite
_LARGEST = 1e9  # of any input: far beyond any job, and well within what floating point holds
_DAY_S, _HOUR_S, _MINUTE_S = 86_400, 3_600, 60

Quantity = Literal["interruption", "goodput"]
Verdict = Literal["holds", "known_miss", "fails"]


# The formulas


class Shares(NamedTuple):
    """Where elapsed time goes; the four are 1 together."""

    goodput: Figure
    checkpoints: Figure
    lost_work: Figure
    restarts: Figure


def between_failures(nodes: float, failures_per_node_day: Figure) -> Figure:
    """The mean time between failures of a job on that many nodes, in seconds."""
    return _DAY_S / (nodes * failures_per_node_day)


def young_interval(checkpoint_s: Figure, between_s: Figure) -> Figure:
    """Young's time between checkpoints, √(2δM), in seconds.

    J. W. Young, "A first order approximation to the optimum checkpoint interval", CACM 17 (9), 1974, p. 530.
    """
    return np.sqrt(2 * checkpoint_s * between_s)


def daly_interval(checkpoint_s: Figure, between_s: Figure) -> Figure:
    """Daly's higher-order estimate of the best time to compute between checkpoints, in seconds.

    √(2δM) (1 + ⅓ √(δ/2M) + ⅑ δ/2M) − δ for δ < 2M, else M (Daly 2006, equation 37). It is within 0.6 % of the
    best for δ ≤ M/2; how long a restart takes doesn't matter to it. At δ = 2M it jumps, and goodput, which is
    0.05 there at most, by 0.00003.
    """
    half = checkpoint_s / (2 * between_s)
    series = young_interval(checkpoint_s, between_s) * (1 + np.sqrt(half) / 3 + half / 9) - checkpoint_s
    return np.where(half < 1, series, between_s)


def shares(interval_s: Figure, checkpoint_s: Figure, restart_s: Figure, between_s: Figure) -> Shares:
    """Where elapsed time goes, by the model above: interval τ, checkpoint δ, restart R, mean time M."""
    segment = interval_s + checkpoint_s
    a = segment / between_s
    running = np.exp(-restart_s / between_s)
    with np.errstate(over="ignore"):  # a segment that never gets done: nothing is kept
        kept = a / np.expm1(a)
    return Shares(
        running * kept * interval_s / segment,
        running * kept * checkpoint_s / segment,
        running * (1 - kept),
        1 - running,
    )


# Inputs and cases, as data

_Text = Annotated[str, Field(min_length=1)]
_Id = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
_Count = Annotated[int, Field(strict=True, gt=0)]
_Positive = Annotated[float, Field(gt=0)]
_Share = Annotated[float, Field(gt=0, lt=1)]


class Input(FrozenModel):
    """An input of the model with its spread and source."""

    value: _Positive
    low: _Positive
    high: _Positive
    law: Law
    unit: _Text
    source: _Text

    @model_validator(mode="after")
    def _fits(self) -> Self:
        self.uncertain()
        return self

    def uncertain(self) -> Uncertain:
        """The number and its spread."""
        return Uncertain(self.value, self.low, self.high, self.law)


class Inputs(FrozenModel):
    """What the model takes besides the size of the job."""

    failures_per_node_day: Input
    repair_minutes: Input  # from a failure until the job computes again
    checkpoint_seconds: Input  # for which training stands still

    def uncertain(self, name: str) -> Uncertain:
        """The input of that name."""
        found: Input = getattr(self, name)
        return found.uncertain()


class Rate(FrozenModel):
    """A rate of failures that somebody published."""

    id: _Id
    failures_per_node_day: _Positive
    source: _Text


class Bound(FrozenModel):
    """How far a prediction may be off: a mean time by a factor, goodput by a difference of shares."""

    interruption_factor: Annotated[float, Field(gt=1)]
    goodput_points: _Share
    why: _Text


class Bounds(FrozenModel):
    """A bound for what was measured, and one for what another model projects from the same inputs."""

    measured: Bound
    projected: Bound


class KnownMiss(FrozenModel):
    """A prediction known to be out of bounds, and why."""

    by: _Text
    quantity: Quantity
    why: _Text


class Case(FrozenModel):
    """A job, or a projection of one, and what was published of it.

    `by` names the rates to predict it by: `default`, `own` (its published interruptions) or the id of a rate.
    Inputs left out are the model's own; without `interval_minutes` it checkpoints at Daly's interval.
    """

    id: _Id
    name: _Text
    evidence: Literal["measured", "projected"]
    cards: _Count
    cards_per_node: _Count | None = None
    interruption_h: _Positive | None = None
    goodput: _Share | None = None
    at_least: bool = False  # the published goodput is a floor: "over 90 %"
    by: tuple[_Text, ...] = ("default",)
    repair_minutes: _Positive | None = None
    checkpoint_seconds: Annotated[float, Field(ge=0)] | None = None
    interval_minutes: _Positive | None = None
    source: _Text
    confidence: Literal["high", "medium", "low"]
    note: _Text | None = None
    known_miss: tuple[KnownMiss, ...] = ()

    @model_validator(mode="after")
    def _can_be_checked(self) -> Self:
        if self.interruption_h is None and self.goodput is None:
            raise ValueError("a case with interruption_h or goodput")
        if "own" in self.by and None in (self.interruption_h, self.goodput):
            raise ValueError("interruption_h and goodput, where a case is predicted by its own rate")
        if self.checkpoint_seconds == 0 and self.interval_minutes is None:
            raise ValueError("interval_minutes, where checkpoints cost nothing")
        return self

    def known(self, by: str, quantity: Quantity) -> str | None:
        """Why this prediction is known to miss; None where it isn't."""
        known = {(each.by, each.quantity): each.why for each in self.known_miss}
        return known.get((by, quantity))


class Unchecked(FrozenModel):
    """A published goodput that lacks what a prediction needs."""

    name: _Text
    why: _Text


class Facts(FrozenModel):
    """The file: inputs, bounds, rates and cases."""

    schema_version: Annotated[Literal[1], Field(alias="schema")]
    caveat: _Text
    cards_per_node: _Count
    sizes: tuple[_Count, ...]
    input: Inputs
    bound: Bounds
    rate: tuple[Rate, ...]
    case: tuple[Case, ...]
    unchecked: tuple[Unchecked, ...] = ()

    def rate_of(self, by: str) -> float:
        """The rate of that id, in failures a node-day."""
        return next(each.failures_per_node_day for each in self.rate if each.id == by)


@cache
def facts() -> Facts:
    """The shipped inputs and cases, checked."""
    return parse_facts(packaged("nameplate.fleet", GOODPUT_FILE), GOODPUT_FILE)


def parse_facts(text: str, where: str) -> Facts:
    """Read a file of inputs and cases. Raises InputError naming file, key, got and expected."""
    read_facts = parse(Facts, text, where)
    known = {"default", "own", *(rate.id for rate in read_facts.rate)}
    for case in read_facts.case:
        for by in (*case.by, *(miss.by for miss in case.known_miss)):
            if by not in known:
                raise unusable(where, f"case[{case.id}].by", by, "default, own, or the id of a rate")
    return read_facts


# One job


@dataclass(frozen=True)
class Goodput:
    """What a job of so many cards gets out of its elapsed time.

    Every figure is at the inputs' values, with the ends of its 95 % interval. `checkpoints`, `lost_work` and
    `restarts` are what each loss costs, as a share of elapsed time; with goodput they are 1 together.
    """

    cards: int
    nodes: int
    goodput: Interval
    between_h: Interval  # mean time between failures, hours
    interval_min: Interval  # computed between two checkpoints, minutes
    young_min: Interval  # what Young's formula would make of it
    checkpoints: Interval
    lost_work: Interval
    restarts: Interval
    inputs: Mapping[str, Uncertain]

    def as_json(self) -> dict[str, Any]:
        """A flat row: each figure with `_low` and `_high`, then the inputs."""
        row: dict[str, Any] = {"cards": self.cards, "nodes": self.nodes}
        for name, figure in vars(self).items():
            if isinstance(figure, Interval):
                row |= {name: figure.value, f"{name}_low": figure.low, f"{name}_high": figure.high}
        inputs = {name: {**each.as_json(), **origin(name, each)} for name, each in self.inputs.items()}
        return row | {"inputs": inputs}


def goodput(
    cards: int,
    *,
    cards_per_node: int | None = None,
    failures_per_node_day: Written | None = None,
    repair_minutes: Written | None = None,
    checkpoint_seconds: Written | None = None,
    interval_minutes: float | None = None,
    seed: int = 0,
) -> Goodput:
    """What a job of `cards` cards gets out of its elapsed time.

    Inputs are numbers, or ranges as `uncertain.read` takes them; those left out are the shipped ones. A draw
    of them checkpoints at its own Daly interval, unless `interval_minutes` is given. Raises InputError for a
    size or an input that isn't above 0.
    """
    known = facts()
    per_node = _whole("--cards-per-node", known.cards_per_node if cards_per_node is None else cards_per_node)
    nodes = math.ceil(_whole("--cards", cards) / per_node)
    interval_s = None if interval_minutes is None else interval_minutes * _MINUTE_S
    inputs = {
        "failures_per_node_day": _input("failures_per_node_day", failures_per_node_day),
        "repair_minutes": _input("repair_minutes", repair_minutes),
        "checkpoint_seconds": _input("checkpoint_seconds", checkpoint_seconds, free=interval_s is not None),
    }
    u = np.maximum(np.random.default_rng(seed).random((len(inputs), DRAWS), dtype=np.float32), _LEAST)
    drawn = {name: each.quantiles(row) for (name, each), row in zip(inputs.items(), u, strict=True)}
    at_values = _figures(nodes, interval_s, **{name: each.value for name, each in inputs.items()})
    at_draws = _figures(nodes, interval_s, **{name: np.float64(each) for name, each in drawn.items()})
    figures = {name: _interval(float(value), at_draws[name]) for name, value in at_values.items()}
    return Goodput(cards=cards, nodes=nodes, inputs=inputs, **figures)


def _figures(
    nodes: int,
    interval_s: float | None,
    failures_per_node_day: Figure,
    repair_minutes: Figure,
    checkpoint_seconds: Figure,
) -> dict[str, Figure]:
    """Every figure of a job, from its inputs or from draws of them."""
    between_s = between_failures(nodes, failures_per_node_day)
    taken_s = daly_interval(checkpoint_seconds, between_s) if interval_s is None else interval_s
    return {
        "between_h": between_s / _HOUR_S,
        "interval_min": taken_s / _MINUTE_S,
        "young_min": young_interval(checkpoint_seconds, between_s) / _MINUTE_S,
        **shares(taken_s, checkpoint_seconds, repair_minutes * _MINUTE_S, between_s)._asdict(),
    }


def _interval(value: float, drawn: Figure) -> Interval:
    low, high = np.quantile(drawn, _ENDS)
    # A mode at the end of its range may lie beyond the ends of the interval.
    return Interval(value, min(float(low), value), max(float(high), value))


def _input(name: str, given: Written | None, *, free: bool = False) -> Uncertain:
    """An input as given, else the shipped one; only one that may be `free` may be 0."""
    if given is None:
        return facts().input.uncertain(name)
    flag = f"--{name.replace('_', '-')}"
    number = read(given, flag)
    if not (free or number.low >= 1 / _LARGEST) or number.high > _LARGEST:
        expected = f"a number above 0, from {1 / _LARGEST:g} to {_LARGEST:g}"
        raise InputError("not an input of this model", where=flag, got=given, expected=expected)
    return number


def origin(name: str, used: Uncertain) -> dict[str, str]:
    """The unit of the input of that name, and where what was used of it comes from."""
    shipped: Input = getattr(facts().input, name)
    return {"unit": shipped.unit, "source": shipped.source if used == shipped.uncertain() else _("given")}


def _whole(flag: str, number: int) -> int:
    if not 1 <= number <= _LARGEST:
        expected = f"a whole number from 1 to {count(_LARGEST)}"
        raise InputError("not a number of cards", where=flag, got=number, expected=expected)
    return number


def link(cards: int, **inputs: Any) -> Derate:
    """The link scaled → goodput of a job of `cards` cards, as the model has it; arguments as `goodput`'s.

    Its ends are the 95 % interval. It is triangular between them: a lognormal law would reach above 1.
    """
    job = goodput(cards, **inputs)
    value = job.goodput
    return Derate(
        Stage.SCALED,
        Stage.GOODPUT,
        value.value,
        "any",
        "modelled",
        _("modelled from failures, restarts and checkpoints (J. T. Daly, FGCS 22, 2006, p. 303)"),
        low=value.low,
        high=value.high,
        law="triangular" if value.low < value.high else "exact",
        scope=_(
            "{cards} cards, a failure each {failure}, a checkpoint each {checkpoint}",
            cards=count(cards),
            failure=duration(3_600 * job.between_h.value),
            checkpoint=duration(60 * job.interval_min.value),
        ),
        n_to=cards,
        parts=None,
    )


# Validation


@dataclass(frozen=True)
class Check:
    """A prediction beside what was published.

    `error` is relative for a mean time between interruptions (in hours), a difference for goodput; 0 where
    a published floor is reached. `bound` is a factor for the one, a difference for the other.
    """

    case: str
    name: str
    cards: int
    evidence: str
    by: str
    failures_per_node_day: float
    quantity: Quantity
    predicted: float
    low: float
    high: float
    published: float
    at_least: bool
    error: float
    bound: float
    verdict: Verdict
    why: str | None
    note: str | None
    confidence: str
    source: str

    def as_json(self) -> dict[str, Any]:
        """The check as a JSON row."""
        return asdict(self)


def validate(
    known: Facts | None = None,
    *,
    failures_per_node_day: Written | None = None,
    repair_minutes: Written | None = None,
    checkpoint_seconds: Written | None = None,
) -> tuple[Check, ...]:
    """Every published case, predicted by each of its rates.

    Inputs that are given replace the shipped ones wherever a case doesn't state its own. InputError for one
    that can't be used.
    """
    known = known or facts()
    inputs = {
        "failures_per_node_day": failures_per_node_day,
        "repair_minutes": repair_minutes,
        "checkpoint_seconds": checkpoint_seconds,
    }
    return tuple(check for case in known.case for by in case.by for check in _checks(known, case, by, inputs))


def _checks(known: Facts, case: Case, by: str, inputs: Mapping[str, Written | None]) -> Iterator[Check]:
    def own(name: str, value: float | None) -> Written:
        if value is not None:
            return exact(value)
        given = inputs[name]
        return known.input.uncertain(name) if given is None else given

    job = goodput(
        case.cards,
        cards_per_node=case.cards_per_node or known.cards_per_node,
        failures_per_node_day=own("failures_per_node_day", _rate(known, case, by)),
        repair_minutes=own("repair_minutes", case.repair_minutes),
        checkpoint_seconds=own("checkpoint_seconds", case.checkpoint_seconds),
        interval_minutes=case.interval_minutes,
    )
    bound = known.bound.measured if case.evidence == "measured" else known.bound.projected
    if case.interruption_h is not None and by != "own":
        ratio = job.between_h.value / case.interruption_h
        fits = max(ratio, 1 / ratio) <= bound.interruption_factor
        yield _check(
            case, by, job, "interruption", case.interruption_h, ratio - 1, bound.interruption_factor, fits
        )
    if case.goodput is not None:
        difference = job.goodput.value - case.goodput
        error = min(difference, 0.0) if case.at_least else difference
        fits = abs(error) <= bound.goodput_points
        yield _check(case, by, job, "goodput", case.goodput, error, bound.goodput_points, fits)


def _rate(known: Facts, case: Case, by: str) -> float | None:
    """The rate that `by` names, in failures a node-day; None for the default."""
    if by == "default":
        return None
    if by != "own" or case.interruption_h is None:
        return known.rate_of(by)
    nodes = math.ceil(case.cards / (case.cards_per_node or known.cards_per_node))
    return _DAY_S / (nodes * case.interruption_h * _HOUR_S)


def _check(
    case: Case,
    by: str,
    job: Goodput,
    quantity: Quantity,
    published: float,
    error: float,
    bound: float,
    fits: bool,
) -> Check:
    predicted = job.between_h if quantity == "interruption" else job.goodput
    miss = case.known(by, quantity)
    return Check(
        case=case.id,
        name=case.name,
        cards=case.cards,
        evidence=case.evidence,
        by=by,
        failures_per_node_day=job.inputs["failures_per_node_day"].value,
        quantity=quantity,
        predicted=predicted.value,
        low=predicted.low,
        high=predicted.high,
        published=published,
        at_least=quantity == "goodput" and case.at_least,
        error=error,
        bound=bound,
        verdict="holds" if fits else "known_miss" if miss else "fails",
        why=None if fits else miss,
        note=case.note,
        confidence=case.confidence,
        source=case.source,
    )
