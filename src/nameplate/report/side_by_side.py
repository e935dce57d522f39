"""Several runs side by side: what each delivers of its nameplate, and every case that they share."""

from __future__ import annotations

from collections.abc import Sequence

from nameplate.base.formatting import figure, percent, percent_with_half_width
from nameplate.base.language import _
from nameplate.base.text import plain
from nameplate.chain.from_run import Stages, admitted, left, slowest, stages
from nameplate.chain.stage import Stage
from nameplate.record import Record
from nameplate.report.charts.data import MOST_BARS, Bar, Bars, Chart, first
from nameplate.report.labels import Labels, stage_words
from nameplate.report.sections.answers import meaning, measured
from nameplate.report.sections.identity import device_words
from nameplate.report.view import Table, View
from nameplate.store.folder import Run

_FEWEST = 2


def side_by_side_view(runs: Sequence[Run]) -> View:
    """The runs beside each other, a column each; a device's case in one beside the same case in another."""
    names = _names(runs)
    tables = (_runs_table(runs, names), _stages_table(runs, names), _cases_table(runs, names))
    said = (plain(meaning(run)) for run in runs)
    return View(
        title=_("{count} runs side by side", count=len(runs)),
        facts=(),
        tables=tuple(table for table in tables if table.rows),
        meaning="\n".join(
            _("{name}: {said}", name=name, said=each) for name, each in zip(names, said, strict=True)
        ),
        advice=(),
        problems=(),
    )


def _names(runs: Sequence[Run]) -> list[str]:
    """What a run is called among the others: its part where no two are of one, else the end of its id where
    that tells them apart, which leaves room for a column each; else its id.
    """
    ids = [run.id for run in runs]
    for names in ([run.manifest.devices[0].part for run in runs], [each.rpartition("-")[2] for each in ids]):
        if None not in names and len(set(names)) == len(names):
            return [plain(name) for name in names]
    return list(map(plain, ids))


def _runs_table(runs: Sequence[Run], names: Sequence[str]) -> Table:
    rows = tuple(
        (
            name,
            plain(run.id),
            plain(", ".join(dict.fromkeys(device_words(entry) for entry in run.manifest.devices))),
            plain(run.manifest.devices[0].part or "–"),
            plain(run.manifest.created),
            plain(run.manifest.software.get("torch")),
            f"{len(measured(run))} / {len(run.manifest.expected)}",
        )
        for name, run in zip(names, runs, strict=True)
    )
    columns = ("name", "run", "device", "part", "begun", "torch", "cases measured")
    return Table(_("The runs"), columns, rows, frozenset({6}), (5, 4))


