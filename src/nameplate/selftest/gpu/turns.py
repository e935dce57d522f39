"""What is measured in turn: the product by several ways of timing it, and with telemetry and without.

A round has one turn of each way, in random order, so that heat, the power limit and other work reach all of
them. A turn begins with untimed launches of its own way, so that the card is in the state which that way puts
it in.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from copy import copy
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from nameplate.base.language import N_
from nameplate.device.cuda import CudaDevice
from nameplate.selftest.gpu.check import Outcome
from nameplate.selftest.gpu.checks import WITH, WITHOUT, check_product, check_telemetry
from nameplate.selftest.gpu.seen import (
    DO_BENCH,
    EVENTS,
    GRAPH,
    HARNESS,
    HARNESS_COLD,
    WALL_CLOCK,
    WAYS,
    TurnsSeen,
)
from nameplate.selftest.gpu.subject import SEED, Subject
from nameplate.workload import Launch, Prepared

_WARM_UP_S = 1.5
_UNTIMED_S, _TIMED_S = 0.15, 0.3
_FEWEST_ROUNDS, _MOST_ROUNDS = 10, 24
_GRAPH_LAUNCHES = 20
# Triton's do_bench zeroes 256 MB before each launch (triton/testing.py, get_empty_cache_for_benchmark); the
# harness zeroes twice the cache.
_COLD_CACHE_BYTES = 128 << 20

Turn = Callable[[float], float]  # runs for about so many seconds → seconds a launch


def look_at_product(subject: Subject) -> TurnsSeen:
    """Time the product by the harness and by loops that share no code with it. Takes half a minute."""
    with subject.prepare_product() as prepared:
        launch_s = subject.time_launches(prepared, _WARM_UP_S)
        turns, left_out = _ways(subject, prepared, launch_s)

        def is_told(seconds: Mapping[str, list[float]]) -> bool:
            seen = TurnsSeen(seconds={way: tuple(each) for way, each in seconds.items()}, flops=1)
            return all(
                check_product(seen, way).outcome is not Outcome.UNKNOWN for way in WAYS if way in turns
            )

        seconds = _take_turns({way: _begin_untimed(turn) for way, turn in turns.items()}, is_told)
    return TurnsSeen(seconds=seconds, flops=2 * subject.edge**3, left_out=left_out)


def _ways(subject: Subject, prepared: Prepared, launch_s: float) -> tuple[dict[str, Turn], dict[str, str]]:
    """Every way of timing the product, and why any was left out."""
    launch = subject.make_own_product(subject.edge)
    turns: dict[str, Turn] = {
        HARNESS: _time_by_harness(subject.device, prepared, launch_s),
        EVENTS: _time_by_events(subject, launch, launch_s),
        WALL_CLOCK: _time_by_wall_clock(subject, launch, launch_s),
        GRAPH: _time_by_graph(subject, launch, launch_s),
    }
    if not subject.device.measured:
        return turns, {DO_BENCH: N_("it would time the host of a twin")}
    if find_spec("triton") is None:
        return turns, {DO_BENCH: N_("Triton isn't installed")}
    cold = copy(subject.device)
    cold.__dict__.pop("_flush_buffer", None)
    cold.cache_bytes = _COLD_CACHE_BYTES
    turns[HARNESS_COLD] = _time_by_harness(cold, prepared, launch_s, flush=True)
    turns[DO_BENCH] = _time_by_triton(launch)
    return turns, {}


def _time_by_harness(device: CudaDevice, prepared: Prepared, launch_s: float, *, flush: bool = False) -> Turn:
    def turn(seconds: float) -> float:
        samples = max(1, round(seconds / launch_s))
        return (
            device.time_batch(prepared.launches, samples=samples, per_sample=1, flush=flush).elapsed_s
            / samples
        )

    return turn


def _time_by_events(subject: Subject, launch: Launch, launch_s: float) -> Turn:
    first, last = (subject.device.accelerator.Event(enable_timing=True) for _ in range(2))

    def turn(seconds: float) -> float:
        launches = max(1, round(seconds / launch_s))
        subject.synchronize()
        first.record()
        for _ in range(launches):
            launch()
        last.record()
        subject.synchronize()
        elapsed_ms: float = first.elapsed_time(last)
        return elapsed_ms / 1e3 / launches

    return turn


def _time_by_wall_clock(subject: Subject, launch: Launch, launch_s: float, each: int = 1) -> Turn:
    """`each` is how many products one call of `launch` computes."""

    def turn(seconds: float) -> float:
        launches = max(1, round(seconds / launch_s / each))
        subject.synchronize()
        begin_s = subject.clock()
        for _ in range(launches):
            launch()
        subject.synchronize()
        return (subject.clock() - begin_s) / launches / each

    return turn


def _time_by_graph(subject: Subject, launch: Launch, launch_s: float) -> Turn:
    accelerator = subject.device.accelerator
    side = accelerator.Stream()
    with accelerator.stream(side):
        launch()  # cuBLAS takes its workspace for this stream
        subject.synchronize()
        graph = accelerator.CUDAGraph()
        with accelerator.graph(graph, stream=side):
            for _ in range(_GRAPH_LAUNCHES):
                launch()
    return _time_by_wall_clock(subject, graph.replay, launch_s, _GRAPH_LAUNCHES)


def _time_by_triton(launch: Launch) -> Turn:
    testing: Any = import_module("triton.testing")

    def turn(seconds: float) -> float:
        milliseconds: float = testing.do_bench(launch, warmup=0, rep=1e3 * seconds, return_mode="mean")
        return milliseconds / 1e3

    return turn


def look_at_telemetry(subject: Subject) -> TurnsSeen:
    """Time the product while a process samples the driver, and without. Takes half a minute.

    On zeros, on which cards stay below their power limit: their clock is steady, and a cost of a thousandth
    shows.
    """
    open_telemetry, uuid = subject.open_telemetry, subject.device.identity.uuid
    if open_telemetry is None:
        left_out = {WITH: N_("a twin's clock doesn't run while its driver is asked")}
        return TurnsSeen(seconds={}, flops=2 * subject.edge**3, left_out=left_out)
    if uuid is None:
        raise ValueError("the card has no UUID, so its driver can't be asked for it")
    rows, sampled_s = 0, 0.0
    with subject.prepare_product("zeros") as prepared:
        launch_s = subject.time_launches(prepared, _WARM_UP_S)
        time_product = _time_by_harness(subject.device, prepared, launch_s)

        def with_telemetry(seconds: float) -> float:
            nonlocal rows, sampled_s
            with open_telemetry() as client:
                client.start_sampling(uuid)
                time_product(_UNTIMED_S)  # the card was idle while the process started
                client.take_readings(uuid)
                begin_s = subject.clock()
                found = time_product(seconds)
                sampled_s += subject.clock() - begin_s
                rows += len(client.take_readings(uuid))
            return found

        def without_telemetry(seconds: float) -> float:
            with open_telemetry():
                pass  # so that the card was idle for as long
            return _begin_untimed(time_product)(seconds)

        def is_told(seconds: Mapping[str, list[float]]) -> bool:
            seen = TurnsSeen(
                seconds={way: tuple(each) for way, each in seconds.items()}, flops=1, rows_per_s=1.0
            )
            return check_telemetry(seen).outcome is not Outcome.UNKNOWN

        turns = {WITH: with_telemetry, WITHOUT: without_telemetry}
        seconds = _take_turns(turns, is_told, timed_s=2 * _TIMED_S)
    return TurnsSeen(
        seconds=seconds, flops=2 * subject.edge**3, rows_per_s=rows / sampled_s if sampled_s else None
    )


def _begin_untimed(turn: Turn) -> Turn:
    """Return the turn after a shorter one that doesn't count."""

    def warmed(seconds: float) -> float:
        turn(_UNTIMED_S)
        return turn(seconds)

    return warmed


def _take_turns(
    turns: Mapping[str, Turn], is_told: Callable[[Mapping[str, list[float]]], bool], timed_s: float = _TIMED_S
) -> dict[str, tuple[float, ...]]:
    """Take rounds until everything is told, ten at least; return the seconds a launch of each turn."""
    order = random.Random(SEED)
    seconds: dict[str, list[float]] = {way: [] for way in turns}
    for number in range(_MOST_ROUNDS):
        if number >= _FEWEST_ROUNDS and is_told(seconds):
            break
        for way in order.sample(list(turns), k=len(turns)):
            seconds[way].append(turns[way](timed_s))
    return {way: tuple(each) for way, each in seconds.items()}
