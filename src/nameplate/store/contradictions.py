"""Whether a record that was read from disk agrees with itself: its figures, batches, verdicts and run.

A figure that was edited by hand, or forged, seldom agrees with all others of the same measurement. What a
measurement writes agrees to the last digits: derived figures are products and quotients of others in the same
line, so the tolerance is for rounding and for sums over many batches alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import zip_longest
from statistics import fmean

from nameplate.base.language import N_
from nameplate.base.messages import Message, message, own_text
from nameplate.engine.thresholds import thresholds
from nameplate.record import DTYPES, INTERVALS, MAIN_MEMORY, METHOD, Record, Verdict, sort_by_gravity
from nameplate.specs.rating import Rating
from nameplate.stats.interval import Interval, divide
from nameplate.store.manifest import DeviceEntry

# A sum of a million batches is off by some 1e-10, a product of doubles by 1e-16; files keep all their digits.
TOLERANCE = 1e-6
# Where the host stalls, a median sample or a replayed graph may be some ten times faster than the mean.
_MOST_APART = 100.0
METHOD_OF_OWN_WIDTH = 6  # the first method that judges stability by what the run itself has shown
METHOD_OF_PROCESSES = 5  # the first method that measures a case in several processes


def find_contradictions(record: Record, entry: DeviceEntry, method: int) -> tuple[Message, ...]:
    """Return what contradicts what in a record of this device, in a run by that method."""
    found = _check_declaration(record, entry, method)
    if record.status == "ok":
        found = (*found, *_check_time(record), *_check_figures(record), *_check_verdicts(record, entry))
    return tuple(found)


def mark_contradictory(record: Record, found: tuple[Message, ...]) -> Record:
    """Return the record with the verdict `contradictory` and a warning that says what contradicts what."""
    verdicts = sort_by_gravity({*record.verdicts, "contradictory"})
    warnings = (*record.warnings, message("contradicts_itself", found=found))
    return record.model_copy(update={"verdict": verdicts[0], "verdicts": verdicts, "warnings": warnings})


def _check_declaration(record: Record, entry: DeviceEntry, method: int) -> tuple[Message, ...]:
    """Compare the case's id with its axes, and method, part and ratings with the run's manifest."""
    phase = record.phase or "-"
    axes = (record.workload, record.dtype, record.shape, record.fill, record.cache, phase, record.backend)
    # Another id than one made of axes can't be mistaken for a case that a suite measures.
    own_id = "/".join(axes) if record.case.count("/") == len(axes) - 1 else record.case
    same = [
        ("case", record.case, own_id, N_("its axes")),
        ("method", str(record.method), str(method), N_("the manifest")),
        ("part", str(record.part), str(entry.part), N_("the manifest")),
    ]
    found = [
        message("contradicts_text", what=what, found=one, by=own_text(by), expected=other)
        for what, one, other, by in same
        if one != other
    ]
    mixed = _mix_ratings(record, entry)
    ratings = (("nominal_tflops", mixed.nominal), ("datasheet_tflops", mixed.datasheet))
    for name, rated in ratings if record.flops is not None else ():
        figure = rated.get(record.dtype)
        if figure is not None:
            found += _compare(record, name, figure.tflops, N_("the manifest"))
    silicon = entry.rating.silicon_for(record.dtype) if record.silicon_tflops is not None else None
    if silicon is not None:
        found += _compare(record, "silicon_tflops", silicon.interval.value, N_("the manifest"))
    if record.nominal_gb_s is not None and record.memory_level == MAIN_MEMORY:
        found += _compare(record, "nominal_gb_s", entry.memory_gb_s, N_("the manifest"))
    search = record.search
    if search is not None and search.seen > search.shapes:
        found.append(_contradict("search.seen", search.seen, "search.shapes", search.shapes))
    return tuple(found)


def _mix_ratings(record: Record, entry: DeviceEntry) -> Rating:
    """Return the ratings that a record is held to: those of the run's device, mixed by time where part of its
    FLOPs are of another dtype, as its dimensions say (`bf16_flops`).
    """
    rating, flops = entry.rating, record.flops or 0
    others = {
        dtype: count
        for dtype in DTYPES - {record.dtype}
        if isinstance(count := record.dimensions.get(f"{dtype}_flops"), int) and 0 < count < flops
    }
    own = flops - sum(others.values())
    return rating.with_mix(record.dtype, {record.dtype: own, **others}) if others and own > 0 else rating


def _check_time(record: Record) -> Iterator[Message]:
    """Compare time, launches and processes with the batches that they are of."""
    if record.batches:
        means_s = _find_means(record)
        yield from _compare(
            record, "launches", sum(batch.launches for batch in record.batches), "its batches"
        )
        yield from _compare(record, "time_s", fmean(means_s), "its batches")
        if record.processes is not None or record.interval_kind is not None:
            yield from _compare(record, "processes", len(means_s), "its batches")


def _find_means(record: Record) -> list[float]:
    """Return the mean seconds per launch of each process."""
    elapsed_s: dict[int, float] = {}
    launches: dict[int, int] = {}
    for batch in record.batches:
        elapsed_s[batch.process] = elapsed_s.get(batch.process, 0.0) + batch.elapsed_s
        launches[batch.process] = launches.get(batch.process, 0) + batch.launches
    return [elapsed_s[number] / launches[number] for number in elapsed_s]


def _check_figures(record: Record) -> Iterator[Message]:
    """Compare each figure with the others that it follows from."""
    time_s, flops, tflops = record.time_s or math.nan, record.flops, record.tflops
    yield from _compare(record, "tflops", flops and flops / time_s / 1e12, "flops ÷ time_s")
    if record.bandwidth_gb_s is not None:
        yield from _compare(record, "bandwidth_gb_s", (record.bytes or 0) / time_s / 1e9, "bytes ÷ time_s")
    if record.bandwidth_efficiency is not None:
        rated = record.bandwidth_gb_s and record.nominal_gb_s and record.bandwidth_gb_s / record.nominal_gb_s
        yield from _compare(record, "bandwidth_efficiency", rated, "bandwidth_gb_s ÷ nominal_gb_s")
    sizes = [size for name in ("m", "n", "k") if isinstance(size := record.dimensions.get(name), int)]
    if record.convention == "2MNK" and len(sizes) == 3:
        groups = record.dimensions.get("groups", 1)
        of_all = 2 * math.prod(sizes) * (groups if isinstance(groups, int) else 1)
        yield from _compare(record, "flops", of_all, "2·m·n·k of each group")
    for name, (base, base_name) in {
        "efficiency": (record.nominal_tflops, "nominal_tflops"),
        "datasheet_efficiency": (record.datasheet_tflops, "datasheet_tflops"),
        "normalized_efficiency": (record.ceiling_tflops, "ceiling_tflops"),
        "tflops_per_w": (record.power_w, "power_w"),
    }.items():
        link = record.dimensions.get("link_gb_s") if name == "efficiency" else None
        # Of a collective.
        if isinstance(link, float) and link > 0 and tflops is None and record.bandwidth_gb_s is not None:
            yield from _compare(record, name, record.bandwidth_gb_s / link, "bandwidth_gb_s ÷ link_gb_s")
        elif getattr(record, name) is not None:
            share = tflops / base if tflops and base else None
            yield from _compare(record, name, share, f"tflops ÷ {base_name}")
    yield from _check_ends(record)
    yield from _check_spreads(record)
    for name in ("tflops_median", "graph_tflops"):
        value = getattr(record, name)
        if value is not None and tflops and not 1 / _MOST_APART <= value / tflops <= _MOST_APART:
            yield message("contradicts", what=name, found=value, by="tflops", expected=tflops)


def _check_ends(record: Record) -> Iterator[Message]:
    """Compare the ends of intervals that are one measurement's: they are as far from the value, as ratios.

    A nominal that was measured has an interval too, which is part of the efficiency's.
    """
    achieved = record.interval("tflops")
    if achieved is None:
        return
    nominal, low, high = record.nominal_tflops, record.nominal_tflops_low, record.nominal_tflops_high
    of_rating = achieved
    if nominal is not None and low is not None and high is not None:
        of_rating = divide(achieved, Interval(nominal, low, high))
    of_time = (("efficiency", of_rating), ("bandwidth_gb_s", achieved), ("tflops_per_w", achieved))
    for name, interval in of_time:
        value = getattr(record, name)
        if value is not None:
            ends = INTERVALS[name]
            yield from _compare(record, ends[0], value * interval.low / interval.value, "tflops_low")
            yield from _compare(record, ends[1], value * interval.high / interval.value, "tflops_high")


def _check_spreads(record: Record) -> Iterator[Message]:
    """Compare intervals with what they follow from: processes, prior and earlier runs, and that within.

    Records of an older method, and those of one process, have an interval within the process alone: the
    batches' samples, which it follows from, aren't in the record.
    """
    yield from _check_values(record)
    if record.method < METHOD_OF_PROCESSES or (record.interval_kind is None and not record.spreads):
        return
    kind = "within" if record.processes == 1 else "run_to_run"
    if record.interval_kind != kind:
        yield message(
            "contradicts_text",
            what="interval_kind",
            found=str(record.interval_kind),
            by=own_text("processes"),
            expected=kind,
        )
    if kind == "within":
        return
    # What needs numpy and scipy is imported only where there is something to check: a list of runs has none.
    from nameplate.engine.run_to_run import half_width_of
    from nameplate.stats.between import predict_next, widen

    time, within = record.spreads.get("time_s"), record.interval_within
    if time is None or within is None:
        yield message("evidence_lacks", what="spreads" if time is None else "interval_within")
        return
    value = getattr(record, within.figure)
    shown = widen(Interval(value, within.low, within.high), half_width_of(time))
    for name, end in zip(INTERVALS[within.figure], (shown.low, shown.high), strict=True):
        yield from _compare(record, name, end, "spreads")
    if record.interval_next is not None:
        expected_next, found = predict_next(shown), record.interval_next
        if not math.isclose(found.low, expected_next.low, rel_tol=TOLERANCE):
            yield _contradict("interval_next", found.low, "spreads", expected_next.low)


def _check_values(record: Record) -> Iterator[Message]:
    """Compare what each process found with the batches, and their mean with the figure."""
    time = record.spreads.get("time_s")
    if time is not None and record.batches:
        for found, expected in zip_longest(time.by_process, _find_means(record)):
            if found is None or expected is None or not math.isclose(found, expected, rel_tol=TOLERANCE):
                yield _contradict("spreads", found, "its batches", expected)


def _contradict(what: str, found: float | None, by: str, expected: float | None) -> Message:
    return message("contradicts", what=what, found=found, by=by, expected=expected)


def _check_verdicts(record: Record, entry: DeviceEntry) -> Iterator[Message]:
    """Find verdicts that the record's evidence requires and that are missing; additional ones do no harm."""
    for verdict, why in _demand_verdicts(record, entry):
        if verdict not in record.verdicts:
            yield message("verdict_lacks", verdict=own_text(verdict), why=why)


