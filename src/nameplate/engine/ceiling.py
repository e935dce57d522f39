"""The ceiling: what a device could do in the conditions it held.

A GPU reports its clock, so its ceiling is datasheet × held clock ÷ the dtype's rated clock. A CPU in a guest
reports nothing, so a probe is measured: a matrix product of the same dtype but another shape, drawn in every
round for as long as the cases and with its buffers allocated anew each time. The ratio of the best product to
the probe is calibrated in each of the first processes; the ceiling is that ratio × the probe's throughput
now. The measured product itself can't be the probe: the ratio would be 1 by construction.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from nameplate.base.messages import Message, message
from nameplate.device.protocol import Device, Probe
from nameplate.engine.conditions import GpuConditions, conditions_between
from nameplate.engine.sampler import Sampler
from nameplate.engine.verdict import is_contended
from nameplate.engine.window import Window
from nameplate.silicon.peak import Peak
from nameplate.specs.rating import Rating
from nameplate.stats.estimate import FEWEST_BATCHES
from nameplate.stats.interval import Interval, ratio
from nameplate.stats.typical import TypicalRound, combine_typical, find_typical, typical_ratio
from nameplate.workload import Workload

# To calibrate one dtype. In a short run the calibrations must leave time for the cases themselves: half a
# second each was a third of what suite smoke has for its products.
_SHORTEST_S, _LONGEST_S = 0.25, 4.0
_SHARE = 0.06  # of the time of the group that needs it first
# Many short rounds: a disturbance then costs one of them, and those are left out.
_CALIBRATION_BATCH_S = 0.02
_LEAST_ROUNDS = 4  # of which the middle two count
_CANDIDATE_ROUNDS = 5  # to choose the best candidate; it is then measured again, which removes selection bias
# A calibration varies from process to process as figures do. Five processes share the time for it.
MOST_CALIBRATIONS = 5
# A policy that held the clock for a smaller share of the time isn't the cause of the loss.
_SMALLEST_CAUSE = 0.05
_SMALLEST_LOSS = 0.01  # smaller losses aren't named


@dataclass(frozen=True)
class Calibration:
    """Throughput of a dtype's best product ÷ that of the probe measured with it, and the probe's own.

    The ratio holds under contention too. The probe's own throughput is the machine's only if it was `idle`.
    `rounds` has what each process that measured it found; of a ratio that was given there is none.
    """

    product: str
    ratio: Interval
    probe_tflops: float
    idle: bool = True
    rounds: tuple[TypicalRound, ...] = ()

    @property
    def by_process(self) -> tuple[float, ...]:
        """The ratio that each process found."""
        return tuple(math.exp(each.log_mean) for each in self.rounds)

    def joined(self, other: Calibration) -> Calibration:
        """Return both as one: the ratio's geometric mean over the processes.

        Its interval is that within them; how far they differ, `engine/run_to_run.py` allows for. The probe
        counts where it was fastest: what slowed it in other processes is no part of the machine.
        """
        rounds = (*self.rounds, *other.rounds)
        return Calibration(
            self.product,
            combine_typical(rounds).within,
            max(self.probe_tflops, other.probe_tflops),
            self.idle and other.idle,
            rounds,
        )


@dataclass(frozen=True)
class ProbeData:
    """A probe in the rounds of a group: its seconds per launch in each, and its calibration."""

    name: str
    flops: int
    rounds: Mapping[int, float]
    calibration: Calibration


@dataclass
class ProbeRun:
    """A probe in the rounds of one group: its seconds per launch in each, and `spans`, when it ran."""

    probe: Probe
    device: Device
    rounds: dict[int, float] = field(default_factory=dict)
    spans: list[tuple[float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Warm it up once."""
        self._sampler = Sampler(self.device, [self.probe.launch])
        self._sampler.warm_up(0.01)

    @property
    def cost_s(self) -> float:
        """Seconds per launch, as warm-up found it."""
        return self._sampler.cost_s

    def choose_size(self, batch_s: float) -> None:
        """Draw for about as long as the cases do, so that disturbances are as likely to hit it."""
        self._sampler.choose_size(batch_s)

    def draw(self, round_number: int) -> None:
        """Draw one batch on new buffers."""
        self.renew()
        self.draw_again(round_number)

    def renew(self) -> None:
        """Allocate new buffers; the first launch on new pages is slower, and isn't timed."""
        self.probe.renew()
        self.probe.launch()

    def draw_again(self, round_number: int) -> None:
        """Draw one batch on the buffers of the one before."""
        timing = self._sampler.draw()
        self.spans.append((timing.start_s, timing.end_s))
        self.rounds[round_number] = timing.elapsed_s / timing.launches

    def data(self, calibration: Calibration) -> ProbeData:
        """Return what it measured, without the probe."""
        return ProbeData(self.probe.name, self.probe.flops, dict(self.rounds), calibration)

    def tflops(self) -> float:
        """Return throughput over the rounds, each with the same weight."""
        return self.probe.flops * len(self.rounds) / sum(self.rounds.values()) / 1e12


