"""A run as a view and as JSON, and the report of one run or several.

A section of a view is a table with its charts. It appears where the run has something for it, so a new kind
of record needs one more function in `_make_sections`. Text from a device, a host, a label or a file passes
`base.text.plain`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nameplate.base.errors import InputError
from nameplate.base.language import _
from nameplate.base.messages import render
from nameplate.base.text import plain
from nameplate.chain.effects import find_effects
from nameplate.chain.from_run import find_chains, find_links
from nameplate.report.labels import Labels, join_counted
from nameplate.report.notice import describe_simulated
from nameplate.report.sections.answers import describe_run, find_answers, give_advice
from nameplate.report.sections.chain import chain_table, effects_table
from nameplate.report.sections.identity import (
    device_name,
    list_facts,
    method_table,
    records_table,
    reproduce_table,
)
from nameplate.report.sections.soak import soak_table
from nameplate.report.sections.throughput import (
    block_table,
    contended_table,
    devices_table,
    graph_table,
    measured_records,
    memory_table,
    shapes_table,
    throughput_table,
)
from nameplate.report.view import Table, View, text_table
from nameplate.store.folder import Run

if TYPE_CHECKING:
    from nameplate.fleet.price import Cost


def run_view(run: Run, *, whole: bool = False, fleets: Sequence[Table] = ()) -> View:
    """Return the view of a run, finished or not.

    `whole` adds what a report has after the figures: the method, every record, how to reproduce them.
    `fleets` are the tables of the fleets that the run prices (`report.fleet.priced`).
    """
    labels = Labels.of(run)
    tables = [*_make_sections(run, labels), *fleets]
    if whole:
        tables += [method_table(run), records_table(run.records, labels), reproduce_table(run)]
    devices = join_counted(device_name(entry) for entry in run.manifest.devices)
    return View(
        notice=describe_simulated([run.manifest]),
        title=plain(_("{suite} on {devices}", suite=run.manifest.suite, devices=devices)),
        facts=tuple((name, plain(value)) for name, value in list_facts(run, labels)),
        tables=tuple(table for table in tables if table.rows or table.charts),
        meaning=plain(describe_run(run)),
        advice=tuple(plain(each) for each in give_advice(run)),
        problems=tuple(plain(render(each)) for each in run.problems),
        answers=find_answers(find_chains(run.records)),
    )


def _make_sections(run: Run, labels: Labels) -> Iterator[Table]:
    found = measured_records(run)
    yield chain_table(find_links(run.records), labels, find_chains(run.records), len(run.manifest.devices))
    yield throughput_table(found, labels)
    yield shapes_table(found)
    yield contended_table(found, labels)
    yield graph_table(found, labels)
    yield effects_table(find_effects(found), labels, found)
    yield memory_table(found, labels)
    yield block_table(found, labels)
    yield soak_table(found, labels)
    yield devices_table(found, labels)
    yield _unmeasured_table(run, labels)
    yield _warnings_table(run, labels)


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


def run_document(run: Run) -> dict[str, Any]:
    """Return `{"run", "records", "chain"}`; each record flat, with the columns of `nameplate.load`.

    `run` also has what has no column: `courses`, a time series for each record that began from idle, with its
    derates at 1 s, 10 s, 1 min and 10 min; and `effects`, the ratios of fills and cache states. A figure that
    isn't known is null; there is neither NaN nor infinity.
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
            "effects": [effect.as_json() for effect in find_effects(run.records)],
        },
        "records": [record.flatten() for record in run.records],
        "chain": [link.as_run_row() for link in find_links(run.records)],
    }


@dataclass(frozen=True)
class Report:
    """What `bench report` says of one run or several.

    `costs` are the fleets as priced by the first run that can price some; by the first run where none can.
    """

    views: tuple[View, ...]
    costs: tuple[Cost, ...]


def make_report(runs: Sequence[Run]) -> Report:
    """Return the views of the runs, each with the fleets that it prices; several runs side by side first.

    Raises InputError where a run is given twice.
    """
    # Imported here, since the view of a single run (`run_view`) prices no fleet.
    from nameplate.report.fleet.priced import price, priced_tables
    from nameplate.report.side_by_side import side_by_side_view

    ids = [run.id for run in runs]
    twice = next((each for each in ids if ids.count(each) > 1), None)
    if twice is not None:
        raise InputError("the same run twice", got=twice, expected="runs that differ")
    priced = [price(run) for run in runs]
    shown = next((each for each in priced if each.why is None), priced[0])
    views = []
    for run, each in zip(runs, priced, strict=True):
        has_fleets = each.why is None or each is shown
        views.append(run_view(run, whole=True, fleets=priced_tables(each) if has_fleets else ()))
    if len(runs) > 1:
        views.insert(0, side_by_side_view(runs))
    return Report(tuple(views), shown.costs)
