"""The largest batch of a layer, or of a small model, whose launch fits a device's memory, by bisection.

This runs in a process of its own, where nothing else holds memory, before the case is measured. On a GPU each
batch is launched until its memory runs out. A CPU would swap long before it says no, and a twin allocates
nothing: there the tensors that a launch holds are counted, on tensors without contents, and held to a limit.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from traceback import clear_frames
from typing import Any, Protocol, runtime_checkable

from nameplate.device.protocol import Device
from nameplate.engine.case_run import MEMORY_SHARE, OnStep, is_out_of_memory, tell_nobody
from nameplate.record import BatchTry, LargestBatch
from nameplate.suite import Case
from nameplate.workload import Workload

# The part of a group's time that its searches may take.
LARGEST_SHARE = 0.25
MOST_BATCH = 1 << 20
_PASSES = ("forward_backward", "step")


@runtime_checkable
class BatchedWorkload(Protocol):
    """A workload that can be had with another number of sequences."""

    def with_batch(self, batch: int) -> Workload:
        """Return the same work on so many sequences."""


def has_batch(case: Case) -> bool:
    """Whether its largest batch is of interest: training, run as torch runs it unasked."""
    work = case.workload
    is_plain = case.backend == "torch" and work.dimensions.get("pass") in _PASSES
    return is_plain and isinstance(work, BatchedWorkload)


def find_largest_batch(
    case: Case, device: Device, seed: int, budget_s: float, on_step: OnStep = tell_nobody
) -> LargestBatch | None:
    """Search for `budget_s` seconds; None where the case can't run, or its memory isn't known.

    Whatever the workload raises but running out of memory ends the search without a result: the case itself
    is measured all the same, and says what is wrong.
    """
    work, limit = case.workload, device.memory_bytes
    if limit is None or not isinstance(work, BatchedWorkload) or device.why_unsupported(work) is not None:
        return None
    is_launched = device.kind == "cuda" and device.measured
    if not is_launched:
        limit = int(MEMORY_SHARE * limit)
    begin_s, last_s = device.clock(), 0.0

    def try_batch(batch: int) -> BatchTry:
        nonlocal last_s
        start_s = device.clock()
        on_step(case.id, 2 * last_s)
        found = work.with_batch(batch)
        if is_launched:
            fits, peak = _launch(found, case, device, seed)
            gc.collect()  # gradients are in circles
        else:
            peak = count_launch_bytes(found, case.fill)
            fits = peak <= limit
        last_s = device.clock() - start_s
        return BatchTry(batch=batch, fits=fits, peak_bytes=peak)

    def has_time() -> bool:
        # The next batch may be twice as large as the last.
        return device.clock() - begin_s + 2 * last_s <= budget_s

    try:
        tries, is_final = bisect_batches(try_batch, has_time)
    except Exception:
        if not device.is_working():
            raise
        return None
    best = max((each for each in tries if each.fits), key=lambda each: each.batch, default=None)
    return LargestBatch(
        batch=None if best is None else best.batch,
        peak_bytes=None if best is None else best.peak_bytes,
        limit_bytes=limit,
        is_launched=is_launched,
        is_final=is_final,
        tries=tuple(tries),
    )


def bisect_batches(
    try_batch: Callable[[int], BatchTry], has_time: Callable[[], bool]
) -> tuple[list[BatchTry], bool]:
    """Double the batch from 1 until one doesn't fit, then halve the gap until it is 1.

    Returns what was tried, in order, and whether that came to its end: `has_time` is asked before each but
    the first.
    """
    tries, fits, too_large = list[BatchTry](), 0, MOST_BATCH + 1
    while too_large - fits > 1:
        if tries and not has_time():
            return tries, False
        middle = (fits + too_large) // 2
        batch = min(max(2 * fits, 1), MOST_BATCH) if too_large > MOST_BATCH else middle
        tries.append(try_batch(batch))
        fits, too_large = (batch, too_large) if tries[-1].fits else (fits, batch)
    return tries, True


def _launch(work: Workload, case: Case, device: Device, seed: int) -> tuple[bool, int | None]:
    """Launch once; return whether the memory held it, and the most of it that was taken."""
    device.begin_peak()
    try:
        prepared = device.prepare(work, fill=case.fill, seed=seed)
        with prepared.numerics():
            prepared.launches[0]()
            device.synchronize()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        clear_frames(error.__traceback__)  # they hold what was allocated
        return False, None
    return True, device.read_peak_bytes()


def count_launch_bytes(work: Workload, fill: str) -> int:
    """Return the most bytes that the tensors of a launch hold at once, weights and gradients included.

    Found on tensors without contents. What libraries hold besides, such as workspaces, isn't counted, nor
    what an allocator loses between tensors.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(), _counted() as held:
        prepared = work.prepare(torch.device("cpu"), fill=fill, seed=0)
        with prepared.numerics():
            for _ in range(2):  # the second finds the gradients of the first
                prepared.launches[0]()
    return held.peak


class _Held:
    """Bytes of the storages that are alive, and the most there were at once."""

    def __init__(self) -> None:
        self.now = self.peak = 0
        self._known: dict[int, int] = {}

    def add(self, storage: Any) -> None:
        """Count a storage until it is freed."""
        key = storage._cdata
        if key in self._known:
            return
        self._known[key] = size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._drop, key)

    def _drop(self, key: int) -> None:
        self.now -= self._known.pop(key)


@contextmanager
def _counted() -> Iterator[_Held]:
    """Count the storage of every tensor that an operator returns, for as long as anything holds it."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    held = _Held()

    class Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            result = func(*args, **(kwargs or {}))
            for each in tree_leaves(result):
                if isinstance(each, torch.Tensor):
                    held.add(each.untyped_storage())
            return result

    with Counter():  # type: ignore[no-untyped-call]
        yield held
