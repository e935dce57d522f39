"""Cases in, records out: where the engine is entered."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter

from nameplate.base.messages import message
from nameplate.device.protocol import Device, MeasuredDevice
from nameplate.engine.best_case import SEARCH_SHARE, SearchData, choose, is_searched
from nameplate.engine.case_run import MEMORY_SHARE, OnStep, memory_needed, tell_nobody
from nameplate.engine.ceiling import ProbeChoice, is_bound_by_memory
from nameplate.engine.group import Allowance
from nameplate.engine.group_data import FailureReason, GroupData, merge_processes
from nameplate.engine.largest_batch import LARGEST_SHARE, has_batch
from nameplate.engine.pilot import Pilots
from nameplate.engine.record_of import record_without_figures
from nameplate.engine.records import make_records
from nameplate.engine.rounds import count_fitting
from nameplate.engine.run_to_run import History
from nameplate.engine.runner import GroupTask, InThisProcess, Runner
from nameplate.engine.soak import is_soak
from nameplate.record import LargestBatch, Record, SearchSummary
from nameplate.suite import Case
from nameplate.workload import SearchedWorkload, Workload

# A search's looks tell that much: of what reached less of the best one's, no figure is taken.
_CLEARLY_SLOWER = 0.9
# What compiles every shape searches none where others have: it gets the shape that they found, if compiling
# that takes no larger share of the group's time than this.
_COMPILE_SHARE = 0.15


def measure_group(
    cases: Sequence[Case],
    device: Device,
    pilots: Pilots,
    allowance: Allowance,
    probe_choice: ProbeChoice | None = None,
    name: str = "1",
    busy_s: float = 0.0,
    on_step: OnStep = tell_nobody,
    processes: int = 1,
    history: History | None = None,
) -> list[Record]:
    """Measure `cases` on `device`, in turn or as a soak, and return their records in order.

    There is a record for each case whatever happens: a case that can't run here or doesn't fit the allowance
    is `skipped` with the reason; one that raises an error is `failed`, and the others go on. Cases that don't
    fit the memory together are measured in several memory batches, and so are those of a GPU that compute and
    those that don't. A group with a case of phase `burst` is a soak. `busy_s` is how long the device has been
    at work before; `on_step` is told of every step. `history` is what is known of how much figures vary.
    KeyboardInterrupt passes through, and so does ContextLost, after which the device must be opened anew in
    another process.
    """
    runner = InThisProcess(device, pilots, probe_choice or ProbeChoice(device, pilots.seed), on_step)
    return measure_in_processes(cases, runner, allowance, name, busy_s, processes, history)


def measure_in_processes(
    cases: Sequence[Case],
    runner: Runner,
    allowance: Allowance,
    name: str = "1",
    busy_s: float = 0.0,
    processes: int = 1,
    history: History | None = None,
    *,
    has_settled: bool = False,
    largest_batch: bool = False,
) -> list[Record]:
    """Measure `cases` as `measure_group` does, in the processes that `runner` measures in.

    `has_settled`: an earlier group found the device settled (`stays_settled`), and it has been at work since.
    The workload of a case that stands for the fastest of many is searched first, in a part of the time. So is
    the `largest_batch` that fits, where it is asked for.
    """
    if largest_batch and any(map(has_batch, cases)):
        begin_s = runner.clock()
        sizes = _find_largest_batches(cases, runner, allowance)
        spent_s = runner.clock() - begin_s
        left = Allowance(allowance.share_s - spent_s, allowance.limit_s - spent_s)
        found = measure_in_processes(
            *(cases, runner, left, name, busy_s + spent_s, processes, history), has_settled=has_settled
        )
        return [each.model_copy(update={"largest_batch": sizes.get(each.case)}) for each in found]
    if not any(map(is_searched, cases)):
        return _measure_in_batches(
            cases, runner, allowance, name, busy_s, processes, history, has_settled=has_settled
        )
    begin_s = runner.clock()
    chosen = _choose_workloads(cases, runner, allowance)
    spent_s = runner.clock() - begin_s
    left = Allowance(allowance.share_s - spent_s, allowance.limit_s - spent_s)
    known = [each.case for each in chosen if each.failure is None]
    compiled = {case.id for case in cases if is_searched(case) and _compiles(case.workload)}
    measured = iter(
        _measure_in_batches(
            *(known, runner, left, name, busy_s + spent_s, processes, history, compiled),
            has_settled=has_settled,
        )
        if known
        else ()
    )
    records = [
        record_without_figures(each.case, runner.device, each.failure.reason, each.failure.status)
        if each.failure is not None
        else next(measured)
        for each in chosen
    ]
    return [
        record.model_copy(update={"search": each.summary}) if each.summary is not None else record
        for record, each in zip(records, chosen, strict=True)
    ]


def _find_largest_batches(
    cases: Sequence[Case], runner: Runner, allowance: Allowance
) -> dict[str, LargestBatch | None]:
    """Search for the largest batch of each case that has one; what one leaves of its time goes on."""
    asked = [case for case in cases if has_batch(case)]
    end_s = runner.clock() + LARGEST_SHARE * min(allowance.share_s, allowance.limit_s)
    sizes: dict[str, LargestBatch | None] = {}
    for number, case in enumerate(asked):
        left_s = max(end_s - runner.clock(), 0.0) / (len(asked) - number)
        sizes[case.id] = runner.find_largest_batch(case, left_s)
    return sizes


@dataclass(frozen=True)
class _Chosen:
    """A case with the workload to measure, and the search that chose it; or why there is none."""

    case: Case
    summary: SearchSummary | None = None
    failure: FailureReason | None = None


def _choose_workloads(cases: Sequence[Case], runner: Runner, allowance: Allowance) -> list[_Chosen]:
    """Search for the workloads of those cases that stand for many, each in its share of the time by weight.

    Cases that differ by their fill alone have one search. A backend whose search reached clearly less than
    another's isn't measured; the first case of a workload always is. One that compiles takes what the others
    have found.
    """
    group_s = min(allowance.share_s, allowance.limit_s)
    searched = [case for case in cases if is_searched(case)]
    kinds = {_kind_of(case.workload) for case in searched if not _compiles(case.workload)}
    late = [case for case in searched if _compiles(case.workload) and _kind_of(case.workload) in kinds]
    found = _search_each([case for case in searched if case not in late], runner, SEARCH_SHARE * group_s)
    taken = {case.workload: _take_winner(case, found, runner, group_s) for case in late}
    best = {_kind_of(work): work for work, data in sorted(found.items(), key=lambda each: each[1].tflops)}
    first = {_kind_of(work): work for work in reversed(found)}
    chosen = []
    for case in cases:
        if case.workload in taken:
            data = taken[case.workload]
            at = None if data.point is None else choose(case, data.point)
            chosen.append(_Chosen(at or case, data.summary, data.failure))
            continue
        if case.workload not in found:
            chosen.append(_Chosen(case))
            continue
        work, data = case.workload, found[case.workload]
        fastest, kind = found[best[_kind_of(work)]], _kind_of(work)
        if data.point is None:
            chosen.append(_Chosen(case, failure=data.failure))
        elif work is not first[kind] and data.tflops < _CLEARLY_SLOWER * fastest.tflops:
            reason = message("slower_backend", tflops=data.tflops, best=fastest.tflops)
            chosen.append(_Chosen(case, data.summary, FailureReason("skipped", reason)))
        else:
            chosen.append(_Chosen(choose(case, data.point), data.summary))
    return chosen


def _search_each(searched: Sequence[Case], runner: Runner, budget_s: float) -> dict[Workload, SearchData]:
    """Search each workload once; what one leaves of its time goes to those after it.

    A search ends early where it can't reach what another backend's has reached, less what would be measured.
    """
    weights: dict[Workload, float] = {}
    for case in searched:
        weights.setdefault(case.workload, case.weight)
    end_s, found, reached = runner.clock() + budget_s, dict[Workload, SearchData](), dict[_Kind, float]()
    for case in searched:
        work, kind = case.workload, _kind_of(case.workload)
        if work not in found:
            waiting = sum(weight for each, weight in weights.items() if each not in found)
            left_s = max(end_s - runner.clock(), 0.0)
            to_beat = _CLEARLY_SLOWER * reached.get(kind, 0.0)
            found[work] = runner.search(case, left_s * weights[work] / waiting, to_beat)
            reached[kind] = max(reached.get(kind, 0.0), found[work].tflops)
        elif (point := found[work].point) is not None:
            runner.adopt(case, point)
    return found


def _compiles(work: Workload) -> bool:
    """Whether it compiles every shape before that can be launched."""
    return getattr(work, "compile_allowance_s", 0.0) > 0


def _take_winner(
    case: Case, found: Mapping[Workload, SearchData], runner: Runner, group_s: float
) -> SearchData:
    """Give a case that compiles the best shape that others' searches found, where the time holds that."""
    work, compile_s = case.workload, getattr(case.workload, "compile_allowance_s", 0.0)
    rivals = [each for other, each in found.items() if _kind_of(other) == _kind_of(work) and each.point]
    best = max(rivals, key=lambda each: each.tflops, default=None)
    if compile_s > _COMPILE_SHARE * group_s:
        reason = message("compiling_takes_long", compile_s=compile_s, share=_COMPILE_SHARE, group_s=group_s)
        return SearchData(failure=FailureReason("skipped", reason))
    if best is None or best.point is None:
        return SearchData(failure=FailureReason("skipped", message("nothing_found", budget_s=group_s)))
    assert isinstance(work, SearchedWorkload)
    point, layouts = dict(best.point), work.axes["layout"]
    if point["layout"] not in layouts:
        point["layout"] = layouts[0]
    runner.adopt(case, point)
    return replace(best, point=point)


