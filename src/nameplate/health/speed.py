"""Whether a device is as fast as it should be, by three yardsticks that are kept apart.

Its rating with what was published of the part; the other devices of its node; its own earlier runs. All
compare the same figures: those of cases that nothing but the device itself held down.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from nameplate.base.messages import Message, message
from nameplate.chain.from_run import REAL_FILL
from nameplate.chain.published import Published
from nameplate.chain.stage import Stage
from nameplate.health.thresholds import HealthThresholds
from nameplate.health.verdict import Statement, Verdict, Way, gravest
from nameplate.record import MAIN_MEMORY, Record
from nameplate.stats.between import NO_SCATTER, moderate
from nameplate.stats.interval import Interval
from nameplate.stats.stragglers import (
    FEWEST_SIBLINGS,
    compare_with_past,
    find_stragglers,
    pool_past,
)
from nameplate.store.manifest import DeviceEntry

# Verdicts of figures that other work or the host's launching held down, or that are wrong.
_NOT_THE_DEVICE = frozenset({"contradictory", "unverified", "above_peak", "contended", "launch_bound"})
# What a comparison says of a drop that is a fault, of none, and where it could not have seen one.
_SIBLINGS = ("health_below_siblings", "health_with_siblings", "health_siblings_scatter")
_PAST = ("health_below_past", "health_with_past", "health_past_scatter")


@dataclass(frozen=True)
class Speed:
    """How fast a device did a case: the logarithm of its throughput, and half its 95 % interval."""

    record: Record
    log: float
    half: float

    @property
    def log_rate(self) -> float:
        """The logarithm of launches a second, which earlier runs have too."""
        return -math.log(self.record.time_s or 1.0)

    @property
    def case(self) -> str:
        """The case's id."""
        return self.record.case


@dataclass(frozen=True)
class DeviceSpeeds:
    """A device of a run with its figures that can be compared, by case.

    `key` tells it from all others that are judged with it, of other runs too. `past` has, by case, the
    logarithms of launches a second in earlier runs. `excluded` counts measured records whose figures weren't
    the device's own doing.
    """

    key: str
    entry: DeviceEntry
    speeds: Mapping[str, Speed]
    excluded: int
    past: Mapping[str, Sequence[float]]

    @property
    def kind(self) -> tuple[str, str]:
        """What devices must agree in to be siblings: the part, or the name of one without a part."""
        return (self.entry.part or "", self.entry.identity.name)


def find_speeds(
    key: str, entry: DeviceEntry, records: Sequence[Record], past: Mapping[str, Sequence[float]]
) -> DeviceSpeeds:
    """Return the figures of a device that say something of it; `records` are all of the device's."""
    found: dict[str, Speed] = {}
    excluded = 0
    for record in records:
        figure = _figure_of(record)
        if figure is None:
            continue
        if not _NOT_THE_DEVICE.isdisjoint(record.verdicts):
            excluded += 1
            continue
        found[record.case] = Speed(record, math.log(figure.value), figure.log_half_width)
    return DeviceSpeeds(key, entry, found, excluded, past)


def _figure_of(record: Record) -> Interval | None:
    """Return a measured record's throughput, or the bandwidth of work without FLOPs."""
    if record.status != "ok" or record.fill != REAL_FILL:
        return None
    return record.interval("tflops") or record.interval("bandwidth_gb_s")


def _make_statement(way: Way, found: Sequence[tuple[Verdict, Message]]) -> Statement:
    """Return the gravest verdict of those found, with its reasons: the largest drop first.

    A case that can't be judged doesn't count where another one can.
    """
    known = [each for each in found if each[0] != "unknown"] or found
    verdict = gravest(each for each, _reason in known)
    reasons = dict.fromkeys(why for each, why in known if each == verdict)
    return Statement(way, verdict, tuple(sorted(reasons, key=_drop_of, reverse=True)))


def _drop_of(reason: Message) -> float:
    drop = reason.values.get("drop")
    return drop if isinstance(drop, float) else 0.0


def name_case(record: Record) -> str:
    """Return what a case is called in a reason: its work, and its phase."""
    return " ".join(filter(None, (record.workload, record.dtype, record.shape, record.phase)))


def _explain_no_figure(device: DeviceSpeeds) -> Message:
    if not device.excluded:
        return message("health_no_case")
    return message("health_no_figure", excluded=device.excluded)


# ---- by the rating and what was published of the part ----


def judge_by_rating(
    device: DeviceSpeeds, published: Sequence[Published], limits: HealthThresholds
) -> Statement:
    """Compare a device's best large product with its part's best published, and memory with its rating."""
    if not device.speeds:
        return Statement("rating", "unknown", (_explain_no_figure(device),))
    found = [*_judge_products(device, published, limits), *_judge_memory(device, limits)]
    return _make_statement("rating", found)


