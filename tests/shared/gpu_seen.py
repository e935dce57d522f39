"""A card as `bench selftest --on cuda` might see it: made up, healthy, and changed by a test in one thing.

It idles at 345 MHz, climbs to 1,980 MHz in 20 ms, draws 700 W of 700 W, and is held at 1,745 MHz by 0.25 s.
"""

from __future__ import annotations

import numpy as np

from nameplate.device.identity import CudaIdentity
from nameplate.selftest.gpu.checks import WITH, WITHOUT
from nameplate.selftest.gpu.seen import (
    DO_BENCH,
    EVENTS,
    GRAPH,
    HARNESS,
    HARNESS_COLD,
    WALL_CLOCK,
    BlockSeen,
    BlocksSeen,
    ContextSeen,
    CostsSeen,
    DigestsSeen,
    LoadSeen,
    Product,
    QueueSeen,
    Seen,
    TurnsSeen,
)
from nameplate.telemetry.gpu import GpuProcess, GpuReading

UUID = "GPU-a8000000-0000-4000-8000-000000000000"
IDENTITY = CudaIdentity(
    name="NVIDIA Test",
    index=0,
    uuid=UUID,
    memory_bytes=141 << 30,
    multiprocessors=132,
    compute_capability="9.0",
    l2_bytes=60 << 20,
    cuda="13.0",
    driver="580.159.04",
    cuda_driver="13.0",
    pci_id="10de:2335",
    max_sm_clock_mhz=1980,
    max_memory_clock_mhz=3201,
    power_limit_w=700.0,
    default_power_limit_w=700.0,
    virtualization_mode="passthrough",
)
FLOPS = 2 * 8192**3
FULL_S = FLOPS / 894e12  # a launch at full speed
BEGIN_S, LOAD_S, RAMP_S, HELD_S = 100.0, 8.0, 0.02, 0.25
FULL_MHZ, HELD_MHZ, IDLE_MHZ, LIMIT_W = 1980, 1745, 345, 700.0
NEVER = 1e9


def reading(at_s, **changes):
    figures = {
        "sm_clock_mhz": IDLE_MHZ,
        "memory_clock_mhz": 3201,
        "temperature_c": 34,
        "memory_temperature_c": 41,
        "power_w": 76.0,
        "power_source": "instant",
        "power_average_w": 76.0,
        "energy_j": 1000.0,
        "clock_event_reasons": ("gpu_idle",),
        "power_throttle_s": 50.0,
        "thermal_throttle_s": 0.0,
        "software_thermal_throttle_s": 0.0,
        "hardware_thermal_throttle_s": 0.0,
        "power_brake_throttle_s": 0.0,
        "gpu_utilization_percent": 0,
        "memory_used_bytes": 1 << 30,
        "own_memory_bytes": 1 << 29,
        "pids_match": True,
    }
    return GpuReading(uuid=UUID, at_s=at_s, **(figures | changes))


def make_load(*, ramp_s=RAMP_S, held_s=HELD_S, drawn_w=LIMIT_W, column=None, **changes):
    """A load; `held_s` is when the limit takes effect, `column` changes the figures of a row at a time."""

    def row(after_s):
        held = after_s >= held_s
        figures = {
            "sm_clock_mhz": HELD_MHZ if held else FULL_MHZ,
            "temperature_c": round(34 + 4 * after_s),
            "power_w": drawn_w,
            "power_average_w": drawn_w * min(after_s, 1.0),
            "energy_j": 1000.0 + round(drawn_w * after_s, 3),
            "clock_event_reasons": ("sw_power_cap",) if held else (),
            "power_throttle_s": 50.0 + max(after_s - held_s, 0.0),
            "gpu_utilization_percent": 100,
        }
        figures |= {} if column is None else column(after_s)
        return reading(BEGIN_S + after_s, **figures)

    products, after_s = [], 0.0
    while after_s < LOAD_S:
        clock = IDLE_MHZ if after_s < ramp_s else FULL_MHZ if after_s < held_s else HELD_MHZ
        launch_s = FULL_S * FULL_MHZ / clock
        together = 1 if after_s < 1.5 else 10
        products.append(Product(at_s=BEGIN_S + after_s, launch_s=launch_s))
        after_s += together * launch_s
    load = LoadSeen(
        flops=FLOPS,
        idle=reading(BEGIN_S - 0.1),
        loaded=row(LOAD_S + 0.3),
        begin_s=BEGIN_S,
        end_s=BEGIN_S + LOAD_S,
        products=tuple(products),
        rows=tuple(row(after_s) for after_s in np.arange(0.05, LOAD_S, 0.1).tolist()),
    )
    return load.model_copy(update=changes)


