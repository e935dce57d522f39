"""One case on its way to a record: prepared, warmed up, its batches drawn in turn with others', checked.

Whatever goes wrong with a case ends that case alone; the others of its group go on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from nameplate.base.errors import Unsupported
from nameplate.base.messages import Message, message, text, to_message
from nameplate.device.protocol import Device, Timing
from nameplate.engine.pilot import Pilots, Prediction
from nameplate.engine.sampler import Sampler
from nameplate.record import Status
from nameplate.stats.estimate import FEWEST_BATCHES
from nameplate.suite import Case
from nameplate.workload import Check, Prepared, Workload

MEMORY_SHARE = 0.8
_SHORT_LAUNCH_S = 0.1  # what one more launch may take beyond a budget that is spent
_DIGEST_SHARE = 0.05  # of the time at the most: a digest reads the whole result


@dataclass(frozen=True)
class FailureReason:
    """Why a case has no figure."""

    status: Status
    reason: Message


@dataclass(frozen=True)
class TimedBatch:
    """One batch, the round it was drawn in, and the digest of what it left behind where one was taken."""

    round: int
    timing: Timing
    digest: str | None


@dataclass
class CaseRun:
    """A case and what has become of it so far; `ended` is why it has no figure, None while it may get one."""

    case: Case
    device: Device
    takes_turns: bool = False  # whether other work runs between its batches
    started: str = ""
    cost_s: float = 0.0  # seconds its own steps have taken
    prepared: Prepared | None = None
    drawn: list[TimedBatch] = field(default_factory=list)
    check: Check | None = None
    graph_s: float | None = None  # seconds a launch, replayed as a graph
    kernels: tuple[str, ...] = ()
    ended: FailureReason | None = None
    _sampler: Sampler | None = None
    _digested_s: float = -math.inf
    _digest_cost_s: float = 0.0

    def __post_init__(self) -> None:
        """Note when it began, once."""
        if not self.started:
            self.started = datetime.now(UTC).isoformat(timespec="seconds")

    @property
    def alive(self) -> bool:
        """Whether it may still get a figure."""
        return self.ended is None

    @property
    def sampler(self) -> Sampler:
        """What draws its batches, once it is prepared."""
        assert self._sampler is not None
        return self._sampler

    def attempt(self, step: Callable[[], object]) -> None:
        """Do one step inside the workload's precision settings, unless the case has ended.

        Unsupported ends it as skipped, any other error as failed; KeyboardInterrupt passes through.
        """
        if self.ended is not None:
            return
        begin_s = self.device.clock()
        try:
            with self._numerics():
                step()
        except Unsupported as error:
            self.end(FailureReason("skipped", to_message(error.reason)))
        except (
            Exception
        ) as error:  # a workload or a driver may fail in any way; the run and its records go on
            self.end(FailureReason("failed", text(sentence(error))))
        self.cost_s += self.device.clock() - begin_s

    def end(self, ending: FailureReason) -> None:
        """End it without a figure, and give its memory back."""
        self.ended, self.prepared, self._sampler = ending, None, None

    def _numerics(self) -> AbstractContextManager[None]:
        return nullcontext() if self.prepared is None else self.prepared.numerics()

    def prepare(self, pilots: Pilots, left_s: Callable[[], float]) -> None:
        """Allocate, fill, compute the reference and launch for the first time.

        `left_s` tells the seconds that this case's group has left. Raises Unsupported for what can't run here
        or doesn't fit in that time or the memory.
        """
        work = self.case.workload
        copies = count_buffer_sets(self.case, self.device)
        _refuse_impossible(work, self.device, copies)
        predicted = pilots.predict(work, self.case.fill)
        _refuse_too_long(predicted, left_s())
        self.prepared = work.prepare(
            self.device.torch_device, fill=self.case.fill, seed=pilots.seed, copies=copies
        )
        with self.prepared.numerics():
            self.prepared.compute_reference()
            self.device.synchronize()
            self._sampler = Sampler(
                self.device,
                self.prepared.launches,
                flush=self.case.cache == "flushed",
                takes_turns=self.takes_turns,
            )
            cost_s = self._sampler.first_launches(left_s(), None if predicted is None else predicted.launch_s)
        fewest_launches = FEWEST_BATCHES * self._sampler.least_launches
        _refuse_too_long(Prediction(0.0, cost_s), left_s(), fewest_launches)

    def warm_up(self, seconds: float) -> None:
        """Launch for so long; a launch that takes longer has warmed everything up by itself."""
        if self.sampler.cost_s < seconds:
            self.sampler.warm_up(seconds)

    def rewarm(self) -> None:
        """Launch once, untimed, where other work may have replaced what the caches held."""
        self.sampler.rewarm()

    def draw(self, number: int) -> None:
        """Draw one batch in round `number`."""
        timing = self.sampler.batch()
        is_due = timing.end_s - self._digested_s >= self._digest_cost_s / _DIGEST_SHARE
        self.drawn.append(TimedBatch(number, timing, self._digest() if is_due else None))

    def _digest(self) -> str | None:
        assert self.prepared is not None
        begin_s = self.device.clock()
        digest = self.prepared.digest()
        self._digested_s = self.device.clock()
        self._digest_cost_s = self._digested_s - begin_s
        return digest

    @property
    def digest(self) -> str | None:
        """The first digest taken; None where there is none."""
        return next((each.digest for each in self.drawn if each.digest is not None), None)

    @property
    def changed_batch(self) -> int | None:
        """The first batch, from 1, whose results have other bits than the first; None: all agree.

        Of all that were drawn: what went wrong before a sustained window began is wrong throughout it.
        """
        changed = (
            number
            for number, each in enumerate(self.drawn, 1)
            if each.digest is not None and each.digest != self.digest
        )
        return next(changed, None)

    def verify(self) -> None:
        """Compare what the timed launches left behind with the reference, and its bits with those before."""
        assert self.prepared is not None
        self.device.synchronize()
        self.drawn[-1] = replace(self.drawn[-1], digest=self._digest())
        self.check = self.prepared.check()

    def name_kernels(self, left_s: float) -> None:
        """Find which kernels a launch runs, in one more launch if that is short or fits in `left_s` seconds.

        After everything that is timed: on a GPU the profiler slows what comes after it.
        """
        if self.sampler.cost_s <= max(left_s, _SHORT_LAUNCH_S):
            with suppress(Exception):  # a profiler may fail in any way; the figure stands without the name
                self.kernels = self.device.kernels(self.sampler.launches[0])


def sentence(error: Exception) -> str:
    """An error as the first line of a record's reason."""
    # An error may quote a file name that isn't text; a record is.
    text = str(error).encode("utf-8", "backslashreplace").decode().strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def count_buffer_sets(case: Case, device: Device) -> int:
    """How many to allocate: 1, or for `rotating` enough that together they are twice the cache.

    Raises Unsupported where the cache state needs the cache's size and it isn't known.
    """
    if case.cache == "warm":
        return 1
    if device.cache_bytes is None:
        raise Unsupported(message("no_cache_size", cache=case.cache))
    if case.cache == "flushed":
        return 1
    return max(2, math.ceil(2 * device.cache_bytes / case.workload.bytes))


