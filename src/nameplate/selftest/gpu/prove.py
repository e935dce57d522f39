"""Proves the harness on a GPU: starts the process that looks at it, collects what it saw, has it judged.

This process describes the card as `bench run`'s does, and never opens it: whether that leaves it without a
context on the card is what the first check is about. A look that hangs or dies costs itself alone: the
process is started again for those that are left.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from pydantic import TypeAdapter, ValidationError

from nameplate.base.environment import READY_VARIABLE, read_seconds
from nameplate.base.errors import InputError
from nameplate.base.formatting import duration
from nameplate.base.language import _
from nameplate.base.model import describe_first_error
from nameplate.base.processes import Child, ChildEnded, ChildError, ChildSilent, python_command
from nameplate.device import cuda
from nameplate.device.identity import CudaIdentity
from nameplate.device.libraries import read_library_versions
from nameplate.device.survey import describe, find_device_names
from nameplate.device.twin import is_twin
from nameplate.selftest.gpu.check import Check, Outcome
from nameplate.selftest.gpu.checks import check
from nameplate.selftest.gpu.child import BEGIN, FAILED, GO, LOOK, LOOKS, REFUSED, SEEN
from nameplate.selftest.gpu.seen import ContextSeen, Seen
from nameplate.telemetry.gpu import GpuReading
from nameplate.telemetry.nvml_library import plain_uuid

_READY_S = 120.0  # torch is imported, CUDA started, the card opened
_LOOK_S = 120.0  # the longest takes some forty seconds
_MOST_STARTS = 4


class Looking(Protocol):
    """The process that looks, as `collect` uses it; a test may give recorded answers."""

    @property
    def pid(self) -> int:
        """Its process id."""

    def send(self, message: dict[str, Any]) -> None:
        """Send one message; raises ChildEnded."""

    def receive(self, deadline_s: float | None = None) -> dict[str, Any]:
        """Return its next message; raises ChildError."""

    def close(self) -> int | None:
        """End it."""


@dataclass(frozen=True)
class Proof:
    """What was seen, and how each check ended."""

    seen: Seen
    checks: tuple[Check, ...]

    @property
    def failed(self) -> bool:
        """Whether a check failed."""
        return any(each.outcome is Outcome.FAILED for each in self.checks)

    @property
    def untold(self) -> bool:
        """Whether a check couldn't be told."""
        return any(each.outcome is Outcome.UNKNOWN for each in self.checks)

    def as_json(self) -> dict[str, Any]:
        """Return the checks, and everything that was seen, so that it can be judged again."""
        return {
            "device": self.seen.device,
            "measured": self.seen.measured,
            "checks": [{**asdict(each), "outcome": each.outcome.name.lower()} for each in self.checks],
            "failed": self.failed,
            "untold": self.untold,
            "seen": self.seen.model_dump(mode="json"),
        }


def prove(device: str = "cuda", observer: Callable[[str], None] = lambda _look: None) -> Proof:
    """Look at a GPU and judge what was seen. Takes about two minutes.

    `device` is `cuda`, `cuda:N` or `twin:NAME`; `observer` is told of each look as it begins. Raises
    InputError for a GPU that isn't there or can't be opened.
    """
    # Before torch is asked for anything: what it starts then is what the first check is about.
    before = {} if is_twin(device) else _read_all_cards()
    try:
        flag = find_device_names(device)[0]
        described = describe(flag)
    except InputError as error:
        raise InputError(error.what, where="--on", got=error.got, expected=error.expected) from None
    identity = described.identity
    assert isinstance(identity, CudaIdentity)
    seen = Seen(
        device=described.name,
        identity=identity,
        measured=described.measured,
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=_read_versions(),
    )
    uuid = identity.uuid
    after = None if uuid is None or not before else _read_card(uuid)

    def see_context(child_pid: int) -> ContextSeen | None:
        first = None if uuid is None else before.get(plain_uuid(uuid))
        if uuid is None or first is None or after is None:
            return None
        return ContextSeen(
            pid=os.getpid(), child_pid=child_pid, before=first, described=after, opened=_read_card(uuid)
        )

    def start(looks: list[str]) -> Looking:
        return Child(python_command("nameplate.selftest.gpu.child", flag, *looks))

    seen = collect(seen, start, see_context, observer)
    return Proof(seen, check(seen))


