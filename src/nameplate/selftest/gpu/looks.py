"""The looks at a card that need no turns: a load from idle, the queue, digests, a block, what launches cost.

Each takes the card and returns an observation of `seen.py`. Nothing is judged here.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, islice, pairwise
from typing import Any

import numpy as np

from nameplate.device.kernels import name_attention
from nameplate.device.protocol import Timing
from nameplate.engine.case_run import count_buffer_sets
from nameplate.selftest.gpu.seen import (
    BlockSeen,
    BlocksSeen,
    CostsSeen,
    DigestsSeen,
    LoadSeen,
    Product,
    QueueSeen,
)
from nameplate.selftest.gpu.subject import SEED, Subject, change_product
from nameplate.telemetry.gpu import GpuReading
from nameplate.workload import Prepared, Workload

_WARM_UP_S = 0.5
_IDLE_S, _LOAD_S = 5.0, 8.0
# The first launches are timed one by one, for the ramp and the limit's onset; the others ten a sample.
_SINGLY_S, _SINGLY, _TOGETHER = 1.5, 1_500, 10
_LAST_S = 0.6  # of launches behind which the reading under load is taken
# A stream takes some 1,000 launches; these are tried behind launches of so many seconds.
_TRIED, _AHEAD_S, _MOST_AHEAD = 4_096, 0.3, 200
_PACED = 64  # launches by whose pace a full queue is told
_DIGEST_LAUNCHES = 60
_WARM_UPS, _BLOCK_LAUNCHES = 3, 20
_BLOCK_CASES = "transformer_block/bf16/*"
# Other shapes than the square one, by which a library splits the sum, and other dtypes.
_DIGEST_PRODUCTS = (
    {"dtype": "fp16", "m": 64, "n": 128, "k": 65536},
    {"dtype": "tf32", "m": 4096, "n": 4096, "k": 4096},
    {"dtype": "fp64", "m": 2048, "n": 2048, "k": 2048},
)
_NEIGHBOUR = {"dtype": "bf16", "m": 512, "n": 512, "k": 16384}
_SMALL_EDGE = 256
_COSTED = 200  # launches or events whose cost for the host is taken together
_COPY_CASE, _COPIES = "memory/fp32/copy-*", 40
_ZEROS_S = 2.0


def look_at_load(subject: Subject) -> LoadSeen:
    """Run the product from idle for eight seconds and read the driver meanwhile. Takes fifteen seconds."""
    device = subject.device
    with subject.prepare_product() as prepared:
        launch_s = subject.time_launches(prepared, _WARM_UP_S)
        device.counters()  # the driver has been asked once, and is sampled from now on
        device.idle(_IDLE_S)
        idle = _reading(subject)
        device.hasten_telemetry(_SINGLY_S)
        singly = max(3, min(_SINGLY, round(_SINGLY_S / launch_s)))
        timings = [device.time_batch(prepared.launches, samples=singly, per_sample=1)]
        begin_s = timings[0].start_s
        samples = max(1, round(0.5 / launch_s / _TOGETHER))
        while subject.clock() - begin_s < _LOAD_S:
            timings.append(device.time_batch(prepared.launches, samples=samples, per_sample=_TOGETHER))
        loaded = _read_under_load(subject, prepared, launch_s)
    rows = [row.gpu for row in device.timeline(begin_s) if row.gpu is not None]
    return LoadSeen(
        flops=2 * subject.edge**3,
        idle=idle,
        loaded=loaded,
        begin_s=begin_s,
        end_s=timings[-1].end_s,
        products=tuple(product for timing in timings for product in _list_products(timing)),
        rows=tuple(row for row in rows if row.at_s < loaded.at_s),
    )


def _read_under_load(subject: Subject, prepared: Prepared, launch_s: float) -> GpuReading:
    for launch in islice(cycle(prepared.launches), max(2, min(_MOST_AHEAD, round(_LAST_S / launch_s)))):
        launch()
    reading = _reading(subject)
    subject.synchronize()
    return reading


def _reading(subject: Subject) -> GpuReading:
    reading = subject.device.counters().gpu
    assert reading is not None  # a GPU always has one, without figures where there are none
    return reading


def _list_products(timing: Timing) -> Iterator[Product]:
    """When each sample began, and how long one of its launches took.

    Samples run back to back to the end of their batch; an untimed launch may come before the first of them.
    """
    at_s = timing.end_s - timing.elapsed_s
    for sample_s in timing.sample_s.tolist():
        yield Product(at_s=at_s, launch_s=sample_s / timing.per_sample)
        at_s += sample_s


def look_at_queue(subject: Subject) -> QueueSeen:
    """Enqueue small launches behind the product until the host has to wait."""
    small = subject.device.make_empty_launch()
    with subject.prepare_product() as prepared:
        launch_s = subject.time_launches(prepared, _WARM_UP_S)
        ahead = max(1, min(_MOST_AHEAD, math.ceil(_AHEAD_S / launch_s)))
        small()
        subject.synchronize()
        begin_s = subject.clock()
        for launch in islice(cycle(prepared.launches), ahead):
            launch()
        at_s = [subject.clock()]
        for _ in range(_TRIED):
            small()
            at_s.append(subject.clock())
        subject.synchronize()
    return measure_queue(at_s, begin_s, ahead, launch_s)


def measure_queue(at_s: Sequence[float], begin_s: float, ahead: int, launch_s: float) -> QueueSeen:
    """Find where the host first waited: `ahead` launches of `launch_s` each were enqueued from `begin_s` on.

    `at_s` are the times before the first small launch and after each. Once the queue is full, a small launch
    takes as long as a large one on average: each waits for one to end, or one of several waits for several.
    So a wait counts where the launches from there on go at half that pace at most; a single hiccup doesn't.
    """
    spent_s = np.diff(np.asarray(at_s))
    waits = np.flatnonzero(spent_s > launch_s / 2).tolist()
    paced = max(3, min(_PACED, ahead // 2))  # while large ones are left to wait for
    full = next(
        (place for place in waits if spent_s[place : place + paced].sum() > paced * launch_s / 2), None
    )
    enqueued = spent_s if full is None else spent_s[: max(full, 1)]
    host_s = float(np.median(enqueued)) if enqueued.size else 0.0
    if full is None:
        return QueueSeen(tried=spent_s.size, depth=None, host_s=host_s)
    ended = min(ahead, int((at_s[full] - begin_s) / launch_s))
    return QueueSeen(tried=spent_s.size, depth=ahead + full - ended, host_s=host_s)


def look_at_digests(subject: Subject) -> DigestsSeen:
    """Launch each product again and again, now and then beside another one, and count the digests."""
    square = subject.product.workload
    wanted = [square, *(change_product(square, **changes) for changes in _DIGEST_PRODUCTS)]
    supported = [each for each in wanted if subject.device.why_unsupported(each) is None]
    return DigestsSeen(
        digests={f"{each.dtype} {each.shape}": _count_digests(subject, each, square) for each in supported}
    )


def _count_digests(subject: Subject, work: Workload, square: Workload) -> dict[str, int]:
    prepared = subject.device.prepare(work, fill="normal", seed=SEED)
    beside = subject.device.prepare(change_product(square, **_NEIGHBOUR), fill="normal", seed=SEED)
    found: Counter[str] = Counter()
    with prepared.numerics():
        for number in range(_DIGEST_LAUNCHES):
            prepared.launches[0]()
            if number % 3 == 0:
                beside.launches[0]()
            subject.synchronize()
            digest = prepared.digest()
            if digest is not None:
                found[digest] += 1
    return dict(found)


def look_at_blocks(subject: Subject) -> BlocksSeen:
    """Verify both passes of the quick suite's transformer block, and list their kernels."""
    works = [case.workload for case in subject.find_cases("quick", _BLOCK_CASES)]
    passes = [_time_block(subject, work) for work in works]
    # After all timing: the profiler stays attached.
    begin_s = subject.clock()
    subject.device.list_kernels(subject.device.make_empty_launch())
    profiler_s = subject.clock() - begin_s
    kernels = [_list_kernels(subject, work) for work in works]
    return BlocksSeen(
        profiler_s=profiler_s,
        passes=tuple(
            each.model_copy(update={"kernels": len(names), "attention": name_attention(names)})
            for each, names in zip(passes, kernels, strict=True)
        ),
    )


