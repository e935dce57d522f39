"""What a power limit leaves of a card's speed, as others measured it, and what the limited card draws.

    speed at a limit = seconds at the TDP ÷ seconds at the limit      (the mean over a curve's workloads)
    server rating    = cards × (limit + TDP × (server rating ÷ its cards' TDP − 1))

The curves are data (`data/power_curves.toml`): a part without one has no speed at a limit but its TDP, and a
sentence says so. They are of computing alone. A job that also waits for its links loses less to a limit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from statistics import geometric_mean
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from nameplate.base.errors import InputError
from nameplate.base.formatting import ratio, stated
from nameplate.base.language import N_, _
from nameplate.base.model import FrozenModel, Positive
from nameplate.base.toml import parse_toml, read_packaged
from nameplate.chain.link import Link
from nameplate.chain.stage import Stage
from nameplate.fleet.assumptions import UsedInput
from nameplate.fleet.catalogues import Date, Id, Text
from nameplate.specs.part import Part
from nameplate.stats.uncertain import Uncertain, exact

FILE = "power_curves.toml"
_LEAST_W, _MOST_W = 1.0, 100_000.0


class Workload(FrozenModel):
    """The seconds that the same work took at so many watts a card, from the fewest watts up."""

    what: Text
    watts: Annotated[tuple[Positive, ...], Field(min_length=3)]
    seconds: Annotated[tuple[Positive, ...], Field(min_length=3)]

    @model_validator(mode="after")
    def _is_a_curve(self) -> Self:
        if len(self.watts) != len(self.seconds):
            raise ValueError("as many seconds as watts")
        if sorted(set(self.watts)) != list(self.watts) or sorted(self.seconds, reverse=True) != list(
            self.seconds
        ):
            raise ValueError("watts that rise and seconds that fall")
        return self

    def speed(self, watts: float, usual: float) -> float:
        """The speed at so many watts ÷ that at the usual ones, between the points that were measured."""
        at, usually = np.interp((watts, usual), self.watts, 1 / np.array(self.seconds))
        return float(at / usually)


class PowerCurve(FrozenModel):
    """How fast cards of a part work at a power limit, for one or several workloads."""

    id: Id
    part: Text
    stands_in_for: tuple[Text, ...] = ()
    by: Literal["power limit", "clock"]
    as_of: Date
    source: Text
    note: Text
    workload: Annotated[tuple[Workload, ...], Field(min_length=1)]

    @property
    def least(self) -> float:
        """The fewest watts that every workload was measured at."""
        return max(each.watts[0] for each in self.workload)

    @property
    def most(self) -> float:
        """The most watts that every workload was measured at."""
        return min(each.watts[-1] for each in self.workload)

    def speeds(self, watts: float, usual: float) -> list[float]:
        """The speed at so many watts ÷ that at the usual ones, of each workload."""
        return [each.speed(watts, usual) for each in self.workload]


class Hint(FrozenModel):
    """What was found of parts that have no curve."""

    parts: Annotated[tuple[Text, ...], Field(min_length=1)]
    as_of: Date
    says: Text


class _PowerFile(FrozenModel):
    schema_version: Annotated[Literal[1], Field(alias="schema")]
    curve: tuple[PowerCurve, ...]
    hint: tuple[Hint, ...]


@cache
def load_power_curves() -> _PowerFile:
    """The shipped curves, checked."""
    return parse_toml(_PowerFile, read_packaged("nameplate.fleet", FILE), FILE)


@dataclass(frozen=True)
class LimitedSpeed:
    """A part's speed at a limit ÷ that at its TDP: the middle, and the least and most of the workloads."""

    curve: PowerCurve
    limit_w: float
    tdp_w: float
    value: float
    low: float
    high: float

    @property
    def source(self) -> str:
        """The factor in words, with where it is from."""
        return _(
            "× {factor} ({low} to {high} by workload) at {limit} W a card, not {tdp}: {source} ({date})",
            factor=ratio(self.value),
            low=ratio(self.low),
            high=ratio(self.high),
            limit=stated(self.limit_w),
            tdp=stated(self.tdp_w),
            source=self.curve.source,
            date=self.curve.as_of,
        )


def find_curve(part: Part) -> PowerCurve | None:
    """The curve of a part, or of one of the same silicon; None where there is none."""
    return find_published_curve(part.id)


def find_published_curve(part: str) -> PowerCurve | None:
    """The same by the part's id."""
    curves = load_power_curves().curve
    own = next((each for each in curves if each.part == part), None)
    return own or next((each for each in curves if part in each.stands_in_for), None)


