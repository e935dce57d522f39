"""Finds the workload of a case that stands for the fastest of many, by timing points of its grid.

This runs in a process of its own, before the case is measured. What it times chooses the shape and nothing
else: the figure of the record is measured anew, in fresh processes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from nameplate.base.errors import Unsupported
from nameplate.base.messages import message, text, to_message
from nameplate.device.identity import CudaIdentity
from nameplate.device.protocol import Device
from nameplate.engine.case_run import MEMORY_SHARE, OnStep, describe_error, tell_nobody
from nameplate.engine.group_data import FailureReason
from nameplate.record import SearchLook, SearchSummary
from nameplate.search.features import describe_shapes
from nameplate.search.space import Point, Space
from nameplate.search.strategy import SearchResult, search
from nameplate.suite import Case
from nameplate.workload import SearchBuffers, SearchedWorkload, Workload

# The part of a case's time that its search gets; the rest measures what it found.
SEARCH_SHARE = 0.55
# A look lasts at least this long, and at least two launches of which the first isn't counted.
LOOK_S = 0.02
_MOST_LAUNCHES = 1000
# A point that would take a larger share of the time than this isn't looked at: little would be left.
_LONGEST_LOOK_SHARE = 0.05
_MOST_POINTS = 100_000
# A search whose shapes are compiled first needs the time of a few of them.
_COMPILE_SHARE = 0.3


@dataclass(frozen=True)
class SearchData:
    """What a search found: the point and how it was found, or why there is none."""

    point: Point | None = None
    summary: SearchSummary | None = None
    failure: FailureReason | None = None

    @property
    def tflops(self) -> float:
        """The mean of the winner's latest looks: good enough to leave out what is clearly slower; 0: none."""
        if self.summary is None or self.point is None:
            return 0.0
        looks = [look for look in self.summary.looks if dict(look.point) == dict(self.point)]
        confirmed = [look.tflops for look in looks if look.stage == "confirm"]
        return fmean(confirmed or [look.tflops for look in looks])


def is_searched(case: Case) -> bool:
    """Whether the case's workload is to be found by a search first."""
    return isinstance(case.workload, SearchedWorkload)


def choose(case: Case, point: Point) -> Case:
    """Return the case with the workload at a point of its grid."""
    assert isinstance(case.workload, SearchedWorkload)
    return replace(case, workload=case.workload.at(point))


def find_best(
    case: Case,
    device: Device,
    seed: int,
    budget_s: float,
    on_step: OnStep = tell_nobody,
    to_beat: float = 0.0,
) -> SearchData:
    """Search the grid of a case's workload for `budget_s` seconds; less where nothing in it reaches `to_beat`
    (TFLOPS).

    Whatever the workload or a library raises is the failure of the case. KeyboardInterrupt passes through.
    """
    on_step(case.id, 0.0)
    try:
        return _search(case, device, seed, budget_s, on_step, to_beat)
    except Unsupported as error:
        return SearchData(failure=FailureReason("skipped", to_message(error.reason)))
    except Exception as error:  # workloads and drivers may raise anything
        return SearchData(failure=FailureReason("failed", text(describe_error(error))))


def _search(
    case: Case, device: Device, seed: int, budget_s: float, on_step: OnStep, to_beat: float
) -> SearchData:
    work = case.workload
    assert isinstance(work, SearchedWorkload)
    begin_s = device.clock()
    reason = device.why_unsupported(work)
    if reason is not None:
        raise Unsupported(reason)
    needed, held = work.resident_bytes, device.memory_bytes
    if held is not None and needed > MEMORY_SHARE * held:
        raise Unsupported(message("needs_memory", needed_gb=needed / 1e9, held_gb=held / 1e9))
    compile_s: float = getattr(work, "compile_allowance_s", 0.0)
    if compile_s > _COMPILE_SHARE * budget_s:
        raise Unsupported(message("needs_compiling", compile_s=compile_s, budget_s=budget_s))
    space, workloads = make_space(work, device)
    buffers = device.prepare_search(work, fill=case.fill, seed=seed)
    look = _Looks(case, device, buffers, workloads, _LONGEST_LOOK_SHARE * budget_s, on_step)
    with buffers.numerics():
        look.try_smallest()
        left_s = budget_s - (device.clock() - begin_s)
        found = search(
            *(space, look, device.clock, left_s, seed),
            least_look_s=LOOK_S,
            exhaustive=work.exhaustive,
            to_beat=to_beat,
        )
    if found is None and look.refused is not None:
        raise Unsupported(message("library_refused", error=look.refused))
    if found is None:
        raise Unsupported(message("nothing_found", budget_s=budget_s))
    return _data_of(found, space, exhaustive=work.exhaustive)


