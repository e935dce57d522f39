"""The ceiling: what a device could do in the conditions it held.

A GPU reports its clock, so its ceiling is datasheet × held clock ÷ the dtype's rated clock. A CPU in a guest
reports nothing, so a probe is measured: the fastest of a few large matrix products of the same dtype, drawn
in every round beside the cases. What it reaches there is the ceiling. No suite has its shape, so that no case
is its own ceiling.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from nameplate.base.messages import Message, message
from nameplate.device.protocol import Device, Probe
from nameplate.engine.conditions import GpuConditions
from nameplate.engine.sampler import Sampler
from nameplate.engine.window import Window
from nameplate.silicon.peak import Peak
from nameplate.specs.rating import Rating
from nameplate.stats.estimate import FEWEST_BATCHES
from nameplate.stats.interval import Interval
from nameplate.stats.typical import typical_ratio
from nameplate.workload import Workload

# To choose a probe: seconds for one dtype, as a share of the time of the group that needs it first.
_SHORTEST_S, _LONGEST_S, _SHARE = 0.1, 4.0, 0.06
_CHOOSING_ROUNDS = 5
# A probe's launch takes no longer, so that what disturbs a case disturbs the probe beside it too.
_LONGEST_LAUNCH_S = 0.05
# A larger product is the probe only where it is faster by this much: it leaves fewer rounds.
_WORTH_LARGER = 1.02
# A policy that held the clock for a smaller share of the time isn't the cause of the loss.
_SMALLEST_CAUSE = 0.05
_SMALLEST_LOSS = 0.01  # smaller losses aren't named


@dataclass(frozen=True)
class ChosenProbe:
    """The product that a dtype is probed by, and what it reached in the process in which it was fastest.

    What slowed it in others is no part of the machine.
    """

    name: str
    best_tflops: float = 0.0


@dataclass(frozen=True)
class ProbeData:
    """A probe in the rounds of a group: its seconds per launch in each."""

    chosen: ChosenProbe
    flops: int
    rounds: Mapping[int, float]


@dataclass
class ProbeRun:
    """A probe in the rounds of one group: its seconds per launch in each, and `spans`, when it ran.

    It is drawn as a case is: an untimed launch comes before each batch.
    """

    probe: Probe
    device: Device
    rounds: dict[int, float] = field(default_factory=dict)
    spans: list[tuple[float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Warm it up once."""
        self._sampler = Sampler(self.device, [self.probe.launch], takes_turns=True)
        self._sampler.warm_up(0.01)

    @property
    def cost_s(self) -> float:
        """Seconds per launch, as warm-up found it."""
        return self._sampler.cost_s

    def choose_size(self, batch_s: float) -> None:
        """Choose how many launches a batch has, so that it takes about `batch_s`."""
        self._sampler.choose_size(batch_s)

    def draw(self, round_number: int) -> None:
        """Draw one batch."""
        self._sampler.rewarm()
        timing = self._sampler.draw()
        self.spans.append((timing.start_s, timing.end_s))
        self.rounds[round_number] = timing.elapsed_s / timing.launches

    def tflops(self) -> float:
        """Return throughput over the rounds, each with the same weight; 0.0 before the first."""
        seconds = sum(self.rounds.values())
        return self.probe.flops * len(self.rounds) / seconds / 1e12 if seconds else 0.0


ChosenProbes = Mapping[str, ChosenProbe | None]  # by dtype; None: it has no probe


