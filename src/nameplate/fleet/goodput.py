"""Goodput: how much of a large job's elapsed time is useful, given failures, restarts and checkpoints.

The process is that of J. T. Daly, "A higher order estimate of the optimum checkpoint interval for restart
dumps", Future Generation Computer Systems 22, 2006, p. 303. A job computes for τ, stops for δ to write a
checkpoint, and so on. Failures come at random, with a mean time of M between them. The failure of any node
stops the whole job, so M = 1 day ÷ (nodes × failures a node-day). A failure loses the work since the last
checkpoint and costs a restart of R: to notice it, to swap the node, to load, to begin. A restart may fail
too, and then begins again.

The time until an uninterrupted stretch of length L is done, where each failure begins it again, is
M (e^(L/M) − 1) on average, after e^(L/M) − 1 failures. A segment is such a stretch of L = τ + δ, and each of
its failures adds another, of L = R:

    elapsed = M e^(R/M) (e^((τ+δ)/M) − 1)

Goodput, τ ÷ elapsed, is a product of three shares, one for each loss:

    e^(−R/M)            not spent in restarts
    a ÷ (e^a − 1)       of that, not lost with a failure; a = (τ+δ) ÷ M
    τ ÷ (τ+δ)           of that, not spent writing checkpoints

Planned stops, slow nodes and diverging losses aren't included. Times in the formulas are in seconds; the
formulas take single numbers and arrays of draws alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self

import numpy as np
from pydantic import Field, model_validator

from nameplate.base.errors import InputError
from nameplate.base.formatting import count, duration
from nameplate.base.language import _
from nameplate.base.model import FrozenModel
from nameplate.base.toml import bad_value, parse_toml, read_packaged
from nameplate.chain.link import Link
from nameplate.chain.stage import Stage
from nameplate.fleet.catalogues import Count, Id, Positive, Text, UncertainEntry
from nameplate.stats.interval import Interval
from nameplate.stats.uncertain import Uncertain, Written, read_uncertain

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Figure = float | NDArray[np.float64]

GOODPUT_FILE = "goodput.toml"
# With so many draws the ends of an interval are sure to a hundredth of its width.
DRAWS = 20_000
_ENDS = (0.025, 0.975)
_LEAST_DRAW = np.float32(2.0**-24)  # a law's quantile at 0 may be infinite
_LARGEST = 1e9  # of any input: far beyond any job, and well within what floating point holds
_SECONDS_PER_DAY, _SECONDS_PER_HOUR, _SECONDS_PER_MINUTE = 86_400, 3_600, 60


# The formulas


class TimeShares(NamedTuple):
    """The shares of elapsed time; together they are 1."""

    goodput: Figure
    checkpoints: Figure
    lost_work: Figure
    restarts: Figure


def time_between_failures(nodes: float, failures_per_node_day: Figure) -> Figure:
    """The mean time between failures of a job on that many nodes, in seconds."""
    return _SECONDS_PER_DAY / (nodes * failures_per_node_day)


def young_interval(checkpoint_s: Figure, between_s: Figure) -> Figure:
    """Young's time between checkpoints, √(2δM), in seconds.

    J. W. Young, "A first order approximation to the optimum checkpoint interval", CACM 17 (9), 1974, p. 530.
    """
    return np.sqrt(2 * checkpoint_s * between_s)


def daly_interval(checkpoint_s: Figure, between_s: Figure) -> Figure:
    """Daly's higher-order estimate of the best time to compute between checkpoints, in seconds.

    √(2δM) (1 + ⅓ √(δ/2M) + ⅑ δ/2M) − δ for δ < 2M, else M (Daly 2006, equation 37). For δ ≤ M/2 it is within
    0.6 % of the best. It doesn't depend on the time of a restart. At δ = 2M it jumps; goodput, which is at
    most 0.05 there, jumps by 0.00003.
    """
    half = checkpoint_s / (2 * between_s)
    series = young_interval(checkpoint_s, between_s) * (1 + np.sqrt(half) / 3 + half / 9) - checkpoint_s
    return np.where(half < 1, series, between_s)


def split_time(interval_s: Figure, checkpoint_s: Figure, restart_s: Figure, between_s: Figure) -> TimeShares:
    """The shares of elapsed time by the model above: interval τ, checkpoint δ, restart R, mean time M."""
    segment = interval_s + checkpoint_s
    a = segment / between_s
    running = np.exp(-restart_s / between_s)
    with np.errstate(over="ignore"):  # a segment that never gets done: nothing is kept
        kept = a / np.expm1(a)
    return TimeShares(
        running * kept * interval_s / segment,
        running * kept * checkpoint_s / segment,
        running * (1 - kept),
        1 - running,
    )


# The shipped inputs, and the published cases that the model is validated by

_Share = Annotated[float, Field(gt=0, lt=1)]
Quantity = Literal["interruption", "goodput"]
Evidence = Literal["measured", "projected"]  # projected: by another model, from the same inputs


class JobInput(UncertainEntry):
    """An input of the model with its spread and source."""

    value: Positive
    unit: Text
    source: Text


class Rate(FrozenModel):
    """A published rate of failures."""

    id: Id
    failures_per_node_day: Positive
    source: Text


class Bound(FrozenModel):
    """How far a prediction may be off: a mean time by a factor, goodput by a difference of shares."""

    interruption_factor: Annotated[float, Field(gt=1)]
    goodput_points: _Share
    why: Text


class KnownMiss(FrozenModel):
    """A prediction known to be out of bounds, and why."""

    by: Text
    quantity: Quantity
    why: Text


class GoodputCase(FrozenModel):
    """A real or projected job, and what was published about it.

    `by` names the rates to predict it by: `default`, `own` (its published interruptions) or the id of a rate.
    An input that the case lacks is the model's own; without `interval_minutes` the job checkpoints at Daly's
    interval.
    """

    id: Id
    name: Text
    evidence: Evidence
    cards: Count
    cards_per_node: Count | None = None
    interruption_h: Positive | None = None
    goodput: _Share | None = None
    at_least: bool = False  # the published goodput is a floor: "over 90 %"
    by: tuple[Text, ...] = ("default",)
    repair_minutes: Positive | None = None
    checkpoint_seconds: Annotated[float, Field(ge=0)] | None = None
    interval_minutes: Positive | None = None
    source: Text
    confidence: Literal["high", "medium", "low"]
    note: Text | None = None
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

    def explain_miss(self, by: str, quantity: Quantity) -> str | None:
        """Why this prediction is known to miss; None where it isn't."""
        return next(
            (miss.why for miss in self.known_miss if (miss.by, miss.quantity) == (by, quantity)), None
        )


