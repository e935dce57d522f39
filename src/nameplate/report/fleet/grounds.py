"""What the figures of a fleet's screen rest on: the run, the ratings, the derates, the prices, and notes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from nameplate.base.formatting import count, percent, stated
from nameplate.base.language import _
from nameplate.base.text import plain
from nameplate.chain.link import Link
from nameplate.chain.stage import Stage
from nameplate.fleet.price import Cost
from nameplate.fleet.size import DTYPE, Size

_MOST_NAMES = 3  # of fleets or prices in one sentence


def ask_for_details() -> str:
    """Where the rest is: of every screen that leaves it out."""
    return _("Chains, inputs, sources and notes: `--details`.")


def list_facts(costs: Sequence[Cost]) -> Iterator[tuple[str, str]]:
    """Yield what a reader must know beside the figures: the run, the ratings, the prices, the draws."""
    run = next((each.run for each in costs if each.run), None)
    if run is not None:
        yield _("run"), _("{name}: {said}", name=run.run, said=run.figures)
        if not any(each.run and each.run.used for each in costs):
            yield "", str(run.reason)
    by_part = {
        each.size.part.id: (each.size.part.short_name, each) for each in costs if each.size.part is not None
    }
    cards = _(", ").join(f"{name} {stated(each.size.card_tflops)} TFLOPS" for name, each in by_part.values())
    yield (
        _("counted by"),
        _(
            "the dense {dtype} nominal of one card, for cards, delivered EFLOPS and prices alike: {cards}",
            dtype=DTYPE,
            cards=cards or _("no card is known"),
        ),
    )
    for name, each in by_part.values():
        price = each.price
        if price is not None:
            said = _(
                "{part}: RMB {server} per {cards}-card server, {date}, {source}",
                part=name,
                server=stated(price.server_rmb),
                cards=price.cards_per_server,
                date=price.as_of,
                source=price.source,
            )
            yield _("price"), said if price.note is None else _("; ").join((said, price.note))
    yield (
        _("spread"),
        _(
            "{count} draws, seed {seed}; a figure is their middle, and nine in ten lie between p5 and p95",
            count=count(costs[0].draws),
            seed=costs[0].seed,
        ),
    )


def fleet_label(size: Size) -> str:
    """Return a fleet's id; for a size given on the command line its name."""
    return plain(size.name if size.as_of is None else size.id)


def list_by_part(costs: Sequence[Cost]) -> list[Cost]:
    """Return the fleets of one part; a mix as if it were all of each of its parts."""
    return [part for each in costs for part in (each.mix or (each,)) if part.size.part is not None]


def describe_grounds(costs: Sequence[Cost]) -> Iterator[str]:
    """Yield the lines of what a plan or a price rests on: derates, prices, and what an interval is."""
    derates, prices = dict[str, None](), dict[str, None]()
    for each in list_by_part(costs):
        derates |= dict.fromkeys(_name_derate(link) for link in each.chain[1:])
        if each.price is not None and each.size.part is not None:
            said = _(
                "{part} RMB {server} a server of {cards} ({date})",
                part=each.size.part.short_name,
                server=stated(each.price.server_rmb),
                cards=count(each.price.cards_per_server),
                date=each.price.as_of,
            )
            prices[said] = None
    if derates:
        yield _("By {derates}.", derates=_("; ").join(derates))
    yield from _describe_limits(costs)
    if prices:
        yield _("Prices: {prices}.", prices=_name_some(list(prices)))
    yield _(
        "Cards, EFLOPS and prices count dense {dtype} nominal; a figure is the middle of {count} draws, and "
        "nine in ten lie in its interval.",
        dtype=DTYPE,
        count=count(costs[0].draws),
    )


def _describe_limits(costs: Sequence[Cost]) -> Iterator[str]:
    """Yield what a power limit leaves of the speed of each part that is held below its TDP."""
    said = {
        _(
            "{part} held at {limit} W a card: {speed} of its speed at its TDP.",
            part=each.size.part.short_name,
            limit=stated(each.unit.inputs["tdp_w"].uncertain.value),
            speed=percent(link.speed_at_limit),
        ): None
        for each in costs
        if each.size.part is not None and each.unit is not None and "tdp_w" in each.unit.inputs
        for link in each.chain
        if link.speed_at_limit != 1
    }
    yield from said


def _name_derate(link: Link) -> str:
    if link.run:
        return _("run {run}", run=link.run)
    if link.provenance == "modelled" and link.from_ is not Stage.SCALED:
        return _(
            "the MFU of published training runs at the fleet's size ({training})",
            training=_name_training(link),
        )
    return _("{name} ({how})", name=link.id or link.span, how=_(link.provenance))


def _name_training(link: Link) -> str:
    """The training without its number of devices, which differs from fleet to fleet."""
    parts = re.split(r", |，|、", link.scope or "")  # a figure has a comma too: 4,096
    kept = parts if link.speed_at_limit == 1 else parts[:-1]  # the last is the power limit
    # The number as a word of its own: 8 devices aren't the 8 of a context of 8,192. The model comes first.
    devices = re.compile(rf"(?<![\w,.]){re.escape(count(link.n_to))}(?![\d,.])")
    return _(", ").join(part for at, part in enumerate(kept) if at == 0 or not devices.search(part))


def _name_some(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    if len(names) <= _MOST_NAMES:
        return _(", ").join(names)
    named = _(", ").join(names[:_MOST_NAMES])
    return _("{names} and {count} more", names=named, count=count(len(names) - _MOST_NAMES))


def describe_notes(costs: Sequence[Cost]) -> Iterator[str]:
    """Yield every note, with the names of the fleets it is about."""
    fleets: dict[str, list[str]] = {}
    for each in costs:
        reach = [] if each.reaches is None else [_describe_reach(each)]
        for note in (*reach, *each.notes):
            name = each.size.name if each.size.as_of is None else _(each.size.name)
            fleets.setdefault(note, []).append(name)
    for note, names in fleets.items():
        if len(costs) == 1:
            yield _("{said}.", said=note)
        else:
            yield _("{name}: {said}.", name=_name_some(list(dict.fromkeys(names))), said=note)


def _describe_reach(cost: Cost) -> str:
    """Say up to which stage the chain counts, and which later ones it lacks."""
    missing = () if cost.reaches is None else cost.reaches.following
    if not missing:
        return _("delivered counts the chain up to `{stage}`", stage=cost.reaches)
    if len(missing) == 1:
        return _(
            "delivered counts the chain up to `{stage}`; {missing} isn't counted yet",
            stage=cost.reaches,
            missing=missing[0],
        )
    several = _("{first} and {last}", first=_(", ").join(missing[:-1]), last=missing[-1])
    return _(
        "delivered counts the chain up to `{stage}`; {missing} aren't counted yet",
        stage=cost.reaches,
        missing=several,
    )
