"""What both sides of a run's process border use: the job of a measuring process, its time, its cases.

`measure.py` is the parent's side, `worker.py` the side of the processes that measure, `pool.py` what runs
between them.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Protocol, Self

from nameplate import suite as suites
from nameplate.base.errors import InputError
from nameplate.base.model import FrozenModel
from nameplate.device.identity import CpuIdentity, CudaIdentity
from nameplate.device.libraries import LIBRARIES, read_library_versions
from nameplate.device.protocol import DeviceDescription
from nameplate.engine.group import Allowance
from nameplate.record import Record
from nameplate.store.folder import Run
from nameplate.suite import NO_AXES, Axes, Case, Suite, Target

# Without --budget a suite's own time is an aim, not a promise: a slow machine gets its figures, up to this
# many times the aim.
_PATIENCE = 3.0
# Keys of the messages between a worker and its parent. No record has them: one is a message by itself. GO has
# when the run's measuring began, on time.monotonic, which processes of one host share.
READY, GO, GROUP, REFUSAL = "ready", "go", "group_started", "refusal"
# Suites that all processes of a job measure together (`jobs.py`): one process alone can't.
TOGETHER = frozenset({"collectives", "scaled"})
TRACES = "traces"  # the folder of a run that traces of launches are in
_PACKAGES = ("nameplate", "torch", "numpy", "nvidia-ml-py")


class WorkerStatus(IntEnum):
    """Exit statuses that only measuring processes have; another process goes on. No command ends so."""

    STOPPED = 68  # the process was stopped, and has gone on
    CONTEXT_LOST = 69  # the GPU no longer works in the process


class CaseObserver(Protocol):
    """Who is told of groups and records as they come, in the caller's thread."""

    def group_started(self, cases: Sequence[str]) -> None:
        """Called before each group: cases that are measured in turn."""

    def case_finished(self, record: Record) -> None:
        """Called when the record is on disk, or can't be written there any more."""


class WorkerJob(FrozenModel):
    """What a measuring process is told.

    A group with a case of `one_by_one` is measured case by case. Into `note`, a descriptor, the process
    writes its steps (`deadlines.py`); a step may take `grace_s` longer than expected.
    """

    folder: Path
    device: str
    budget_s: float | None
    one_by_one: tuple[str, ...] = ()
    grace_s: float = 60.0
    note: int | None = None


@dataclass(frozen=True)
class Budget:
    """The time of a run: `aim_s` is shared among groups by weight, `limit_s` is never planned past.

    Both count from the device's clock at 0.
    """

    aim_s: float
    limit_s: float

    @classmethod
    def of_run(cls, suite: Suite, budget_s: float | None, kind: str = "cpu") -> Self:
        """Return the user's budget; without one, the suite's own time for such a device and some patience."""
        own_s = suite.budget_on(kind)
        return cls(budget_s or own_s, budget_s or _PATIENCE * own_s)

    def allowance(self, now_s: float, weight: float, weight_left: float) -> Allowance:
        """The time of a group that has `weight` of the `weight_left` still to come, itself included."""
        share = max(self.aim_s - now_s, 0.0) * weight / weight_left
        return Allowance(share, self.limit_s - now_s)


def target_of(device: DeviceDescription, axes: Axes = NO_AXES) -> Target:
    """Return what a suite may know of the device, and of what the caller asked for."""
    rating, identity = device.rating, device.identity
    # From the identity, which is the same for a device that is open and for one that isn't.
    caches = identity.caches_bytes if isinstance(identity, CpuIdentity) else {}
    cache_bytes = max(caches.values(), default=None)
    if isinstance(identity, CudaIdentity) and identity.l2_bytes:
        caches = {"L2": identity.l2_bytes}
    return Target(
        device.kind,
        rating.part,
        device.memory_bytes,
        rating.rated_dtypes,
        cache_bytes,
        axes or Axes(),
        identity.multiprocessors if isinstance(identity, CudaIdentity) else None,
        caches,
        identity.usable_cores if isinstance(identity, CpuIdentity) else 1.0,
        is_simulated=not device.measured,
    )


def cases_of_run(run: Run, device: DeviceDescription) -> list[Case]:
    """Generate a run's cases for one of its devices, and give the device the rating that the run has.

    Raises InputError where the device, torch or the suite's cases aren't those the run was begun with.
    """
    _check_same_device(run, device)
    suite = suites.find_suite(run.manifest.suite)
    options = run.manifest.options
    cases = suite.cases(target_of(device, options.axes), options.only)
    # A measured clock differs a little from one start to the next; one run has one nominal.
    device.rating = run.manifest.entry(device.name).rating
    known = {case.id for case in cases}
    lost = [each.case for each in run.missing if each.device == device.name and each.case not in known]
    if lost:
        raise InputError(f"suite {suite.name} no longer has the case", where=str(run.folder), got=lost[0])
    return cases


def _check_same_device(run: Run, device: DeviceDescription) -> None:
    """Raise InputError for another device: records of two devices in one run would be compared as one."""
    begun = {entry.name: entry.identity for entry in run.manifest.devices}
    then = begun.get(device.name)
    if then is None or not then.is_same_device(device.identity):
        expected = " or ".join(f"{name} ({identity.name})" for name, identity in begun.items())
        raise InputError(
            "this isn't the device the run was begun on",
            where=str(run.folder),
            got=f"{device.name} ({device.identity.name})",
            expected=f"{expected} with the same model, features, cores and thread settings",
        )
    then_by_name, now_by_name = run.manifest.software, read_software_versions()
    for name in ("torch", *LIBRARIES.get(device.kind, ())):
        then_version, now_version = then_by_name.get(name), now_by_name[name]
        # A run of an older nameplate has no library's version.
        if then_version != now_version and (name in then_by_name or name == "torch"):
            raise InputError(
                f"the run was begun with another {name}", got=now_version, expected=str(then_version)
            )


def read_software_versions() -> dict[str, str | None]:
    """Return the versions of the software that a figure depends on; None for one that isn't here."""
    found: dict[str, str | None] = {"python": platform.python_version(), "platform": platform.platform()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found | read_library_versions()


def find_traces_folder(run: Run) -> Path | None:
    """Return the folder for traces of launches; None where the run wasn't asked for any."""
    return run.folder / TRACES if run.manifest.options.trace else None


def records_name_of(device: str) -> str:
    """Return the part of a record file's name that says which device's process wrote it."""
    return device.replace(":", "")
