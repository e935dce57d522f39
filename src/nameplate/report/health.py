"""The screens of `bench check`: the node, its devices, and what each way of judging says of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from nameplate.base.formatting import count, figure, interval, percent
from nameplate.base.language import N_, _, join_sentences
from nameplate.base.messages import render
from nameplate.base.text import plain
from nameplate.health.advice import advise
from nameplate.health.cluster import ClusterHealth
from nameplate.health.judge import NodeHealth
from nameplate.health.verdict import VERDICTS, WAY_NAMES, WAYS, DeviceHealth, Statement
from nameplate.report.labels import Labels, describe_twins
from nameplate.report.view import VERDICT, Column, Table, View, text_table

_LABELS = Labels({})
_STATES = {"unfinished": N_("unfinished"), "refused": N_("refused"), "never_seen": N_("never seen")}
_CONFIDENCE = {"suspected": N_("suspected"), "confirmed": N_("confirmed")}
_MOST_MISSING = 200  # rows of a screen
_COUNTED = {
    "unfit": N_("{count} unfit"),
    "degraded": N_("{count} degraded"),
    "unknown": N_("{count} unknown"),
    "fit": N_("{count} fit"),
}


def node_view(found: NodeHealth, folders: Sequence[str] = ()) -> View:
    """The screen of one node; `folders` are those of its runs."""
    advice = dict.fromkeys(render(each) for device in found.devices for each in advise(device))
    return View(
        notice=describe_twins(each.name for each in found.devices if not each.measured),
        title=plain(_("{host}: {verdict}", host=found.host, verdict=_(found.verdict))),
        facts=tuple((_("run"), plain(each)) for each in folders),
        tables=tuple(each for each in (devices_table(found.devices), ways_table(found.devices)) if each.rows),
        meaning=plain(describe_node(found)),
        advice=tuple(map(plain, advice)),
    )


def describe_node(found: NodeHealth) -> str:
    """Say in a sentence whether the node is fit, and what isn't."""
    counts = Counter(each.verdict for each in found.devices)
    counted = _(", ").join(
        _(_COUNTED[verdict], count=counts[verdict]) for verdict in VERDICTS if counts[verdict]
    )
    said = [_("{host} is {verdict}: {counted}.", host=found.host, verdict=_(found.verdict), counted=counted)]
    if not counted:
        said = [_("{host} is {verdict}.", host=found.host, verdict=_(found.verdict))]
    said += [_("{why}.", why=render(each)) for each in found.reasons]
    return join_sentences(said)


def devices_table(devices: Sequence[DeviceHealth]) -> Table:
    """A row for each device: its verdict, why, and what to do."""
    columns = (Column(N_("device"), unbroken=True), Column(VERDICT), Column(N_("why")))
    return Table(_("Devices"), columns, tuple(_device_row(each) for each in devices))


def _device_row(health: DeviceHealth) -> tuple[str, ...]:
    return (name_device(health), health.verdict, plain(describe_device(health)))


def describe_device(health: DeviceHealth) -> str:
    """Say why a device is what it is; of one that is fit, by which ways."""
    if health.verdict != "fit":
        return _join(health.reasons)
    ways = [_(WAY_NAMES[each.way]) for each in health.statements if each.verdict == "fit"]
    return _("by {ways}", ways=_(", ").join(ways))


def name_device(health: DeviceHealth) -> str:
    """Return a device's name with its UUID, by which it is found whatever the order of devices."""
    return plain(health.device if health.uuid is None else f"{health.device} {health.uuid}")


def _join(reasons: Sequence[object], most: int = 2) -> str:
    """Return the first reasons, and how many more there are."""
    shown = [render(each) for each in reasons[:most]]  # type: ignore[arg-type]
    left = len(reasons) - most
    return _("; ").join([*shown, *([_("{count} more", count=left)] if left > 0 else [])])


def ways_table(devices: Sequence[DeviceHealth]) -> Table:
    """A row for each way of judging: what it says of which devices, and why."""
    rows = [row for way in WAYS for row in _way_rows(devices, way)]
    return text_table(_("By each way of judging"), (N_("by"), VERDICT, N_("devices"), N_("why")), rows)


def _way_rows(devices: Sequence[DeviceHealth], way: str) -> Iterator[tuple[str, ...]]:
    said: dict[str, list[tuple[DeviceHealth, Statement]]] = {}
    for device in devices:
        statement = next(each for each in device.statements if each.way == way)
        said.setdefault(statement.verdict, []).append((device, statement))
    for verdict in VERDICTS:
        held = said.get(verdict, [])
        if held:
            names = _(", ").join(device.device for device, _statement in held)
            first = held[0][1]
            yield _(WAY_NAMES[way]), verdict, plain(names), plain(_join(first.reasons, most=1))


# ---- many nodes ----


def cluster_view(found: ClusterHealth) -> View:
    """The screen of many nodes: which aren't fit, which are slower than the others, which are missing."""
    devices = [device for node in found.nodes for device in node.devices]
    unwell = [node for node in found.nodes if node.verdict != "fit"]
    advice = dict.fromkeys(render(each) for device in devices for each in advise(device))
    again = [each for each in found.stragglers if each.confidence == "suspected"]
    if again:
        hosts = ", ".join(dict.fromkeys(name for each in again for name in (each.host, each.control)))
        advice[_("Run `bench check` twice more on each of {hosts}, into the same folder.", hosts=hosts)] = (
            None
        )
    tables = (
        _nodes_table(unwell, _lowest_places(found)),
        _stragglers_table(found),
        _missing_table(found),
        _distributions_table(found),
        _variations_table(found),
    )
    return View(
        notice=describe_twins(each.name for each in devices if not each.measured),
        title=plain(_("{host}: {verdict}", host=found.folder, verdict=_(found.verdict))),
        tables=tuple(each for each in tables if each.rows),
        meaning=plain(describe_cluster(found)),
        advice=tuple(map(plain, advice)),
        problems=tuple(map(plain, found.problems)),
    )