def _list_kernels(subject: Subject, work: Workload) -> list[str]:
    prepared = subject.device.prepare(work, fill="normal", seed=SEED)
    with prepared.numerics():
        for _ in range(_WARM_UPS):
            prepared.launches[0]()
        return [name for name, _us in subject.device.list_kernels(prepared.launches[0])]


def _time_block(subject: Subject, work: Workload) -> BlockSeen:
    """Verify and time one pass; its kernels are listed later."""
    device = subject.device
    device.begin_peak()
    held = device.read_peak_bytes()  # of what else this process has on the card
    prepared = subject.device.prepare(work, fill="normal", seed=SEED)
    with prepared.numerics():
        prepared.compute_reference()
        device.time_batch(prepared.launches, samples=_WARM_UPS, per_sample=1)
        timing = device.time_batch(prepared.launches, samples=_BLOCK_LAUNCHES, per_sample=1)
        host_s = device.time_enqueue(prepared.launches)
        check = prepared.check()
    peak = device.read_peak_bytes()
    return BlockSeen(
        shape=work.shape,
        error=check.error if math.isfinite(check.error) else None,
        passed=check.passed,
        kernels=0,
        attention=None,
        gpu_s=timing.elapsed_s / timing.launches,
        host_s=host_s or 0.0,
        peak_bytes=None if held is None or peak is None else peak - held,
        declared_bytes=work.resident_bytes,
    )


