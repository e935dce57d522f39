"""Whether each device of a run is fit: a line a device for the head of the screen, and a table of every way.

`nameplate.health` judges; this module only chooses what is said first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

from nameplate.base.formatting import count, percent
from nameplate.base.language import N_, _
from nameplate.base.messages import Message, render
from nameplate.base.text import plain
from nameplate.chain.from_run import find_chains
from nameplate.health.advice import advise
from nameplate.health.distribution import Place, find_places, read_others_of_part
from nameplate.health.judge import judge_run
from nameplate.health.past import find_past
from nameplate.health.verdict import ERRORS, VERDICTS, WAY_NAMES, DeviceHealth, Statement
from nameplate.record import Record
from nameplate.report.labels import Labels
from nameplate.report.view import Banner, Field, Table, table_of
from nameplate.store.folder import Run

_SICK = ("unfit", "degraded")
# Devices that have a line each; more of one verdict share a line.
_MOST_LINES = 2
_UUID_DIGITS = len("GPU-01234567")
_Said = tuple[DeviceHealth, Statement]


def find_health(run: Run) -> tuple[DeviceHealth, ...]:
    """Judge each device of a run, by its own earlier runs too where they are beside it."""
    return judge_run(run, past=find_past(run))


def list_banners(found: Sequence[DeviceHealth], run: Run) -> Iterator[Banner]:
    """Return banners, the gravest first: a device each, and from three on one for all alike.

    Of many sick devices the two gravest have one of their own.
    """
    ordered = sorted(found, key=lambda each: VERDICTS.index(each.verdict))
    first = ordered[:_MOST_LINES] if len(ordered) > _MOST_LINES + 1 else ordered
    alone = [each for each in first if each.verdict in _SICK or len(ordered) <= _MOST_LINES + 1]
    yield from (Banner(each.verdict, *_describe(each, run)) for each in alone)
    for verdict in VERDICTS:
        rest = [each for each in ordered if each.verdict == verdict and each not in alone]
        if len(rest) == 1:
            yield Banner(verdict, *_describe(rest[0], run))
        elif rest:
            names = _(", ").join(plain(each.device) for each in rest)
            yield Banner(verdict, names, _describe_together(rest))


def advise_on_health(found: Sequence[DeviceHealth]) -> list[str]:
    """What to do about the devices that are unfit or degraded, each piece once with their names."""
    said: dict[str, list[str]] = {}
    for each in found:
        if each.verdict in _SICK:
            for advice in advise(each):
                said.setdefault(plain(render(advice)), []).append(plain(each.device))
    return [_("{name}: {said}", name=_(", ").join(names), said=advice) for advice, names in said.items()]


def health_table(run: Run) -> Table:
    """Each device by each way of judging, with every reason."""
    rows = [(each, statement) for each in find_health(run) for statement in each.statements]
    fields = [
        Field[_Said]("device", lambda row: plain(row[0].device)),
        Field[_Said]("judged by", lambda row: _(WAY_NAMES[row[1].way])),
        Field[_Said]("verdict", lambda row: row[1].verdict),
        Field[_Said]("reasons", lambda row: plain(_("; ").join(map(render, row[1].reasons)))),
    ]
    return table_of(_("Whether each device is fit"), fields, rows)


def standing_table(run: Run, labels: Labels) -> Table:
    """Where each device stands among those of its part in the runs beside this one, by its lowest place.

    It reads all of those runs, so it is made only where the section is asked for.
    """
    by_device: dict[str, list[Place]] = {}
    for place in find_places(run, read_others_of_part(run)):
        by_device.setdefault(place.device, []).append(place)
    fields = [
        Field[list[Place]]("device", lambda row: plain(row[0].device)),
        Field[list[Place]](N_("slower devices"), lambda row: count(row[0].slower), is_number=True),
        Field[list[Place]]("devices", lambda row: count(row[0].devices), is_number=True),
        Field[list[Place]](N_("percentile"), lambda row: count(round(row[0].percentile)), is_number=True),
        Field[list[Place]](N_("of all cases"), _format_median, is_number=True),
        Field[list[Place]]("case", lambda row: labels.case(row[0].case)),
    ]
    rows = [sorted(places, key=lambda each: each.percentile) for places in by_device.values()]
    lead = _(
        "The device's percentile in the case where that is lowest, among the latest runs of its part in "
        "this folder; 50 is the middle. Of all cases: the median of its percentiles."
    )
    return table_of(_("Among the devices of its part"), fields, rows, lead=lead)


def _format_median(places: Sequence[Place]) -> str:
    return count(round(median(each.percentile for each in places)))


def _describe(health: DeviceHealth, run: Run) -> tuple[str, str]:
    """The device by all its names, and why it is what it is; beside its siblings where it isn't fit."""
    said = [plain(render(_choose_reason(health)))]
    if health.verdict not in _SICK:
        names = dict.fromkeys(filter(None, (health.device, health.name)))
        return plain(_(", ").join(names)), said[0]
    # A GPU's label has its index; the beginning of its UUID finds the card in the rack.
    known = health.uuid[:_UUID_DIGITS] if health.uuid else health.name
    name = f"{health.device} ({known})" if known else health.device
    return plain(name), _("; ").join([*_compare_with_siblings(health, run), *said])


def _choose_reason(health: DeviceHealth) -> Message:
    """The reason to put first: what was found; of a fit device, what shows its speed to be right."""
    reasons = health.reasons
    if health.verdict != "fit":
        return reasons[0]
    speed = [
        reason
        for each in health.statements
        if each.way != ERRORS and each.verdict == "fit"
        for reason in each.reasons
    ]
    return (speed or list(reasons))[0]


def _describe_together(found: Sequence[DeviceHealth]) -> str:
    if found[0].verdict in _SICK:
        return _("section health says why")
    return plain(render(_choose_reason(found[0])))


def _compare_with_siblings(health: DeviceHealth, run: Run) -> Iterator[str]:
    """By how much its best product is below that of the fastest device of its part."""
    best = {each.device: each.best_product for each in find_chains(run.records)}
    own = best.pop(health.device, None)
    parts = {entry.name: entry.part for entry in run.manifest.devices}
    others = [
        each
        for device, each in best.items()
        if own is not None
        and parts.get(device) == health.part
        and (each.dtype, each.phase) == (own.dtype, own.phase)
    ]
    fastest = max(others, key=_tflops, default=None)
    if own is not None and fastest is not None and _tflops(own) < _tflops(fastest):
        yield _(
            "{share} below {device} in its best product",
            share=percent(1 - _tflops(own) / _tflops(fastest)),
            device=plain(fastest.device),
        )


def _tflops(record: Record) -> float:
    return record.tflops or 0.0
