"""What a record holds besides columns: batches, time series, searches, what its intervals follow from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from nameplate.base.model import (
    LARGEST,
    SMALLEST,
    Amount,
    Count,
    FrozenModel,
    Number,
    Positive,
    PositiveCount,
)

# As `Positive`, but without a Python validator: a large cluster has a million batches.
_Positive = Annotated[float, Field(ge=SMALLEST, le=LARGEST)]


class Batch(FrozenModel):
    """Back-to-back samples, taken as independent of other batches.

    `start_s` counts from the first batch of the case. `elapsed_s` is timed work only, without cache flushes
    between samples. Batches of one `round` in the records of one group were drawn in turn, so that a ratio
    between two cases can be taken round by round. `process` is which of the processes that measured the case
    drew it, from 1. `cpu_s` is the CPU time of that process during the batch.
    """

    start_s: Number
    elapsed_s: _Positive
    launches: PositiveCount
    round: Count = 0
    process: PositiveCount = 1
    cpu_s: Amount | None = None


class Moment(FrozenModel):
    """One point of the time series of a case that started from idle.

    `at_s` is the middle of the averaged batches, in seconds from the start. Unknown figures are None.
    """

    at_s: _Positive
    tflops: _Positive
    sm_clock_mhz: Number | None = None
    power_w: Number | None = None
    temperature_c: Number | None = None


class Derate(FrozenModel):
    """Throughput around one moment after the start, and its ratios to nominal and burst (None: unknown)."""

    at_s: Number
    tflops: Amount
    efficiency: Amount | None = None
    of_burst: Amount | None = None


class PartTime(FrozenModel):
    """One part of a launch in place: mean seconds forward, and backward where there is such a pass."""

    name: str
    forward_s: Amount
    backward_s: Amount | None = None


class KernelTime(FrozenModel):
    """One kernel of a launch, by name, or on a CPU one operator: the seconds of all its `calls` together.

    `flops` are those of all of them, of products alone; None: not known.
    """

    name: str
    time_s: Amount
    calls: PositiveCount
    flops: Count | None = None


class LaunchProfile(FrozenModel):
    """A launch as a profiler saw it, outside everything timed: its kernels, the longest first.

    `trace` is the file of the trace, in the run's folder; None where there is none any more.
    """

    kernels: tuple[KernelTime, ...]
    trace: str | None = None


class BatchTry(FrozenModel):
    """A batch that a search for the largest one tried; `peak_bytes` is None where it isn't known."""

    batch: PositiveCount
    fits: bool
    peak_bytes: Count | None = None


class LargestBatch(FrozenModel):
    """The largest batch whose launch fits the device's memory, found by bisection; None: not even 1 fits.

    `limit_bytes` is the memory that it was to fit. `is_launched`: each batch was launched until memory ran
    out; otherwise the tensors that a launch holds were counted. `is_final`: the next larger batch doesn't
    fit; otherwise the time was over before.
    """

    batch: PositiveCount | None
    peak_bytes: Count | None
    limit_bytes: Count
    is_launched: bool
    is_final: bool
    tries: tuple[BatchTry, ...]


class Verification(FrozenModel):
    """The comparison of a result with a reference of higher precision.

    `error` is the largest deviation ÷ the bound that rounding explains; None for NaN or infinity.
    """

    reference: str
    error: Annotated[float | None, Field(ge=0)]
    rule: str
    passed: bool


# What a record's intervals hold the mean of: fresh processes on the machine, or the one that measured.
IntervalKind = Literal["run_to_run", "within"]


class Ends(FrozenModel):
    """The ends of one more 95 % interval about the record's `figure`, a column's name, in its unit."""

    figure: str
    low: Amount
    high: Amount


class Spread(FrozenModel):
    """What a figure's run-to-run interval follows from; `stats/between.py` has the formula.

    `by_process` is the figure as each process found it. The rest are standard deviations, as fractions, with
    their degrees of freedom: `prior`, what other cases and earlier runs said of the spread between processes
    (no freedom: nothing); `between_runs`, what differs from run to run besides (None: unknown; `is_usual`: of
    machines of the kind, as too few earlier runs of this one are known). `shared`, of records up to method 7,
    is half the width, on a log scale, of what all processes have in common (no freedom: not known how well).
    """

    by_process: Annotated[tuple[Positive, ...], Field(min_length=1)]
    prior: Amount = 0.0
    prior_freedom: Amount = 0.0
    between_runs: Amount | None = None
    between_runs_freedom: Amount | None = None
    is_usual: bool = False
    shared: Amount = 0.0
    shared_freedom: Amount = 0.0
    earlier_runs: Count = 0


class SearchLook(FrozenModel):
    """A short measurement of one shape: its axes, stage, seconds since the search began, its cost, TFLOPS."""

    point: Mapping[str, int | str]
    stage: Literal["explore", "predict", "confirm"]
    begin_s: Number
    cost_s: Amount
    tflops: Positive


class SearchSummary(FrozenModel):
    """The search that chose the shape of a case called `best`; no figure is taken from its looks.

    Of the grid's `shapes`, `seen` were timed, in `cost_s` seconds; one look at every shape would take about
    `grid_s`. `unseen_gain` is by how much one of the others may be faster, with 95 % confidence (0.02: 2 %;
    None: too few were seen to tell).
    """

    shapes: PositiveCount
    seen: PositiveCount
    cost_s: Amount
    grid_s: Amount
    unseen_gain: Amount | None = None
    exhaustive: bool = False
    looks: tuple[SearchLook, ...] = ()
