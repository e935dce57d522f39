"""A link of the chain: the ratio of two stages, and the rules by which links follow one another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal

from nameplate.base.errors import InputError
from nameplate.chain.stage import Stage
from nameplate.record import Verdict
from nameplate.stats.uncertain import Law, Uncertain, exact

# `measured` in a run, `published` by others, `assumed` by somebody, `modelled` from other figures.
Provenance = Literal["measured", "published", "assumed", "modelled"]


@dataclass(frozen=True)
class SharedVariance:
    """A cause of spread that several ratios share: its name, and its fraction of this ratio's variance."""

    name: str
    variance: float


@dataclass(frozen=True)
class Link:
    """One derate: the ratio of stage `to` to stage `from_`, its interval, its provenance and its source.

    `low` and `high` are the 95 % interval of a measured ratio, else the ends of its range. They aren't finite
    where a measurement has no interval, and equal `value` for a figure without spread. `law` is how the ratio
    is drawn between them; `exact` where no spread is known.
    """

    from_: Stage
    to: Stage
    value: float
    dtype: str  # "any": it serves every dtype
    provenance: Provenance
    source: str  # case ids, or a citation
    low: float
    high: float
    law: Law = "exact"
    id: str | None = None  # of a published or assumed figure
    run: str | None = None  # id of the run that measured it
    device: str | None = None  # of the run, or as the source names it
    scope: str | None = None
    convention: str | None = None  # how FLOPs are counted
    confidence: str | None = None
    n_from: int | None = None  # devices that worked together at either end; None: the source doesn't say
    n_to: int | None = None
    nodes: int | None = None  # that the devices at its end were in, where it was measured
    note: str | None = None
    parts: tuple[str, ...] | None = ()  # that it serves; None: every part, (): no part of the registry
    verdict: Verdict | None = None  # the gravest of the records of both stages
    shared_variance: SharedVariance | None = None  # whose draws are then correlated
    speed_at_limit: float = 1.0  # ÷ that at the TDP; `value`, `low` and `high` include it

    @property
    def span(self) -> str:
        """`datasheet → scaled`."""
        return f"{self.from_} → {self.to}"

    @property
    def part(self) -> str | None:
        """The part that a published ratio was measured on; None where it is not in the registry."""
        return self.parts[0] if self.parts and self.provenance == "published" else None

    @property
    def uncertain(self) -> Uncertain:
        """The ratio with its spread without `speed_at_limit`: its law is that of a card at its TDP."""
        if self.law == "exact":
            return exact(self.value / self.speed_at_limit)
        value, low, high = (each / self.speed_at_limit for each in (self.value, self.low, self.high))
        return Uncertain(value, low, high, self.law)

    @property
    def draws_name(self) -> str:
        """The name of its draws."""
        return f"{self.span} ({self.id or self.run or self.provenance})"

    @property
    def label(self) -> str:
        """Its name where the spread of a figure is traced to inputs."""
        return self.id if self.provenance == "modelled" and self.id else self.draws_name

    def may_serve(self, part: str) -> bool:
        """Whether it serves that part; a link of no part of the registry serves any part it is asked for."""
        return not self.parts or part in self.parts

    def as_run_row(self) -> dict[str, Any]:
        """The row of a run's own chain in JSON; an end of the interval that isn't finite is null."""
        return {
            "from": self.from_.value,
            "to": self.to,
            "dtype": self.dtype,
            "value": self.value,
            "low": self.low if math.isfinite(self.low) else None,
            "high": self.high if math.isfinite(self.high) else None,
            "provenance": self.provenance,
            "source": self.source,
            "verdict": self.verdict,
            "device": self.device,
        }

    def as_json(self) -> dict[str, Any]:
        """The row of a fleet's chain in JSON; `low` and `high` are null where no spread is known."""
        row = asdict(self)
        for name in ("from_", "parts", "verdict", "shared_variance", "nodes", "speed_at_limit"):
            del row[name]
        if self.law == "exact":
            row |= {"low": None, "high": None}
        return {"from": self.from_.value, **row}


@dataclass(frozen=True)
class Chain:
    """Successive links of a part, notes on them, and reasons why they don't say what is delivered."""

    links: tuple[Link, ...]
    notes: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()

    @property
    def delivers(self) -> bool:
        """Whether a chain from nominal on says what is delivered: the ratio of two ratings doesn't."""
        return len(self.links) > 1

    @property
    def devices(self) -> int | None:
        """On how many devices that worked together the chain was measured; None if that isn't known."""
        for link in reversed(self.links):
            if link.from_.reach < Stage.SCALED.reach <= link.to.reach:
                return link.n_to
        return 1


def assume_link(
    from_: str, to: str, ratio: Uncertain, source: str, provenance: Provenance = "assumed", **fields: Any
) -> Link:
    """A ratio of two stages that somebody assumes; for any part and dtype, unless `fields` say otherwise.

    `fields` are other fields of a Link. Raises InputError unless `to` comes after `from_` and the ratio is
    above 0.
    """
    first, last = (Stage(each) if each in set(Stage) else None for each in (from_, to))
    if first is None or last is None or first.reach >= last.reach:
        raise InputError("not a derate", got=f"{from_} → {to}", expected="a later stage after an earlier one")
    if ratio.low <= 0:
        raise InputError("not a derate", got=ratio.low, expected="a ratio above 0")
    more: dict[str, Any] = {"dtype": "any", "parts": None, "law": ratio.law, **fields}
    return Link(
        first,
        last,
        ratio.value,
        provenance=provenance,
        source=source,
        low=ratio.low,
        high=ratio.high,
        **more,
    )


def join_links(links: Sequence[Link]) -> tuple[Link, ...]:
    """The links as one chain from nominal on. This is the one place that checks that they fit.

    Raises InputError for a chain that doesn't begin at nominal. Raises it, naming both links, where two
    overlap (a loss would count twice) or leave a gap (a loss wouldn't count), in stages or in devices.
    """
    if links and links[0].from_ != Stage.NOMINAL:
        raise InputError("a chain begins at nominal", got=links[0].span, expected="nominal → datasheet first")
    for before, after in pairwise(links):
        if after.from_ != before.to:
            twice = after.from_.reach < before.to.reach
            raise _refuse("counts a loss twice" if twice else "leaves a loss out", before, after, before.to)
        if None not in (before.n_to, after.n_from) and before.n_to != after.n_from:
            raise _refuse(
                f"goes on at {after.n_from} devices where it had reached {before.n_to}",
                before,
                after,
                f"{before.to} at {before.n_to} devices",
            )
    return tuple(links)


def _refuse(problem: str, before: Link, after: Link, begin: str) -> InputError:
    spans = " and ".join(f"{each.span} ({_name_of(each)})" for each in (before, after))
    return InputError(
        f"a chain that {problem}", got=spans, expected=f"derates that follow one another: next from {begin}"
    )


def _name_of(link: Link) -> str:
    return link.id or link.run or ("rated" if link.from_ is Stage.NOMINAL else link.provenance)
