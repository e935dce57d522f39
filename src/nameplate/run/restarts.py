"""What goes on with a device whose process ended early: which cases are lost, and what another one measures.

- *It died* (a signal, a driver's abort): its group is measured again case by case; a case that it died of
  alone is lost.
- *It hung*: the case in hand is lost, or its whole group where that isn't known, or where the group has hung
  before; the rest goes on in turn.
- *A case broke its GPU's context*: its process has recorded it as failed; the rest goes on in turn.
- *It was stopped* (Ctrl-Z, SIGSTOP): what it had drawn would be no batch with what comes after, and the GPU
  has cooled; its group is measured anew, in turn.

A device that keeps costing processes is given up: its other cases are left without a record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from nameplate.base.messages import Message, message
from nameplate.device.protocol import DeviceDescription
from nameplate.engine.record_of import record_without_figures
from nameplate.run.job import CaseObserver, WorkerJob, WorkerStatus, records_name_of
from nameplate.run.pool import WorkerResult
from nameplate.store import folder as store
from nameplate.suite import Case

# Each hang costs its deadline. A second one may be of the same case's kind; a third is the device's fault.
_MOST_HANGS = 3
# A death costs the time of getting ready. A device without any other case left has at most one for each.
_MOST_RESTARTS = 8


class DeviceObserver(CaseObserver, Protocol):
    """Who is also told how a device's processes end."""

    def device_stopped(self, device: str, why: Message, goes_on: bool) -> None:
        """Called when one ended early; `goes_on` tells whether another one measures the rest."""


@dataclass
class Restarts:
    """How a device's processes have ended so far.

    `claim` keeps in the manifest what befell the device; `observer` is told of it, and of each record that is
    made for a lost case.
    """

    device: DeviceDescription
    cases: Sequence[Case]
    claim: store.Claim
    observer: DeviceObserver
    ended: int = 0
    hung: int = 0
    _hung_groups: list[frozenset[str]] = field(default_factory=list)

    def next_job(self, job: WorkerJob, result: WorkerResult) -> WorkerJob | None:
        """Return the job of another process where one ended early at work; None where none would get further.

        Each lost case gets a failed record.
        """
        if not result.died:
            return None
        if result.was_stopped:
            self.claim.add_incident(message("process_paused", device=self.device.name))
            return job
        self.ended += 1
        if result.missed is not None:
            self.hung += 1
            self.claim.add_incident(self._describe_hang(result))
        further = self._plan_next(job, result)
        if further is not None and result.missed is None and result.status != WorkerStatus.CONTEXT_LOST:
            self.claim.add_incident(self._describe_replacement(result, job, further))
        self.observer.device_stopped(self.device.name, result.how, further is not None)
        return further

    def _plan_next(self, job: WorkerJob, result: WorkerResult) -> WorkerJob | None:
        """Record the lost cases, and return the job of the process that measures the rest."""
        missing = {each.case for each in store.read_run(job.folder).missing if each.device == job.device}
        group = [case for case in self.cases if case.id in result.in_flight and case.id in missing]
        lost = self._find_lost(group, result)
        for case in lost:
            self._record_lost(job, result, case)
        left = [case.id for case in group if case not in lost]
        progress = bool(group or result.records)
        if len(missing) == len(lost) or not progress or self._is_given_up(result):
            return None
        if result.missed is not None or result.status == WorkerStatus.CONTEXT_LOST:
            return job
        return job.model_copy(update={"one_by_one": (*job.one_by_one, *left)})

    def _is_given_up(self, result: WorkerResult) -> bool:
        return result.stuck or self.hung >= _MOST_HANGS or self.ended > _MOST_RESTARTS

    def _find_lost(self, group: Sequence[Case], result: WorkerResult) -> Sequence[Case]:
        """Return the cases of the group in flight that its process was lost to."""
        if result.missed is None:
            alone = len(result.in_flight) == 1
            return group if alone else ()
        before = any(seen.intersection(result.in_flight) for seen in self._hung_groups)
        self._hung_groups.append(frozenset(result.in_flight))
        in_hand = [case for case in group if case.id == result.missed.case]
        return in_hand if in_hand and not before else group

    def _record_lost(self, job: WorkerJob, result: WorkerResult, case: Case) -> None:
        why = message("process_died", how=result.how)
        record = record_without_figures(case, self.device, why, "failed")
        with store.RecordWriter(job.folder, f"{records_name_of(job.device)}-lost") as writer:
            writer.append(record)
        self.observer.case_finished(record)

    def _describe_hang(self, result: WorkerResult) -> Message:
        return message("device_hung", device=self.device.name, how=result.how)

    def _describe_replacement(self, result: WorkerResult, job: WorkerJob, further: WorkerJob) -> Message:
        device, count = self.device.name, len(further.one_by_one) - len(job.one_by_one)
        if count == 0:
            return message("process_replaced", device=device, how=result.how)
        return message("group_broken_up", device=device, how=result.how, count=count)

    def why_missing(self, result: WorkerResult) -> Message:
        """Return why cases of the device have no record."""
        device = self.device.name
        if result.refusal:
            return message("device_refused", device=device, why=result.refusal)
        if self.ended > 1:
            return message("device_given_up", device=device, count=self.ended, how=result.how)
        if result.missed is not None:
            return self._describe_hang(result)
        return message("device_died", device=device, how=result.how)