def make_space(work: SearchedWorkload, device: Device) -> tuple[Space, list[Workload]]:
    """Return the grid with its FLOPs and features, and the workload at each of its points.

    Raises ValueError for a grid too large to be predicted as a whole, and for points without FLOPs.
    """
    size = math.prod(map(len, work.axes.values()))
    if size > _MOST_POINTS:
        raise ValueError(f"the grid has {size} shapes: expected at most {_MOST_POINTS}")
    bare = Space(work.axes, np.ones(size))
    workloads = [work.at(bare.point(index)) for index in range(size)]
    flops = [each.flops for each in workloads]
    if not all(flops):
        raise ValueError("a shape of the grid has no FLOPs")
    return Space(work.axes, np.array(flops, dtype=float), _find_features(workloads, device)), workloads


def _find_features(workloads: Sequence[Workload], device: Device) -> NDArray[np.float64]:
    """What is known of products; nothing of other work."""
    sizes: list[Mapping[str, int | float | str]] = [each.dimensions for each in workloads]
    if not all({"m", "n", "k"} <= each.keys() for each in sizes):
        return np.zeros((0, 0))
    m, n, k = (np.array([float(each[axis]) for each in sizes]) for axis in ("m", "n", "k"))
    identity = device.identity
    return describe_shapes(m, n, k, identity.multiprocessors if isinstance(identity, CudaIdentity) else None)


@dataclass
class _Looks:
    """Times points of the grid: TFLOPS of one, None for one that can't be launched or would take too long."""

    case: Case
    device: Device
    buffers: SearchBuffers
    workloads: Sequence[Workload]
    longest_s: float
    on_step: OnStep
    best: float = 0.0  # FLOPs a second
    refused: str | None = None  # the latest error of a launch

    def try_smallest(self) -> None:
        """Time the smallest point, so that the time of others can be predicted."""
        smallest = min(range(len(self.workloads)), key=lambda index: self.workloads[index].flops or 0)
        self.longest_s, allowed_s = math.inf, self.longest_s
        self(smallest)
        self.longest_s = allowed_s

    def __call__(self, index: int) -> float | None:
        work = self.workloads[index]
        flops = work.flops or 0
        expected_s = flops / self.best if self.best else 0.0
        if expected_s > self.longest_s:
            return None
        self.on_step(self.case.id, 2 * expected_s + getattr(work, "compile_allowance_s", 0.0))
        try:
            launch = self.buffers.launcher(work)
            first = self.device.time_batch([launch], samples=1, per_sample=1)
            count = min(max(1, math.ceil(LOOK_S / max(first.elapsed_s, 1e-9))), _MOST_LAUNCHES)
            seconds = self.device.time_batch([launch], samples=1, per_sample=count).elapsed_s / count
        except Exception as error:  # a library may refuse a shape or a layout
            if not self.device.is_working():
                raise
            self.refused = describe_error(error)
            return None
        if seconds <= 0:
            return None
        self.best = max(self.best, flops / seconds)
        return flops / seconds / 1e12


def _data_of(found: SearchResult, space: Space, *, exhaustive: bool) -> SearchData:
    left_out = {look.point for look in found.looks if look.tflops is None}
    looks = tuple(
        SearchLook(
            point=space.point(look.point),
            stage=look.stage,
            begin_s=look.begin_s,
            cost_s=look.cost_s,
            tflops=look.tflops,
        )
        for look in found.looks
        if look.tflops is not None
    )
    summary = SearchSummary(
        shapes=space.size - len(left_out),
        seen=found.seen,
        cost_s=found.cost_s,
        grid_s=found.grid_s,
        unseen_gain=found.unseen_gain,
        exhaustive=exhaustive,
        looks=looks,
    )
    return SearchData(space.point(found.winner), summary)
