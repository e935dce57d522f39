"""Tasks shared among processes: simulated devices need no machine to themselves."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from itertools import chain
from multiprocessing import get_context, parent_process
from typing import TypeVar

from nameplate.base.processes import end_with_parent, usable_cpus

_Task = TypeVar("_Task")
_Outcome = TypeVar("_Outcome")
# Waiting threads of a BLAS spin on the cores that the other workers need.
_ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"), "1")


@contextmanager
def run_tasks(
    run_task: Callable[[_Task], Sequence[_Outcome]], tasks: Sequence[_Task], workers: int | None = None
) -> Iterator[Iterator[_Outcome]]:
    """Give the outcomes of all tasks, in order, from `workers` processes.

    By default there is one for each usable CPU; for 0 this process does it. `run_task` is a function of a
    module.
    """
    count = len(usable_cpus()) if workers is None else workers
    if count == 0:
        yield chain.from_iterable(map(run_task, tasks))
        return
    # Spawn: forking after torch started threads can deadlock.
    with ProcessPoolExecutor(count, get_context("spawn"), _begin_worker) as executor:
        try:
            with _environment(_ONE_THREAD):
                outcomes = executor.map(run_task, tasks)  # starts the processes
            yield chain.from_iterable(outcomes)
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            raise


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(settings)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent, which is interrupted too, ends it
    parent = parent_process()
    if parent is not None and parent.pid is not None:
        end_with_parent(parent.pid)
