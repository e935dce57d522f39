"""The process that talks to NVML, so that a call that never returns costs nobody else anything.

How it runs and ends is said in worker.py. Requests are `{"ask": "facts"}`, with `"uuid"` for one GPU alone,
and of one GPU `{"ask": …, "uuid": …}`: `reading`, all it shows now; `watch`, with `"period_s"`, to take light
readings of it from now on; `watched`, the oldest of those that weren't handed over yet. Figures come back
with the names and units of `GpuFacts` and `GpuReading`, those of `watched` in columns: twenty minutes are
12,000 rows.

Only the standard library and nvidia-ml-py are imported, and what imports no more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from nameplate.base.messages import Reason, message
from nameplate.telemetry.nvml_figures import MOVING, Nvml, plain_uuid, start
from nameplate.telemetry.nvml_library import Answer
from nameplate.telemetry.worker import Absent, Row, Watch, main

__all__ = ["NvmlService", "plain_uuid"]  # the latter for those who look for it here


class _WatchedGpu:
    """Light readings of one GPU, as rows: the figures of `MOVING`, then which of `reasons` is theirs."""

    def __init__(self, uuid: str, look: Callable[[], Answer], period_s: float) -> None:
        self._uuid = uuid
        self._look = look
        # Reasons hardly ever change, and would be most of a row: each set of them is kept once.
        self._reasons: list[dict[str, Reason]] = []
        self.watch = Watch(self._row, period_s)

    def drain(self) -> dict[str, Any]:
        """The oldest rows, with what they mean."""
        return {"uuid": self._uuid, "columns": MOVING, "reasons": self._reasons, **self.watch.drain()}

    def _row(self) -> Row:
        seen = self._seen()
        if seen.absent not in self._reasons:
            self._reasons.append(seen.absent)
        return (*map(seen.values.get, MOVING), self._reasons.index(seen.absent))

    def _seen(self) -> Answer:
        at_s = time.perf_counter()
        try:
            return self._look()
        except Exception as error:  # whatever it is, the next sample may be a better one
            return Answer({"at_s": at_s}, {"*": f"{type(error).__name__}: {error}"})


class NvmlService:
    """Answers about a started NVML, and watches those of its GPUs that it was told to."""

    def __init__(self, nvml: Nvml) -> None:
        """Watch nothing yet."""
        self._nvml = nvml
        self._watched: dict[str, _WatchedGpu] = {}

    def hello(self) -> dict[str, Any]:
        """The driver, the CUDA version it supports, and how many cards NVML counts."""
        return self._nvml.hello()

    def answer(self, request: dict[str, Any]) -> Any:
        """What one request asks for."""
        match request["ask"]:
            case "facts":
                return self._nvml.facts(request.get("uuid"))
            case "watch":
                return self._watch(request["uuid"], request["period_s"])
            case "watched":
                return self._drain(request["uuid"])
        return self._nvml.reading(request["uuid"])

    def watches(self) -> Iterator[Watch]:
        """What is being watched."""
        return (gpu.watch for gpu in self._watched.values())

    def _watch(self, uuid: str, period_s: float) -> None:
        if plain_uuid(uuid) not in self._watched:
            gpu = self._nvml.find(uuid)
            look = partial(self._nvml.light_reading, gpu)
            self._watched[plain_uuid(uuid)] = _WatchedGpu(gpu.uuid, look, period_s)

    def _drain(self, uuid: str) -> dict[str, Any]:
        watched = self._watched.get(plain_uuid(uuid))
        if watched is None:
            raise Absent(message("gpu_not_watched", uuid=uuid))
        return watched.drain()


if __name__ == "__main__":
    main(lambda: NvmlService(start()))
