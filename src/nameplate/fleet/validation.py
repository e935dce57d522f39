"""The models against published figures: the chain (`validate`), and goodput (`validate_goodput`).

What no run has measured is carried from one part, model or number of devices to another; the error of each
case says how far that may be trusted. The cases of the chain are `data/validation.toml`: each predicts a
published end-to-end figure from other published ones. Those of goodput are in `data/goodput.toml`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import Field

from nameplate.base.errors import InputError
from nameplate.base.model import FrozenModel
from nameplate.base.toml import parse_toml, read_packaged
from nameplate.chain.link import Link
from nameplate.chain.published import find_figure
from nameplate.fleet.catalogues import Id, Positive, Text
from nameplate.fleet.goodput import (
    GoodputCase,
    GoodputFile,
    Quantity,
    estimate_goodput,
    load_goodput_file,
)
from nameplate.fleet.mfu_study import MfuBounds
from nameplate.stats.interval import Interval
from nameplate.stats.uncertain import Written, exact

FILE = "validation.toml"
_MOST_BOUND = 1e6  # of a relative error: beyond it no prediction could miss
_SECONDS_PER_DAY, _SECONDS_PER_HOUR = 86_400, 3_600


# The chain


class ChainCase(FrozenModel):
    """One published figure, and the others it's predicted from: a product of figures and of quotients."""

    id: Id
    kind: Literal["transfer", "model", "scaling"]  # what is carried over: part, model, number of devices
    predict: Annotated[tuple[Id, ...], Field(min_length=1)]
    learn: tuple[tuple[Id, Id], ...] = ()
    published: Id
    bound: Positive
    says: Text


class _ChainCases(FrozenModel):
    schema_version: Annotated[Literal[1], Field(alias="schema")]
    mfu: MfuBounds
    case: tuple[ChainCase, ...]


@dataclass(frozen=True)
class ChainCheck:
    """One case: what was predicted of a published figure, and how far that is off.

    Where a source doesn't say how it counted FLOPs, the error is known only from `error_low` to `error_high`.
    """

    id: str
    kind: str
    predicted: float
    published: float
    error_low: float
    error_high: float
    bound: float
    says: str
    source: str

    @property
    def error(self) -> float:
        """Predicted ÷ published − 1."""
        return self.predicted / self.published - 1

    @property
    def passed(self) -> bool:
        """Whether the error is within the bound."""
        return abs(self.error) <= self.bound

    def as_json(self) -> dict[str, Any]:
        """The check as a JSON row."""
        more = dict.fromkeys(("value", "runs", "inside", "width"))  # figures of the model of MFU
        return {**vars(self), "error": self.error, "passed": self.passed, **more}


def validate(
    *, bound: float | None = None, cases: Sequence[ChainCase] | None = None
) -> tuple[ChainCheck, ...]:
    """Every case's prediction beside what was published; `bound` takes the place of each case's own.

    Raises InputError for a bound that isn't above 0.
    """
    if bound is not None and not 0 < bound <= _MOST_BOUND:
        expected = f"a relative error above 0, {_MOST_BOUND:g} at most"
        raise InputError("not a bound", where="--bound", got=bound, expected=expected)
    return tuple(_check_chain(case, bound) for case in (load_chain_cases() if cases is None else cases))


@cache
def load_chain_cases() -> tuple[ChainCase, ...]:
    """The cases that come with Nameplate."""
    return _load_cases().case


def load_mfu_bounds() -> MfuBounds:
    """The bounds that the model of MFU must keep to."""
    return _load_cases().mfu


def _load_cases() -> _ChainCases:
    return parse_toml(_ChainCases, read_packaged("nameplate.fleet", FILE), FILE)


def _check_chain(case: ChainCase, bound: float | None) -> ChainCheck:
    published = _find_derate(case.published)
    numerator = [_find_derate(name) for name in (*case.predict, *(above for above, _ in case.learn))]
    denominator = [_find_derate(below) for _, below in case.learn]
    low, high = _range_of_quotient(numerator, [*denominator, published])
    return ChainCheck(
        case.id,
        case.kind,
        math.prod(each.value for each in numerator) / math.prod(each.value for each in denominator),
        published.value,
        low - 1,
        high - 1,
        case.bound if bound is None else bound,
        case.says,
        published.source,
    )


