"""Who follows a run: told what happens as it happens, and unable to stop it by failing."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from nameplate.base.messages import Message
from nameplate.record import Record
from nameplate.run.restarts import DeviceObserver
from nameplate.store.manifest import Manifest


class Observer(DeviceObserver, Protocol):
    """Who may follow a run: the command line's progress, a notebook's, a test's."""

    def run_started(self, folder: Path, manifest: Manifest, budget_s: float, todo: int) -> None:
        """Called when the manifest is written and before the first case; `todo` cases have no record yet."""


class GuardedObserver:
    """Passes everything on to an observer until that raises an error; then a warning says so, once.

    Hours of measuring are worth more than their progress. KeyboardInterrupt passes through. `records` are all
    that came: who watches a run holds them where its folder is lost.
    """

    def __init__(self, observer: Observer | None) -> None:
        """Guard `observer`; None is told nothing."""
        self._observer = observer
        self.records: list[Record] = []

    def run_started(self, folder: Path, manifest: Manifest, budget_s: float, todo: int) -> None:
        """Pass it on; see `Observer`."""
        self._tell(lambda to: to.run_started(folder, manifest, budget_s, todo))

    def group_started(self, cases: Sequence[str]) -> None:
        """Pass it on; see `CaseObserver`."""
        self._tell(lambda to: to.group_started(cases))

    def case_finished(self, record: Record) -> None:
        """Pass it on; see `CaseObserver`."""
        self.records.append(record)
        self._tell(lambda to: to.case_finished(record))

    def device_stopped(self, device: str, why: Message, goes_on: bool) -> None:
        """Pass it on; see `DeviceObserver`."""
        self._tell(lambda to: to.device_stopped(device, why, goes_on))

    def _tell(self, pass_on: Callable[[Observer], None]) -> None:
        if self._observer is None:
            return
        try:
            pass_on(self._observer)
        except Exception as error:
            self._observer = None
            warnings.warn(
                f"the observer of this run raised {error!r} and is told nothing more; the run goes on",
                RuntimeWarning,
                stacklevel=3,
            )