def _stages_table(runs: Sequence[Run], names: Sequence[str]) -> Table:
    """What is left of nominal at each stage, a column a run; of several devices the slowest."""
    chains = {
        name: found for name, run in zip(names, runs, strict=True) if (found := _chain(run)) is not None
    }
    reached = {stage.stage for each in chains.values() for stage in each.stages}
    order = [stage for stage in Stage if stage in reached]
    rows = tuple(
        (stage_words(stage), *(_reached(chains.get(run), stage) for run in names)) for stage in order
    )
    drawn = dict(list(chains.items())[: MOST_BARS // max(len(order), 1)])
    bars = tuple(_stage_bars(drawn, order))
    charts: tuple[Chart, ...] = ()
    if bars:
        title = _("What is left of nominal, by stage and run")
        if len(drawn) < len(chains):
            title = _("{title}: the first {count} of {all}", title=title, count=len(drawn), all=len(chains))
        alt = _("Bars for {stages} stages of {runs} runs.", stages=len(order), runs=len(drawn))
        axis = _("of nominal")
        charts = (
            Bars(
                "stages", title, alt, axis, bars, tuple(drawn), is_share=True, side_by_side=True, of="stage"
            ),
        )
    dtypes = _(", ").join(f"{name} {each.dtype}" for name, each in chains.items())
    lead = _("By dtype: {dtypes}.", dtypes=dtypes) if chains else ""
    heading = _("From nominal to delivered, by run")
    return Table(heading, ("stage", *names), rows, frozenset(range(1, len(names) + 1)), (), charts, lead)


def _chain(run: Run) -> Stages | None:
    return slowest(stages(run.records))


def _reached(found: Stages | None, stage: Stage) -> str:
    reached = next((each for each in found.stages if each.stage is stage), None) if found else None
    if found is None or reached is None:
        return "–"
    share = left(reached, found.stages[0])
    if share.low == share.high:  # a rating, which nobody measured
        return percent(share.value)
    return percent_with_half_width(share.value, share.low, share.high)


def _stage_bars(chains: dict[str, Stages], order: Sequence[Stage]) -> list[Bar]:
    bars = []
    for stage in order:
        for name, found in chains.items():
            reached = next((each for each in found.stages if each.stage is stage), None)
            if reached is not None:
                share = left(reached, found.stages[0])
                low, high = (share.low, share.high) if share.low < share.high else (None, None)
                bars.append(Bar(stage_words(stage), share.value, low, high, name))
    return bars


def _cases_table(runs: Sequence[Run], names: Sequence[str]) -> Table:
    """Every case that two runs or more have: achieved ÷ nominal, or TFLOPS or GB/s where nominal isn't known.

    Of a case of several devices the slowest stands here.
    """
    labels = Labels.of(runs[0])
    by_run = [_slowest_records(run) for run in runs]
    shared = [
        case
        for case in dict.fromkeys(case for found in by_run for case in found)
        if sum(case in found for found in by_run) >= _FEWEST
    ]
    rows = tuple((labels.case(case), *(_figure(found.get(case)) for found in by_run)) for case in shared)
    charts = _case_bars(labels, shared, by_run, names)
    heading = _("Cases that the runs share, of nominal; without a nominal TFLOPS or GB/s")
    numbers = frozenset(range(1, len(names) + 1))
    lead = _("A mark ? stands beside a figure in doubt. `bench compare` says which differences are real.")
    return Table(heading, ("case", *names), rows, numbers, (), charts, lead)


def _slowest_records(run: Run) -> dict[str, Record]:
    found: dict[str, Record] = {}
    for record in measured(run):
        speed = record.tflops or record.bandwidth_gb_s
        other = found.get(record.case)
        if speed is not None and (other is None or speed < (other.tflops or other.bandwidth_gb_s or 0.0)):
            found[record.case] = record
    return found


def _figure(record: Record | None) -> str:
    if record is None:
        return "–"
    doubt = "" if admitted(record) else " ?"
    if record.efficiency is not None:
        return percent(record.efficiency) + doubt
    if record.tflops is not None:
        return f"{figure(record.tflops)} TFLOPS{doubt}"
    return f"{figure(record.bandwidth_gb_s)} GB/s{doubt}"


def _case_bars(
    labels: Labels, shared: Sequence[str], by_run: Sequence[dict[str, Record]], names: Sequence[str]
) -> tuple[Chart, ...]:
    rated = [case for case in shared if any(_efficiency(found.get(case)) for found in by_run)]
    shown = rated[: MOST_BARS // len(names)]
    bars = tuple(
        Bar(labels.case(case), record.efficiency or 0.0, record.efficiency_low, record.efficiency_high, name)
        for case in shown
        for name, found in zip(names, by_run, strict=True)
        if (record := found.get(case)) is not None and record.efficiency is not None
    )
    if not bars:
        return ()
    title = _("achieved ÷ nominal by case and run, with 95 % intervals")
    cut = first(len(shown), rated)
    if cut is not None:
        title = _("{title}: the first {count} of {all}", title=title, count=cut, all=len(rated))
    alt = _("Bars for {count} cases of {runs} runs.", count=len(shown), runs=len(names))
    axis = _("achieved ÷ nominal")
    return (Bars("shared", title, alt, axis, bars, tuple(names), is_share=True, side_by_side=True),)


def _efficiency(record: Record | None) -> float | None:
    return None if record is None else record.efficiency