class ProbeChoice:
    """The probes of one device, each chosen when a dtype is first needed, or given; `chosen` has them."""

    def __init__(self, device: Device, seed: int, given: ChosenProbes | None = None) -> None:
        self._device = device
        self._order = random.Random(seed)
        self.chosen: dict[str, ChosenProbe | None] = dict(given or {})

    def open(self, dtype: str, share_s: float, left_s: float = math.inf) -> ProbeRun | None:
        """Return a dtype's probe; the first call chooses it, in a small part of `share_s`.

        None where there is none, or where `left_s` is too short to choose; then the next call tries again.
        """
        candidates = self._device.probes(dtype)
        if dtype not in self.chosen:
            seconds = min(max(_SHARE * share_s, _SHORTEST_S), _LONGEST_S)
            if candidates and seconds > left_s:
                return None
            self.chosen[dtype] = self._choose(candidates, seconds) if candidates else None
        chosen = self.chosen[dtype]
        name = None if chosen is None else chosen.name
        probe = next((each for each in candidates if each.name == name), None)
        return None if probe is None else ProbeRun(probe, self._device)

    def data(self, dtype: str, probe: ProbeRun) -> ProbeData:
        """Return what a probe measured in a group, and note what it reached there."""
        chosen = self.chosen[dtype]
        assert chosen is not None
        chosen = replace(chosen, best_tflops=max(chosen.best_tflops, probe.tflops()))
        self.chosen[dtype] = chosen
        return ProbeData(chosen, probe.probe.flops, dict(probe.rounds))

    def _choose(self, candidates: Sequence[Probe], seconds: float) -> ChosenProbe:
        """Choose the fastest of the products whose launch is short; `candidates` begins with the smallest."""
        smallest = ProbeRun(candidates[0], self._device)
        batch_s = seconds / _CHOOSING_ROUNDS / len(candidates)
        longest_s = min(_LONGEST_LAUNCH_S, batch_s / 2)  # a batch has an untimed launch and a timed one
        flop_s = smallest.cost_s / smallest.probe.flops
        runs = [smallest]
        runs += [ProbeRun(each, self._device) for each in candidates[1:] if each.flops * flop_s <= longest_s]
        if len(runs) == 1:
            return ChosenProbe(smallest.probe.name)
        for each in runs:
            each.choose_size(batch_s)
        for number in range(_CHOOSING_ROUNDS):
            for each in self._order.sample(runs, k=len(runs)):
                each.draw(number)
        best = smallest
        for each in runs[1:]:
            best = each if each.tflops() > _WORTH_LARGER * best.tflops() else best
        return ChosenProbe(best.probe.name)


@dataclass(frozen=True)
class Ceiling:
    """The ceiling, achieved ÷ ceiling, and the loss: what held the ceiling below nominal.

    `normalized` has the interval within the processes that measured it. Where a probe was measured beside the
    case, `by_process` has its value for each. By a clock there are none: the figure varies as achieved does.
    """

    tflops: float
    normalized: Interval
    loss: Message | None
    conditions: Mapping[str, float | str | None] = field(default_factory=dict)
    by_process: tuple[float, ...] = ()


def ceiling_by_probe(
    window: Window,
    flops: int,
    probe: ProbeData,
    nominal: float | None,
    silicon: Peak | None = None,
    *,
    idle: bool = True,
) -> Ceiling | None:
    """Return a CPU's ceiling: what the probe reached in a typical round of the window.

    None where the two have too few rounds in common. `silicon` is the arithmetic peak of the dtype, where it
    is known; `idle` is whether nothing else ran on the device meanwhile.
    """
    mine = window.launch_s_by_round()
    numbers = [number for number in mine if number in probe.rounds]
    if len(numbers) < FEWEST_BATCHES:
        return None
    process = window.process_by_round()
    probe_s, mine_s, its = zip(*((probe.rounds[n], mine[n], process[n]) for n in numbers), strict=True)
    times, work_ratio = typical_ratio(probe_s, mine_s, its), flops / probe.flops
    normalized = times.within.scaled(work_ratio)
    tflops = flops / window.interval().value / 1e12 / normalized.value
    best_tflops = probe.chosen.best_tflops
    return Ceiling(
        tflops,
        normalized,
        name_losses(probe_losses(tflops, best_tflops, nominal, silicon, idle=idle)),
        {"probe": probe.chosen.name, "probe_tflops": tflops, "probe_best_tflops": best_tflops},
        tuple(each * work_ratio for each in times.by_process),
    )


