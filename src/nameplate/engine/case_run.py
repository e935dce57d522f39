"""One case on its way to a record: prepared, warmed up, its batches drawn, its result verified.

An error ends only the case it happens in; the other cases of the group go on.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from traceback import clear_frames

from pydantic import ValidationError

from nameplate.base.errors import Unsupported
from nameplate.base.messages import Message, message, text, to_message
from nameplate.base.model import describe_first_error
from nameplate.device.protocol import Device, MeasuredDevice
from nameplate.engine.group_data import CaseData, Check, FailureReason
from nameplate.engine.host_share import HostShare, measure_host_share
from nameplate.engine.pilot import Pilots, Prediction
from nameplate.engine.sampler import Sampler
from nameplate.engine.window import TimedBatch, Window, find_idle_s
from nameplate.record import LaunchProfile, PartTime, Status
from nameplate.stats.estimate import FEWEST_BATCHES
from nameplate.suite import Case
from nameplate.telemetry.timeline import Spans
from nameplate.workload import Prepared, Stage, Workload

MEMORY_SHARE = 0.8
_MOST_SMALLER = 6  # halves that are tried after the device ran out of memory
_SHORT_LAUNCH_S = 0.1  # one more launch may take this long even where the budget is spent
_FEWEST_PASSES, _MOST_PASSES = 2, 10  # timed ones, part by part
_PROFILED_TIMES = 10.0  # how often a launch's time one under a profiler may take, and to write its trace
_LONGEST_NAME = 150
_DIGEST_SHARE = 0.05  # the largest share of the time for digests: each reads the whole result


# Is told before each step which case it is for (None: for the group), and about how many seconds it takes by
# what is known, often 0. Whoever watches can so tell a long step from one that hangs.
OnStep = Callable[[str | None, float], None]


def tell_nobody(_case: str | None, _expected_s: float) -> None:
    """Be told of a step, and do nothing."""


class ContextLost(BaseException):
    """An error of a case broke the device's context: nothing more can be measured in this process.

    Not an Exception, so that no other step is tried; the process records the case and ends.
    """

    def __init__(self, case: str, reason: Message) -> None:
        """Keep the id of the case that it happened in, and the reason for its record."""
        super().__init__(str(reason))
        self.case, self.reason = case, reason


@dataclass
class CaseRun:
    """A case in this process, and what is known of it so far; `failure` is None while it may get a figure."""

    case: Case
    device: Device
    takes_turns: bool = False  # whether other work runs between its batches
    batches_per_round: int = 1  # … of a GPU: all of a long turn
    every: int = 1  # it is drawn in every round, or in every second, fourth, …
    process: int = 1  # the number of this process, of those that measure the case
    # Whether another process has checked the result, and the same inputs give the same bits: a digest tells.
    is_verified: bool = False
    on_step: OnStep = tell_nobody
    started: str = ""
    cost_s: float = 0.0  # seconds its own steps have taken
    once_s: float = 0.0  # … of these, what another process needn't do again
    prepared: Prepared | None = None
    batches: list[TimedBatch] = field(default_factory=list)
    check: Check | None = None
    host: HostShare = field(default_factory=HostShare)
    kernels: tuple[str, ...] = ()
    compile_s: float | None = None
    peak_bytes: int | None = None
    parts: tuple[PartTime, ...] = ()
    profile: LaunchProfile | None = None
    failure: FailureReason | None = None
    _sampler: Sampler | None = None
    _digested_s: float = -math.inf
    _digest_cost_s: float = 0.0

    def __post_init__(self) -> None:
        """Note when it started, unless it is a copy of one that has."""
        if not self.started:
            self.started = datetime.now(UTC).isoformat(timespec="seconds")

    @property
    def is_active(self) -> bool:
        """Whether it may still get a figure."""
        return self.failure is None

    @property
    def sampler(self) -> Sampler:
        """The sampler that draws its batches; there is one once the case is prepared."""
        assert self._sampler is not None
        return self._sampler

    def attempt(self, step: Callable[[], object]) -> None:
        """Do one step with the workload's precision settings; nothing where the case has failed already.

        Unsupported makes the case skipped, any other exception failed. KeyboardInterrupt passes through.
        Raises ContextLost where the device doesn't work any more after the exception.
        """
        if self.failure is not None:
            return
        self.on_step(self.case.id, 0.0)
        begin_s = self.device.clock()
        try:
            with self._numerics():
                step()
        except Unsupported as error:
            self._fail("skipped", to_message(error.reason))
        except Exception as error:  # workloads and drivers may raise anything; the run must go on
            if is_out_of_memory(error):
                clear_frames(error.__traceback__)  # they hold what was allocated
                self._fail("skipped", self._describe_out_of_memory())
                self.cost_s += self.device.clock() - begin_s
                return
            self._fail("failed", text(describe_error(error)))
            self._require_working(error)
        self.cost_s += self.device.clock() - begin_s

    def _attempt_extra(self, step: Callable[[], object]) -> None:
        """Do a step whose error costs no figure; raises ContextLost where it broke the device's context."""
        try:
            step()
        except Exception as error:  # libraries and profilers may raise anything
            self._require_working(error)

    def _require_working(self, error: Exception) -> None:
        if self.device.is_working():
            return
        gpu, said = self.device.counters().gpu, describe_error(error)
        xids = () if gpu is None else gpu.xid_errors or ()
        reason = message("context_lost", error=said)
        if xids:  # what torch's error doesn't tell: whether the card, or a program, is at fault
            numbers = ", ".join(map(str, dict.fromkeys(xids)))
            reason = message("context_lost_with_xid", error=said, xids=numbers)
        raise ContextLost(self.case.id, reason) from error

    def _fail(self, status: Status, reason: Message) -> None:
        """Note the reason, and free the case's memory."""
        self.failure, self.prepared, self._sampler = FailureReason(status, reason), None, None

    def _describe_out_of_memory(self) -> Message:
        """Say that the device had no memory left, and name the next smaller work that it does hold."""
        self.prepared = self._sampler = None
        smaller = self._find_smaller()
        if smaller is None:
            return message("out_of_memory")
        return message("out_of_memory_but_smaller", shape=smaller.shape)

    def _find_smaller(self) -> Workload | None:
        """Return the next smaller workload whose launch fits; each is tried once."""
        work = self.case.workload
        for _ in range(_MOST_SMALLER):
            smaller: Workload | None = getattr(work, "smaller", None)
            if smaller is None:
                return None
            work = smaller
            try:
                self._launch_once(work)
            except Exception as error:
                clear_frames(error.__traceback__)
                if not is_out_of_memory(error):
                    return None
            else:
                return work
        return None

    def _launch_once(self, work: Workload) -> None:
        prepared = self.device.prepare(work, fill=self.case.fill, seed=0)
        with prepared.numerics():
            prepared.launches[0]()
            self.device.synchronize()

    def _numerics(self) -> AbstractContextManager[None]:
        return nullcontext() if self.prepared is None else self.prepared.numerics()

    def prepare(self, pilots: Pilots, left_s: Callable[[], float]) -> None:
        """Allocate, fill, compute the reference and launch for the first time.

        `left_s` returns the seconds that the group has left for this case. Raises Unsupported where the case
        can't run here, or doesn't fit that time or the memory.
        """
        work = self.case.workload
        copies = count_buffer_sets(self.case, self.device)
        _check_supported(work, self.device, copies)
        begin_s = self.device.clock()
        predicted = pilots.predict(work, self.case.fill, left_s())
        self.once_s += self.device.clock() - begin_s
        # Compiling takes longer than any pilot tells, for those run uncompiled.
        compile_s: float = getattr(work, "compile_allowance_s", 0.0)
        if predicted is not None:
            predicted = replace(predicted, setup_s=predicted.setup_s + compile_s)
        _check_time(predicted, left_s())
        if predicted is not None or compile_s:
            expected_s = compile_s if predicted is None else predicted.setup_s + 2 * predicted.launch_s
            self.on_step(self.case.id, expected_s)
        before = self._count_held()
        self.prepared = self.device.prepare(work, fill=self.case.fill, seed=pilots.seed, copies=copies)
        self.compile_s = getattr(self.prepared, "compile_s", None)
        allocated = self._count_held()
        with self.prepared.numerics():
            if not self.is_verified:
                begin_s = self.device.clock()
                self.prepared.compute_reference()
                self.device.synchronize()
                self.once_s += self.device.clock() - begin_s
            self._sampler = Sampler(
                self.device,
                self.prepared.launches,
                flush=self.case.cache == "flushed",
                takes_turns=self.takes_turns,
            )
            with_reference = self._count_held()
            cost_s = self._sampler.launch_first(left_s(), None if predicted is None else predicted.launch_s)
            self._note_peak(before, allocated, with_reference)
        _check_time(Prediction(0.0, cost_s), left_s(), FEWEST_BATCHES * self._sampler.least_launches)

    def _count_held(self) -> int | None:
        """Return the memory that this process holds on the device now, and count its peak from here."""
        self.device.begin_peak()
        return self.device.read_peak_bytes()

    def _note_peak(self, before: int | None, allocated: int | None, with_reference: int | None) -> None:
        """Add up what the set-up and the first launch held, without the reference and other cases."""
        self.device.synchronize()
        peak = self.device.read_peak_bytes()
        if None not in (before, allocated, with_reference, peak):
            assert before is not None
            assert allocated is not None
            assert with_reference is not None
            assert peak is not None
            self.peak_bytes = max(allocated - before, 0) + max(peak - with_reference, 0)

    def warm_up(self, seconds: float) -> None:
        """Launch for so long; a launch that takes longer has warmed everything up by itself."""
        if self.sampler.cost_s < seconds:
            self.sampler.warm_up(seconds)

    def draw(self, round_number: int, *, after_other_work: bool = False, takes_digest: bool = True) -> None:
        """Draw one batch; after other work it finds the caches as the case's own launches leave them.

        With `takes_digest`, a digest of the result follows where one is due.
        """
        self.on_step(self.case.id, self.sampler.batch_cost_s)
        if after_other_work:
            self.sampler.rewarm()
        timing = self.sampler.draw()
        is_due = takes_digest and timing.end_s - self._digested_s >= self._digest_cost_s / _DIGEST_SHARE
        digest = self._take_digest() if is_due else None
        idle_s = (
            None if after_other_work or not self.batches else find_idle_s(self.batches[-1].timing, timing)
        )
        self.batches.append(TimedBatch(round_number, timing, digest, self.process, idle_s))

    def _take_digest(self) -> str | None:
        assert self.prepared is not None
        begin_s = self.device.clock()
        digest = self.prepared.digest()
        self._digested_s = self.device.clock()
        self._digest_cost_s = self._digested_s - begin_s
        return digest

    def data(
        self, window: Window | None = None, other_spans: Spans = (), *, cost_s: float | None = None
    ) -> CaseData:
        """Return what was found, without the workload; `window` has the batches of its figure.

        `cost_s` replaces the seconds that its own steps have taken.
        """
        found = CaseData(self.started, self.cost_s if cost_s is None else cost_s, self.failure)
        if self.failure is not None or window is None:
            return found
        return replace(
            found,
            window=window,
            digests=tuple(each.digest for each in self.batches),
            check=self.check,
            host=self.host,
            kernels=self.kernels,
            compile_s=self.compile_s,
            peak_bytes=self.peak_bytes,
            parts=self.parts,
            profile=self.profile,
            is_flushed=self.sampler.flush,
            takes_turns=self.takes_turns,
            other_spans=other_spans,
        )

    def verify(self) -> None:
        """Compare the result of the timed launches with the reference, and its bits with earlier digests.

        Where another process has compared it, its bits alone: they tell the same.
        """
        assert self.prepared is not None
        self.device.synchronize()
        self.batches[-1] = replace(self.batches[-1], digest=self._take_digest())
        if not self.is_verified:
            self.check = Check.of(self.prepared.check())

    def measure_host_share(self, launch_s: float, allowed_s: float) -> None:
        """Measure the host's part in a launch, which took `launch_s` in the window; a graph of launches only
        within `allowed_s`.

        Not with flushes: the host enqueues a launch while the flush before it runs. An error costs no figure.
        """
        if self.sampler.flush:
            return

        def measure() -> None:
            self.host = measure_host_share(self.device, self.sampler.launches, launch_s, allowed_s)

        self._attempt_extra(measure)

    def time_parts(self, launch_s: float, allowed_s: float, left_s: float) -> None:
        """Time each part of a launch in place, where the workload can run it part by part.

        That takes three launches or more: one untimed, then as many as `allowed_s` holds, up to ten; nothing
        where three don't fit in `left_s`. An error costs no figure.
        """
        list_stages = getattr(self.prepared, "stages", None)
        if list_stages is None or (1 + _FEWEST_PASSES) * launch_s > left_s:
            return
        passes = min(max(_FEWEST_PASSES, int(allowed_s / launch_s) - 1), _MOST_PASSES)

        def measure() -> None:
            self.parts = time_stages(self.device, list_stages(), passes)

        self._attempt_extra(measure)

    def name_kernels(self, left_s: float) -> None:
        """Find which kernels a launch runs, in one more launch if that is short or fits in `left_s` seconds.

        This comes after everything timed: on a GPU the profiler slows down later launches. The start of
        CUDA's profiler, once in a process, isn't counted in `left_s`: a run of one group, whose time is used
        up by then, would never name a kernel. Such a run may so take seconds longer than its budget.
        """
        if self.sampler.cost_s <= max(left_s, _SHORT_LAUNCH_S):

            def name() -> None:
                self.kernels = self.device.name_kernels(self.sampler.launches[0])

            self._attempt_extra(name)

    def take_profile(self, folder: Path) -> None:
        """Launch once more under a profiler, and keep its trace in `folder`. An error costs no figure.

        It was asked for, so it is done whatever time is left.
        """

        def profile() -> None:
            file = folder / name_trace(self.device.name, self.case.id)
            kernels = self.device.profile(self.sampler.launches[0], file)
            found = f"{folder.name}/{file.name}" if file.exists() else None
            self.profile = LaunchProfile(kernels=kernels, trace=found) if kernels else None

        self.on_step(self.case.id, _PROFILED_TIMES * self.sampler.cost_s)
        self._attempt_extra(profile)


