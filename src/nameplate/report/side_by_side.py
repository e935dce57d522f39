"""Several runs side by side: what each delivers of nominal, and every case that they share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from nameplate.base.formatting import UNKNOWN, figure, percent, percent_with_half_width
from nameplate.base.language import _, join_sentences
from nameplate.base.text import plain
from nameplate.chain.from_run import DeviceChain, find_chains, find_slowest
from nameplate.chain.power_limits import find_limit_curves
from nameplate.chain.stage import Stage
from nameplate.record import Record
from nameplate.report.charts.data import MOST_BARS, Bar, Bars, Chart, title_of_first
from nameplate.report.labels import Labels, describe_simulated, name_stage
from nameplate.report.sections.answers import describe_run
from nameplate.report.sections.identity import device_name
from nameplate.report.sections.intervals import describe_intervals
from nameplate.report.sections.power_limits import power_limits_table
from nameplate.report.sections.throughput import measured_records
from nameplate.report.view import Column, Table, View
from nameplate.stats.interval import Interval
from nameplate.store.folder import Run

# A case is compared where at least so many runs have it.
_FEWEST_RUNS = 2


def side_by_side_view(runs: Sequence[Run]) -> View:
    """The runs with a column each: their stages, and the same case of each run in one row."""
    named = dict(zip(_names(runs), runs, strict=True))
    curves = power_limits_table(find_limit_curves(runs), Labels.of(runs[0]))
    tables = (_runs_table(named), _stages_table(named), curves, _cases_table(named))
    return View(
        notice=describe_simulated(run.manifest for run in runs),
        title=_("{count} runs side by side", count=len(runs)),
        tables=tuple(table for table in tables if table.rows),
        meaning="\n".join(
            _("{name}: {said}", name=name, said=plain(describe_run(run))) for name, run in named.items()
        ),
    )


def _names(runs: Sequence[Run]) -> list[str]:
    """Return a short name for each run, different from the others: its part, the end of its id, or its id."""
    ids = [run.id for run in runs]
    # Short names leave room for a column each.
    for names in ([run.manifest.devices[0].part for run in runs], [each.rpartition("-")[2] for each in ids]):
        if None not in names and len(set(names)) == len(names):
            return [plain(name) for name in names]
    return list(map(plain, ids))


def _runs_table(runs: Mapping[str, Run]) -> Table:
    rows = tuple(
        (
            name,
            plain(run.id),
            plain(", ".join(dict.fromkeys(device_name(entry) for entry in run.manifest.devices))),
            plain(run.manifest.devices[0].part or UNKNOWN),
            plain(run.manifest.created),
            plain(run.manifest.software.get("torch")),
            f"{len(measured_records(run))} / {len(run.manifest.expected)}",
        )
        for name, run in runs.items()
    )
    columns = (
        Column("name"),
        Column("run"),
        Column("device"),
        Column("part"),
        Column("begun", drop_priority=1),
        Column("torch", drop_priority=0),
        Column("cases measured", is_number=True),
    )
    return Table(_("The runs"), columns, rows)


def _columns(first: str, runs: Iterable[str]) -> tuple[Column, ...]:
    """Return a first column, and a column of figures for each run."""
    return (Column(first), *(Column(name, is_number=True) for name in runs))


def _stages_table(runs: Mapping[str, Run]) -> Table:
    """What is left of nominal at each stage, a column a run; of several devices the slowest."""
    chains = {name: found for name, run in runs.items() if (found := find_slowest(find_chains(run.records)))}
    shares = {name: _shares(found) for name, found in chains.items()}
    order = [stage for stage in Stage if any(stage in found for found in shares.values())]
    rows = tuple(
        (name_stage(stage), *(_share_text(shares.get(name, {}).get(stage)) for name in runs))
        for stage in order
    )
    most = MOST_BARS // max(len(order), 1)
    drawn = dict(list(shares.items())[:most])
    bars = tuple(
        Bar(name_stage(stage), found[stage].value, *_ends(found[stage]), name)
        for stage in order
        for name, found in drawn.items()
        if stage in found
    )
    charts: tuple[Chart, ...] = ()
    if bars:
        title = title_of_first(most, list(shares), _("What is left of nominal, by stage and run"))
        alt = _("Bars for {stages} stages of {runs} runs.", stages=len(order), runs=len(drawn))
        axis, kinds = _("of nominal"), tuple(drawn)
        charts = (
            Bars(
                "stages", title, alt, axis, bars, kinds, is_share=True, side_by_side=True, label_title="stage"
            ),
        )
    dtypes = _(", ").join(f"{name} {each.dtype}" for name, each in chains.items())
    records = [record for run in runs.values() for record in measured_records(run)]
    intervals = describe_intervals(records)
    said = [
        *([_("By dtype: {dtypes}.", dtypes=dtypes)] if chains else []),
        *([_("Intervals: {said}.", said=intervals)] if intervals else []),
    ]
    lead = join_sentences(said) if said else ""
    heading = _("From nominal to delivered, by run")
    return Table(heading, _columns("stage", runs), rows, charts, lead)


def _shares(found: DeviceChain) -> dict[Stage, Interval]:
    """Return what each stage leaves of nominal."""
    return {each.stage: found.share_of_nominal(each) for each in found.stages}


def _ends(share: Interval) -> tuple[float | None, float | None]:
    """Return the ends of an interval; None for those of a rating, which has none."""
    return (share.low, share.high) if share.low < share.high else (None, None)


def _share_text(share: Interval | None) -> str:
    if share is None:
        return UNKNOWN
    return percent(share.value) if share.low == share.high else percent_with_half_width(share)


def _cases_table(runs: Mapping[str, Run]) -> Table:
    """Every case that several runs have: of nominal, or TFLOPS or GB/s where nominal isn't known.

    Of a case that several devices of a run have, the slowest is shown.
    """
    labels = Labels.of(next(iter(runs.values())))
    by_run = {name: _slowest_records(run) for name, run in runs.items()}
    shared = [
        case
        for case in dict.fromkeys(case for found in by_run.values() for case in found)
        if sum(case in found for found in by_run.values()) >= _FEWEST_RUNS
    ]
    rows = tuple(
        (labels.case(case), *(_record_text(found.get(case)) for found in by_run.values())) for case in shared
    )
    charts = _case_bars(labels, shared, by_run)
    heading = _("Cases that the runs share: of nominal, or TFLOPS or GB/s where nominal isn't known")
    lead = _("? marks a figure in doubt. `bench compare` says which differences are real.")
    return Table(heading, _columns("case", runs), rows, charts, lead)


def _slowest_records(run: Run) -> dict[str, Record]:
    found: dict[str, Record] = {}
    for record in measured_records(run):
        speed = record.tflops or record.bandwidth_gb_s
        other = found.get(record.case)
        if speed is not None and (other is None or speed < (other.tflops or other.bandwidth_gb_s or 0.0)):
            found[record.case] = record
    return found


def _record_text(record: Record | None) -> str:
    if record is None:
        return UNKNOWN
    doubt = "" if record.trusted else " ?"
    if record.efficiency is not None:
        return percent(record.efficiency) + doubt
    if record.tflops is not None:
        return f"{figure(record.tflops)} TFLOPS{doubt}"
    return f"{figure(record.bandwidth_gb_s)} GB/s{doubt}"


def _case_bars(
    labels: Labels, shared: Sequence[str], by_run: Mapping[str, Mapping[str, Record]]
) -> tuple[Chart, ...]:
    efficiencies = {
        case: {name: each for name, found in by_run.items() if (each := _efficiency(found.get(case)))}
        for case in shared
    }
    rated = [case for case in shared if efficiencies[case]]
    most = MOST_BARS // len(by_run)
    bars = tuple(
        Bar(labels.case(case), each.value, each.low, each.high, name)
        for case in rated[:most]
        for name, each in efficiencies[case].items()
    )
    if not bars:
        return ()
    title = title_of_first(most, rated, _("achieved ÷ nominal by case and run, with 95 % intervals"))
    alt = _("Bars for {count} cases of {runs} runs.", count=len(rated[:most]), runs=len(by_run))
    axis = _("achieved ÷ nominal")
    return (Bars("shared", title, alt, axis, bars, tuple(by_run), is_share=True, side_by_side=True),)


def _efficiency(record: Record | None) -> Interval | None:
    return None if record is None else record.interval("efficiency")