class Unchecked(FrozenModel):
    """A published goodput that lacks what a prediction needs."""

    name: Text
    why: Text


class GoodputFile(FrozenModel):
    """The file: inputs, bounds, rates and cases."""

    schema_version: Annotated[Literal[1], Field(alias="schema")]
    caveat: Text
    cards_per_node: Count
    sizes: tuple[Count, ...]
    input: dict[str, JobInput]  # the arguments of `estimate_goodput`
    bound: dict[str, Bound]  # by evidence
    rate: tuple[Rate, ...]
    case: tuple[GoodputCase, ...]
    unchecked: tuple[Unchecked, ...] = ()


@cache
def load_goodput_file() -> GoodputFile:
    """The shipped inputs and cases, checked."""
    return parse_goodput_file(read_packaged("nameplate.fleet", GOODPUT_FILE), GOODPUT_FILE)


def parse_goodput_file(text: str, where: str) -> GoodputFile:
    """Read a file of inputs and cases. Raises InputError naming file, key, got and expected."""
    parsed = parse_toml(GoodputFile, text, where)
    known = {"default", "own", *(rate.id for rate in parsed.rate)}
    for case in parsed.case:
        for by in (*case.by, *(miss.by for miss in case.known_miss)):
            if by not in known:
                raise bad_value(where, f"case[{case.id}].by", by, "default, own, or the id of a rate")
    return parsed


# One job


@dataclass(frozen=True)
class Goodput:
    """What a job of so many cards gets out of its elapsed time.

    Every figure is at the inputs' values, with its 95 % interval. `checkpoints`, `lost_work` and `restarts`
    are what each loss costs, as a share of elapsed time; with goodput they are 1 together.
    """

    cards: int
    nodes: int
    goodput: Interval
    between_h: Interval  # mean time between failures, hours
    interval_min: Interval  # computed between two checkpoints, minutes
    young_min: Interval  # the same by Young's formula
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
        inputs = {
            name: {**each.as_json(), **describe_origin(name, each)} for name, each in self.inputs.items()
        }
        return row | {"inputs": inputs}