def _find_derate(name: str) -> Link:
    return find_figure(name).as_link()


def _range_of_quotient(numerator: Sequence[Link], denominator: Sequence[Link]) -> tuple[float, float]:
    """The range of the product of one ÷ that of the other."""
    low, high = (math.prod(getattr(each, end) for each in numerator) for end in ("low", "high"))
    below, above = (math.prod(getattr(each, end) for each in denominator) for end in ("low", "high"))
    return low / above, high / below


# Goodput


@dataclass(frozen=True)
class GoodputCheck:
    """A prediction beside what was published.

    `error` is relative for a mean time between interruptions (in hours), a difference for goodput; 0 where
    a published floor is reached. `bound` is a factor for the former, a difference for the latter.
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
    verdict: Literal["holds", "known_miss", "fails"]
    why: str | None
    note: str | None
    confidence: str
    source: str

    def as_json(self) -> dict[str, Any]:
        """The check as a JSON row."""
        return asdict(self)


def validate_goodput(
    file: GoodputFile | None = None,
    *,
    failures_per_node_day: Written | None = None,
    repair_minutes: Written | None = None,
    checkpoint_seconds: Written | None = None,
) -> tuple[GoodputCheck, ...]:
    """Every published case of `file` (the shipped one by default), predicted by each of its rates.

    Inputs that are given replace the shipped ones wherever a case doesn't state its own. InputError for one
    that can't be used.
    """
    file = file or load_goodput_file()
    given = {
        "failures_per_node_day": failures_per_node_day,
        "repair_minutes": repair_minutes,
        "checkpoint_seconds": checkpoint_seconds,
    }
    defaults = {name: file.input[name].uncertain if each is None else each for name, each in given.items()}
    return tuple(
        check for case in file.case for by in case.by for check in _check_goodput(file, case, by, defaults)
    )


def _check_goodput(
    file: GoodputFile, case: GoodputCase, by: str, defaults: Mapping[str, Written]
) -> Iterator[GoodputCheck]:
    stated = {
        "failures_per_node_day": _rate(file, case, by),
        "repair_minutes": case.repair_minutes,
        "checkpoint_seconds": case.checkpoint_seconds,
    }
    inputs: dict[str, Any] = {
        name: defaults[name] if each is None else exact(each) for name, each in stated.items()
    }
    job = estimate_goodput(
        case.cards,
        cards_per_node=case.cards_per_node or file.cards_per_node,
        interval_minutes=case.interval_minutes,
        **inputs,
    )
    bound = file.bound[case.evidence]
    comparisons: list[tuple[Quantity, Interval, float, float, float, float]] = []
    if case.interruption_h is not None and by != "own":
        ratio = job.between_h.value / case.interruption_h
        limit, distance = bound.interruption_factor, max(ratio, 1 / ratio)
        comparisons += [("interruption", job.between_h, case.interruption_h, ratio - 1, limit, distance)]
    if case.goodput is not None:
        difference = job.goodput.value - case.goodput
        error = min(difference, 0.0) if case.at_least else difference
        comparisons += [("goodput", job.goodput, case.goodput, error, bound.goodput_points, abs(error))]
    for quantity, predicted, published, error, limit, distance in comparisons:
        holds = distance <= limit
        miss = None if holds else case.explain_miss(by, quantity)
        yield GoodputCheck(
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
            bound=limit,
            verdict="holds" if holds else "known_miss" if miss else "fails",
            why=miss,
            note=case.note,
            confidence=case.confidence,
            source=case.source,
        )


def _rate(file: GoodputFile, case: GoodputCase, by: str) -> float | None:
    """The rate that `by` names, in failures a node-day; None for the default."""
    if by == "default":
        return None
    if by != "own" or case.interruption_h is None:
        return next(each.failures_per_node_day for each in file.rate if each.id == by)
    nodes = math.ceil(case.cards / (case.cards_per_node or file.cards_per_node))
    return _SECONDS_PER_DAY / (nodes * case.interruption_h * _SECONDS_PER_HOUR)
