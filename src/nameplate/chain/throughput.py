"""The ratio of two measured throughputs: paired by rounds if they were drawn in turn, else a quotient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nameplate.record import Record
from nameplate.stats.estimate import FEWEST_BATCHES, paired_ratio
from nameplate.stats.interval import Interval, harmonic_mean, ratio


@dataclass(frozen=True)
class Throughput:
    """A throughput in TFLOPS with its interval, and the time of a FLOP in each round it was drawn in.

    Rounds of the same `group` are the same moments; without a group they are comparable with nothing.
    """

    tflops: Interval
    group: str | None = None
    flop_s: Mapping[int, float] = field(default_factory=dict)  # round → seconds a FLOP


def throughput_of(record: Record) -> Throughput:
    """The throughput of one case. ValueError for a record that has none."""
    return Throughput(_tflops_of(record), record.group, _flop_seconds_of([record], [1]))


def combine_throughputs(records: Sequence[Record], times: Sequence[int]) -> Throughput:
    """The throughput of several cases together, each run so many times: the FLOP-weighted harmonic mean.

    ValueError for no records, and for one without a throughput.
    """
    weights = [(record.flops or 0) * count for record, count in zip(records, times, strict=True)]
    mean = harmonic_mean([_tflops_of(record) for record in records], weights)
    groups = {record.group for record in records}
    return Throughput(mean, groups.pop() if len(groups) == 1 else None, _flop_seconds_of(records, times))


def divide_throughputs(one: Throughput, other: Throughput) -> Interval:
    """`one` ÷ `other`, paired by their common rounds if they have a group and enough of these in common."""
    common = sorted(one.flop_s.keys() & other.flop_s.keys())
    if one.group is None or one.group != other.group or len(common) < FEWEST_BATCHES:
        return ratio(one.tflops, other.tflops)
    return paired_ratio([other.flop_s[n] for n in common], [one.flop_s[n] for n in common])


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


def _launch_seconds_of(record: Record) -> dict[int, float]:
    """Mean seconds a launch, by round."""
    elapsed_s: dict[int, float] = {}
    launches: dict[int, int] = {}
    for batch in record.batches:
        elapsed_s[batch.round] = elapsed_s.get(batch.round, 0.0) + batch.elapsed_s
        launches[batch.round] = launches.get(batch.round, 0) + batch.launches
    return {number: elapsed_s[number] / launches[number] for number in elapsed_s}