Calibrations = Mapping[str, Calibration | None]  # by dtype; None: it has no probe


class Ceilings:
    """The calibrations of one device, each made when a dtype is first needed, or given; `known` has them."""

    def __init__(self, device: Device, seed: int, given: Calibrations | None = None) -> None:
        self._device = device
        self._order = random.Random(seed)
        self.known: dict[str, Calibration | None] = dict(given or {})

    def calibration(self, dtype: str, share_s: float, left_s: float = math.inf) -> Calibration | None:
        """Return the calibration of a dtype; the first call measures it, in a small part of `share_s`.

        None where there is no probe, or where `left_s` is too short; then the next call tries again.
        """
        if dtype not in self.known:
            probe = self._device.probe(dtype)
            seconds = _plan(share_s)
            if probe is not None and seconds > left_s:
                return None
            self.known[dtype] = None if probe is None else self._calibrate(probe, seconds)
        return self.known[dtype]

    def calibrate_again(self, dtype: str, share_s: float, left_s: float = math.inf) -> Calibration | None:
        """Return the calibration of a dtype after another process has measured the chosen product too.

        Nothing is measured where enough processes have, where there is nothing to measure, or no time for it.
        """
        known, probe = self.calibration(dtype, share_s, left_s), self._device.probe(dtype)
        seconds = _plan(share_s) / MOST_CALIBRATIONS
        if known is None or probe is None or seconds > left_s:
            return known
        if not 0 < len(known.rounds) < MOST_CALIBRATIONS:
            return known
        product = next((each for each in probe.larger if each.name == known.product), None)
        if product is not None:
            ours, best = ProbeRun(probe, self._device), ProbeRun(product, self._device)
            self.known[dtype] = known.joined(self._compare(ours, best, seconds))
        return self.known[dtype]

    def _calibrate(self, probe: Probe, seconds: float) -> Calibration:
        """Choose the best product; compare it with the probe in other rounds, against selection bias."""
        before = self._device.counters()
        first = ProbeRun(probe, self._device)
        # A larger product is a candidate if a launch before each batch, and one in it, fit the time.
        fits_s = seconds / 2 / _CANDIDATE_ROUNDS / 2 / (1 + len(probe.larger))
        larger = [each for each in probe.larger if first.cost_s * each.flops / probe.flops <= fits_s]
        candidates = [first, *(ProbeRun(each, self._device) for each in larger or probe.larger[:1])]
        batch_s = seconds / 2 / _CANDIDATE_ROUNDS / len(candidates)
        self._draw(candidates, batch_s, _CANDIDATE_ROUNDS)
        best = max(candidates[1:], key=ProbeRun.tflops, default=first)
        found = self._compare(first, best, seconds / 2)
        meanwhile = conditions_between(before, self._device.counters(), self._device.cores)
        return replace(found, idle=is_contended(meanwhile) is False)

    def _compare(self, probe: ProbeRun, best: ProbeRun, seconds: float) -> Calibration:
        pair = [probe, best] if best is not probe else [probe]
        rounds = max(_LEAST_ROUNDS, int(seconds / _CALIBRATION_BATCH_S / len(pair)))
        self._draw(pair, seconds / rounds / len(pair), rounds)
        if best is probe:
            return Calibration(probe.probe.name, Interval(1.0, 1.0, 1.0), probe.tflops())
        numbers = sorted(probe.rounds)
        found = find_typical([probe.rounds[n] for n in numbers], [best.rounds[n] for n in numbers])
        found = found.scaled(best.probe.flops / probe.probe.flops)
        ratio = combine_typical([found]).within
        return Calibration(best.probe.name, ratio, probe.tflops(), rounds=(found,))

    def _draw(self, candidates: Sequence[ProbeRun], batch_s: float, rounds: int) -> None:
        for each in candidates:
            each.rounds.clear()
            each.choose_size(batch_s)
            each.renew()
        for number in range(rounds):
            for each in self._order.sample(candidates, k=len(candidates)):
                each.draw_again(number)