def look_at_costs(subject: Subject) -> CostsSeen:
    """See what launches and events cost the host, the product on zeros, and a large copy."""
    device = subject.device
    small, product = device.make_empty_launch(), subject.make_own_product(_SMALL_EDGE)
    for launch in (small, product):
        launch()
    events = [device.accelerator.Event(enable_timing=True) for _ in range(_COSTED)]
    host_s = _time_host(subject, [small] * _COSTED)
    product_host_s = _time_host(subject, [product] * _COSTED)
    event_host_s = _time_host(subject, [event.record for event in events])
    with subject.prepare_product("zeros") as prepared:
        launch_s = subject.time_launches(prepared, _WARM_UP_S)
        samples = max(1, round(_ZEROS_S / launch_s))
        timing = device.time_batch(prepared.launches, samples=samples, per_sample=1)
        clocks = [
            row.gpu.sm_clock_mhz
            for row in device.timeline(timing.start_s)
            if row.gpu is not None and row.gpu.sm_clock_mhz is not None and row.at_s <= timing.end_s
        ]
    return CostsSeen(
        host_s=host_s,
        product_host_s=product_host_s,
        event_host_s=event_host_s,
        event_step_s=_find_event_step(subject, events),
        empty_launch_s=device.time_empty_launch(),
        zeros_tflops=2 * subject.edge**3 * timing.launches / timing.elapsed_s / 1e12,
        zeros_mhz=float(np.mean(clocks)) if clocks else None,
        copy_gb_s=_measure_copy(subject),
        context_s=subject.started_s,
    )


def _time_host(subject: Subject, launches: Sequence[Callable[[], object]]) -> float:
    """The host's seconds for one of these launches, from an empty queue that takes them all."""
    subject.synchronize()
    begin_s = subject.clock()
    for launch in launches:
        launch()
    spent_s = subject.clock() - begin_s
    subject.synchronize()
    return spent_s / len(launches)


def _find_event_step(subject: Subject, events: Sequence[Any]) -> float | None:
    """The smallest difference between times of events, a few launches apart; None where all are alike."""
    small = subject.device.make_empty_launch()
    for number, event in enumerate(events):
        for _ in range(number % 7):
            small()
        event.record()
    subject.synchronize()
    gaps_ms = sorted({round(first.elapsed_time(second), 6) for first, second in pairwise(events)})
    return float(np.diff(gaps_ms).min()) / 1e3 if len(gaps_ms) > 1 else None


def _measure_copy(subject: Subject) -> float:
    """GB/s that the smoke suite's copy reads and writes together."""
    (case,) = subject.find_cases("smoke", _COPY_CASE)
    copies = count_buffer_sets(case, subject.device)
    prepared = subject.device.prepare(case.workload, fill=case.fill, seed=SEED, copies=copies)
    subject.device.time_batch(prepared.launches, samples=3, per_sample=1)
    timing = subject.device.time_batch(prepared.launches, samples=_COPIES, per_sample=1)
    return case.workload.bytes * timing.launches / timing.elapsed_s / 1e9
