"""The virtual clock of a twin: time passes only when something that takes time says so."""

from __future__ import annotations


class VirtualClock:
    """Seconds that only move forward; called, it returns the time, as time.perf_counter does."""

    def __init__(self, begin_s: float = 0.0) -> None:
        """Begin at `begin_s`."""
        self.now_s = begin_s

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s

    def sleep(self, seconds: float) -> None:
        """Let so many seconds pass; a negative number none."""
        if seconds > 0:
            self.now_s += seconds

    def wait_until(self, at_s: float) -> None:
        """Let time pass up to a moment; none where that is past."""
        self.now_s = max(self.now_s, at_s)
