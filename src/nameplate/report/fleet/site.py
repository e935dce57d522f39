"""The screen of `bench fleet plan --site-mw`: what a site holds of each part, and at which power limit."""

from __future__ import annotations

from collections.abc import Sequence

from nameplate.base.formatting import count, figure, millions, percent, stated
from nameplate.base.language import N_, _
from nameplate.fleet.site import AtLimit, SitePlan
from nameplate.report.fleet.figures import ends_field, value_field
from nameplate.report.fleet.plan import name_part, plan_view, runs_field
from nameplate.report.view import Field, Table, View, table_of

_MOST_NAMED = 4
_MEANING = N_(
    "Power is that of the site: every card at its limit, the rest of its server, network and storage, and "
    "cooling. Speed at a limit is that of computing alone, so a job that waits for its links loses less."
)


def sites_view(sites: Sequence[SitePlan], *, details: bool = False) -> View:
    """What a site holds of each part, the one that delivers most first."""
    known = [site for site in sites if site.best is not None]
    tables = [_parts_table(known)] if len(known) > 1 else []
    tables += [_limits_table(site) for site in known if len(site.at) > 1 and (details or len(known) == 1)]
    why = dict.fromkeys(site.unlimited for site in known if site.unlimited)
    notes = [_("At the TDP alone: {why}", why=each) for each in list(why)[: None if details else 2]]
    return plan_view(_answer(sites, known), tables, sites, _(_MEANING), notes, details=details)


def _parts_table(known: Sequence[SitePlan]) -> Table:
    fields: list[Field[SitePlan]] = [
        Field("part", name_part),
        Field("W a card", lambda site: stated(site.best.limit_w if site.best else None), is_number=True),
        Field("cards", lambda site: count(site.best.cards if site.best else None), is_number=True),
        value_field("EFLOPS", "delivered_eflops", figure),
        ends_field("delivered_eflops", figure, drop_priority=1),
        value_field("RMB M", "capex_rmb", millions),
        value_field("per delivered", "rmb_per_delivered_eflops", millions, drop_priority=0),
        runs_field(),
    ]
    return table_of(
        _("What a site of {mw} MW holds; millions of RMB for the servers", mw=stated(known[0].site_mw)),
        fields,
        known,
    )


def _limits_table(site: SitePlan) -> Table:
    fields: list[Field[AtLimit]] = [
        Field("W a card", lambda at: stated(at.limit_w), is_number=True),
        Field("cards", lambda at: count(at.cards), is_number=True),
        value_field("EFLOPS", "delivered_eflops", figure),
        ends_field("delivered_eflops", figure, drop_priority=1),
        Field("most", lambda at: percent(at.first_in), is_number=True, drop_priority=2),
        value_field("RMB M", "capex_rmb", millions),
        value_field("per delivered", "rmb_per_delivered_eflops", millions, drop_priority=0),
    ]
    heading = _(
        "{part} by power limit; millions of RMB for the servers; most: the share of draws in which that "
        "limit delivers most",
        part=name_part(site),
    )
    return table_of(heading, fields, site.at)


def _answer(sites: Sequence[SitePlan], known: Sequence[SitePlan]) -> str:
    if not known:
        names = _(", ").join(_(site.fleet.size.name) for site in sites)
        return _("This can't be planned with {names}.", names=names)
    if len(known) == 1:
        return known[0].sentence or ""
    said = [
        _(
            "{part} {eflops} ({cards} cards at {limit} W)",
            part=name_part(site),
            eflops=figure(site.best.estimates["delivered_eflops"].value),
            cards=count(site.best.cards),
            limit=stated(site.best.limit_w),
        )
        for site in known[:_MOST_NAMED]
        if site.best is not None
    ]
    return _(
        "A site of {mw} MW delivers most with {part}. EFLOPS delivered: {eflops}.",
        mw=stated(known[0].site_mw),
        part=name_part(known[0]),
        eflops=_(", ").join(said),
    )