def _demand_verdicts(record: Record, entry: DeviceEntry) -> Iterator[tuple[Verdict, str]]:
    limits, conditions = thresholds(), record.conditions
    if (
        record.verification is None
        or not record.verification.passed
        or _above(conditions, "gpu_ecc_errors", 0)
    ):
        yield "unverified", "verification"
    peak_tflops = record.datasheet_tflops or record.nominal_tflops
    interval = record.interval("tflops") or record.interval("bandwidth_gb_s")
    if interval is not None:
        if record.tflops and peak_tflops and interval.low > peak_tflops * (1 + limits.above_peak.margin):
            yield "above_peak", "tflops_low"
        interval = _without_other_runs(record, interval)
        # Half the width of the interval of times, of which this one has the inverse ends.
        low, high = (interval.value / end if end else math.inf for end in (interval.high, interval.low))
        if (high - low) / 2 > limits.unstable.half_width * (1 + TOLERANCE):
            yield "unstable", "tflops_low, tflops_high"
    if record.method == METHOD:  # earlier methods judged these by other rules
        if record.graph_tflops is not None and record.tflops is not None:
            if record.tflops / record.graph_tflops < limits.launch_bound.graph_share * (1 - TOLERANCE):
                yield "launch_bound", "graph_tflops"
        elif (record.enqueue_share or 0.0) >= limits.launch_bound.enqueue_share * (1 + TOLERANCE):
            yield "launch_bound", "enqueue_share"
    if _above(conditions, "gpu_other_processes", 0):
        yield "contended", "gpu_other_processes"
    if entry.identity.kind == "cpu":
        step = conditions.get("cpu_share_resolution")
        slack = step * (1 + TOLERANCE) if isinstance(step, int | float) else math.inf
        for name, limit in (
            ("foreign_cpu_share", limits.contended.foreign_share),
            ("steal_share", limits.contended.steal_share),
        ):
            if _above(conditions, name, limit + slack):
                yield "contended", name


def _without_other_runs(record: Record, interval: Interval) -> Interval:
    """Return the interval that stability is judged by: without what runs differ by, since method 6."""
    time, within = record.spreads.get("time_s"), record.interval_within
    if record.method < METHOD_OF_OWN_WIDTH or time is None or within is None or len(time.by_process) < 2:
        return interval
    from nameplate.engine.run_to_run import half_width_within_run
    from nameplate.stats.between import widen

    return widen(Interval(interval.value, within.low, within.high), half_width_within_run(time))


def _above(conditions: object, name: str, limit: float) -> bool:
    value = conditions.get(name) if isinstance(conditions, dict) else None
    return isinstance(value, int | float) and value > limit


def _compare(record: Record, name: str, expected: float | None, by: str) -> Iterator[Message]:
    """Yield a message where a column differs from what others give by more than rounding."""
    value = getattr(record, name)
    if value is None and expected is None:
        return
    if value is None or expected is None or not math.isclose(value, expected, rel_tol=TOLERANCE):
        yield message("contradicts", what=name, found=value, by=by, expected=expected)
