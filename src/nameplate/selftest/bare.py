"""Does the engine's figure agree with the simplest loop that could be written by hand?"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from scipy.special import stdtrit

from nameplate.base.formatting import count, figure, interval, percent, ratio
from nameplate.base.language import N_, _
from nameplate.device.protocol import Device
from nameplate.device.survey import open_device
from nameplate.engine.case_run import count_buffer_sets
from nameplate.engine.sampler import Sampler
from nameplate.run.job import target_of
from nameplate.run.measure import SEED, check_budget
from nameplate.stats.estimate import FEWEST_BATCHES
from nameplate.stats.interval import CONFIDENCE
from nameplate.suite import Case, find_suite

_CASE = "matmul/bf16/1024x1024x1024/*"
_EDGE = 1024
BUDGET_S = 15.0
_FLOPS = 2 * _EDGE**3
TOLERANCE = 0.02
_ROUND_S = 0.25
_PATIENCE = 4.0  # a loud hour gets so many times the budget to come to a decision


@dataclass(frozen=True)
class BareResult:
    """Both figures in TFLOPS and their ratio, engine ÷ bare, with its 95 % interval over paired rounds."""

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
        """Whether the two agree within the tolerance, and the rounds were enough to say so."""
        return 1 - self.tolerance <= self.ratio_low and self.ratio_high <= 1 + self.tolerance

    @property
    def differs(self) -> bool:
        """Whether the rounds were enough to say that the two differ by more than the tolerance."""
        return self.ratio_high < 1 - self.tolerance or self.ratio_low > 1 + self.tolerance

    def as_json(self) -> dict[str, Any]:
        """Every field, and whether it passed."""
        return {**asdict(self), "passed": self.passed}

    def sentence(self) -> str:
        """The result in words."""
        return _(
            "{case}: engine {engine} TFLOPS, bare loop {bare} TFLOPS, ratio {ratio} ({range}) over {count} "
            "paired rounds: {outcome}",
            case=self.case,
            engine=figure(self.engine_tflops),
            bare=figure(self.bare_tflops),
            ratio=ratio(self.ratio),
            range=interval(ratio, self.ratio_low, self.ratio_high),
            count=count(self.rounds),
            outcome=_(self._outcome(), tolerance=percent(self.tolerance)),
        )

    def _outcome(self) -> str:
        if self.passed:
            return N_("within {tolerance}")
        if self.differs:
            return N_("NOT within {tolerance}")
        return N_("too few rounds to tell whether within {tolerance}")


def against_bare_loop(device: str = "auto", budget_s: float = BUDGET_S, seed: int = SEED) -> BareResult:
    """Measure a 1024³ bf16 product by the engine and by a bare loop, in turn, in one process.

    Each round draws one batch of the engine and times as many launches of a loop that knows nothing of it,
    in random order, so that what disturbs the machine disturbs both. The ratio is of total throughputs; its
    interval is Student's over the rounds' log ratios. Raises InputError for an unknown device and for a
    budget that isn't a time.
    """
    check_budget(budget_s)
    opened = open_device(device)
    case = _smoke_case(opened)
    copies = count_buffer_sets(case, opened)
    prepared = case.workload.prepare(opened.torch_device, fill=case.fill, seed=seed, copies=copies)
    with prepared.numerics():
        sampler = Sampler(opened, prepared.launches)
        sampler.warm_up(1.0)
        sampler.size(_ROUND_S / 2)
        bare = _bare_loop(opened, seed)
        return _interleave(case.id, sampler, bare, budget_s, random.Random(seed))


def _smoke_case(opened: Device) -> Case:
    cases = find_suite("smoke").cases(target_of(opened))
    return next(case for case in cases if fnmatchcase(case.id, _CASE))


def _bare_loop(opened: Device, seed: int) -> Callable[[int], float]:
    """Tensors of its own and a `for`: seconds that so many products take."""
    import torch

    generator = torch.Generator(opened.torch_device).manual_seed(seed + 1)
    a, b, c = (
        torch.randn(_EDGE, _EDGE, generator=generator, device=opened.torch_device).to(torch.bfloat16)
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
    case: str, sampler: Sampler, bare: Callable[[int], float], budget_s: float, order: random.Random
) -> BareResult:
    launches = sampler.samples * sampler.per_sample
    bare(launches)
    engine_s: list[float] = []
    bare_s: list[float] = []
    turns: tuple[Callable[[], None], ...] = (
        lambda: engine_s.append(sampler.batch().elapsed_s),
        lambda: bare_s.append(bare(launches)),
    )
    begin = time.perf_counter()
    while True:
        for turn in order.sample(turns, k=2):
            turn()
        passed_s = time.perf_counter() - begin
        if passed_s < budget_s or len(bare_s) < FEWEST_BATCHES:
            continue
        result = _compare(case, np.asarray(engine_s), np.asarray(bare_s), launches)
        if result.passed or result.differs or passed_s > _PATIENCE * budget_s:
            return result


def _compare(
    case: str, engine_s: np.ndarray[Any, Any], bare_s: np.ndarray[Any, Any], launches: int
) -> BareResult:
    rounds = engine_s.size
    work = _FLOPS * launches * rounds / 1e12
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
