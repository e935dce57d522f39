"""A run as a view and as JSON, and the report of one run or several.

A section of a view is a table with its charts. It appears where the run has something for it, so a new kind
of record needs one more function in `_SECTIONS`, and its name in `section_names`. Text from a device, a host,
a label or a file passes `base.text.plain`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from nameplate.base.errors import InputError
from nameplate.base.language import _
from nameplate.base.messages import render
from nameplate.base.text import plain
from nameplate.chain.blocks import explain_blocks, find_choices, find_parts_in_place, find_profiles
from nameplate.chain.effects import find_effects
from nameplate.chain.from_run import find_chains, find_links
from nameplate.chain.losses import explain_losses
from nameplate.chain.power_limits import find_limit_curves
from nameplate.chain.roofline import place_cases
from nameplate.chain.steps import find_steps
from nameplate.health.judge import device_as_json
from nameplate.health.verdict import DeviceHealth
from nameplate.record import Record
from nameplate.report.labels import Labels, describe_simulated, join_counted
from nameplate.report.section_names import SECTIONS
from nameplate.report.sections.answers import advise_on_wrong, describe_run, give_advice
from nameplate.report.sections.best_shape import search_results_table
from nameplate.report.sections.blocks import (
    backends_table,
    conventions_table,
    kernels_table,
    largest_table,
    parts_table,
    places_table,
)
from nameplate.report.sections.chain import chain_table, effects_table
from nameplate.report.sections.collectives import collectives_table
from nameplate.report.sections.headline import list_answers, list_footer, list_summary
from nameplate.report.sections.health import (
    advise_on_health,
    find_health,
    health_table,
    list_banners,
    standing_table,
)
from nameplate.report.sections.identity import (
    device_name,
    list_facts,
    method_table,
    records_table,
    reproduce_table,
)
from nameplate.report.sections.losses import losses_table
from nameplate.report.sections.memory import memory_table
from nameplate.report.sections.power_limits import power_limits_table
from nameplate.report.sections.roofline import roofline_table
from nameplate.report.sections.soak import soak_table
from nameplate.report.sections.step import step_table
from nameplate.report.sections.throughput import (
    block_table,
    contended_table,
    devices_table,
    graph_table,
    measured_records,
    shapes_table,
    throughput_table,
)
from nameplate.report.view import Fact, Table, View, text_table
from nameplate.store.folder import Run

if TYPE_CHECKING:
    from nameplate.fleet.price import Cost

FLEETS, _ADVICE, _MACHINE = "fleets", "advice", "machine"


def summary_view(run: Run) -> View:
    """Return the answer of a run, finished or not, without the tables that it rests on."""
    devices = join_counted(device_name(entry) for entry in run.manifest.devices)
    health = find_health(run)
    return View(
        notice=describe_simulated([run.manifest]),
        title=plain(_("{suite} on {devices}", suite=run.manifest.suite, devices=devices)),
        banners=tuple(list_banners(health, run)),
        advice=tuple(map(plain, _list_advice(run, health))),
        problems=tuple(plain(render(each)) for each in run.problems),
        answers=list_answers(run),
        summary=tuple(list_summary(run)),
        footer=tuple(list_footer(run)),
    )


def _list_advice(run: Run, health: Sequence[DeviceHealth]) -> list[str]:
    """Return each advice once, the gravest first."""
    return list(dict.fromkeys([*advise_on_wrong(run), *advise_on_health(health), *give_advice(run)]))


def run_view(run: Run, *, fleets: Sequence[Table] = ()) -> View:
    """Return the view of a run, finished or not: its answer, and every section that it has something for.

    `fleets` are the tables of the fleets that the run prices (`report.fleet.priced`).
    """
    labels = Labels.of(run)
    tables: list[Table] = []
    for name in SECTIONS:
        if name == FLEETS:
            tables += [replace(table, name=FLEETS) for table in fleets]
        elif name not in (_ADVICE, _MACHINE):  # which the view has apart
            tables.append(replace(_SECTIONS[name](run, labels), name=name))
    charts = (chart for table in tables for chart in table.charts)
    return replace(
        summary_view(run),
        facts=_facts(run, labels),
        tables=tuple(table for table in tables if table.rows or table.charts),
        chart=next(charts, None),
    )


def sections_view(run: Run, names: Sequence[str]) -> View:
    """Return these sections of a run, by the names in `section_names`; one that has nothing says so.

    Raises InputError for a name that no section has.
    """
    labels = Labels.of(run)
    whole = summary_view(run)
    view = View(title=whole.title, notice=whole.notice)
    for name in names:
        if name == _MACHINE:
            view = replace(view, facts=_facts(run, labels))
            continue
        found = [each for each in _make_section(name, run, labels) if each.rows or each.charts]
        view = replace(view, tables=(*view.tables, *(found or [_empty_section(name)])))
    return view


def _make_section(name: str, run: Run, labels: Labels) -> Sequence[Table]:
    if name == FLEETS:
        from nameplate.report.fleet.priced import price, priced_tables

        return priced_tables(price(run))
    if name not in _SECTIONS:
        raise InputError("no such section", got=name, expected=f"one of {', '.join(SECTIONS)}")
    made = [_SECTIONS[name](run, labels)]
    return [*made, standing_table(run, labels)] if name == "health" else made


def _empty_section(name: str) -> Table:
    lead = _("This run has nothing of it: {what}.", what=_(SECTIONS[name]))
    return Table(name, (), (), lead=lead, name=name)


def _advice_table(run: Run, _labels: Labels) -> Table:
    said = [*_list_advice(run, find_health(run)), *map(render, run.problems)]
    return text_table(_("What to do"), ("",), ((plain(each),) for each in said))


def _chain_table(run: Run, labels: Labels) -> Table:
    chains = find_chains(run.records)
    table = chain_table(find_links(run.records), labels, chains, len(run.manifest.devices))
    return replace(table, lead=plain(describe_run(run)))


def _facts(run: Run, labels: Labels) -> tuple[Fact, ...]:
    return tuple((name, plain(value)) for name, value in list_facts(run, labels))


def _effects_table(found: Sequence[Record], labels: Labels) -> Table:
    return effects_table(find_effects(found), labels, found)


def _unmeasured_table(run: Run, labels: Labels) -> Table:
    rows: list[tuple[str, ...]] = [
        (labels.row(record.device, record.case), _(record.status), plain(render(record.reason or "")))
        for record in run.records
        if record.status != "ok"
    ]
    rows += [
        (labels.row(each.device, each.case), _("missing"), plain(render(run.why_missing)))
        for each in run.missing
    ]
    return text_table(_("Not measured"), ("case", "status", "reason"), rows)


def _warnings_table(run: Run, labels: Labels) -> Table:
    rows = [
        (labels.row(record.device, record.case), plain(render(warning)))
        for record in run.records
        for warning in record.warnings
    ]
    return text_table(_("Worth knowing"), ("case", "warning"), rows)


# What makes each section; all but the fleets, which take long to price.
_SECTIONS: Mapping[str, Callable[[Run, Labels], Table]] = {
    "health": lambda run, _labels: health_table(run),
    "advice": _advice_table,
    "chain": _chain_table,
    "losses": lambda run, _labels: losses_table(measured_records(run)),
    "throughput": lambda run, labels: throughput_table(measured_records(run), labels),
    "best": lambda run, labels: search_results_table(measured_records(run), labels),
    "shapes": lambda run, _labels: shapes_table(measured_records(run)),
    "contended": lambda run, labels: contended_table(measured_records(run), labels),
    "graphs": lambda run, labels: graph_table(measured_records(run), labels),
    "effects": lambda run, labels: _effects_table(measured_records(run), labels),
    "memory": lambda run, labels: memory_table(measured_records(run), labels),
    "roofline": lambda run, labels: roofline_table(measured_records(run), labels),
    "collectives": lambda run, _labels: collectives_table(measured_records(run)),
    "block": lambda run, labels: block_table(measured_records(run), labels),
    "backends": lambda run, labels: backends_table(measured_records(run), labels),
    "conventions": lambda run, labels: conventions_table(measured_records(run), labels),
    "parts": lambda run, labels: parts_table(measured_records(run), labels),
    "in-place": lambda run, labels: places_table(measured_records(run), labels),
    "kernels": lambda run, labels: kernels_table(measured_records(run), labels),
    "largest": lambda run, labels: largest_table(run.records, labels),
    "step": lambda run, labels: step_table(measured_records(run), labels),
    "idle": lambda run, labels: soak_table(measured_records(run), labels),
    "devices": lambda run, labels: devices_table(measured_records(run), labels),
    "power-limits": lambda run, labels: power_limits_table(find_limit_curves([run]), labels),
    "unmeasured": _unmeasured_table,
    "warnings": _warnings_table,
    "method": lambda run, _labels: method_table(run),
    "records": lambda run, labels: records_table(run.records, labels),
    "reproduce": lambda run, _labels: reproduce_table(run),
}


def run_document(run: Run, beside: Sequence[Run] = ()) -> dict[str, Any]:
    """Return `{"run", "records", "health", "chain"}`; each record flat, with the columns of `nameplate.load`.

    `beside` are runs shown with it: `power_limits` are the curves of all of them.

    `run` also has what has no column: `courses`, a time series for each record that began from idle, with its
    derates at 1 s, 10 s, 1 min and 10 min; `backends`, torch's choice and the fastest; `blocks`, where a
    block's time went; `in_place`, that of its parts; `kernels` of traced launches by their share;
    `largest_batches` that fit; `steps`, a training step by layers; `roofline`, each case under its roofs;
    `losses`, from the silicon to the products, factor by factor; `effects`, the ratios of fills and cache
    states; and `power_limits`, the best product by power limit. A figure that isn't known is null; there is
    neither NaN nor infinity.
    """
    return {
        "run": {
            **run.manifest.as_json(),
            "folder": str(run.folder),
            "finished": run.finished,
            "missing": [each.model_dump() for each in run.missing],
            "problems": [str(problem) for problem in run.problems],
            "courses": [
                record.model_dump(include={"case", "device", "course", "derates"})
                for record in run.records
                if record.course
            ],
            "backends": [choice.as_json() for choice in find_choices(run.records)],
            "blocks": [parts.as_json() for parts in explain_blocks(run.records)],
            "in_place": [block.as_json() for block in find_parts_in_place(run.records)],
            "losses": [each.as_json() for each in explain_losses(run.records)],
            "roofline": [each.as_json() for each in place_cases(run.records)],
            "kernels": [each.as_json() for each in find_profiles(run.records)],
            "largest_batches": [
                record.model_dump(include={"case", "device", "largest_batch"})
                for record in run.records
                if record.largest_batch is not None
            ],
            "steps": [step.as_json() for step in find_steps(run.records)],
            "effects": [effect.as_json() for effect in find_effects(run.records)],
            "power_limits": [curve.as_json() for curve in find_limit_curves(beside or [run])],
        },
        "records": [record.flatten() for record in run.records],
        "health": [device_as_json(each) for each in find_health(run)],
        "chain": [link.as_run_row() for link in find_links(run.records)],
    }


@dataclass(frozen=True)
class Report:
    """What `bench report` says of one run or several.

    `costs` are the fleets as priced by the first run that can price some; by the first run where none can;
    none where nobody asked for fleets.
    """

    views: tuple[View, ...]
    costs: tuple[Cost, ...]


def make_report(runs: Sequence[Run], *, fleets: bool | None = None) -> Report:
    """Return the views of the runs; several runs side by side first.

    Each has the fleets that it prices with `fleets`; by default where a run is of an accelerator.
    Raises InputError where a run is given twice.
    """
    # Imported here, since the view of a single run (`run_view`) prices no fleet.
    from nameplate.report.fleet.priced import price, priced_tables
    from nameplate.report.side_by_side import side_by_side_view

    check_different(runs)
    wanted = any(map(_has_accelerator, runs)) if fleets is None else fleets
    priced = [price(run) for run in runs] if wanted else []
    shown = next((each for each in priced if each.why is None), priced[0] if priced else None)
    tables = [priced_tables(each) if each.why is None or each is shown else () for each in priced]
    views = [run_view(run, fleets=each) for run, each in zip(runs, tables or [()] * len(runs), strict=True)]
    if len(runs) > 1:
        views.insert(0, side_by_side_view(runs))
    return Report(tuple(views), shown.costs if shown else ())


def check_different(runs: Sequence[Run]) -> None:
    """Raise InputError where a run is given twice."""
    ids = [run.id for run in runs]
    twice = next((each for each in ids if ids.count(each) > 1), None)
    if twice is not None:
        raise InputError("the same run twice", got=twice, expected="runs that differ")


def _has_accelerator(run: Run) -> bool:
    return any(entry.identity.kind == "cuda" for entry in run.manifest.devices)