def _plan(share_s: float) -> float:
    """Return the seconds for one dtype's calibration."""
    return min(max(_SHARE * share_s, _SHORTEST_S), _LONGEST_S)


@dataclass(frozen=True)
class Ceiling:
    """The ceiling, achieved ÷ ceiling, and the loss: what held the ceiling below nominal.

    `normalized` has the interval within the processes that measured it. Where a probe was measured beside the
    case, `by_process` has its value for each, by one and the same `calibration`. By a clock there are none:
    the figure varies as achieved does.
    """

    tflops: float
    normalized: Interval
    loss: Message | None
    conditions: Mapping[str, float | str | None] = field(default_factory=dict)
    by_process: tuple[float, ...] = ()
    calibration: Calibration | None = None


def ceiling_by_probe(
    window: Window,
    flops: int,
    probe: ProbeData,
    nominal: float | None,
    silicon: Peak | None = None,
) -> Ceiling | None:
    """Return a CPU's ceiling: calibrated best product × (probe now ÷ probe at calibration).

    "Now" are the rounds of the window. None where these are too few. `silicon` is the arithmetic peak of the
    dtype, where it is known.
    """
    mine, calibration = window.launch_s_by_round(), probe.calibration
    numbers = [number for number in mine if number in probe.rounds]
    if len(numbers) < FEWEST_BATCHES:
        return None
    process = window.process_by_round()
    probe_s, mine_s, its = zip(*((probe.rounds[n], mine[n], process[n]) for n in numbers), strict=True)
    times, work_ratio = typical_ratio(probe_s, mine_s, its), flops / probe.flops
    normalized = ratio(times.within.scaled(work_ratio), calibration.ratio)
    tflops = flops / window.interval().value / 1e12 / normalized.value
    best_tflops = calibration.ratio.value * calibration.probe_tflops
    return Ceiling(
        tflops,
        normalized,
        name_losses(probe_losses(tflops, best_tflops, nominal, silicon, idle=calibration.idle)),
        {
            "probe": probe.name,
            "probe_tflops": tflops / calibration.ratio.value,
            "calibration_product": calibration.product,
            "calibration_ratio": calibration.ratio.value,
            "calibration_ratio_low": calibration.ratio.low,
            "calibration_ratio_high": calibration.ratio.high,
            "calibration_probe_tflops": calibration.probe_tflops,
        },
        tuple(each * work_ratio / calibration.ratio.value for each in times.by_process),
        calibration,
    )


def probe_losses(
    tflops: float, best_tflops: float, nominal: float | None, silicon: Peak | None = None, *, idle: bool
) -> dict[str, float | None]:
    """Return what remains of nominal in the silicon, of that in the best product, and of that now.

    The library's loss is against the arithmetic peak where that is known, since no library can have more. A
    calibration on a contended machine can't tell library and contention apart. Where conditions are better
    now than at calibration, the best product counts as what it is now.
    """
    reachable = nominal if silicon is None else silicon.tflops
    before = {} if silicon is None else _silicon_losses(silicon, nominal)
    if not idle:
        return {**before, "lost_to_library_or_contention": reachable and tflops / reachable}
    best_tflops = max(best_tflops, tflops)
    return {
        **before,
        "lost_to_library": reachable and best_tflops / reachable,
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
