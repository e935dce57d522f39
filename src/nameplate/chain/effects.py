"""The effect on a product of its inputs, of caches and of how split sums are added, one of them at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nameplate.chain.from_run import REAL_FILL
from nameplate.chain.throughput import divide_throughputs, throughput_of
from nameplate.record import Record, Verdict, sort_by_gravity

_USUAL_CACHE = "warm"
_FP32_SUMS = "-fp32sums"  # the end of such a product's shape


@dataclass(frozen=True)
class Effect:
    """Throughput of `case` ÷ that of `beside`, the same work in its usual state, with its 95 % interval."""

    case: str
    beside: str
    device: str
    value: float
    low: float
    high: float
    verdicts: tuple[Verdict, ...]  # of both records

    def as_json(self) -> dict[str, Any]:
        """The effect as a JSON row."""
        return {**asdict(self), "verdicts": list(self.verdicts)}


def find_effects(records: Sequence[Record]) -> list[Effect]:
    """Compare the records of each group that differ only in fill, cache or how split sums are added.

    Wrong results are left out.
    """
    same_work: dict[tuple[object, ...], list[Record]] = {}
    for record in records:
        if record.group is not None and record.tflops is not None and not record.is_wrong:
            shape = record.shape.removesuffix(_FP32_SUMS)
            axes = (record.workload, record.dtype, shape, record.phase, record.backend)
            same_work.setdefault((record.device, record.group, *axes), []).append(record)
    return [effect for states in same_work.values() for effect in _compare_with_usual(states)]


def _compare_with_usual(states: Sequence[Record]) -> list[Effect]:
    usual = _find_usual(states)
    return [] if usual is None else [_compare(each, usual) for each in states if each is not usual]


def _find_usual(states: Sequence[Record]) -> Record | None:
    """The record with normal inputs and a warm cache, else in the cache state that most records have."""
    normal = {
        record.cache: record
        for record in states
        if record.fill == REAL_FILL and not record.shape.endswith(_FP32_SUMS)
    }
    caches = [_USUAL_CACHE, *(cache for cache, _ in Counter(each.cache for each in states).most_common())]
    return next((normal[cache] for cache in caches if cache in normal), None)


def _compare(record: Record, usual: Record) -> Effect:
    ratio = divide_throughputs(throughput_of(record), throughput_of(usual))
    verdicts = sort_by_gravity({*record.verdicts, *usual.verdicts})
    return Effect(record.case, usual.case, record.device, ratio.value, ratio.low, ratio.high, verdicts)