def probe_losses(
    tflops: float, best_tflops: float, nominal: float | None, silicon: Peak | None = None, *, idle: bool
) -> dict[str, float | None]:
    """Return what remains of nominal in the silicon, of that in the probe at its best, and of that now.

    The library's loss is against the arithmetic peak where that is known, since no library can have more. On
    a device that others use too, what the probe lacks even at its best may be theirs. Where the probe is
    faster now than in any process, it counts as what it is now.
    """
    reachable = nominal if silicon is None else silicon.tflops
    before = {} if silicon is None else _silicon_losses(silicon, nominal)
    best_tflops = max(best_tflops, tflops)
    return {
        **before,
        "lost_to_library" if idle else "lost_to_library_or_contention": reachable and best_tflops / reachable,
        "lost_to_contention": tflops / best_tflops,
    }


def _silicon_losses(silicon: Peak, nominal: float | None) -> dict[str, float | None]:
    """What the cores keep of nominal by themselves: less where they share something, and by their clock.

    The two are told apart by the work a cycle that a core loses once the others work too.
    """
    kept = silicon.tflops / nominal if nominal else 1.0
    # None: other work never left the cores alone, so nothing is known of what they share.
    alone = silicon.parallel_share or 1.0
    per_cycle = min(alone * silicon.core_clock_mhz / silicon.clock_mhz, 1.0)
    shared = min(max(per_cycle, kept), 1.0)
    return {"lost_to_shared_cores": shared, "lost_to_clock": kept / shared}


def ceiling_by_clock(
    achieved: Interval, rating: Rating, dtype: str, gpu: GpuConditions | None
) -> Ceiling | None:
    """Return a GPU's ceiling: datasheet × held clock ÷ the dtype's rated clock.

    None where one of them isn't known.
    """
    datasheet, rated_mhz = rating.datasheet_for(dtype).tflops, rating.rated_clock_mhz.get(dtype)
    if gpu is None or gpu.telemetry is None or not datasheet or not rated_mhz:
        return None
    held_mhz = gpu.telemetry.sm_clock_mhz
    if not held_mhz:
        return None
    tflops = datasheet * held_mhz / rated_mhz
    return Ceiling(tflops, achieved.scaled(1 / tflops), name_losses({clock_loss(gpu): held_mhz / rated_mhz}))


def is_bound_by_memory(work: Workload, rating: Rating) -> bool:
    """Whether moving the work's bytes takes longer than its FLOPs, by the device's ratings.

    The SM clock is no ceiling of such work. Where a rating isn't known, work with no more FLOPs than bytes
    counts as such.
    """
    if work.flops is None:
        return True
    datasheet, memory_gb_s = rating.datasheet_for(work.dtype).tflops, rating.memory_gb_s
    if not datasheet or not memory_gb_s:
        return work.flops <= work.bytes
    return work.bytes / (memory_gb_s * 1e9) > work.flops / (datasheet * 1e12)


def clock_loss(gpu: GpuConditions) -> str:
    """Return the loss by what held the clock down for most of the time.

    Where no policy did, a clock setting or the part itself did: `lost_to_clock`.
    """
    heat = max((share for share in gpu.heat_shares() if share is not None), default=0.0)
    power = gpu.share("power") or 0.0
    if max(heat, power) < _SMALLEST_CAUSE:
        return "lost_to_clock"
    return "lost_to_heat" if heat > power else "lost_to_power_limit"


def name_losses(kept: Mapping[str, float | None]) -> Message | None:
    """Return the losses as one message, `library 12 %, contention 4 %`; None where they are negligible.

    `kept` has the share that each loss left of what the one before it left, by the loss's code.
    """
    losses = [
        message(code, share=1 - share)
        for code, share in kept.items()
        if share is not None and 1 - share >= _SMALLEST_LOSS
    ]
    return message("losses", each=losses) if losses else None
