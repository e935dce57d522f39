"""A CPU's arithmetic peak by instruction path: what was measured, and the fastest path of each dtype.

Without numpy: records and exports read these types, `estimate.py` makes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import model_validator

from nameplate.base.messages import Message, message
from nameplate.base.model import Amount, FrozenModel, Positive
from nameplate.silicon.loops import load_loops
from nameplate.stats.interval import Interval

# Paths whose peaks differ by less than this are equally fast.
_EQUAL = 0.995


class Peak(FrozenModel):
    """What one instruction path does on this machine. FLOP are integer operations for int8.

    `tflops` is what all usable cores do at once, and holds for another start within its interval. The figures
    of `core_` are of one core while the others are left alone. The clocks are those held beside the loop.
    """

    loop: str
    instruction: str
    dtypes: tuple[str, ...]
    tflops: Positive
    tflops_low: Amount
    tflops_high: Positive
    clock_mhz: Amount
    core_gflops: Amount
    core_clock_mhz: Amount
    flop_per_cycle: Amount  # of one core
    # All at once ÷ (cores × one alone): below 1 they take from each other. None: never seen undisturbed, or
    # the cores are of different kinds, so that one doesn't stand for all.
    parallel_share: Amount | None

    @model_validator(mode="after")
    def _check_interval(self) -> Self:
        if not self.tflops_low <= self.tflops <= self.tflops_high:
            raise ValueError(f"{self.tflops_low}..{self.tflops_high} TFLOPS don't hold {self.tflops}")
        return self

    @property
    def interval(self) -> Interval:
        """TFLOPS of all usable cores, with the ends of the 95 % interval."""
        return Interval(self.tflops, self.tflops_low, self.tflops_high)


class Silicon(FrozenModel):
    """The arithmetic peak of a CPU's usable cores, measured once: by instruction path.

    `failed` has the paths that the CPU's flags show and that didn't run, each with what happened. `absent`
    says why there is no peak at all; None where there is one.
    """

    cores: float = 0.0  # a fraction where a quota leaves one
    peaks: tuple[Peak, ...] = ()
    failed: Mapping[str, Message] = {}
    absent: Message | None = None

    def peak(self, dtype: str) -> Peak | None:
        """Return the fastest path for products of a dtype; None where no path was measured.

        Of paths that are equally fast the widest, so that two starts name the same one: Zen 4 does 512 bits
        in two halves.
        """
        served = [peak for peak in self.peaks if dtype in peak.dtypes]
        most = max((peak.tflops for peak in served), default=0.0)
        # The table of loops has narrower paths before wider ones.
        return next((peak for peak in reversed(served) if peak.tflops >= _EQUAL * most), None)

    def describe(self, dtype: str) -> Message:
        """Return instruction, cores and clock of a dtype's peak, or the reason why it has none."""
        peak = self.peak(dtype)
        if peak is not None:
            what, clock_mhz = peak.instruction, peak.clock_mhz
            return message("silicon_source", instruction=what, cores=self.cores, clock_mhz=clock_mhz)
        failed = [loop for loop in load_loops() if loop.name in self.failed and dtype in loop.dtypes]
        if self.absent is None and failed:
            name = failed[-1].name
            return message("silicon_path_failed", loop=name, why=self.failed[name])
        return self.absent or message("silicon_no_path", dtype=dtype)

    def as_json(self) -> dict[str, Any]:
        """Return it as plain JSON values, with sentences in place of messages."""
        return {
            **self.model_dump(mode="json"),
            "failed": {loop: str(why) for loop, why in self.failed.items()},
            "absent": None if self.absent is None else str(self.absent),
        }

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The dtypes that have a peak, sorted."""
        return tuple(sorted({dtype for peak in self.peaks for dtype in peak.dtypes}))