def describe_cluster(found: ClusterHealth) -> str:
    """Say how many nodes are what, how many devices lag behind, and how many are missing."""
    counts = found.counts
    counted = _(", ").join(
        _(_COUNTED[verdict], count=counts[verdict]) for verdict in VERDICTS if counts[verdict]
    )
    devices = sum(len(node.devices) for node in found.nodes)
    said = [
        _(
            "Nodes: {count}, devices: {devices}; {counted}.",
            count=count(len(found.nodes)),
            devices=count(devices),
            counted=counted or "0",
        )
    ]
    if found.stragglers:
        said.append(_("Slower than all others of their kind: {count}.", count=count(len(found.stragglers))))
    if found.missing:
        said.append(_("Missing: {count}.", count=count(len(found.missing))))
    return join_sentences(said)


def _lowest_places(found: ClusterHealth) -> dict[tuple[str, str], str]:
    """The lowest percentile of each device among those of its kind, over the cases, and of how many."""
    lowest: dict[tuple[str, str], tuple[float, int]] = {}
    for each in found.distributions:
        for device, place in each.places.items():
            lowest[device] = min(lowest.get(device, (math.inf, 0)), (place, each.devices))
    return {
        device: _("{place} of {count}", place=count(round(place)), count=count(of))
        for device, (place, of) in lowest.items()
    }


def _nodes_table(nodes: Sequence[NodeHealth], places: Mapping[tuple[str, str], str]) -> Table:
    """A row for each device that isn't fit, and for what is wrong with a node as a whole."""
    rows: list[tuple[str, ...]] = []
    for node in nodes:
        rows += [(plain(node.host), "–", node.verdict, plain(render(each)), "–") for each in node.reasons]
        rows += [
            (plain(node.host), *_device_row(each), places.get((node.host, each.device), "–"))
            for each in node.devices
            if each.verdict != "fit"
        ]
    columns = (
        Column(N_("host")),
        Column(N_("device"), unbroken=True),
        Column(VERDICT),
        Column(N_("why")),
        Column(N_("lowest percentile"), is_number=True),
    )
    return Table(_("Not fit"), columns, tuple(rows))


def _stragglers_table(found: ClusterHealth) -> Table:
    rows = [
        (
            plain(each.host),
            plain(each.device if each.uuid is None else f"{each.device} {each.uuid}"),
            percent(each.drop),
            percent(each.limit),
            _(_CONFIDENCE[each.confidence]),
            plain(each.control),
        )
        for each in found.stragglers
    ]
    columns = (
        Column(N_("host")),
        Column(N_("device"), unbroken=True),
        Column(N_("slower by"), is_number=True),
        Column(N_("explained by the spread"), is_number=True),
        Column(N_("by re-runs")),
        Column(N_("control")),
    )
    return Table(_("Slower than all others of their kind"), columns, tuple(rows))


def _missing_table(found: ClusterHealth) -> Table:
    rows = [
        (
            plain(each.host or "–"),
            "–" if each.rank is None else str(each.rank),
            _(_STATES[each.state]),
            plain(render(each.why)),
        )
        for each in found.missing[:_MOST_MISSING]
    ]
    columns = (Column(N_("host")), Column(N_("rank"), is_number=True), Column(N_("state")), Column(N_("why")))
    lead = ""
    if len(found.missing) > len(rows):
        said = N_("The first {shown} of {count}; --json has them all.")
        lead = _(said, shown=count(len(rows)), count=count(len(found.missing)))
    return Table(_("Missing"), columns, tuple(rows), lead=lead)


def _distributions_table(found: ClusterHealth) -> Table:
    rows = [
        (
            plain(each.part),
            _LABELS.case(each.case),
            count(each.devices),
            percent(each.card_sd.value),
            interval(percent, each.card_sd.low, each.card_sd.high),
            *(f"{figure(each.percentiles[place])}" for place in (10, 50, 90)),
            percent(each.slowest),
        )
        for each in found.distributions
    ]
    columns = (
        Column(N_("part")),
        Column(N_("case")),
        Column(N_("devices"), is_number=True),
        Column(N_("from card to card"), is_number=True),
        Column("95 %", is_number=True),
        Column("p10", is_number=True),
        Column("p50", is_number=True),
        Column("p90", is_number=True),
        Column(N_("slowest ÷ median"), is_number=True),
    )
    return Table(_("How devices of one kind differ"), columns, tuple(rows))


def _variations_table(found: ClusterHealth) -> Table:
    """How one device's figures vary, where runs show it; degrees of freedom in parentheses."""

    def text(deviation: float | None, freedom: int) -> str:
        return "–" if deviation is None else f"{percent(deviation)} ({count(freedom)})"

    rows = [
        (
            plain(each.part),
            _LABELS.case(each.case),
            text(each.process_sd, each.process_freedom),
            text(each.run_sd, each.run_freedom),
            text(each.boot_sd, each.boot_freedom),
        )
        for each in found.variations
    ]
    columns = (
        Column(N_("part")),
        Column(N_("case")),
        Column(N_("from process to process"), is_number=True),
        Column(N_("from run to run"), is_number=True),
        Column(N_("from boot to boot"), is_number=True),
    )
    lead = _("Standard deviations, and in brackets the degrees of freedom that each is estimated from.")
    return Table(_("What the figures of one device vary by"), columns, tuple(rows), lead=lead)