_Kind = tuple[str, str, str]


def _kind_of(work: Workload) -> _Kind:
    """What is compared with one another: the same work, by whichever library."""
    return work.name, work.dtype, work.shape


def _measure_in_batches(
    cases: Sequence[Case],
    runner: Runner,
    allowance: Allowance,
    name: str,
    busy_s: float,
    processes: int,
    history: History | None,
    apart: Collection[str] = (),
    *,
    has_settled: bool = False,
) -> list[Record]:
    """Measure cases whose workloads are known, as many together as fit the memory; those of `apart`, by
    their ids, in processes of their own.
    """
    if is_soak(cases):
        return _measure_together(cases, runner, allowance, name, busy_s, 1, history)
    records: list[tuple[int, Record]] = []
    begin_s, weight = runner.clock(), sum(case.weight for case in cases)
    by_threads = _split_by_threads(list(enumerate(cases)), apart)
    parts = [each for part in by_threads for each in _split_by_work(part, runner.device)]
    batches = [each for part in parts for each in _split_by_memory(part, runner.device)]
    for number, numbered in enumerate(batches, 1):
        batch = [case for _, case in numbered]
        batch_weight = sum(case.weight for case in batch)
        spent_s = runner.clock() - begin_s
        share_s = max(allowance.share_s - spent_s, 0.0) * batch_weight / weight
        weight -= batch_weight
        label = name if len(batches) == 1 else f"{name}.{number}"
        rest = Allowance(share_s, allowance.limit_s - spent_s)
        found = _measure_together(
            batch, runner, rest, label, busy_s + spent_s, processes, history, has_settled=has_settled
        )
        has_settled = has_settled or stays_settled(found, runner.device)
        records += zip((place for place, _ in numbered), found, strict=True)
    return [record for _, record in sorted(records, key=itemgetter(0))]


