"""A processor that answers as the loops' processes do, with a truth that is known."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from nameplate.silicon.loops import CHAIN_ADDS, load_loops

HZ = 2.5e9  # ticks a second of the counter


@dataclass
class Processor:
    """A machine: FLOP a cycle by loop, the clock by loop, and what its cores do to each other.

    `together` is the share of its own speed that a core has while all work. `disturbed` is the share of the
    stretches that other work makes slower. `failing` has the answer, or the error, of loops that don't run.
    """

    flop_per_cycle: dict[str, float]
    clock_hz: dict[str, float]
    together: float = 1.0
    disturbed: float = 0.0
    busy: float = 1.0
    drift: tuple[float, ...] = ()  # factors of the clock, visit by visit
    failing: dict[str, object] = field(default_factory=dict)
    requests: list = field(default_factory=list)
    started: int = 0
    closed: int = 0
    seed: int = 1
    slower: dict[int, float] = field(default_factory=dict)  # work a cycle of some CPUs, of another kind

    def start(self):
        self.started += 1
        return Process(self)


class Process:
    def __init__(self, processor):
        self.processor, self.loop, self.visits = processor, None, 0
        self.random = random.Random(processor.seed)

    def ask(self, request, deadline_s=None):
        self.processor.requests.append(request)
        if "load" in request:
            self.loop = next(loop for loop in load_loops() if loop.code == request["load"]["code"])
            return self._told("load", {"loaded": True})
        asked = request.get("time") or request["run"]
        loop_s, chain_s = self._seconds(asked, 1.0)
        if "time" in request:
            return self._told("time", {"loop_s": loop_s, "chain_s": chain_s})
        return self._told("run", self._run(**asked))

    def _told(self, what, answer):
        given = self.processor.failing.get(self.loop.name, {}).get(what, answer)
        if isinstance(given, Exception):
            raise given
        return given

    def _seconds(self, asked, share):
        clock = self.processor.clock_hz[self.loop.name]
        flop = asked["turns"] * self.loop.flop_per_turn
        loop_s = flop / (self.processor.flop_per_cycle[self.loop.name] * clock) / share
        return loop_s, asked["chain"] * CHAIN_ADDS / clock

    def _run(self, cpus, turns, chain, rounds):
        share = self.processor.together if len(cpus) > 1 else 1.0
        loop_s, chain_s = self._seconds({"turns": turns, "chain": chain}, share)
        drift = self.processor.drift[self.visits % len(self.processor.drift)] if self.processor.drift else 1.0
        self.visits += len(cpus) > 1
        stamps = []
        for index, cpu in enumerate(cpus):
            kind = self.processor.slower.get(cpu, 1.0)
            at, ticks = 1e15 + 1000 * index, []
            for _ in range(rounds):
                slower = (
                    self.random.uniform(1.05, 4) if self.random.random() < self.processor.disturbed else 1
                )
                between = at + loop_s * slower / kind * HZ / drift
                end = between + chain_s * HZ / drift
                ticks += [round(at), round(between), round(end)]
                at = end
            stamps.append(ticks)
        return {"hz": HZ, "stamps": stamps, "busy": [self.processor.busy] * len(cpus)}

    def close(self):
        self.processor.closed += 1


# Sapphire Rapids as the prototype's loops were seen to run on a guest: GHz beside each loop.
GUEST = {
    "fp32-avx2": (32, 3.45e9),
    "fp64-avx2": (16, 3.45e9),
    "fp32-avx512": (64, 2.9e9),
    "fp64-avx512": (32, 2.9e9),
    "fp16-avx512": (128, 2.9e9),
    "bf16-avx512-ymm": (32, 2.9e9),
    "bf16-avx512-zmm": (32, 2.9e9),
    "int8-avx512-ymm": (128, 2.9e9),
    "int8-avx512-zmm": (256, 2.9e9),
    "bf16-amx": (1024, 2.7e9),
    "int8-amx": (2048, 2.7e9),
}


@pytest.fixture
def guest():
    """Make a two-core guest with AMX; keyword arguments are `Processor`'s."""

    def make(**changes):
        rates, clocks = ({name: each[part] for name, each in GUEST.items()} for part in (0, 1))
        return Processor(rates, clocks, **changes)

    return make
