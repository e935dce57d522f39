"""What a device could do in the conditions it held.

A GPU tells its clock: datasheet × held clock ÷ rated clock. A CPU in a guest tells nothing, so a probe does:
a product of the same dtype but another shape, drawn in every round beside the cases, as long as they and with
its buffers allocated anew each time. Its ratio to the best product is calibrated once; ceiling = that ratio ×
the probe's throughput now. The measured product itself would be no probe: the ratio would be 1 by
construction.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import inf

from nameplate.base.messages import Message, message
from nameplate.device.protocol import Device, Probe, Timing
from nameplate.engine.conditions import GpuConditions, conditions_between
from nameplate.engine.sampler import Sampler
from nameplate.engine.verdict import is_contended
from nameplate.engine.window import Window
from nameplate.specs.rating import Rating
from nameplate.stats.estimate import FEWEST_BATCHES, paired_ratio
from nameplate.stats.interval import Interval, ratio

_SHORTEST_S, _LONGEST_S = 0.5, 4.0  # to calibrate one dtype in
_SHARE = 0.06  # of the group's time that needs it first
_LOOKS = 5  # rounds among the candidates; the winner is then measured again, without the luck of winning
# A policy that held the clock for less of the time isn't what took it down.
_SOME_SHARE = 0.05
_WORTH_NAMING = 0.01


@dataclass(frozen=True)
class Calibration:
    """A dtype's best product ÷ the probe beside it, in throughput, with the probe's own then.

    The ratio holds whoever else used the cores; the probe's own figure is the machine's only where all was
    `quiet`.
    """

    product: str
    ratio: Interval
    probe_tflops: float
    quiet: bool = True


@dataclass
class ProbeTrial:
    """A probe in the rounds of one group: seconds a launch of each round."""

    probe: Probe
    device: Device
    rounds: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Warm it up once."""
        self._sampler = Sampler(self.device, [self.probe.launch])
        self._sampler.warm_up(0.01)

    @property
    def cost_s(self) -> float:
        """Seconds a launch, as warm-up found it."""
        return self._sampler.cost_s

    def size(self, batch_s: float) -> None:
        """Draw about as long as the cases do: what interrupts them must have the same chance at it."""
        self._sampler.size(batch_s)

    def draw(self, number: int) -> Timing:
        """Draw one batch on new buffers."""
        self.probe.renew()
        self.probe.launch()  # new pages are not what is timed
        timing = self._sampler.batch()
        self.rounds[number] = timing.elapsed_s / timing.launches
        return timing

    def tflops(self) -> float:
        """Throughput over the rounds, each weighing the same."""
        return self.probe.flops * len(self.rounds) / sum(self.rounds.values()) / 1e12


class Ceilings:
    """Calibrations of one device, made where a dtype is first needed, or given."""

    def __init__(self, device: Device, seed: int, given: Mapping[str, Calibration] | None = None) -> None:
        self._device = device
        self._order = random.Random(seed)
        self._known: dict[str, Calibration | None] = dict(given or {})

    def probe(self, dtype: str) -> Probe | None:
        """The probe of a dtype; None where the device's clock tells its conditions, or nothing does."""
        return self._device.probe(dtype)

    def calibration(self, dtype: str, share_s: float, left_s: float = inf) -> Calibration | None:
        """Calibrate, the first time, within a small part of `share_s`.

        None where there is no probe, and where no more than `left_s` may be spent and that is too little: it
        is then asked again later.
        """
        if dtype not in self._known:
            probe = self.probe(dtype)
            seconds = min(max(_SHARE * share_s, _SHORTEST_S), _LONGEST_S)
            if probe is not None and seconds > left_s:
                return None
            self._known[dtype] = None if probe is None else self._watched(probe, seconds)
        return self._known[dtype]

    def _watched(self, probe: Probe, seconds: float) -> Calibration:
        before = self._device.counters()
        found = self._calibrate(probe, seconds)
        meanwhile = conditions_between(before, self._device.counters(), self._device.cores)
        return replace(found, quiet=is_contended(meanwhile) is False)

    def _calibrate(self, probe: Probe, seconds: float) -> Calibration:
        first = ProbeTrial(probe, self._device)
        # A larger one is a candidate where a launch before each batch, and one in it, fit the time.
        fits_s = seconds / 2 / _LOOKS / 2 / (1 + len(probe.larger))
        larger = [each for each in probe.larger if first.cost_s * each.flops / probe.flops <= fits_s]
        rivals = [first, *(ProbeTrial(each, self._device) for each in larger or probe.larger[:1])]
        batch_s = seconds / 2 / _LOOKS / len(rivals)
        self._draw(rivals, batch_s, _LOOKS)
        best = max(rivals[1:], key=ProbeTrial.tflops, default=rivals[0])
        pair = [rivals[0], best] if best is not rivals[0] else [best]
        rounds = max(FEWEST_BATCHES, int(seconds / 2 / batch_s / len(pair)))
        self._draw(pair, batch_s, rounds)
        return Calibration(best.probe.name, _ratio(pair[0], pair[-1]), pair[0].tflops())

    def _draw(self, rivals: list[ProbeTrial], batch_s: float, rounds: int) -> None:
        for each in rivals:
            each.rounds.clear()
            each.size(batch_s)
        for number in range(rounds):
            for each in self._order.sample(rivals, k=len(rivals)):
                each.draw(number)