def _judge_products(
    device: DeviceSpeeds, published: Sequence[Published], limits: HealthThresholds
) -> Iterator[tuple[Verdict, Message]]:
    part, kind = device.entry.part, device.entry.identity.kind
    if part is None or kind == "cpu":
        # A CPU's rating is what its instructions could do; which share of it a library's product reaches
        # depends on the library.
        yield "unknown", message("health_no_published", part=part or device.entry.identity.name)
        return
    rules = limits.rating
    large = [
        speed.record
        for speed in device.speeds.values()
        if speed.record.workload == "matmul"
        and speed.record.datasheet_efficiency is not None
        and min(_edges(speed.record), default=0) >= rules.least_edge
    ]
    if not large:
        yield "unknown", message("health_no_large_product", edge=rules.least_edge)
    # Of a burst and a settled product, and of each dtype, the best.
    by_kind: dict[tuple[str, bool], Record] = {}
    for record in sorted(large, key=lambda each: each.datasheet_efficiency or 0.0):
        by_kind[record.dtype, record.phase == "burst"] = record
    for (dtype, is_burst), record in by_kind.items():
        share = record.datasheet_efficiency or 0.0
        yardstick = find_yardstick(published, part, dtype, is_burst=is_burst, limits=limits)
        if yardstick is None:
            if share < rules.unfit_unpublished:
                yield "unfit", message("health_below_any", case=name_case(record), share=share, part=part)
            else:
                yield "unknown", message("health_no_published", part=f"{part} {dtype}")
            continue
        of_best = share / yardstick.share
        verdict = _judge_share(of_best, device.speeds[record.case].half, rules, limits)
        if verdict == "unknown":
            yield verdict, _imprecise(device.speeds[record.case])
            continue
        values = {"case": name_case(record), "share": share, "of_best": of_best, "published": yardstick.share}
        code = "health_near_published" if verdict == "fit" else "health_below_published"
        yield verdict, message(code, **values, source=yardstick.id)


class _Shares(Protocol):
    """Shares of what is expected below which a device is degraded, and unfit."""

    @property
    def degraded(self) -> float:
        """Below it a device is degraded."""

    @property
    def unfit(self) -> float:
        """Below it a device is unfit."""


def _judge_share(share: float, half: float, rules: _Shares, limits: HealthThresholds) -> Verdict:
    """Judge a share of what is expected; `half` is half its interval on a log scale.

    A device is accused only by the upper end of the interval.
    """
    most = share * math.exp(min(half, 1.0))
    if most < rules.unfit:
        return "unfit"
    if most < rules.degraded:
        return "degraded"
    return "fit" if share >= rules.degraded and half <= limits.precision.half_width else "unknown"


def _imprecise(speed: Speed) -> Message:
    return message(
        "health_imprecise", case=name_case(speed.record), half_width=math.expm1(min(speed.half, 1.0))
    )


@dataclass(frozen=True)
class Yardstick:
    """The share of its datasheet that the best published product of a part reached, and that figure's id."""

    share: float
    id: str


def find_yardstick(
    published: Sequence[Published], part: str, dtype: str, *, is_burst: bool, limits: HealthThresholds
) -> Yardstick | None:
    """Return what a product of that part and dtype is compared with; None where nothing was published.

    A settled product is compared with a settled one where one is published, else with the best burst times
    the usual ratio of the two. bf16 and fp16 serve each other: every part that has both rates them alike.
    """
    names = {dtype, dtype.partition("_e")[0]} | ({"bf16", "fp16"} if dtype in ("bf16", "fp16") else set())
    own = [
        each
        for each in published
        if each.quantity == "derate"
        and each.from_ is Stage.DATASHEET
        and each.dtype in names
        and each.serves(part)
    ]
    settled = [each for each in own if each.to is Stage.GEMM_SUSTAINED]
    burst = [each for each in own if each.to is Stage.GEMM_BURST]
    if is_burst or not settled:
        best = max(burst, key=lambda each: each.value, default=None)
        if best is None:
            return None
        return Yardstick(best.value * (1.0 if is_burst else limits.rating.sustained_of_burst), best.id)
    best = max(settled, key=lambda each: each.value)
    return Yardstick(best.value, best.id)


def _edges(record: Record) -> list[int]:
    return [value for name in "mnk" if isinstance(value := record.dimensions.get(name), int)]


def _judge_memory(device: DeviceSpeeds, limits: HealthThresholds) -> Iterator[tuple[Verdict, Message]]:
    """Compare copy and triad with a GPU's rated bandwidth."""
    rated = device.entry.memory_gb_s
    if rated is None or device.entry.identity.kind == "cpu":
        return
    moved = [
        speed
        for speed in device.speeds.values()
        if speed.record.memory_level == MAIN_MEMORY and speed.record.bandwidth_gb_s is not None
    ]
    if not moved:
        return
    best = max(moved, key=lambda speed: speed.record.bandwidth_gb_s or 0.0)
    share = (best.record.bandwidth_gb_s or 0.0) / rated
    verdict = _judge_share(share, best.half, limits.memory, limits)
    if verdict == "unknown":
        yield verdict, _imprecise(best)
        return
    code = "health_memory_near_rated" if verdict == "fit" else "health_memory_below_rated"
    yield verdict, message(code, case=name_case(best.record), share=share, rated_gb_s=rated)


