"""Self-test against a bare loop: does the engine agree with the simplest loop written by hand?"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import stdtrit

from nameplate.base.formatting import count, figure, interval, percent, ratio
from nameplate.base.language import N_, _
from nameplate.device.protocol import Device
from nameplate.device.survey import find_device_names, open_device
from nameplate.engine.case_run import count_buffer_sets
from nameplate.engine.sampler import Sampler
from nameplate.run.measure import SEED, check_budget
from nameplate.selftest.contenders import EDGE, find_product
from nameplate.stats.estimate import FEWEST_BATCHES
from nameplate.stats.interval import CONFIDENCE
from nameplate.suite import Case

BUDGET_S = 15.0
TOLERANCE = 0.02
_ROUND_S = 0.25
# On a GPU a product of 1024³ takes less time than the host needs to launch it, so two loops of it compare two
# speeds of Python. This one takes 1.5 to 4 ms on the parts whose rating is 300 to 1,000 TFLOPS.
GPU_EDGE = 8192
_PATIENCE = 4.0  # on a contended machine, so many times the budget may be spent before a decision


@dataclass(frozen=True)
class BareResult:
    """Both figures in TFLOPS, and their ratio, engine ÷ bare, with its 95 % interval over paired rounds."""

    case: str
    engine_tflops: float
    bare_tflops: float
    ratio: float
    ratio_low: float
    ratio_high: float
    rounds: int
    tolerance: float = TOLERANCE

    @property
    def passed(self) -> bool:
        """Whether the whole interval lies within the tolerance."""
        return 1 - self.tolerance <= self.ratio_low and self.ratio_high <= 1 + self.tolerance

    @property
    def differs(self) -> bool:
        """Whether the whole interval lies outside the tolerance."""
        return self.ratio_high < 1 - self.tolerance or self.ratio_low > 1 + self.tolerance

    def as_json(self) -> dict[str, Any]:
        """Return every field, and whether it passed."""
        return {**asdict(self), "passed": self.passed}

    def describe(self) -> str:
        """Return the result as one sentence."""
        return _(
            "{case}: engine {engine} TFLOPS, bare loop {bare} TFLOPS, ratio {ratio} ({range}) over {count} "
            "paired rounds: {outcome}",
            case=self.case,
            engine=figure(self.engine_tflops),
            bare=figure(self.bare_tflops),
            ratio=ratio(self.ratio),
            range=interval(ratio, self.ratio_low, self.ratio_high),
            count=count(self.rounds),
            outcome=_(self._verdict(), tolerance=percent(self.tolerance)),
        )

    def _verdict(self) -> str:
        if self.passed:
            return N_("within {tolerance}")
        if self.differs:
            return N_("NOT within {tolerance}")
        return N_("too few rounds to tell whether within {tolerance}")


def compare_with_bare_loop(device: str = "auto", budget_s: float = BUDGET_S, seed: int = SEED) -> BareResult:
    """Measure a bf16 matrix product by the engine and by a bare loop, in turn, in one process.

    The product is 1024³ on a CPU and 8192³ on a GPU, where 1024³ would time the host.
    Each round takes one batch of the engine and as many launches of a separate loop, in random order, so that
    a disturbance of the machine reaches both. The ratio is of total throughputs; its interval is Student's
    over the rounds' log ratios. Raises InputError for an unknown device and for a budget that is out of
    range.
    """
    check_budget(budget_s)
    opened = open_device(find_device_names(device)[0])
    edge = GPU_EDGE if opened.kind == "cuda" else EDGE
    case = find_product(opened, "bf16", edge)
    copies = count_buffer_sets(case, opened)
    prepared = case.workload.prepare(opened.torch_device, fill=case.fill, seed=seed, copies=copies)
    with prepared.numerics():
        sampler = Sampler(opened, prepared.launches)
        sampler.warm_up(1.0)
        sampler.choose_size(_ROUND_S / 2)
        bare = _make_bare_loop(opened, edge, seed)
        return _interleave(case, sampler, bare, budget_s, random.Random(seed))


def _make_bare_loop(opened: Device, edge: int, seed: int) -> Callable[[int], float]:
    """Return a plain loop over tensors of its own: launches → seconds."""
    import torch

    generator = torch.Generator(opened.torch_device).manual_seed(seed + 1)
    a, b, c = (
        torch.randn(edge, edge, generator=generator, device=opened.torch_device).to(torch.bfloat16)
        for _ in range(3)
    )

    def loop(launches: int) -> float:
        opened.synchronize()
        begin = time.perf_counter()
        for _launch in range(launches):
            torch.mm(a, b, out=c)
        opened.synchronize()
        return time.perf_counter() - begin

    return loop


def _interleave(
    case: Case, sampler: Sampler, bare: Callable[[int], float], budget_s: float, order: random.Random
) -> BareResult:
    launches, flops = sampler.samples * sampler.per_sample, case.workload.flops or 0
    bare(launches)
    engine_s: list[float] = []
    bare_s: list[float] = []
    turns: tuple[Callable[[], None], ...] = (
        lambda: engine_s.append(sampler.draw().elapsed_s),
        lambda: bare_s.append(bare(launches)),
    )
    begin = time.perf_counter()
    while True:
        for turn in order.sample(turns, k=2):
            turn()
        passed_s = time.perf_counter() - begin
        if passed_s < budget_s or len(bare_s) < FEWEST_BATCHES:
            continue
        result = _compare(case.id, np.asarray(engine_s), np.asarray(bare_s), launches * flops)
        if result.passed or result.differs or passed_s > _PATIENCE * budget_s:
            return result


def _compare(
    case: str, engine_s: np.ndarray[Any, Any], bare_s: np.ndarray[Any, Any], round_flops: int
) -> BareResult:
    rounds = engine_s.size
    work = round_flops * rounds / 1e12
    ratio = float(bare_s.sum() / engine_s.sum())
    logs = np.log(bare_s / engine_s)
    half = float(stdtrit(rounds - 1, (1 + CONFIDENCE) / 2) * logs.std(ddof=1) / np.sqrt(rounds))
    return BareResult(
        case,
        work / float(engine_s.sum()),
        work / float(bare_s.sum()),
        ratio,
        ratio * float(np.exp(-half)),
        ratio * float(np.exp(half)),
        rounds,
    )
