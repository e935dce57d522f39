"""The ratio of two measured throughputs: paired by rounds if they were drawn in turn, else a quotient.

Where the records have several processes, its interval is run-to-run, as theirs is: what differs between
processes is seen in the ratio that each process gives. What a ratio differs by from run to run no run keeps;
it is taken to be what both of its ends differ by, an upper bound where an hour moves them the same way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from nameplate.engine.run_to_run import TIME, basis_of
from nameplate.record import Record
from nameplate.stats.between import NO_SCATTER, Scatter, add, estimate_run_to_run, widen
from nameplate.stats.estimate import FEWEST_BATCHES, means_by_process, paired_ratio
from nameplate.stats.interval import Interval, harmonic_mean, ratio


@dataclass(frozen=True)
class Throughput:
    """A throughput in TFLOPS with its interval, and the time of a FLOP in each round it was drawn in.

    Rounds of the same `group` are the same moments; without a group they are comparable with nothing.
    `process` is the number of the process that drew each round. `between_runs` is what runs differ by, where
    that is known.
    """

    tflops: Interval
    group: str | None = None
    flop_s: Mapping[int, float] = field(default_factory=dict)  # round → seconds a FLOP
    process: Mapping[int, int] = field(default_factory=dict)
    between_runs: Scatter | None = None


def throughput_of(record: Record) -> Throughput:
    """The throughput of one case. ValueError for a record that has none."""
    flop_s = _flop_seconds_of([record], [1])
    return Throughput(
        _tflops_of(record), record.group, flop_s, _process_by_round(record), _between_runs_of(record)
    )


def combine_throughputs(records: Sequence[Record], times: Sequence[int]) -> Throughput:
    """The throughput of several cases together, each run so many times: the FLOP-weighted harmonic mean.

    Cases of one process rise and fall together, so the interval is at least the one that follows from all of
    them in each process. ValueError for no records, and for one without a throughput.
    """
    weights = [(record.flops or 0) * count for record, count in zip(records, times, strict=True)]
    mean = harmonic_mean([_tflops_of(record) for record in records], weights)
    groups = {record.group for record in records}
    if len(groups) > 1:
        return Throughput(mean)
    flop_s, process = _flop_seconds_of(records, times), _process_by_round(records[0])
    between = max(map(_between_runs_of, records), key=lambda each: each.variance if each else 0.0)
    whole = Throughput(mean, groups.pop(), flop_s, process, between)
    means_s = _means_of(flop_s.values(), [process[number] for number in flop_s])
    return replace(whole, tflops=_widen_by_processes(mean, means_s, between))


def divide_throughputs(one: Throughput, other: Throughput) -> Interval:
    """`one` ÷ `other`, paired by their common rounds if they have a group and enough of these in common."""
    common = sorted(one.flop_s.keys() & other.flop_s.keys())
    if one.group is None or one.group != other.group or len(common) < FEWEST_BATCHES:
        return ratio(one.tflops, other.tflops)
    process = [one.process.get(number, 1) for number in common]
    first_s, second_s = [other.flop_s[n] for n in common], [one.flop_s[n] for n in common]
    within = paired_ratio(first_s, second_s, process)
    ratios = _means_of(first_s, process) / _means_of(second_s, process)
    between = add(one.between_runs or NO_SCATTER, other.between_runs or NO_SCATTER)
    return _widen_by_processes(within, ratios, between)


def _widen_by_processes(within: Interval, values: NDArray[np.float64], between: Scatter | None) -> Interval:
    """The run-to-run interval of a figure that each process has a value of; of one process, that within."""
    if len(values) < 2:
        return within
    return widen(within, estimate_run_to_run(values.tolist(), between_runs=between).log_half_width)


def _between_runs_of(record: Record) -> Scatter | None:
    spread = record.spreads.get(TIME)
    return None if spread is None else basis_of(spread).between_runs


def _means_of(values: Iterable[float], process: Sequence[int]) -> NDArray[np.float64]:
    return means_by_process(list(values), process)


def _tflops_of(record: Record) -> Interval:
    if record.tflops is None or record.tflops_low is None or record.tflops_high is None:
        raise ValueError(f"{record.case} has no throughput")
    return Interval(record.tflops, record.tflops_low, record.tflops_high)


def _flop_seconds_of(records: Sequence[Record], times: Sequence[int]) -> dict[int, float]:
    """Seconds a FLOP of all the work together, in each round that every record was drawn in."""
    launch_s = [_launch_seconds_of(record) for record in records]
    flops = sum((record.flops or 0) * count for record, count in zip(records, times, strict=True))
    common = set.intersection(*map(set, launch_s)) if flops else set()
    return {
        number: sum(each[number] * count for each, count in zip(launch_s, times, strict=True)) / flops
        for number in sorted(common)
    }


def _process_by_round(record: Record) -> dict[int, int]:
    return {batch.round: batch.process for batch in record.batches}


def _launch_seconds_of(record: Record) -> dict[int, float]:
    """Mean seconds a launch, by round."""
    elapsed_s: dict[int, float] = {}
    launches: dict[int, int] = {}
    for batch in record.batches:
        elapsed_s[batch.round] = elapsed_s.get(batch.round, 0.0) + batch.elapsed_s
        launches[batch.round] = launches.get(batch.round, 0) + batch.launches
    return {number: elapsed_s[number] / launches[number] for number in elapsed_s}