def memory_needed(case: Case, device: Device) -> int:
    """Bytes a case holds while it is measured, every buffer set counted; 0 where that can't be said."""
    try:
        return case.workload.resident_bytes * count_buffer_sets(case, device)
    except Exception:  # what is wrong with it ends it when it is prepared
        return 0


def _refuse_impossible(workload: Workload, device: Device, copies: int) -> None:
    reason = workload.unsupported(device.torch_device)
    if reason is not None:
        raise Unsupported(reason)
    needed = workload.resident_bytes * copies
    if device.memory_bytes is not None and needed > MEMORY_SHARE * device.memory_bytes:
        held = device.memory_bytes
        raise Unsupported(message("needs_memory", needed_gb=needed / 1e9, held_gb=held / 1e9))


def _refuse_too_long(predicted: Prediction | None, left_s: float, launches: int = FEWEST_BATCHES + 1) -> None:
    """Raise Unsupported where the fewest launches that carry an interval, and the first, don't fit."""
    if predicted is None:
        return
    needed_s = predicted.setup_s + launches * predicted.launch_s
    if needed_s > left_s:
        left_s = max(left_s, 0.0)
        raise Unsupported(
            message("needs_time", needed_s=needed_s, launch_s=predicted.launch_s, left_s=left_s)
        )