def estimate_goodput(
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

    Inputs are numbers, or ranges as `read_uncertain` takes them; those left out are the shipped ones. Each
    draw of them checkpoints at its own Daly interval, unless `interval_minutes` is given. Raises InputError
    for a size or an input that isn't above 0.
    """
    if cards_per_node is None:
        cards_per_node = load_goodput_file().cards_per_node
    _check_cards("--cards-per-node", cards_per_node)
    _check_cards("--cards", cards)
    nodes = math.ceil(cards / cards_per_node)
    interval_s = None if interval_minutes is None else interval_minutes * _SECONDS_PER_MINUTE
    inputs = {
        "failures_per_node_day": _read_input("failures_per_node_day", failures_per_node_day),
        "repair_minutes": _read_input("repair_minutes", repair_minutes),
        # Without an interval of its own, a job whose checkpoints cost nothing would write them all the time.
        "checkpoint_seconds": _read_input(
            "checkpoint_seconds", checkpoint_seconds, may_be_0=interval_s is not None
        ),
    }
    u = np.maximum(np.random.default_rng(seed).random((len(inputs), DRAWS), dtype=np.float32), _LEAST_DRAW)
    drawn = {name: each.quantiles(row) for (name, each), row in zip(inputs.items(), u, strict=True)}
    at_values = _compute(nodes, interval_s, **{name: each.value for name, each in inputs.items()})
    at_draws = _compute(nodes, interval_s, **{name: np.float64(each) for name, each in drawn.items()})
    figures = {name: _interval(float(value), at_draws[name]) for name, value in at_values.items()}
    return Goodput(cards=cards, nodes=nodes, inputs=inputs, **figures)


def _check_cards(flag: str, number: int) -> None:
    if not 1 <= number <= _LARGEST:
        expected = f"a whole number from 1 to {count(_LARGEST)}"
        raise InputError("not a number of cards", where=flag, got=number, expected=expected)


def _read_input(name: str, given: Written | None, *, may_be_0: bool = False) -> Uncertain:
    """An input as given, else the shipped one."""
    if given is None:
        return load_goodput_file().input[name].uncertain
    flag = f"--{name.replace('_', '-')}"
    number = read_uncertain(given, flag)
    if not (may_be_0 or number.low >= 1 / _LARGEST) or number.high > _LARGEST:
        expected = f"a number above 0, from {1 / _LARGEST:g} to {_LARGEST:g}"
        raise InputError("not an input of this model", where=flag, got=given, expected=expected)
    return number


def _compute(
    nodes: int,
    interval_s: float | None,
    failures_per_node_day: Figure,
    repair_minutes: Figure,
    checkpoint_seconds: Figure,
) -> dict[str, Figure]:
    """Every figure of a job, from its inputs or from draws of them."""
    between_s = time_between_failures(nodes, failures_per_node_day)
    used_s = daly_interval(checkpoint_seconds, between_s) if interval_s is None else interval_s
    return {
        "between_h": between_s / _SECONDS_PER_HOUR,
        "interval_min": used_s / _SECONDS_PER_MINUTE,
        "young_min": young_interval(checkpoint_seconds, between_s) / _SECONDS_PER_MINUTE,
        **split_time(used_s, checkpoint_seconds, repair_minutes * _SECONDS_PER_MINUTE, between_s)._asdict(),
    }


def _interval(value: float, drawn: Figure) -> Interval:
    low, high = np.quantile(drawn, _ENDS)
    # A mode at the end of its range may lie beyond the ends of the interval.
    return Interval(value, min(float(low), value), max(float(high), value))


def describe_origin(name: str, used: Uncertain) -> dict[str, str]:
    """The unit of the input of that name, and the source of the number that was used for it."""
    shipped = load_goodput_file().input[name]
    return {"unit": shipped.unit, "source": shipped.source if used == shipped.uncertain else _("given")}


def make_goodput_link(cards: int, **inputs: Any) -> Link:
    """The link scaled → goodput of a job of `cards` cards, by the model; arguments as of `estimate_goodput`.

    Its ends are the 95 % interval. It is triangular between them: a lognormal law would reach above 1.
    """
    job = estimate_goodput(cards, **inputs)
    value = job.goodput
    return Link(
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
            failure=duration(_SECONDS_PER_HOUR * job.between_h.value),
            checkpoint=duration(_SECONDS_PER_MINUTE * job.interval_min.value),
        ),
        n_to=cards,
        parts=None,
    )
