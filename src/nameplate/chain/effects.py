"""What inputs and caches do to a product: the same case with another fill or cache state, drawn in turn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nameplate.chain.from_run import REAL_FILL
from nameplate.chain.throughput import compare, throughput
from nameplate.record import Record, Verdict, sort_by_gravity

_USUAL_CACHE = "warm"


@dataclass(frozen=True)
class Effect:
    """Throughput of `case` ÷ that of `beside`, the same work in its usual state, with its 95 % interval."""

    case: str
    beside: str
    device: str
    value: float
    low: float
    high: float
    verdicts: tuple[Verdict, ...]  # of both

    def as_json(self) -> dict[str, Any]:
        """The effect as a JSON row."""
        return {**asdict(self), "verdicts": list(self.verdicts)}


def effects(records: Sequence[Record]) -> list[Effect]:
    """Compare the records of one group that differ in fill or cache alone; a wrong result with nothing."""
    alike: dict[tuple[object, ...], list[Record]] = {}
    for record in records:
        if record.group is not None and record.tflops is not None and "unverified" not in record.verdicts:
            axes = (record.workload, record.dtype, record.shape, record.phase, record.backend)
            alike.setdefault((record.device, record.group, *axes), []).append(record)
    return [effect for states in alike.values() for effect in _against_usual(states)]


def _against_usual(states: Sequence[Record]) -> list[Effect]:
    usual = _usual(states)
    return [] if usual is None else [_effect(each, usual) for each in states if each is not usual]


def _usual(states: Sequence[Record]) -> Record | None:
    """What the others are compared with: normal and warm, else normal in the cache state that most have."""
    normal = {record.cache: record for record in states if record.fill == REAL_FILL}
    caches = [_USUAL_CACHE, *(cache for cache, _ in Counter(each.cache for each in states).most_common())]
    return next((normal[cache] for cache in caches if cache in normal), None)


def _effect(record: Record, usual: Record) -> Effect:
    found = compare(throughput(record), throughput(usual))
    verdicts = sort_by_gravity({*record.verdicts, *usual.verdicts})
    return Effect(record.case, usual.case, record.device, found.value, found.low, found.high, verdicts)