def name_trace(device: str, case: str) -> str:
    """Return the name of a trace's file: of what it is, as far as a name can say it, and a digest of all."""
    whole = f"{device}/{case}"
    digest = hashlib.sha256(whole.encode()).hexdigest()[:8]
    return f"{re.sub('[^A-Za-z0-9._-]+', '-', whole)[:_LONGEST_NAME]}-{digest}.json.gz"


def time_stages(device: Device, stages: Sequence[Stage], passes: int) -> tuple[PartTime, ...]:
    """Run the stages in order, once untimed and then so often; return the mean seconds of each part."""
    spent_s: dict[tuple[str, bool], float] = {}
    for number in range(1 + passes):
        for stage in stages:
            elapsed_s = device.time_batch([stage.launch], samples=1, per_sample=1).elapsed_s
            if number:
                key = (stage.name, stage.is_backward)
                spent_s[key] = spent_s.get(key, 0.0) + elapsed_s / passes
    return tuple(
        PartTime(name=name, forward_s=seconds, backward_s=spent_s.get((name, True)))
        for (name, is_backward), seconds in spent_s.items()
        if not is_backward
    )


def is_out_of_memory(error: Exception) -> bool:
    """Whether an allocation failed: on a GPU torch's own error, on a CPU torch's allocator's or Python's."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def describe_error(error: Exception) -> str:
    """Return the type and the first line of an error."""
    # An error may quote a file name that isn't valid text; a record must be.
    said = describe_first_error(error) if isinstance(error, ValidationError) else str(error)
    lines = said.encode("utf-8", "backslashreplace").decode().strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def is_compute_bound(work: Workload) -> bool:
    """Whether it has more FLOPs than bytes: what a matrix product shows of a device holds for it."""
    return (work.flops or 0) > work.bytes


def count_buffer_sets(case: Case, device: MeasuredDevice) -> int:
    """Return how many to allocate: 1, or for `rotating` enough for twice the size of the cache.

    Raises Unsupported where the cache state needs the cache's size and it isn't known.
    """
    if case.cache == "warm":
        return 1
    if device.cache_bytes is None:
        raise Unsupported(message("no_cache_size", cache=case.cache))
    if case.cache == "flushed":
        return 1
    return max(2, math.ceil(2 * device.cache_bytes / case.workload.bytes))


def memory_needed(case: Case, device: MeasuredDevice) -> int:
    """Return the bytes that a case holds, all buffer sets included; 0 where its declaration is broken."""
    try:
        return case.workload.resident_bytes * count_buffer_sets(case, device)
    except Exception:  # the same error ends the case when it is prepared
        return 0


def _check_supported(workload: Workload, device: Device, copies: int) -> None:
    """Raise Unsupported where the workload can't run on the device or doesn't fit its memory."""
    reason = device.why_unsupported(workload)
    if reason is not None:
        raise Unsupported(reason)
    needed = workload.resident_bytes * copies
    if device.memory_bytes is not None and needed > MEMORY_SHARE * device.memory_bytes:
        held = device.memory_bytes
        raise Unsupported(message("needs_memory", needed_gb=needed / 1e9, held_gb=held / 1e9))


def _check_time(predicted: Prediction | None, left_s: float, launches: int = FEWEST_BATCHES + 1) -> None:
    """Raise Unsupported where the first launch and the fewest that give an interval don't fit the time."""
    if predicted is None:
        return
    needed_s = predicted.total_s(launches)
    if needed_s > left_s:
        left_s = max(left_s, 0.0)
        raise Unsupported(
            message("needs_time", needed_s=needed_s, launch_s=predicted.launch_s, left_s=left_s)
        )