def make_context(*, parent=False, listed=True, pids_match=True, child=True, memory=True):
    """Process 10 describes the card, and its child 11 opens it; 7 is somebody else's."""

    def at(at_s, *pids, mib):
        return reading(
            at_s,
            processes=tuple(GpuProcess(pid=pid) for pid in pids) if listed else None,
            memory_used_bytes=mib << 20 if memory else None,
            pids_match=pids_match,
        )

    names = (7, 10, 11) if pids_match else (40_007, 40_010, 40_011)
    own = names[1:2] if parent else ()
    held = 500 if parent else 0
    opened = (*names[:1], *own, *(names[2:] if child else ()))
    return ContextSeen(
        pid=10,
        child_pid=11,
        before=at(1.0, *names[:1], mib=600),
        described=at(2.0, *names[:1], *own, mib=600 + held),
        opened=at(3.0, *opened, mib=600 + held + (520 if child else 0)),
    )


def turns(rounds=12, noise=0.002, seed=1, rows_per_s=None, left_out=None, **factors):
    """Seconds a launch by way, of which each takes so many times as long as the first one's mean."""
    generator = np.random.default_rng(seed)
    shared = 1.4e-3 * (1 + 0.01 * generator.standard_normal(rounds))
    seconds = {
        way: tuple((factor * shared * (1 + noise * generator.standard_normal(rounds))).tolist())
        for way, factor in factors.items()
    }
    return TurnsSeen(seconds=seconds, flops=FLOPS, left_out=left_out or {}, rows_per_s=rows_per_s)


def make_product(**factors):
    ways = dict.fromkeys((HARNESS, EVENTS, WALL_CLOCK, GRAPH), 1.0) | dict.fromkeys(
        (HARNESS_COLD, DO_BENCH), 0.98
    )
    return turns(**(ways | factors))


def make_telemetry(cost=0.0, noise=1e-4, rows_per_s=10.0, rounds=12):
    return turns(rounds, noise, rows_per_s=rows_per_s, **{WITH: 1 + cost, WITHOUT: 1.0})


def make_block(**changes):
    block = BlockSeen(
        shape="1x4096x4096-forward_backward",
        error=0.3,
        passed=True,
        kernels=118,
        attention="flash",
        gpu_s=9e-3,
        host_s=6e-4,
    )
    return block.model_copy(update=changes)


def make_seen(**changes):
    """Everything, of a healthy card; `changes` replaces whole observations."""
    seen = Seen(
        device="cuda:0",
        identity=IDENTITY,
        measured=False,
        made="2026-11-29T12:00:00+00:00",
        versions={"torch": "2.13.0", "cuda": "13.0"},
        context=make_context(),
        load=make_load(),
        queue=QueueSeen(tried=4096, depth=1022, host_s=5e-6),
        product=make_product(),
        digests=DigestsSeen(digests={"bf16 8192x8192x8192": {"00ff": 60}, "fp16 64x128x65536": {"ab": 60}}),
        blocks=BlocksSeen(passes=(make_block(), make_block(shape="1x4096x4096-forward", kernels=33))),
        telemetry=make_telemetry(),
        costs=CostsSeen(
            host_s=5e-6,
            product_host_s=6e-6,
            event_host_s=1.5e-6,
            event_step_s=0.5e-6,
            empty_launch_s=10.7e-6,
            zeros_tflops=894.0,
            zeros_mhz=1980.0,
            copy_gb_s=4300.0,
        ),
    )
    return seen.model_copy(update=changes)