def _read_all_cards() -> dict[str, GpuReading]:
    """Every card of the machine, by its UUID as `plain_uuid` has it."""
    found = (facts.uuid for facts in cuda.share_nvml().gpus())
    return {plain_uuid(uuid): _read_card(uuid) for uuid in found if uuid is not None}


def _read_card(uuid: str) -> GpuReading:
    """A reading that leaves out no process."""
    return cuda.share_nvml().reading(uuid, own_pids=())


def _read_versions() -> dict[str, str | None]:
    import torch

    return {"torch": torch.__version__, **read_library_versions()}


def collect(
    seen: Seen,
    start: Callable[[list[str]], Looking],
    see_context: Callable[[int], ContextSeen | None],
    observer: Callable[[str], None] = lambda _look: None,
) -> Seen:
    """Have processes take every look; return `seen` with what came of it.

    A look during which a process falls silent or ends is left out with the reason, and the next process takes
    those that are left. Raises InputError where the card can't be opened.
    """
    collected = _Collected(see_context, observer)
    for _number in range(_MOST_STARTS):
        if not collected.left:
            break
        child = start(list(collected.left))
        try:
            collected.take_from(child)
        finally:
            child.close()
    return collected.add_to(seen)


class _Collected:
    """What processes have seen so far."""

    def __init__(
        self, see_context: Callable[[int], ContextSeen | None], observer: Callable[[str], None]
    ) -> None:
        self.left = list(LOOKS)
        self._see_context: Callable[[int], ContextSeen | None] | None = see_context
        self._observer = observer
        self._found: dict[str, Any] = {}
        self._unseen: dict[str, str] = {}

    def take_from(self, child: Looking) -> None:
        """Let one process take the looks that are left, as far as it comes."""
        under_way: str | None = None
        try:
            self._begin(child)
            under_way = self.left[0]
            while self.left:
                told = child.receive(_LOOK_S)
                if BEGIN in told:
                    under_way = str(told[BEGIN])
                    self._observer(under_way)
                else:
                    self._keep(told)
        except ChildError as error:
            # One that can't even begin has cost every look that is left; one that ended after its answer, as
            # a broken context makes it do, has cost none.
            lost = self.left[:] if under_way is None else [each for each in self.left if each == under_way]
            for look in lost:
                self._unseen[look] = _describe_end(error)
                self.left.remove(look)

    def _begin(self, child: Looking) -> None:
        told = child.receive(read_seconds(READY_VARIABLE, _READY_S))
        if REFUSED in told:
            raise InputError(str(told[REFUSED]))
        if self._see_context is not None:
            self._found["context"] = self._see_context(child.pid)
            self._see_context = None
        child.send({GO: True})

    def _keep(self, told: Mapping[str, Any]) -> None:
        look = str(told[LOOK])
        self.left.remove(look)
        if SEEN in told:
            self._found[look] = told[SEEN]
        else:
            self._unseen[look] = str(told.get(FAILED))

    def add_to(self, seen: Seen) -> Seen:
        """Validate each observation by itself: one that is no observation costs itself alone."""
        for look in self.left:
            self._unseen[look] = _("the process that looks ended {count} times", count=_MOST_STARTS)
        if self._found.get("context") is None:
            self._unseen["context"] = _("the driver gave no reading of the card")
        observations: dict[str, Any] = {}
        for name, value in self._found.items():
            model: Any = Seen.model_fields[name].annotation
            try:
                observations[name] = TypeAdapter(model).validate_python(value)
            except ValidationError as error:
                self._unseen[name] = _("what was seen can't be used: {why}", why=describe_first_error(error))
        return seen.model_copy(update={**observations, "unseen": self._unseen})


def _describe_end(error: ChildError) -> str:
    if isinstance(error, ChildSilent):
        return _("no answer within {time}: the process was ended", time=duration(error.deadline_s))
    if isinstance(error, ChildEnded) and error.status is not None and error.status < 0:
        return _("the process ended by signal {number}", number=-error.status)
    if isinstance(error, ChildEnded):
        return _("the process ended with status {status}", status=error.status)
    return _("the process said something else")
