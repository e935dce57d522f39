"""The screen of `bench fleet goodput`: what jobs get out of their time, and what failures cost them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nameplate.base.formatting import count, duration, interval, percent, stated
from nameplate.base.language import _
from nameplate.base.text import plain
from nameplate.fleet.goodput import Goodput, describe_origin, load_goodput_file
from nameplate.report.view import Field, View, table_of
from nameplate.stats.interval import Interval
from nameplate.stats.uncertain import Uncertain


def goodput_view(jobs: Sequence[Goodput]) -> View:
    """The goodput of jobs of these sizes, the best time between checkpoints, and what each loss costs."""
    fields = [
        Field[Goodput]("cards", lambda job: count(job.cards), is_number=True),
        Field[Goodput]("nodes", lambda job: count(job.nodes), is_number=True, drop_priority=1),
        Field[Goodput]("goodput", lambda job: percent(job.goodput.value), is_number=True),
        Field[Goodput]("95 % interval", lambda job: _ends(job.goodput)),
        Field[Goodput]("between failures", lambda job: _hours(job.between_h), is_number=True),
        Field[Goodput]("between checkpoints", lambda job: _minutes(job.interval_min), is_number=True),
        Field[Goodput]("by Young", lambda job: _minutes(job.young_min), is_number=True, drop_priority=0),
    ]
    losses = [
        fields[0],
        Field[Goodput]("checkpoints", lambda job: percent(job.checkpoints.value), is_number=True),
        Field[Goodput]("lost work", lambda job: percent(job.lost_work.value), is_number=True),
        Field[Goodput]("restarts", lambda job: percent(job.restarts.value), is_number=True),
    ]
    return View(
        title=_("Goodput by failures, restarts and checkpoints"),
        facts=tuple((name, plain(value)) for name, value in _list_inputs(jobs[0])),
        tables=(
            table_of(_("Useful ÷ elapsed time, and the best time between checkpoints (Daly)"), fields, jobs),
            table_of(_("The share of elapsed time that each loss costs"), losses, jobs),
        ),
        meaning=_describe(jobs[-1]),
        advice=(
            _("These figures come from a model; `--validate` compares it with published cases."),
            _("Sources: {caveat}.", caveat=load_goodput_file().caveat),
        ),
    )


def _list_inputs(job: Goodput) -> Iterator[tuple[str, str]]:
    for name, used in job.inputs.items():
        value = _("; ").join((_uncertain_text(used), describe_origin(name, used)["source"]))
        yield _(name.replace("_", " ")), value


def _uncertain_text(number: Uncertain) -> str:
    if number.law == "exact":
        return stated(number.value)
    return _(
        "{value} ({low} to {high}, {law})",
        value=stated(number.value),
        low=stated(number.low),
        high=stated(number.high),
        law=_(number.law),
    )


def _describe(job: Goodput) -> str:
    return _(
        "A job of {cards} cards gets {goodput} ({range}) out of its time. With a failure every {failure} and "
        "a checkpoint every {checkpoint}, checkpoints cost {checkpoints}, lost work {lost} and restarts "
        "{restarts}.",
        cards=count(job.cards),
        goodput=percent(job.goodput.value),
        range=_ends(job.goodput),
        failure=_hours(job.between_h),
        checkpoint=_minutes(job.interval_min),
        checkpoints=percent(job.checkpoints.value),
        lost=percent(job.lost_work.value),
        restarts=percent(job.restarts.value),
    )


def _ends(found: Interval) -> str:
    return interval(percent, found.low, found.high)


def _hours(found: Interval) -> str:
    return duration(3_600 * found.value)


def _minutes(found: Interval) -> str:
    return duration(60 * found.value)