def check_power_limit(limit_w: float | None) -> None:
    """Raise InputError for a limit that no card can have."""
    if limit_w is None:
        return
    if isinstance(limit_w, bool) or not _LEAST_W <= limit_w <= _MOST_W:
        expected = f"watts a card, from {stated(_LEAST_W)} to {stated(_MOST_W)}"
        raise InputError("not a power limit", where="--power-limit", got=limit_w, expected=expected)


def explain_no_speed(part: Part, limit_w: float | None = None) -> str | None:
    """Why the speed of a part at that limit isn't known, in a sentence; None where it is.

    Without a limit: why it isn't known at any.
    """
    curve, tdp = find_curve(part), part.tdp_w
    if tdp is None:
        said = N_("the TDP of {part} isn't known, so neither is what a power limit leaves of its speed")
        return _(said, part=part.short_name)
    if limit_w == tdp.value:
        return None
    if limit_w is not None and limit_w > tdp.value:
        said = N_("a limit of {limit} W is above the TDP of {part}, {tdp} W")
        return _(said, limit=stated(limit_w), part=part.short_name, tdp=stated(tdp.value))
    if curve is None:
        said = _("how fast {part} is at a power limit isn't known: no curve was read", part=part.short_name)
        hints = [each for each in load_power_curves().hint if part.id in each.parts]
        return _("{said}; {more}", said=said, more=hints[0].says) if hints else said
    if limit_w is not None and limit_w < curve.least:
        said = N_("how fast {part} is at {limit} W isn't known: it was measured from {least} W on ({source})")
        return _(
            said,
            part=part.short_name,
            limit=stated(limit_w),
            least=stated(curve.least),
            source=curve.source,
        )
    return None


def find_speed(part: Part, limit_w: float) -> LimitedSpeed | None:
    """The speed of a part at a limit below its TDP; None at the TDP, and where it isn't known."""
    curve, tdp = find_curve(part), part.tdp_w
    if curve is None or tdp is None or limit_w == tdp.value or explain_no_speed(part, limit_w) is not None:
        return None
    speeds = curve.speeds(limit_w, tdp.value)
    return LimitedSpeed(curve, limit_w, tdp.value, geometric_mean(speeds), min(speeds), max(speeds))


def limit_links(links: Sequence[Link], part: Part, limit_w: float) -> list[Link]:
    """The links of a chain, of which the last one before goodput has the speed at the limit.

    Raises InputError for links that a run measured: they contain the limit that its cards had.
    """
    speed = find_speed(part, limit_w)
    if any(link.run for link in links):
        raise InputError(
            "a run's figures contain the power limit that its cards had",
            where="--power-limit",
            got=limit_w,
            expected="no --run beside it",
        )
    if speed is None:
        return list(links)
    place = max(n for n, link in enumerate(links) if link.from_.reach < Stage.SCALED.reach)
    link = links[place]
    limited = replace(
        link,
        value=link.value * speed.value,
        low=link.low * speed.value,
        high=link.high * speed.value,
        speed_at_limit=speed.value,
        source=_("{source}; {limited}", source=link.source, limited=speed.source),
        scope=_(
            "{scope}, {limit} W a card", scope=link.scope or _(link.to.work), limit=stated(speed.limit_w)
        ),
    )
    return [*links[:place], limited, *links[place + 1 :]]


def limit_inputs(inputs: Mapping[str, UsedInput], limit_w: float | None) -> dict[str, UsedInput]:
    """The inputs of a part's power where a limit takes the place of its TDP.

    The rest of a server draws as before, so that its rating ÷ that of its cards rises.
    """
    found = dict(inputs)
    tdp, over = found.get("tdp_w"), found.get("server_power_over_gpu_power")
    if limit_w is None or tdp is None or over is None or limit_w >= tdp.uncertain.value:
        return found
    usual = tdp.uncertain.value

    def rest(ratio: float) -> float:
        return 1 + (ratio - 1) * usual / limit_w

    was = over.uncertain
    spread = Uncertain(rest(was.value), rest(was.low), rest(was.high), was.law)
    limit = _("given by {flag}", flag="--power-limit")
    usually = _("{limit}; its TDP is {tdp} W: {source}", limit=limit, tdp=stated(usual), source=tdp.source)
    same = _(
        "{value} at {tdp} W a card, and the rest of the server draws as before: {source}",
        value=stated(was.value),
        tdp=stated(usual),
        source=over.source,
    )
    found["tdp_w"] = replace(tdp, uncertain=exact(limit_w), basis="given", source=usually)
    found["server_power_over_gpu_power"] = replace(over, uncertain=spread, source=same)
    return found