def _ratio(probe: ProbeTrial, best: ProbeTrial) -> Interval:
    """Throughput of the best ÷ that of the probe, round by round."""
    if probe is best:
        return Interval(1.0, 1.0, 1.0)
    numbers = sorted(probe.rounds)
    between = paired_ratio([probe.rounds[n] for n in numbers], [best.rounds[n] for n in numbers])
    return between.scaled(best.probe.flops / probe.probe.flops)


@dataclass(frozen=True)
class Ceiling:
    """What the device could do meanwhile, achieved ÷ that, and what held it below nominal."""

    tflops: float
    normalized: Interval
    loss: Message | None
    conditions: Mapping[str, float | str | None] = field(default_factory=dict)


def by_probe(
    window: Window, flops: int, probe: ProbeTrial, calibration: Calibration, nominal: float | None
) -> Ceiling | None:
    """A CPU's: calibrated best product × (probe now ÷ probe at calibration), over the window's own rounds."""
    mine = window.by_round()
    numbers = [number for number in mine if number in probe.rounds]
    if len(numbers) < FEWEST_BATCHES:
        return None
    beside = paired_ratio([probe.rounds[n] for n in numbers], [mine[n] for n in numbers])
    normalized = ratio(beside.scaled(flops / probe.probe.flops), calibration.ratio)
    achieved = flops * window.launches / sum(each.timing.elapsed_s for each in window.drawn) / 1e12
    tflops = achieved / normalized.value
    best = calibration.ratio.value * calibration.probe_tflops
    return Ceiling(
        tflops,
        normalized,
        _losses(_parts(tflops, best, nominal, quiet=calibration.quiet)),
        {
            "probe": probe.probe.name,
            "probe_tflops": tflops / calibration.ratio.value,
            "calibration_product": calibration.product,
            "calibration_ratio": calibration.ratio.value,
            "calibration_ratio_low": calibration.ratio.low,
            "calibration_ratio_high": calibration.ratio.high,
            "calibration_probe_tflops": calibration.probe_tflops,
        },
    )


def _parts(
    tflops: float, best_tflops: float, nominal: float | None, *, quiet: bool
) -> dict[str, float | None]:
    """What nominal lost to the best product, and that one to the conditions since; a calibration taken while
    others used the cores can't tell the two apart. Where conditions are better now than then, the best
    product was what it is now.
    """
    if not quiet:
        return {"lost_to_library_or_contention": nominal and tflops / nominal}
    best_tflops = max(best_tflops, tflops)
    return {
        "lost_to_library": nominal and best_tflops / nominal,
        "lost_to_contention": tflops / best_tflops,
    }


def by_clock(achieved: Interval, rating: Rating, dtype: str, gpu: GpuConditions | None) -> Ceiling | None:
    """A GPU's: datasheet × held clock ÷ rated clock; None where one of them isn't known."""
    datasheet, rated_mhz = rating.datasheet_for(dtype).tflops, rating.rated_clock_mhz
    if gpu is None or gpu.course is None or not datasheet or not rated_mhz:
        return None
    held_mhz = gpu.course.sm_clock_mhz
    if not held_mhz:
        return None
    tflops = datasheet * held_mhz / rated_mhz
    return Ceiling(tflops, achieved.scaled(1 / tflops), _losses({_holder(gpu): held_mhz / rated_mhz}))


def _holder(gpu: GpuConditions) -> str:
    """The loss by what held the clock for most of the time; no policy did: a setting, or the part's own."""
    heat = max((share for share in gpu.heat_shares() if share is not None), default=0.0)
    power = gpu.share("power") or 0.0
    if max(heat, power) < _SOME_SHARE:
        return "lost_to_clock"
    return "lost_to_heat" if heat > power else "lost_to_power_limit"


def _losses(kept: Mapping[str, float | None]) -> Message | None:
    """`library 12 %, contention 4 %`: what each took of what the one before it left, by the code of a loss
    and the share that it left; None for next to nothing.
    """
    named = [
        message(code, share=1 - share)
        for code, share in kept.items()
        if share is not None and 1 - share >= _WORTH_NAMING
    ]
    return message("losses", each=named) if named else None
