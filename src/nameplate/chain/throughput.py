"""One measured throughput against another: round by round where both were drawn in turn, else by quotient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nameplate.record import Record
from nameplate.stats.estimate import FEWEST_BATCHES, paired_ratio
from nameplate.stats.interval import Interval, harmonic_mean, ratio


@dataclass(frozen=True)
class Throughput:
    """A throughput in TFLOPS with its interval, and what it took in each round that it was drawn in.

    A round of two throughputs of one `group` is the same moment; without a group it is nobody else's.
    """

    tflops: Interval
    group: str | None = None
    flop_s: Mapping[int, float] = field(default_factory=dict)  # seconds a FLOP, by round


def throughput(record: Record) -> Throughput:
    """The throughput of one case. ValueError for a record that has none."""
    return Throughput(_tflops(record), record.group, _flop_s([record], [1]))


def together(records: Sequence[Record], times: Sequence[int]) -> Throughput:
    """What works reach together, each done so many times: their FLOP-weighted harmonic mean.

    ValueError for no records, and for one without a throughput.
    """
    weights = [(record.flops or 0) * often for record, often in zip(records, times, strict=True)]
    mean = harmonic_mean([_tflops(record) for record in records], weights)
    groups = {record.group for record in records}
    return Throughput(mean, groups.pop() if len(groups) == 1 else None, _flop_s(records, times))


def compare(one: Throughput, beside: Throughput) -> Interval:
    """`one` ÷ `beside`: paired by the rounds that both were drawn in, where they carry an interval."""
    common = sorted(one.flop_s.keys() & beside.flop_s.keys())
    if one.group is None or one.group != beside.group or len(common) < FEWEST_BATCHES:
        return ratio(one.tflops, beside.tflops)
    return paired_ratio([beside.flop_s[n] for n in common], [one.flop_s[n] for n in common])


def _tflops(record: Record) -> Interval:
    if record.tflops is None or record.tflops_low is None or record.tflops_high is None:
        raise ValueError(f"{record.case} has no throughput")
    return Interval(record.tflops, record.tflops_low, record.tflops_high)


def _flop_s(records: Sequence[Record], times: Sequence[int]) -> dict[int, float]:
    """Seconds a FLOP of all the work together, in each round that every record was drawn in."""
    each = [_launch_s(record) for record in records]
    flops = sum((record.flops or 0) * often for record, often in zip(records, times, strict=True))
    common = set.intersection(*(set(one) for one in each)) if flops else set()
    return {
        number: sum(one[number] * often for one, often in zip(each, times, strict=True)) / flops
        for number in sorted(common)
    }


def _launch_s(record: Record) -> dict[int, float]:
    """Mean seconds a launch, by round."""
    elapsed_s: dict[int, float] = {}
    launches: dict[int, int] = {}
    for batch in record.batches:
        elapsed_s[batch.round] = elapsed_s.get(batch.round, 0.0) + batch.elapsed_s
        launches[batch.round] = launches.get(batch.round, 0) + batch.launches
    return {number: elapsed_s[number] / launches[number] for number in elapsed_s}
