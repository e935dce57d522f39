"""The host's processors while something runs on them: rows that a process of its own takes.

    with HostWatch(cpus={0, 1}) as host:
        ...
        rows = host.rows()

Nothing here raises for what a system lacks. Where the process can't start, hangs or dies, `absent` says why,
and there are no further rows.
"""

from __future__ import annotations

import threading
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from nameplate.telemetry.process import Gone, Process

_WORKER = "nameplate.telemetry.host_worker"
_START_S = 10.0
_REQUEST_S = 2.0


@dataclass(frozen=True)
class HostReading:
    """The host at one moment; a figure that the system doesn't give is None.

    CPU time and clock are those of the CPUs that are watched. Sensors and energy counters know packages
    alone: they are of all that the machine has, whoever uses them.
    """

    at_s: float  # on time.perf_counter's clock, which processes of one Linux host share
    busy_cpu_s: float | None  # CPU seconds of all processes since boot, and
    steal_s: float | None  # those that a hypervisor gave to someone else: `read_cpu_totals`
    mhz: float | None  # mean clock, as cpufreq tells it; of 32 CPUs spread evenly where there are more
    temperature_c: float | None  # of the hottest package
    energy_j: float | None  # of the packages, since the watch began; mostly for root alone


class HostWatch:
    """Rows of the host, taken every `period_s` from the start until `close`.

    `absent` is why there are none any more, None while there are. `dropped` is how many came to nothing so
    far because nobody took them for twenty minutes. Threads may share a watch.
    """

    def __init__(
        self,
        cpus: Collection[int] | None,
        period_s: float = 0.1,
        *,
        root: Path = Path("/"),
        start_s: float = _START_S,
        deadline_s: float = _REQUEST_S,
    ) -> None:
        """Watch `cpus` (None: every CPU), as the files under `root` tell of them.

        Starting takes some 0.1 s, and `start_s` at most; whatever is asked later, `deadline_s` at most.
        """
        self.absent: str | None = None
        self.dropped = 0
        self._deadline_s = deadline_s
        self._lock = threading.Lock()
        self._process: Process | None = None
        chosen = None if cpus is None else sorted(cpus)
        request = {"ask": "watch", "cpus": chosen, "period_s": period_s, "root": str(root)}
        try:
            self._process = Process(_WORKER, "the host watch", limit_s=max(start_s, deadline_s))
            self._process.answer(start_s)
            self._process.ask(request, deadline_s)
        except (OSError, Gone) as error:
            self._give_up(str(error))

    def __enter__(self) -> Self:
        """Use as a context manager, so that the process ends."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self.close()

    def rows(self) -> tuple[HostReading, ...]:
        """Return the rows since the last call, or since the start, oldest first.

        The call takes no longer than the deadline; what it couldn't fetch by then comes with the next.
        """
        found: list[HostReading] = []
        with self._lock:
            try:
                if self._process is not None:
                    for chunk in self._process.drain({"ask": "watched"}, self._deadline_s):
                        self.dropped += chunk["dropped"]
                        found += [HostReading(*row) for row in chunk["rows"]]
            except Gone as error:
                self._give_up(str(error))
        return tuple(found)

    def close(self) -> None:
        """End the process; there are no rows from here on."""
        with self._lock:
            self._give_up("the watch is closed")

    def _give_up(self, reason: str) -> None:
        """End the process for good; the first reason stays."""
        if self.absent is None:
            self.absent = reason
        process, self._process = self._process, None
        if process is not None:
            process.end()