# ---- by the node's other devices ----


def judge_by_siblings(devices: Sequence[DeviceSpeeds], limits: HealthThresholds) -> Mapping[str, Statement]:
    """Compare each device with those of its node that are alike; returns a statement by key."""
    found: dict[str, list[tuple[Verdict, Message]]] = {each.key: [] for each in devices}
    kinds = dict.fromkeys(each.kind for each in devices)
    alike = {kind: [each for each in devices if each.kind == kind] for kind in kinds}
    for group in alike.values():
        for name, verdict, why in _compare_siblings(group, limits):
            found[name].append((verdict, why))
    for device in devices:
        name, others = device.key, len(alike[device.kind]) - 1
        if not found[name]:
            why = (
                message("health_no_siblings", others=others, least=FEWEST_SIBLINGS - 1)
                if others + 1 < FEWEST_SIBLINGS or device.speeds
                else _explain_no_figure(device)
            )
            found[name].append(("unknown", why))
    return {name: _make_statement("siblings", each) for name, each in found.items()}


def _compare_siblings(
    group: Sequence[DeviceSpeeds], limits: HealthThresholds
) -> Iterator[tuple[str, Verdict, Message]]:
    cases = dict.fromkeys(case for each in group for case in each.speeds)
    shared = {case: [each for each in group if case in each.speeds] for case in cases}
    shared = {case: held for case, held in shared.items() if len(held) >= FEWEST_SIBLINGS}
    for case, held in shared.items():
        logs = [each.speeds[case].log for each in held]
        standings = find_stragglers(logs, limits.alarm.level / len(shared), limits.siblings.prior)
        for device, standing in zip(held, standings or (), strict=True):
            comparison = _Comparison(
                device.speeds[case], standing.drop, standing.limit, standing.is_straggler, len(held) - 1
            )
            yield device.key, *comparison.judge(_SIBLINGS, limits.siblings.least_drop, limits)


# ---- by its own earlier runs ----


def judge_by_past(devices: Sequence[DeviceSpeeds], limits: HealthThresholds) -> Mapping[str, Statement]:
    """Compare each device with its own earlier runs; returns a statement by key.

    How much runs scatter is found from all alike devices of the node together.
    """
    past = {
        (each.key, case): each.past[case]
        for each in devices
        for case in each.speeds
        if len(each.past.get(case, ())) >= limits.past.fewest
    }
    found: dict[str, list[tuple[Verdict, Message]]] = {each.key: [] for each in devices}
    for device in devices:
        name = device.key
        alike = [each.key for each in devices if each.kind == device.kind]
        for case, speed in device.speeds.items():
            if (name, case) not in past:
                continue
            scatter = pool_past([past[other, case] for other in alike if (other, case) in past])
            prior = limits.past.gpu_prior if device.entry.identity.kind == "cuda" else NO_SCATTER
            change = compare_with_past(
                speed.log_rate, past[name, case], moderate(scatter, prior), limits.alarm.level / len(past)
            )
            if change is not None:
                comparison = _Comparison(
                    speed, change.drop, change.limit, change.drop > change.limit, change.past
                )
                found[name].append(comparison.judge(_PAST, limits.past.least_drop, limits))
    for device in devices:
        name = device.key
        if not found[name]:
            runs = max(map(len, device.past.values()), default=0)
            why = message("health_no_past", runs=runs, least=limits.past.fewest)
            found[name].append(("unknown", why if device.speeds else _explain_no_figure(device)))
    return {name: _make_statement("past", each) for name, each in found.items()}


@dataclass(frozen=True)
class _Comparison:
    """One case of a device beside `count` others: its drop and the least significant one, as log ratios."""

    speed: Speed
    drop: float
    limit: float
    is_significant: bool
    count: int

    def judge(
        self, codes: tuple[str, str, str], least_drop: float, limits: HealthThresholds
    ) -> tuple[Verdict, Message]:
        """Return what the comparison says, and why; `codes` are those of the three messages.

        Unknown where only a drop larger than that of an unfit device would have been significant.
        """
        below, alike, scatter = codes
        drop, limit = -math.expm1(-self.drop), -math.expm1(-max(self.limit, 0.0))
        sure = -math.expm1(-(self.drop - self.speed.half))  # at the end that favours it
        values = {"case": name_case(self.speed.record), "drop": drop, "count": self.count}
        if self.is_significant and drop >= least_drop and sure > 0:
            verdict: Verdict = "unfit" if drop >= limits.unfit.drop else "degraded"
            return verdict, message(below, **values, limit=max(limit, least_drop))
        if self.speed.half > limits.precision.half_width:
            return "unknown", _imprecise(self.speed)
        if limit > limits.unfit.drop:
            return "unknown", message(scatter, case=name_case(self.speed.record), limit=limit)
        return "fit", message(alike, case=name_case(self.speed.record), limit=max(limit, least_drop))
