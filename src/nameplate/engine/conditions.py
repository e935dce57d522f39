"""What went on around a window, from counters before and after it."""

from __future__ import annotations

from dataclasses import dataclass

from nameplate.device.interface import Counters


@dataclass(frozen=True)
class Conditions:
    """Shares of the cores this device may use, over the window. None: the system doesn't tell.

    `resolution` is the least share that the kernel's counting steps let one see in this window.
    """

    elapsed_s: float
    own_share: float | None = None
    foreign_share: float | None = None
    steal_share: float | None = None
    resolution: float | None = None

    def as_columns(self) -> dict[str, float | str | None]:
        """The figures by name, as a record keeps them."""
        return {
            "elapsed_s": self.elapsed_s,
            "own_cpu_share": self.own_share,
            "foreign_cpu_share": self.foreign_share,
            "steal_share": self.steal_share,
            "cpu_share_resolution": self.resolution,
        }


def between(before: Counters, after: Counters, cores: float) -> Conditions:
    """Turn two readings into shares of `cores` over the time between them."""
    elapsed_s = after.at_s - before.at_s
    if elapsed_s <= 0:
        return Conditions(elapsed_s)
    room = elapsed_s * cores
    own = _difference(before.process_cpu_s, after.process_cpu_s)
    busy = _difference(before.busy_cpu_s, after.busy_cpu_s)
    steal = _difference(before.steal_s, after.steal_s)
    foreign = None if own is None or busy is None else max(busy - own, 0.0)
    return Conditions(
        elapsed_s,
        None if own is None else own / room,
        None if foreign is None else foreign / room,
        None if steal is None else steal / room,
        # Each core's total may be a step off at either end.
        None if after.tick_s is None else 2 * after.tick_s * cores / room,
    )


def _difference(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before