def _measure_together(
    cases: Sequence[Case],
    runner: Runner,
    allowance: Allowance,
    name: str,
    busy_s: float,
    processes: int,
    history: History | None,
    *,
    has_settled: bool = False,
) -> list[Record]:
    """Measure cases that fit the memory together in one process after the other, and make their records.

    There are fewer than `processes` where the time doesn't hold as many.
    """
    begin_s, found, sharing = runner.clock(), list[GroupData](), processes
    task = GroupTask(name, cases, allowance, busy_s, has_settled=has_settled)
    while sharing > 0:
        found.append(runner.measure(replace(task, number=len(found) + 1, sharing=sharing)))
        merged = merge_processes(found)
        spent_s = runner.clock() - begin_s
        left = Allowance(allowance.share_s - spent_s, allowance.limit_s - spent_s)
        rest_s, more = min(left.share_s, left.limit_s), processes - len(found)
        sharing = count_fitting(rest_s, merged.setup_s, merged.least_s, more) if merged.measured else 0
        task = GroupTask(
            name,
            [case for case in cases if case.id in merged.measured],
            left,
            busy_s + spent_s,
            verified=merged.verified,
            has_settled=merged.has_settled,
        )
    return make_records(name, cases, runner.device, merged, history)


def stays_settled(records: Sequence[Record], device: MeasuredDevice) -> bool:
    """Whether these records show that a device has settled which then stays so, as long as it is at work.

    A CPU does. A GPU's clock recovers while another process begins.
    """
    return device.kind != "cuda" and any(each.settled_s is not None for each in records)


_Numbered = tuple[int, Case]  # a case and its place in the group


def _split_by_threads(cases: Sequence[_Numbered], apart: Collection[str]) -> list[list[_Numbered]]:
    """Split by whose threads compute: those of two libraries, in one process, are in each other's way.

    The cases of `apart` are apart too: they compile, and every process of the others would wait for that.
    """
    parts: dict[object, list[_Numbered]] = {}
    for each in cases:
        pool = getattr(each[1].workload, "thread_pool", None)
        parts.setdefault((pool, each[1].id in apart), []).append(each)
    return list(parts.values())


def _split_by_work(cases: Sequence[_Numbered], device: MeasuredDevice) -> list[list[_Numbered]]:
    """Split the cases of a GPU into those that its arithmetic bounds and those that its memory does.

    At its power limit a GPU lowers the clock for what computes, and a copy in between would inherit that.
    """
    if device.kind != "cuda":
        return [list(cases)]
    compute = [each for each in cases if not _is_bound_by_memory(each[1], device)]
    memory = [each for each in cases if _is_bound_by_memory(each[1], device)]
    return [part for part in (compute, memory) if part]


def _is_bound_by_memory(case: Case, device: MeasuredDevice) -> bool:
    try:
        return is_bound_by_memory(case.workload, device.rating)
    except Exception:  # a broken declaration; the same error ends the case when it is prepared
        return False


def _split_by_memory(cases: Sequence[_Numbered], device: MeasuredDevice) -> list[list[_Numbered]]:
    """Split into memory batches: consecutive cases that fit the memory together."""
    batches: list[list[_Numbered]] = []
    room = 0.0
    for numbered in cases:
        case = numbered[1]
        needed = memory_needed(case, device)
        if not batches or needed > room:
            batches.append([])
            room = math.inf if device.memory_bytes is None else MEMORY_SHARE * device.memory_bytes
        batches[-1].append(numbered)
        room -= needed
    return batches
